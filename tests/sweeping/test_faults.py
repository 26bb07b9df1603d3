"""Signals and kills: of the command, of a worker, of all. The same command then ends with the same results."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults.harness import Command, losses, pools, results

from sc_loops import Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SEEDS = 3


class Sweep(Command):
    """Three runs of the harness's loop, cut to one generation after the first, two at a time."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "--seeds", f"0..{SEEDS - 1}", "--jobs", "2", "loop.generations=1")

    @property
    def runs(self) -> list[Run]:
        return [Run(self.folder / f"runs/run/seed={seed}") for seed in range(SEEDS)]

    @property
    def workers(self) -> list[int]:
        """The processes that trained in this attempt, the one that began first first."""
        return list(dict.fromkeys(entry.pid for entry in self.present() if entry.phase == "training"))

    def both_train(self, steps: int = 8) -> bool:
        """Wait until two workers have begun so many steps."""

        def begun() -> bool:
            counts = Counter(entry.pid for entry in self.present() if entry.phase == "training")
            return sum(count >= steps for count in counts.values()) == 2

        return self.until(begun)


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Sweep]:
    made = Sweep(tmp_path / "victim")
    yield made
    made.destroy()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    made = Sweep(tmp_path_factory.mktemp("undisturbed"))
    made.finish()
    assert made.gone(30)  # the process that workers are forked from takes a while to unload all that it imported
    return made.runs


def assert_same(sweep: Sweep, undisturbed: list[Run]) -> None:
    for one, other in zip(sweep.runs, undisturbed, strict=True):
        for compared in (results, losses, pools):
            of: Callable[[Run], object] = compared
            assert of(one) == of(other)


# SIGUSR1 to all would end multiprocessing's own helpers; what schedulers send it to is one process.
@pytest.mark.parametrize(
    ("number", "everyone"),
    [
        (signal.SIGTERM, False),
        (signal.SIGUSR1, False),
        (signal.SIGINT, False),
        (signal.SIGTERM, True),
        (signal.SIGINT, True),
    ],
    ids=["SIGTERM", "SIGUSR1", "SIGINT", "SIGTERM to all", "SIGINT to all"],
)
def test_a_signal_saves_the_runs_under_way(
    sweep: Sweep, undisturbed: list[Run], number: signal.Signals, everyone: bool
) -> None:
    sweep.start(PAUSE="0.05")
    assert sweep.both_train()
    sweep.signal_all(number) if everyone else sweep.signal(number)
    assert sweep.ended(60) == (130 if number == signal.SIGINT else 143), sweep.errors
    assert sweep.gone(10)
    assert sweep.errors.strip().splitlines()[-2] == f"0 of {SEEDS} runs are finished"
    assert "same command continues" in sweep.errors.strip().splitlines()[-1]
    assert "Traceback" not in sweep.errors
    assert all(run.last_checkpoint.exists() for run in sweep.runs[:2])
    assert not list(sweep.folder.glob("runs/run/*/error.txt"))
    sweep.finish()
    steps = Counter(entry.step for entry in sweep.entries() if entry.phase == "training")
    assert set(steps.values()) == {SEEDS}  # none was done again
    assert_same(sweep, undisturbed)


def test_a_killed_command_leaves_no_worker_behind(sweep: Sweep, undisturbed: list[Run]) -> None:
    sweep.start(PAUSE="0.05")
    assert sweep.both_train()
    sweep.signal(signal.SIGKILL)
    sweep.ended(10)
    assert sweep.gone(10)
    sweep.finish()
    assert_same(sweep, undisturbed)


def test_a_killed_worker_is_replaced(sweep: Sweep, undisturbed: list[Run]) -> None:
    sweep.start(PAUSE="0.02")
    assert sweep.both_train()
    os.kill(sweep.workers[0], signal.SIGKILL)
    assert sweep.ended(120) == 1, sweep.errors
    assert "its process was ended by SIGKILL: perhaps memory ran out" in sweep.errors
    assert len(sweep.workers) == 3
    finished = [run for run in sweep.runs if run.rows() and run.rows()[-1]["generation"] == 1]
    assert len(finished) == SEEDS - 1
    (error,) = sweep.folder.glob("runs/run/*/error.txt")
    assert "SIGKILL" in error.read_text()
    sweep.finish()
    assert not error.exists()
    assert_same(sweep, undisturbed)


def test_a_second_interrupt_ends_at_once(sweep: Sweep) -> None:
    sweep.start(FAULT="hang scoring 0")
    assert sweep.reached("scoring", 2)
    sweep.signal(signal.SIGINT)
    with pytest.raises(AssertionError):
        sweep.ended(1.0)
    sweep.signal(signal.SIGINT)
    assert sweep.ended(3) == 130
    assert sweep.gone(5)
    assert "Traceback" not in sweep.errors


def test_a_second_command_is_refused(sweep: Sweep) -> None:
    sweep.start(PAUSE="0.05")
    assert sweep.both_train(2)
    other = Sweep(sweep.folder)
    other.start()
    assert other.ended(100) == 2
    assert "another process is writing to it" in other.errors
    sweep.signal(signal.SIGTERM)
    assert sweep.ended(60) == 143
