"""For how long generations are held in memory."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sc_loops import shelf
from sc_loops.disk import Keep
from sc_loops.run import Run
from sc_loops.shelf import Shelf


def processes(world_size: int = 1, stop_requested: bool = False) -> Any:
    return SimpleNamespace(world_size=world_size, stop_requested=stop_requested)


ALONE = processes()


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("writing", "held"),
    [(0.1, 5.0), (0.5, 5.0), (3.0, 30.0)],  # ten times as long, where that is more than the five seconds of Keep
)
def test_a_generation_is_held_for_some_seconds_and_for_ten_times_what_writing_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writing: float, held: float
) -> None:
    clock = Clock()
    monkeypatch.setattr(shelf, "monotonic", clock)
    one = Shelf(Run(tmp_path), Keep(last=1, hold_seconds=5), generations=9)
    one.begin(0, ALONE)
    assert not one.holds  # nothing was written yet
    with one.writing():
        clock.now += writing
    clock.now += 600  # sampling, evaluating and drawing count for nothing
    one.written(0, lambda pool: False)
    written = clock.now
    for seconds, holds in ((0.0, True), (held - 0.1, True), (held + 0.1, False)):
        clock.now = written + seconds
        one.begin(1, ALONE)
        assert one.holds == holds


def test_after_a_generation_that_was_not_begun_here_no_more_is_held_than_after_a_quick_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of ``loop.start``, or the last one of a run that goes on. The time of the clock itself says nothing."""
    clock = Clock()
    monkeypatch.setattr(shelf, "monotonic", clock)
    one = Shelf(Run(tmp_path), Keep(last=1, hold_seconds=5), generations=9)
    one.written(0, lambda pool: False)
    for seconds, holds in ((0.0, True), (4.9, True), (5.1, False)):
        clock.now = 100.0 + seconds
        one.begin(1, ALONE)
        assert one.holds == holds


def test_nothing_is_held_that_stays_or_is_shared_or_is_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "monotonic", Clock())
    one = Shelf(Run(tmp_path), Keep(every=4, hold_seconds=5), generations=9)
    one.begin(0, ALONE)
    one.written(0, lambda pool: False)
    for generation, together, holds in (
        (1, ALONE, True),
        (4, ALONE, False),  # kept
        (9, ALONE, False),  # the last
        (1, processes(world_size=2), False),
        (1, processes(stop_requested=True), False),
    ):
        one.begin(generation, together)
        assert one.holds == holds
