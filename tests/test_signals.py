"""Signals belong to the run while it lasts, and afterwards to whoever had them before. The rest: tests/faults/."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from conftest import fit, tiny_loop

from sc_loops import Observer, Run
from sc_loops.errors import Stopped

ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@pytest.fixture(autouse=True)
def received() -> Iterator[list[int]]:
    """What a handler of the test's own receives; the handlers that were there come back."""
    got: list[int] = []
    before = {number: signal.signal(number, lambda signum, frame: got.append(signum)) for number in ALL}
    yield got
    for number, handler in before.items():
        signal.signal(number, handler)


class Send(Observer):
    """Sends itself a signal when a step of generation 1 is done."""

    def __init__(self, number: int, step: int = 4) -> None:
        self.number, self.step = number, step

    def progress(self, generation, phase, done, total, unit) -> None:
        if (generation, phase, done) == (1, "training", self.step):
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", ALL)
def test_after_a_run_a_signal_goes_where_it_went_before(tmp_path, received: list[int], number: int) -> None:
    for name in ("a", "b"):  # the second run finds the first one's handlers
        fit(tiny_loop(tmp_path / name, generations=0))
    os.kill(os.getpid(), number)
    os.kill(os.getpid(), number)
    assert received == [number, number]


@pytest.mark.parametrize("number", ALL)
def test_a_signal_ends_the_step_and_saves_it(tmp_path, received: list[int], number: int) -> None:
    with pytest.raises(Stopped) as stopped:
        fit(tiny_loop(tmp_path, observers=[Send(number)]))
    assert stopped.value.code == (130 if number == signal.SIGINT else 143)
    assert Run(tmp_path).last_checkpoint.resolve().name == "generation-0001-step-0000000004.ckpt"
    assert received == []
    os.kill(os.getpid(), signal.SIGINT)  # a notebook goes on, and is interrupted as ever
    assert received == [signal.SIGINT]
