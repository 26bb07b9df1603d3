"""Worker processes: order, deaths, and that none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sc_loops.correction.physics.workers import Workers, available_cores

HERE = Path(__file__).resolve()


def work(job: tuple[str, int]) -> tuple[int, int]:
    """What the workers of these tests do."""
    what, number = job
    if what == "die":
        os._exit(3)
    if what.startswith("die once "):
        flag = Path(what.removeprefix("die once "))
        if not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    if what == "sleep":
        time.sleep(number)
    return number * number, os.getpid()


def lost(job: tuple[str, int], how: str) -> tuple[str, str]:
    return "lost", how


@pytest.fixture
def workers():
    crew = Workers(2, work)
    yield crew
    crew.close()


def test_results_are_in_order_and_processes_stay(workers: Workers) -> None:
    found = workers.map([("square", n) for n in range(20)], lost)
    assert [square for square, _ in found] == [n * n for n in range(20)]
    first = {pid for _, pid in found}
    assert os.getpid() not in first
    again = {pid for _, pid in workers.map([("square", 1)] * 8, lost)}
    assert len(first | again) <= 2
    assert workers.map([], lost) == []


def test_a_worker_that_dies_is_replaced_and_its_job_told(workers: Workers) -> None:
    jobs = [("die" if n == 3 else "square", n) for n in range(10)]
    found = workers.map(jobs, lost)
    assert found[3] == ("lost", "its process ended with status 3")
    assert [square for n, (square, _) in enumerate(found) if n != 3] == [n * n for n in range(10) if n != 3]


def test_a_job_over_which_a_worker_died_is_tried_again(workers: Workers, tmp_path) -> None:
    found = workers.map([(f"die once {tmp_path / 'flag'}", 5), ("square", 2)], lost)
    assert (tmp_path / "flag").exists()
    assert [square for square, _ in found] == [25, 4]


def test_cores_are_shared_by_the_processes_of_a_machine(monkeypatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    alone = available_cores()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(2 * alone))
    assert available_cores() == 1


SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
from test_workers import Workers, lost, work

if __name__ == "__main__":
    crew = Workers(2, work)
    print(*{{pid for _, pid in crew.map([("sleep", 0)] * 6, lost)}}, flush=True)
    if {busy}:
        crew.map([("sleep", 60)] * 4, lost)
"""


ENDS = ("end", "SIGTERM", "SIGKILL")


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes in /proc")
@pytest.mark.parametrize("how", ["SIGINT", *(pytest.param(how, marks=pytest.mark.slow) for how in ENDS)])
def test_no_worker_outlives_its_owner_or_complains(tmp_path, how: str) -> None:
    script = tmp_path / "owner.py"
    script.write_text(SCRIPT.format(folder=str(HERE.parent), busy=how != "end"))
    owner = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert owner.stdout is not None
    workers = [int(pid) for pid in owner.stdout.readline().split()]
    assert workers
    if how != "end":
        time.sleep(0.2)
        # As a terminal and SLURM do: to all processes of the group.
        target = os.killpg if how != "SIGKILL" else os.kill
        target(owner.pid, getattr(signal, how))
    _, complaints = owner.communicate(timeout=30)
    deadline = time.monotonic() + 5
    while any(map(running, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(running, workers))
    assert "_serve" not in complaints  # the owner may complain of Ctrl-C, its workers may not
    assert "Process physics" not in complaints
    if how in ("end", "SIGTERM", "SIGKILL"):
        assert "Traceback" not in complaints
