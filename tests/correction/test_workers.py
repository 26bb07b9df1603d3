"""Worker processes: order, deaths, and that none is left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sc_loops.correction.physics.workers import CORES, Workers, available_cores

HERE = Path(__file__).resolve()


def work(job: tuple[str, float]) -> tuple[float, int]:
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


def lost(job: tuple[str, float], how: str) -> tuple[str, str]:
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


@pytest.mark.parametrize("name", ["LOCAL_WORLD_SIZE", "WORLD_SIZE"])  # of torchrun, and of Lightning
def test_cores_are_shared_by_the_processes_of_a_machine(monkeypatch, name: str) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setenv(name, "1")
    monkeypatch.setenv(CORES, "12")
    assert available_cores() == 12
    monkeypatch.setenv(name, "4")
    assert available_cores() == 3
    monkeypatch.setenv(name, "24")
    assert available_cores() == 1


def test_the_cores_are_counted_when_there_is_work(monkeypatch) -> None:
    monkeypatch.setenv(CORES, "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    crew = Workers(None, work)
    assert len({pid for _, pid in crew.map([("sleep", 0.3)] * 4, lost)}) == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # processes were started that share the cores from here on
    assert len({pid for _, pid in crew.map([("sleep", 0.3)] * 2, lost)}) == 1
    crew.close()


def test_the_process_that_workers_are_forked_from_has_what_they_need(monkeypatch) -> None:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        pytest.skip("processes are spawned here")
    # Also in a worker of a sweep: that was forked itself, but its own workers are not forked from the same process.
    monkeypatch.setitem(sys.modules, "sc_loops.sweeping.worker", sys.modules[__name__])
    asked: list[list[str]] = []
    context = multiprocessing.get_context("forkserver")
    monkeypatch.setattr(type(context), "set_forkserver_preload", lambda self, names: asked.append(names))
    crew = Workers(1, work)
    assert crew.map([("square", 3)], lost)[0][0] == 9
    crew.close()
    assert asked == [["sc_loops.correction.physics.clips"]]


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


UNGUARDED = """
import sys
sys.path.insert(0, {folder!r})
from test_workers import Workers, lost, work

print("begins")
print([square for square, _ in Workers(2, work).map([("square", n) for n in range(4)], lost)])
"""


@pytest.mark.parametrize("way", ["standard input", pytest.param("a file", marks=pytest.mark.slow)])
def test_a_script_without_a_guard_is_not_begun_anew(tmp_path, way: str) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(UNGUARDED.format(folder=str(HERE.parent)))
    given = script.read_text() if way == "standard input" else None
    command = [sys.executable, "-" if given else str(script)]
    ended = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert ended.stdout == "begins\n[0, 1, 4, 9]\n"
    assert ended.stderr == ""


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
