"""A model that users wrote, in a run: refused before it begins, or named by the method that fails in it."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import TinyModel, fit, generations, tiny_loop
from lightning import LightningModule

from sc_loops import RunError, UsageError

LATER = """
import torch
from torch import nn
from sc_loops import ClosedFormModel, GenerativeModel

class Model(GenerativeModel):
    def __init__(self, data):
        BEFORE
        super().__init__(learning_rate=1e-2)
        self.mean, self.calls = nn.Parameter(torch.zeros(data.shape)), 0

    def loss(self, batch):
        self.calls += 1
        value = (batch.x - self.mean).square()
        LOSS
        return value.mean()

    def sample(self, generator, n, condition=None):
        SAMPLE
        return self.mean + torch.randn(n, *self.mean.shape, generator=generator)

class Closed(ClosedFormModel):
    def __init__(self, data):
        super().__init__()

    def fit(self, items):
        raise ValueError("singular")

    loss, sample = Model.loss, Model.sample
"""


def written(here: Any, **parts: str) -> str:
    text = LATER
    for name in ("BEFORE", "LOSS", "SAMPLE"):
        text = text.replace(name, parts.get(name, "pass"))
    (here / "my_models.py").write_text(text)
    return "model={name: my_models:Model}"


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_the_command_refuses_a_model_before_there_is_a_run(here, tiny, dry: tuple[str, ...]) -> None:
    model = written(here, SAMPLE="raise KeyError('nothing')")
    status, _, errors = tiny(model, "name=mine", *dry)
    assert status == 2
    assert "error: Model.sample, tried on 8 real items\n  found:    it raised KeyError: 'nothing'" in errors
    assert "Traceback" not in errors
    assert not (here / "runs/mine").exists()
    with pytest.raises(UsageError) as caught:
        tiny(model, "--debug", *dry)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_constructor_that_leaves_out_that_of_the_base(here, tiny) -> None:
    status, _, errors = tiny(written(here, BEFORE="self.shape = data.shape; return"))
    assert (status, "found:    Model, whose constructor did not call that" in errors) == (2, True)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"LOSS": "if self.calls == 3: raise KeyError('late')"}, "Model.loss in generation 0, step 3\n"),
        ({"LOSS": "if self.calls == 2: return value"}, "Model.loss in generation 0, step 2\n  found:    a tensor of"),
        ({"SAMPLE": "assert n < 50, 'late'"}, "Model.sample in generation 0, chunk 0\n  found:    it raised Asser"),
    ],
)
def test_what_fails_later_names_the_method(here, tiny, parts: dict[str, str], message: str) -> None:
    model = written(here, **parts)
    status, _, errors = tiny(model, "name=mine")
    assert status == 1
    assert message in errors
    assert "This should not happen" not in errors
    with pytest.raises(RunError) as caught:
        tiny(model, "name=other", "--debug")
    assert (caught.value.__cause__ is None) == ("found:    a tensor" in message)


def test_a_fit_in_closed_form_that_fails(here, tiny) -> None:
    written(here)
    model = "model={name: my_models:Closed}"
    status, _, errors = tiny(model, "loop.first={passes: 1}", "loop.later={passes: 1}")
    assert status == 1
    assert "Closed.fit in generation 0\n  found:    it raised ValueError: singular" in errors


def test_a_run_that_goes_on_is_not_tried_again(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.setattr("sc_loops.fit_checks.try_model", lambda model, *rest: tried.append(type(model).__name__))
    for last in (0, 1):
        fit(tiny_loop(tmp_path, generations=last), TinyModel())
    assert tried == ["TinyModel"]
    assert generations(tmp_path) == [0, 1]


class OwnStep(TinyModel):
    updates = False

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        LightningModule.optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure)
        if self.updates:
            self.update_average()


def test_a_step_of_the_users_own_updates_the_average(tmp_path) -> None:
    """Else samples would come from the weights as they were at first, without a word."""
    with pytest.raises(RunError, match="update_average"):
        fit(tiny_loop(tmp_path / "without", generations=0), OwnStep())
    OwnStep.updates = True
    model = fit(tiny_loop(tmp_path / "with", generations=0), OwnStep())
    assert model._average.updates == 8
