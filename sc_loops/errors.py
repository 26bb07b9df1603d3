"""What a user is told when something is wrong: where, what was found, what was expected, what to do.

Two kinds reach the command line, each printed without a traceback:

* ``UsageError`` and its kin end a run before any work starts; exit status 2.
* ``RunError`` ends a run that was under way, after its state was saved; exit status 1.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class Complaint(Exception):
    """A message for a person, in four parts of which the last may be empty.

    Args:
        where: the config key, file or component the message is about.
        found: what was there.
        expected: what should have been there.
        do: what to do about it.
    """

    def __init__(self, where: str, *, found: str, expected: str, do: str = "") -> None:
        self.where, self.found, self.expected, self.do = where, found, expected, do
        super().__init__(where, found, expected, do)

    def __str__(self) -> str:
        lines = [self.where, f"  found:    {self.found}", f"  expected: {self.expected}"]
        if self.do:
            lines.append(f"  do:       {self.do}")
        return "\n".join(lines)


class UsageError(Complaint):
    """Bad input, found before work started. The command line exits with status 2."""


class InvalidValue(UsageError, ValueError):
    """An option has an impossible value. ``where`` is the option's name, to which the config adds its path."""


class RunError(Complaint):
    """A run under way cannot go on (a model that samples NaN, a reward that raises). Exit status 1."""


class Stopped(SystemExit):
    """A signal asked the run to stop, and it did so with everything saved. Uncaught, it is the exit status: 130 for
    Ctrl-C, 143 for SIGTERM and for SIGUSR1, by which SLURM is asked to say that the time is up."""

    def __init__(self, signum: int) -> None:
        self.signum = signum
        super().__init__(130 if signum == signal.SIGINT else 143)


def require(condition: bool, option: str, found: object, expected: str, do: str = "") -> None:
    """Raise ``InvalidValue`` for ``option`` unless ``condition`` holds.

    Use it in constructors, once, for what a user may set: ``require(choices >= 1, "choices", choices,
    "an integer of at least 1")``.
    """
    if not condition:
        raise InvalidValue(option, found=repr(found), expected=expected, do=do)


@contextmanager
def within(section: str) -> Iterator[None]:
    """Put ``section`` in front of the option that an ``InvalidValue`` raised inside names."""
    try:
        yield
    except InvalidValue as error:
        where = f"{section}.{error.where}" if section else error.where
        raise InvalidValue(where, found=error.found, expected=error.expected, do=error.do) from error


@contextmanager
def blaming(where: str, expected: str) -> Iterator[None]:
    """Make a ``UsageError`` about ``where`` of what is raised inside: by a user's component, or by a library that
    was given what the user wrote."""
    try:
        yield
    except Complaint:
        raise
    except Exception as error:
        found = " ".join(f"{type(error).__name__}: {error}".split())[:400]
        raise UsageError(where, found=found, expected=expected, do="--debug shows where it failed") from error


def nearest(name: str, names: Iterable[str]) -> str:
    """``"did you mean 'generations'?"`` for a typo, or the list of all names when nothing is near."""
    names = sorted(names)
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"use one of: {', '.join(names)}" if names else ""
