"""What the command of a sweep and its workers say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sc_loops.errors import Complaint


@dataclass(frozen=True)
class Order:
    """To a worker: carry out this run."""

    name: str
    resolved: dict[str, Any]


@dataclass(frozen=True)
class Progress:
    """From a worker: its run is in ``generation``, about the share ``done`` of the whole run behind it."""

    generation: int
    done: float


@dataclass(frozen=True)
class Outcome:
    """From a worker: its run has ended. ``message`` says why where it failed or was stopped."""

    how: Literal["finished", "failed", "stopped"]
    message: str = ""


def told(error: BaseException) -> str:
    """``error`` in words."""
    return str(error) if isinstance(error, Complaint) else f"{type(error).__name__}: {error}"
