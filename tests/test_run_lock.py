"""One writer to a run, one run to a directory, and a record that is read as far as it is whole."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sc_loops import run_lock
from sc_loops.errors import UsageError
from sc_loops.run import Run
from sc_loops.run_choice import choose_run
from sc_loops.run_lock import hold

# Waits for the file "go", so that all processes try at once; says what it got, and keeps it until its input ends.
RACER = """
import sys, time
from pathlib import Path
from sc_loops.errors import UsageError
from sc_loops.run_choice import choose_run
from sc_loops.run_lock import hold
here, kind = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
while not (here / "go").exists():
    time.sleep(0.0001)
try:
    if kind == "lock":
        hold(here / "run")
        print("won", flush=True)
    else:
        config = {"name": None, "output": str(here / "runs")}
        print(choose_run(config, config, "tiny", fresh=True, claim=True).path.name, flush=True)
except UsageError as error:
    print(error.found, flush=True)
sys.stdin.read()
"""


def start(here: Path, kind: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RACER, str(here), kind]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def race(here: Path, kind: str, racers: int) -> list[tuple[str, subprocess.Popen[str]]]:
    """What each of so many processes said, and the process, which still runs."""
    processes = [start(here, kind) for _ in range(racers)]
    (here / "go").touch()
    return [(process.stdout.readline().strip(), process) for process in processes]  # type: ignore[union-attr]


@pytest.mark.slow
def test_of_racing_processes_one_gets_the_lock(tmp_path) -> None:
    results = race(tmp_path, "lock", 3)
    try:
        (winner,) = [process for said, process in results if said == "won"]
        with pytest.raises(UsageError, match=f"pid {winner.pid} on host .* since 2") as caught:
            hold(tmp_path / "run")
        assert caught.value.where == str(tmp_path / "run")
        assert "--fresh" in caught.value.do
    finally:
        for _, process in results:
            process.communicate("", timeout=60)
    assert all("another process is writing to it" in said for said, _ in results if said != "won")
    hold(tmp_path / "run").release()


@pytest.mark.slow
def test_of_racing_processes_each_gets_a_directory_of_its_own(tmp_path) -> None:
    results = race(tmp_path, "directory", 3)
    for _, process in results:
        process.communicate("", timeout=60)
    assert sorted(said for said, _ in results) == ["tiny", "tiny-2", "tiny-3"]


def test_the_lock_of_a_killed_process_is_not_in_the_way(tmp_path) -> None:
    ((said, process),) = race(tmp_path, "lock", 1)
    assert said == "won"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    hold(tmp_path / "run").release()


def test_a_forked_worker_does_not_keep_the_lock(tmp_path) -> None:
    """As a loader's worker that outlives its killed parent for a while."""
    program = (
        "import os, sys, time; from pathlib import Path; from sc_loops.run_lock import hold\n"
        "hold(Path(sys.argv[1]))\n"
        "if os.fork() == 0: print(os.getpid(), flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", program, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    try:
        with pytest.raises(UsageError):
            hold(tmp_path)
        process.kill()
        process.wait(timeout=60)
        os.kill(worker, 0)  # it is there still
        hold(tmp_path).release()
    finally:
        process.kill()
        os.kill(worker, signal.SIGKILL)
        process.stdout.close()


def test_the_same_process_holds_it_again_and_lets_go_once(tmp_path) -> None:
    lock = hold(tmp_path / "run")
    assert hold(tmp_path / "x" / ".." / "run") is lock
    lock.release()
    lock.release()
    again = hold(tmp_path / "run")
    assert again is not lock
    lock.release()  # an old one lets nothing go
    assert hold(tmp_path / "run") is again
    again.release()


def test_without_locks_it_goes_on(tmp_path, monkeypatch, capsys) -> None:
    class NoLocks:
        LOCK_EX = LOCK_NB = 0

        def flock(self, *arguments: object) -> None:
            raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(run_lock, "fcntl", NoLocks())
    hold(tmp_path).release()
    assert "no locks" in capsys.readouterr().err
    monkeypatch.setattr(run_lock, "fcntl", None)
    hold(tmp_path).release()


# Which directory.


def config(output: Path, **more: Any) -> dict[str, Any]:
    return {"name": "tiny", "output": str(output), "seed": 0, "loop": {"generations": 1}, "trainer": {}, **more}


def choose(resolved: dict[str, Any], **options: bool) -> Run:
    return choose_run(resolved, resolved, "tiny", **{"fresh": False, **options})


def test_a_dry_run_claims_nothing(tmp_path) -> None:
    assert choose(config(tmp_path / "runs"), fresh=True).path == tmp_path / "runs/tiny"
    assert not (tmp_path / "runs").exists()
    assert choose(config(tmp_path / "runs"), fresh=True, claim=True).path == tmp_path / "runs/tiny"
    assert choose(config(tmp_path / "runs"), fresh=True).path == tmp_path / "runs/tiny-2"


@pytest.mark.parametrize(
    ("section", "key", "free"),
    [
        ("trainer", "devices", True),
        ("trainer", "timeout_minutes", True),
        ("loop", "keep", True),
        ("loop", "checkpoint_steps", True),
        ("loop", "nonfinite", True),
        ("trainer", "precision", False),
        ("trainer", "gradient_clip_val", False),
    ],
)
def test_what_may_change_when_a_run_goes_on(tmp_path, section: str, key: str, free: bool) -> None:
    (tmp_path / "tiny").mkdir()
    then, now = config(tmp_path), config(tmp_path)
    then[section], now[section] = {**then[section], key: 1}, {**now[section], key: {"last": 2} if free else 2}
    (tmp_path / "tiny/config.yaml").write_text(yaml.safe_dump(then))
    if free:
        assert choose(now).path == tmp_path / "tiny"
    else:
        with pytest.raises(UsageError, match=f"{section}.{key}: 1 then, 2 now"):
            choose(now)


@pytest.mark.parametrize("content", [b"", b"seed: [0", b"\xff\xfe\x00", b"- 1\n"])
def test_the_config_of_a_run_that_cannot_be_read_is_said(tmp_path, content: bytes) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny/config.yaml").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        choose(config(tmp_path))
    assert caught.value.where == str(tmp_path / "tiny/config.yaml")
    assert "--fresh" in caught.value.do
    assert choose(config(tmp_path), fresh=True).path == tmp_path / "tiny-2"


# The record.


def test_a_generation_recorded_twice_counts_once_and_the_last_wins(tmp_path) -> None:
    run = Run(tmp_path)
    for generation, value in [(0, 1), (2, 2), (1, 3), (2, 4)]:
        run.record({"generation": generation, "value": value})
    assert [(row["generation"], row["value"]) for row in run.rows()] == [(0, 1), (1, 3), (2, 4)]


def test_lines_that_cannot_be_read_are_passed_over(tmp_path) -> None:
    run = Run(tmp_path)
    run.record({"generation": 0})
    with run.metrics_path.open("ab") as file:
        file.write(b'\xff\xfe\n12\n\n{"generation": 1, "va')
    run.record({"generation": 2})
    assert [row["generation"] for row in run.rows()] == [0, 2]
