"""Observers hear the end of a run once, however it ends; one that raises, or is none, gives a message."""

from __future__ import annotations

import pytest
from conftest import TinyModel, fit, generations, tiny_loop
from lightning.pytorch.utilities import rank_zero_only

from sc_loops import Observer
from sc_loops.errors import InvalidValue, RunError, Stopped
from sc_loops.experiment import build, resolved_config
from sc_loops.processes import Processes
from sc_loops.reporting.observers import Observers
from sc_loops.run import Run
from sc_loops.start import carry_out


class Log(Observer):
    """Notes what it is told of, and raises at ``failing``."""

    def __init__(self, failing: str = "", error: BaseException | None = None) -> None:
        self.heard: list[str] = []
        self._failing, self._error = failing, error or ValueError("boom")

    def _hear(self, event: str) -> None:
        self.heard.append(event)
        if event == self._failing:
            raise self._error

    def run_started(self, run, generations, start) -> None:
        self._hear("started")

    def generation_finished(self, run, row) -> None:
        self._hear(f"generation {row['generation']}")

    def run_finished(self, run) -> None:
        self._hear("finished")

    def closed(self) -> None:
        self._hear("closed")


def test_a_plain_fit_closes_its_observers(tmp_path) -> None:
    log = Log()
    loop = tiny_loop(tmp_path, generations=1, observers=[log])
    fit(loop)
    assert log.heard == ["started", "generation 0", "generation 1", "finished", "closed"]
    loop.generations = 2
    fit(loop)  # another fit of the same loop has another end
    assert log.heard[5:] == ["started", "generation 2", "finished", "closed"]


@pytest.mark.parametrize("failing", ["started", "generation 0", "finished"])
def test_an_observer_that_raises_is_named_and_all_hear_the_end(tmp_path, failing: str) -> None:
    log, other = Log(failing), Log()
    with pytest.raises(RunError) as caught:
        fit(tiny_loop(tmp_path, generations=1, observers=[log, other]))
    assert caught.value.where.startswith("the observer Log, told of ")
    assert caught.value.found == "it raised ValueError: boom"
    assert isinstance(caught.value.__cause__, ValueError)
    for heard in (log.heard, other.heard):
        assert heard.count("closed") == 1
        assert heard[-1] == "closed"


@pytest.mark.parametrize("error", [Stopped(15), KeyboardInterrupt(), RunError("here", found="a", expected="b")])
def test_what_ends_a_run_on_purpose_stays_what_it_is(tmp_path, error: BaseException) -> None:
    log = Log("generation 0", error)
    with pytest.raises((type(error), SystemExit)):
        fit(tiny_loop(tmp_path, generations=1, observers=[log]))
    assert log.heard == ["started", "generation 0", "closed"]


def test_a_fit_that_is_refused_closes_them_too(tmp_path) -> None:
    log = Log()
    with pytest.raises(InvalidValue):
        fit(tiny_loop(tmp_path, observers=[log]), max_steps=3)
    assert log.heard == ["closed"]


def test_an_end_that_cannot_be_heard_is_said_and_changes_nothing(tmp_path, capsys) -> None:
    log, other = Log("closed"), Log()
    fit(tiny_loop(tmp_path, generations=0, observers=[log, other]))
    assert generations(tmp_path) == [0]
    assert other.heard[-1] == "closed"
    said = capsys.readouterr().err
    assert "the observer Log, told of closed\n  found:    it raised ValueError: boom" in said


@pytest.mark.parametrize("error", [None, ValueError("in the loss")])
def test_a_command_closes_them_once(here, monkeypatch, error: Exception | None) -> None:
    def fails(self, batch):
        raise error

    resolved, run, log = resolved_config("tiny.yaml", ["loop.generations=0"]), Run(here / "run"), Log()
    experiment = build(resolved, run)
    experiment.loop.plan(experiment.model, experiment.data)
    if error is None:
        carry_out(experiment, run, resolved, Processes(), observers=[log])
    else:
        monkeypatch.setattr(type(experiment.model), "loss", fails)
        with pytest.raises(ValueError, match="in the loss"):
            carry_out(experiment, run, resolved, Processes(), observers=[log])
    assert log.heard == ["started", *([] if error else ["generation 0", "finished"]), "closed"]


def test_another_rank_tells_nobody(monkeypatch) -> None:
    log = Log()
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    Observers([log]).close()
    assert not log.heard


@pytest.mark.parametrize("observer", [Log, TinyModel(), print])
def test_what_is_no_observer_is_refused(tmp_path, observer) -> None:
    with pytest.raises(InvalidValue, match=r"^observers\n.*\n.*sc_loops\.Observer"):
        tiny_loop(tmp_path, observers=[observer])
