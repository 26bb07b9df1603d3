"""Gradients that are not finite: skipped as if the step had never been, or stopped before anything is saved."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from conftest import TinyModel
from lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from sc_loops import Samples
from sc_loops.errors import RunError


class Poisoned(TinyModel):
    """Its loss in the steps ``bad`` is ``value``; it has no noise, so that only the batches matter."""

    def __init__(self, bad: tuple[int, ...] = (), value: float = math.nan, **options: Any) -> None:
        super().__init__(**options)
        self.bad, self.value = bad, value

    def loss(self, batch: Samples) -> Tensor:
        loss = (self.network(batch.x) - 1).square().mean()
        return loss * self.value if int(batch.x[0, 0]) in self.bad else loss


def batches(steps: list[int]) -> list[Samples]:
    """Batch n begins with the number n, by which ``Poisoned`` knows it."""
    torch.manual_seed(1)
    made = [torch.cat([torch.full((1, 2), float(n)), torch.randn(7, 2)]) for n in range(10)]
    return [Samples(made[n]) for n in steps]


def train(model: Poisoned, steps: list[int], *, nonfinite: Any = "skip", **options: Any) -> dict[str, Any]:
    """Train one generation on the batches ``steps``; returns what a step could have changed."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    model.begin_generation(seed=0, generation=0, nonfinite=nonfinite)
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(model, DataLoader(batches(steps), batch_size=None))  # type: ignore[arg-type]
    return {
        "weights": model.state_dict(),
        "average": model._average.state_dict(),
        "optimizer": trainer.optimizers[0].state_dict()["state"],
    }


def assert_same(a: Any, b: Any) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("bad", [(0,), (4,), (9,), (2, 3, 7)])
@pytest.mark.parametrize(
    "options", [{}, {"gradient_clip_val": 0.1}, {"precision": "bf16-mixed"}], ids=["plain", "clipped", "bf16"]
)
def test_a_skipped_step_is_as_if_it_had_never_been(bad: tuple[int, ...], value: float, options: dict) -> None:
    model = Poisoned(bad, value)
    skipping = train(model, list(range(10)), **options)
    assert model.skipped_steps == len(bad)
    assert_same(skipping, train(Poisoned(), [n for n in range(10) if n not in bad], **options))


def test_without_bad_gradients_skipping_changes_nothing() -> None:
    assert_same(train(Poisoned(), list(range(10))), train(Poisoned(), list(range(10)), nonfinite="stop"))


def test_an_accumulated_step_is_skipped_as_a_whole() -> None:
    model = Poisoned(bad=(4,))
    skipping = train(model, list(range(10)), accumulate_grad_batches=2)
    assert model.skipped_steps == 1
    assert_same(skipping, train(Poisoned(), [0, 1, 2, 3, 6, 7, 8, 9], accumulate_grad_batches=2))


def test_large_finite_gradients_are_not_skipped() -> None:
    """Their squares overflow."""
    model = Poisoned(bad=(3,), value=1e30)
    train(model, list(range(10)))
    assert model.skipped_steps == 0


def test_the_count_is_of_one_generation_and_can_be_restored() -> None:
    model = Poisoned(bad=(4,))
    model.begin_generation(seed=0, generation=0, nonfinite="skip")
    assert model.skipped_steps == 0
    model.skipped_steps = 3
    model.begin_generation(seed=0, generation=1)
    assert model.skipped_steps == 0


def test_stopping_takes_the_step_and_refuses_to_save_what_came_of_it() -> None:
    model = Poisoned(bad=(4,))
    train(model, list(range(4)), nonfinite="stop")
    model.require_finite("generation 0")
    train(model, list(range(5)), nonfinite="stop")
    assert model.skipped_steps == 0
    with pytest.raises(RunError, match="generation 0") as error:
        model.require_finite("generation 0")
    assert "loop.nonfinite=skip" in error.value.do


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("part", ["weights", "average"])
def test_one_bad_number_anywhere_is_found(part: str, value: float) -> None:
    model = Poisoned()
    with model.averaged():
        pass
    model.require_finite("here")
    with torch.no_grad():
        (model.network.weight if part == "weights" else model._average.shadow[1]).view(-1)[-1] = value
    with pytest.raises(RunError):
        model.require_finite("here")


@pytest.mark.parametrize("fails", [False, True])
def test_holding_another_checkpoint_leaves_no_trace(fails: bool) -> None:
    other, own = Poisoned(), Poisoned()
    there, here = train(other, list(range(10))), copy.deepcopy(train(own, list(range(3))))
    checkpoint = copy.deepcopy({"state_dict": there["weights"], "ema": there["average"]})
    digest = own.weights_digest()
    try:
        with own.holding(checkpoint):
            assert_same(own.state_dict(), other.state_dict())
            assert own.weights_digest() == other.weights_digest() != digest
            with own.averaged(), other.averaged():
                assert_same(own.state_dict(), other.state_dict())
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    del here["optimizer"]
    assert_same({"weights": own.state_dict(), "average": own._average.state_dict()}, here)
    assert own.weights_digest() == digest
    assert_same(checkpoint, {"state_dict": there["weights"], "ema": there["average"]})


def test_a_checkpoint_that_does_not_fit_leaves_no_trace() -> None:
    model = Poisoned()
    here = copy.deepcopy(train(model, list(range(3))))
    weights = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    with pytest.raises(KeyError), model.holding({"state_dict": weights}):
        pass
    assert_same(model.state_dict(), here["weights"])
    assert_same(model._average.state_dict(), here["average"])


def test_the_digest_is_of_what_samples_depend_on() -> None:
    model = Poisoned()
    model.register_buffer("scale", torch.tensor(2.0))
    with model.averaged():
        digest = model.weights_digest()
    with torch.no_grad():
        model.network.weight.add_(1)  # trained, but not averaged yet
    assert model.weights_digest() == digest
    assert len(digest) == 32

    def changed(tensor: Tensor) -> str:
        tensor.add_(1)
        try:
            return model.weights_digest()
        finally:
            tensor.sub_(1)

    found = {changed(model._average.shadow[0]), changed(model._average.shadow[1]), changed(model.scale)}
    assert len(found | {digest}) == 4
