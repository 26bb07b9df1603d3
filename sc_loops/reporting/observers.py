"""``Observers``: all who are told of a run; one that raises ends it with a message that names it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from sc_loops.errors import Complaint, RunError, require
from sc_loops.reporting.observer import Observer


class Observers:
    """Those who are told of a run, in their order.

    Raises:
        InvalidValue: one of them is no ``Observer``.
    """

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        for observer in observers:
            known = isinstance(observer, Observer)
            found = f"an instance of {type(observer).__name__}"
            expected = "instances of subclasses of sc_loops.Observer"
            require(known, "observers", observer if inspect.isclass(observer) else found, expected)
        self._observers, self._open = list(observers), True

    def tell(self, event: str, *details: Any) -> None:
        """Call the method ``event`` of each.

        Raises:
            RunError: one of them raised.
        """
        self._open = True
        for observer in self._observers:
            _told(observer, event, details)

    def close(self) -> None:
        """On rank 0, tell each that the run ended; again, it does nothing until they are told of another one. What
        one of them raises is printed, since nothing is left that it could end."""
        if not self._open or rank_zero_only.rank:  # type: ignore[attr-defined]
            return
        self._open = False
        for observer in self._observers:
            try:
                _told(observer, "closed")
            except Complaint as error:
                print(f"error: {error}", file=sys.stderr)


def _told(observer: Observer, event: str, details: tuple[Any, ...] = ()) -> None:
    try:
        getattr(observer, event)(*details)
    except Complaint:
        raise
    except Exception as error:
        raise RunError(
            f"the observer {type(observer).__name__}, told of {event}",
            found=f"it raised {type(error).__name__}: {error}",
            expected="an observer that only looks, and lets the loop go on",
            do=f"correct {event}; --debug shows where it failed",
        ) from error
