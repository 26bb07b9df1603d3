"""SIGTERM, SIGUSR1 and Ctrl-C: the present step is saved, the exit status says so, the same command continues."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest
import torch

from faults.harness import CHECKPOINT_STEPS, TWO, Command, assert_same
from sc_loops import Run

Make = Callable[..., Command]
STATUS = {signal.SIGTERM: 143, signal.SIGUSR1: 143, signal.SIGINT: 130}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
each_signal = pytest.mark.parametrize("number", list(STATUS), ids=lambda number: number.name)


def saved_steps(run: Run) -> int:
    """Optimizer steps behind the newest checkpoint."""
    return int(torch.load(run.last_checkpoint, weights_only=True)["global_step"])


def assert_ended_well(victim: Command, number: signal.Signals) -> None:
    assert victim.ended(60) == STATUS[number], victim.errors
    assert "same command continues" in victim.errors.strip().splitlines()[-1]
    assert "Traceback" not in victim.errors


@each_signal
def test_during_training(command: Make, undisturbed: Run, number: signal.Signals) -> None:
    """The step is no multiple of ``checkpoint_steps``: what is saved is the present one, so none is repeated."""
    victim = command("victim")
    victim.start(PAUSE="0.05")
    assert victim.reached("training", 2 * CHECKPOINT_STEPS + 3)
    victim.signal(number)
    assert_ended_well(victim, number)
    begun = max(entry.step for entry in victim.entries()) + 1
    assert saved_steps(victim.run) == begun
    victim.finish()
    assert victim.repeated_steps() == 0
    assert_same(victim.run, undisturbed)


@each_signal
def test_during_sampling(command: Make, undisturbed: Run, number: signal.Signals) -> None:
    """A chunk takes a while here; it may be finished or given up, but what is on disk stays."""
    victim = command("victim")
    victim.start(PAUSE="0.1")
    assert victim.reached("scoring", 3)
    before = victim.chunks()
    victim.signal(number)
    assert_ended_well(victim, number)
    assert saved_steps(victim.run) == 40
    victim.finish()
    assert before.items() <= victim.chunks().items()
    assert victim.repeated_steps() == 0
    assert_same(victim.run, undisturbed)


def test_a_second_interrupt_ends_at_once(command: Make, undisturbed: Run) -> None:
    """Even in the middle of a chunk whose reward takes for ever."""
    victim = command("victim")
    victim.start(FAULT="hang scoring 0")
    assert victim.reached("scoring")
    victim.signal(signal.SIGINT)
    time.sleep(1.0)
    if victim.process.poll() is None:  # the first may have been enough
        victim.signal(signal.SIGINT)
    assert victim.ended(within=2) == 130, victim.errors
    assert not victim.alive()
    assert_same(victim.finish().run, undisturbed)


@each_signal
@pytest.mark.parametrize("everyone", [False, True], ids=["to the command", "to all"])
def test_two_processes(command: Make, undisturbed_two: Run, number: signal.Signals, everyone: bool) -> None:
    """``kill PID`` reaches the first process only; a terminal or a scheduler reaches all, at not quite one moment."""
    victim = command("victim", *TWO)
    victim.start(PAUSE="0.05")
    assert victim.reached("training", 2 * CHECKPOINT_STEPS + 3)
    victim.signal_all(number) if everyone else victim.signal(number)
    assert victim.ended(60) == STATUS[number], victim.errors
    assert victim.gone(20)
    victim.finish()
    assert victim.repeated_steps() == 0
    assert_same(victim.run, undisturbed_two)
