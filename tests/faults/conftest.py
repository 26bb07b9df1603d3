"""Commands that leave no process behind, whatever a test finds, and the undisturbed runs that tests compare with."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from faults.harness import TWO, Command
from sc_loops import Run


@pytest.fixture
def command(tmp_path) -> Iterator[Callable[..., Command]]:
    """``command(name, *overrides)`` makes a command in a new folder."""
    made: list[Command] = []

    def make(name: str, *arguments: str, **options: tuple[str, ...]) -> Command:
        made.append(Command(tmp_path / name, *arguments, **options))
        return made[-1]

    yield make
    for one in made:
        if hasattr(one, "process"):
            one.destroy()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> Run:
    """The run of one process that nothing happened to."""
    return Command(tmp_path_factory.mktemp("undisturbed") / "one").finish().run


@pytest.fixture(scope="session")
def undisturbed_two(tmp_path_factory) -> Run:
    """The run of two processes that nothing happened to."""
    return Command(tmp_path_factory.mktemp("undisturbed") / "two", *TWO).finish().run
