"""What a sweep says of its progress, and the time left, with a clock of the test's own."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from sc_loops.sweeping import progress as module
from sc_loops.sweeping.messages import Outcome, Progress
from sc_loops.sweeping.plan import Member, Plan
from sc_loops.sweeping.progress import SweepProgress

FINISHED = Outcome("finished")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "monotonic", made)
    return made


def member(number: int) -> Member:
    resolved = {"name": f"seed={number}", "output": "runs/s", "loop": {"generations": 9}}
    return Member({}, number, resolved)


def plan(count: int) -> Plan:
    return Plan(Path("runs/s"), tuple(map(member, range(count))), {})


def printed(count: int, finished: int = 0, *, terminal: bool = False) -> tuple[SweepProgress, io.StringIO]:
    file = io.StringIO()
    console = Console(file=file, width=120, force_terminal=terminal, color_system=None)
    return SweepProgress(plan(count), finished, console), file


def test_the_time_left_follows_from_what_was_done_since_the_first_run_got_on(clock: Clock) -> None:
    progress, _ = printed(10, finished=2)
    progress.note(member(2), None)
    clock.now += 50  # workers start
    assert progress.left() is None
    progress.note(member(2), Progress(0, 0.0))
    clock.now += 20
    progress.note(member(2), FINISHED)
    assert progress.left() == pytest.approx(20 * 7)
    progress.note(member(3), None)
    progress.note(member(3), Progress(4, 0.5))
    assert progress.left() == pytest.approx(20 * 6.5 / 1.5)
    progress.note(member(3), Outcome("failed", "why"))
    assert progress.left() == pytest.approx(20 * 6 / 2)
    assert progress.failures == [(member(3), "why")]
    assert (progress.finished, progress.failed) == (3, 1)


def test_a_run_that_was_stopped_is_neither_finished_nor_failed(clock: Clock) -> None:
    progress, _ = printed(2)
    progress.note(member(0), Progress(1, 0.1))
    progress.note(member(0), Outcome("stopped"))
    assert (progress.finished, progress.failed, progress.failures) == (0, 0, [])


def test_a_log_gets_a_line_for_each_tenth(clock: Clock) -> None:
    progress, file = printed(40)
    with progress:
        for number in range(40):
            progress.note(member(number), None)
            progress.note(member(number), Progress(0, 0.0))
            clock.now += 1
            progress.note(member(number), FINISHED)
    lines = file.getvalue().splitlines()
    assert [line.split(" runs")[0] for line in lines] == [f"{4 * tenth} of 40" for tenth in range(1, 11)]
    assert lines[4] == "20 of 40 runs finished  about 20.0 s left"
    assert lines[-1] == "40 of 40 runs finished"


def test_a_log_gets_a_line_now_and_then_while_runs_are_long(clock: Clock) -> None:
    progress, file = printed(1)
    with progress:
        progress.note(member(0), None)
        for second in range(95):
            progress.note(member(0), Progress(second // 10, second / 100))
            clock.now += 1
    assert file.getvalue().count("0 of 1 runs finished") == 3


def test_a_terminal_gets_bars_that_go(clock: Clock) -> None:
    progress, file = printed(3, terminal=True)
    with progress:
        progress.note(member(0), None)
        progress.note(member(1), Progress(4, 0.45))
        assert progress._bars is not None
        progress._bars.refresh()
        progress.note(member(1), FINISHED)
        assert [task.description for task in progress._bars.tasks] == ["1 of 3 runs finished", "  seed=0"]
    text = file.getvalue()
    assert "generation 4/9" in text
    assert "preparing" in text
    assert text.endswith("\x1b[2K")  # erased
