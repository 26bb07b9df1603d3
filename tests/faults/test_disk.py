"""A disk that gets full or read-only under a run, and a second writer: said, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faults.harness import Command, assert_same
from sc_loops import Run

Make = Callable[..., Command]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"mounting a small disk is not permitted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            pass


def empty(disk: Path) -> None:
    (disk / "filler").unlink()


def forbid(disk: Path) -> None:
    """A second, read-only mount on top: the file system itself is busy, as the run's lock is open."""
    subprocess.run(["mount", "--bind", disk, disk], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", disk], check=True)


def allow(disk: Path) -> None:
    subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("phase", ["training", "scoring", "evaluating"])
@pytest.mark.parametrize(
    ("spoil", "mend", "says"),
    [(fill, empty, "No space left on device"), (forbid, allow, "Read-only file system")],
    ids=["full", "read-only"],
)
def test_a_disk_that_fails_under_the_run(
    command: Make, disk: Path, undisturbed: Run, phase: str, spoil, mend, says: str
) -> None:
    victim = command("victim", f"output={disk}")
    victim.run = Run(disk / "run")
    victim.start(PAUSE="0.05")
    assert victim.reached(phase, 4)
    spoil(disk)
    assert victim.ended(60) == 1, victim.errors
    assert says in victim.errors
    assert "Traceback" not in victim.errors
    assert str(disk / "run") in victim.errors
    assert "same command continues" in victim.errors.strip().splitlines()[-1]
    mend(disk)
    assert_same(victim.finish().run, undisturbed)


def test_a_second_writer_is_refused_while_the_first_lives(command: Make, undisturbed: Run) -> None:
    first = command("victim")
    first.start(PAUSE="0.05")
    assert first.reached("training", 4)
    again = {"cwd": first.folder, "env": {**os.environ, "JOURNAL": os.devnull}}
    second = subprocess.run(first.command, **again, capture_output=True, text=True, timeout=60)
    assert second.returncode == 2
    assert "another process is writing to it" in second.stderr
    assert f"pid {first.process.pid}" in second.stderr
    assert first.ended(120) == 0, first.errors
    assert_same(first.run, undisturbed)


def test_two_fresh_starts_at_once_get_a_directory_each(command: Make) -> None:
    one = command("victim").finish()
    again = {"cwd": one.folder, "env": {**os.environ, "JOURNAL": os.devnull, "OMP_NUM_THREADS": "1"}}
    fresh = [*one.command, "--fresh"]
    started = [subprocess.Popen(fresh, **again, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], errors
    runs = one.run.path.parent
    assert {path.name for path in runs.iterdir() if path.name.startswith("run")} == {"run", "run-2", "run-3"}
    for name in ("run-2", "run-3"):
        assert_same(Run(runs / name), one.run)
