"""What the command of a sweep makes of what it hears; with real processes in ``test_faults``."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any

import pytest

from sc_loops.sweeping.crew import Crew
from sc_loops.sweeping.messages import Outcome


@pytest.mark.parametrize(("requested", "how"), [(None, "failed"), (signal.SIGTERM, "stopped")])
def test_a_run_that_was_stopped_alone_counts_as_failed(requested: int | None, how: str) -> None:
    """Else a sweep would end with status 0 and a run that is not finished."""
    heard: list[Any] = []
    crew = Crew([], lambda member, message: heard.append(message))
    crew._signals.requested = requested
    worker: Any = SimpleNamespace(pipe=SimpleNamespace(recv=lambda: Outcome("stopped", "SIGTERM")), member="a run")
    crew._hear(worker)
    assert [message.how for message in heard] == [how]
    assert worker.member is None
