"""A rank that dies, stops, hangs or raises: all ranks end soon, and the message names the one that did it."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from faults.harness import TWO, Command, assert_same
from sc_loops import Run

Make = Callable[..., Command]
LOST = (*TWO, "trainer.lost_after_seconds=10")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def assert_ended_naming(victim: Command, rank: int, within: float = 60) -> None:
    """The command failed by itself, says whose fault it was, and leaves no process behind."""
    assert victim.ended(within) not in (0, None)
    assert f"rank {rank}" in victim.errors
    assert victim.gone()


@pytest.mark.parametrize("phase", ["training", "scoring"])
def test_a_rank_that_is_killed(command: Make, undisturbed_two: Run, phase: str) -> None:
    victim = command("victim", *LOST)
    victim.start(PAUSE="0.05")
    assert victim.reached(phase, 3, rank=1)
    victim.signal(signal.SIGKILL, rank=1)
    assert_ended_naming(victim, 1)
    assert_same(victim.finish().run, undisturbed_two)


def test_rank_0_that_is_stopped(command: Make, undisturbed_two: Run) -> None:
    """The store lives in it, and does not answer; it cannot end itself, but the other rank ends and says so."""
    victim = command("victim", *LOST)
    victim.start(PAUSE="0.05")
    assert victim.reached("scoring", 3, rank=1)
    other = victim.pid(1)
    victim.signal(signal.SIGSTOP, rank=0)
    assert victim.until(lambda: other not in victim.alive(), 60)
    assert "rank 0" in victim.errors
    victim.destroy()
    assert_same(victim.finish().run, undisturbed_two)


@pytest.mark.parametrize("phase", ["training", "scoring"])
def test_a_rank_that_is_stopped(command: Make, undisturbed_two: Run, phase: str) -> None:
    """As by a machine that is frozen: its connections stay open, but nothing is heard of it."""
    victim = command("victim", *LOST)
    victim.start(PAUSE="0.05")
    assert victim.reached(phase, 3, rank=1)
    victim.signal(signal.SIGSTOP, rank=1)
    assert victim.ended(60) not in (0, None)
    assert "rank 1" in victim.errors
    victim.destroy()  # what is stopped ends no other way
    assert_same(victim.finish().run, undisturbed_two)


@pytest.mark.parametrize(("phase", "rank"), [("scoring", 1), ("training", 0), ("training", 1)])
def test_a_rank_that_makes_no_progress(command: Make, undisturbed_two: Run, phase: str, rank: int) -> None:
    """It is alive and heard of, so only the lack of progress tells; in training the other one, which waits in the
    exchange of gradients, gets on no more than it does, and must not be blamed."""
    victim = command("victim", *TWO, "trainer.timeout_minutes=0.2")
    victim.start(FAULT=f"hang {phase} {rank}")
    assert_ended_naming(victim, rank, within=90)
    assert "no progress" in victim.errors
    assert f"rank {1 - rank}" not in victim.errors
    assert_same(victim.finish().run, undisturbed_two)


def test_killing_rank_0_leaves_no_process_behind(command: Make, undisturbed_two: Run) -> None:
    victim = command("victim", *LOST)
    victim.start(PAUSE="0.05")
    assert victim.reached("training", 3, rank=1)
    victim.signal(signal.SIGKILL, rank=0)
    assert victim.ended(60) != 0
    assert victim.gone(60)
    assert_same(victim.finish().run, undisturbed_two)


def test_a_rank_that_raises_ends_all_with_its_message(command: Make, undisturbed_two: Run) -> None:
    victim = command("victim", *LOST)
    victim.start(FAULT="raise scoring 1")
    assert_ended_naming(victim, 1)
    assert "injected into rank 1" in victim.errors
    assert_same(victim.finish().run, undisturbed_two)
