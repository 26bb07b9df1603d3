"""The lock on a cache: one at a time, nothing left behind, and no hindrance where there are no locks."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sc_loops import cache_lock
from sc_loops.cache_lock import alone


def test_one_at_a_time_and_the_later_find_the_result(tmp_path: Path) -> None:
    cache, made, inside = tmp_path / "a" / "cache", [], []

    def prepare(number: int) -> None:
        with alone(cache):
            inside.append(number)
            assert len(inside) == 1
            if not (cache / "weights").exists():
                time.sleep(0.02)
                (cache / "weights").write_text("")
                made.append(number)
            inside.remove(number)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(prepare, range(8)))
    assert len(made) == 1
    assert [path.name for path in cache.iterdir()] == ["weights"]


def test_a_cache_that_got_nothing_is_gone(tmp_path: Path) -> None:
    with alone(tmp_path / "a" / "cache"):
        pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "cache").mkdir()
    with alone(tmp_path / "cache"):
        pass
    assert (tmp_path / "cache").exists()


def test_another_cache_is_another_lock(tmp_path: Path) -> None:
    with alone(tmp_path / "a"), alone(tmp_path / "b"):
        pass


def test_it_goes_with_its_process(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from sc_loops.cache_lock import alone
with alone(Path({str(tmp_path)!r})):
    print("inside", flush=True)
    input()
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "inside\n"
    entered = threading.Event()

    def enter() -> None:
        with alone(tmp_path):
            entered.set()

    threading.Thread(target=enter, daemon=True).start()
    assert not entered.wait(0.2)
    holder.kill()
    assert entered.wait(10)
    holder.communicate()


def test_where_there_are_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with alone(tmp_path / "file" / "cache"):  # cannot be made
        pass
    monkeypatch.setattr(cache_lock, "fcntl", None)
    with alone(tmp_path / "cache"), alone(tmp_path / "cache"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
