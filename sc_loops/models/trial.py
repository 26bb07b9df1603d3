"""A model that users wrote, tried on a few real items before the run: what would end it later is said at once."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from sc_loops.data.real import RealData
from sc_loops.errors import UsageError
from sc_loops.models.base import GenerativeModel
from sc_loops.models.closed_form import ClosedFormModel
from sc_loops.models.own_methods import blaming_method, complaint, is_foreign, require_loss
from sc_loops.randomness import generator_for, global_generators_kept, seed_global
from sc_loops.samples import Samples

ITEMS = 8
WHERE = f", tried on {ITEMS} real items"


def try_model(
    model: GenerativeModel,
    data: RealData,
    device: torch.device,
    precision: AbstractContextManager[Any] | None = None,
) -> None:
    """Have a foreign ``model`` make its optimizer, compute the loss of ``ITEMS`` real items, with gradients, and
    sample as many.

    A method of ours needs no trial: of a model of ours with a foreign network only the loss is computed, and of one
    that is all ours nothing. Models in closed form are not tried, since a few items may be too few to fit them to.
    What is tried is a copy on ``device``, without compilation; ``model`` and the global generators stay as they are.
    What cannot be copied, or asks for its trainer, is not tried.

    Args:
        precision: the context in which the trainer has a model compute; by default full precision.

    Raises:
        UsageError: the model has no weights, several optimizers, or a method that fails.
    """
    if not is_foreign(model) or isinstance(model, ClosedFormModel):
        return
    _require_weights(model)
    copied = _copy(model, data)
    if copied is None:
        return
    try:
        with _aside(device), precision or nullcontext():
            seed_global(0, "trial")
            _try_optimizer(copied)
            _try_loss(copied.to(device), data, device)
            _try_sample(copied, data, device)
    except UsageError as error:
        if "not attached to a `Trainer`" not in str(error.__cause__):
            raise


def _require_weights(model: GenerativeModel) -> None:
    if model.automatic_optimization and not any(weight.requires_grad for weight in model.parameters()):
        raise UsageError(
            "the model",
            found=f"{type(model).__name__}, which has no weights to train",
            expected="parameters that require gradients",
            do="make them torch.nn.Parameter or parts of torch.nn.Module; a model that is not trained by gradients "
            "is a subclass of sc_loops.ClosedFormModel",
        )


def _copy(model: GenerativeModel, data: RealData) -> GenerativeModel | None:
    """A copy of ``model``, which shares the data if it holds them; None if it cannot be copied."""
    held = [data, data.train, data.train.x, data.train.condition, data.test, data.test.x, data.test.condition]
    try:
        return copy.deepcopy(model, {id(each): each for each in held})
    except Exception:
        return None


def _try_optimizer(model: GenerativeModel) -> None:
    if not model.automatic_optimization:
        return
    with blaming_method(model, "configure_optimizers", "", UsageError):
        made: Any = model.configure_optimizers()
    if isinstance(made, (list, tuple)) and len(made) == 2 and isinstance(made[0], (list, tuple)):
        made = made[0]  # and the schedulers
    several = isinstance(made, (list, tuple)) and len(made) > 1
    if several or made is None:
        found = f"{len(made)} optimizers" if several else "None"
        raise complaint(model, "configure_optimizers", "", found, UsageError)


def _try_loss(model: GenerativeModel, data: RealData, device: torch.device) -> None:
    if type(model).training_step is not GenerativeModel.training_step:  # it may call another method
        return
    batch = Samples(data.train.x[:ITEMS].clone(), data.train[:ITEMS].condition).as_float()
    with blaming_method(model, "pairing", WHERE, UsageError):
        pairing = model.pairing()
        if pairing is not None:
            noise, order = pairing(batch.x, generator_for(0, "trial"))
            batch = batch[order].with_columns(noise=noise)
    with torch.enable_grad(), blaming_method(model, "loss", WHERE, UsageError):
        loss = require_loss(model.loss(batch.to(device)), model, WHERE, UsageError)
        if not bool(loss.isfinite()):
            raise complaint(model, "loss", WHERE, f"a loss of {float(loss)}", UsageError)
        if model.automatic_optimization:
            loss.backward()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    if model.automatic_optimization and all(weight.grad is None for weight in trained):
        raise complaint(model, "loss", WHERE, "a loss that no weight of the model has a part in", UsageError)


def _try_sample(model: GenerativeModel, data: RealData, device: torch.device) -> None:
    if type(model).sample.__module__.split(".")[0] == "sc_loops":
        return
    real = data.train[:ITEMS]
    condition = real.condition.to(device) if model.conditional and real.condition is not None else None
    n, generator = len(real), generator_for(0, "trial", device=device)
    with model.averaged(), blaming_method(model, "sample", WHERE, UsageError):
        x: Any = model.sample(generator, n, condition)
        expected = (n, *data.shape)
        if not isinstance(x, torch.Tensor):
            found = f"a {type(x).__name__}"
        elif tuple(x.shape) != expected:
            found = f"a tensor of shape {tuple(x.shape)}, where it is to be {expected}"
        elif not (x.is_floating_point() or (x.dtype == torch.uint8 and len(data.shape) == 3)):
            found = f"a tensor of {x.dtype}, where floats are expected"
        elif not bool(x.isfinite().all()):
            found = f"{int((~x.isfinite()).flatten(1).any(1).sum())} of {n} samples that hold NaN or infinity"
        else:
            return
        raise complaint(model, "sample", WHERE, found, UsageError)


@contextmanager
def _aside(device: torch.device) -> Iterator[None]:
    """Within the context nothing is compiled and no warning shown; afterwards the global generators are what they
    were."""
    if device.type == "cuda":
        torch.cuda.init()  # else its generators are not known yet
    stance = getattr(torch.compiler, "set_stance", None)  # since torch 2.6
    with (
        global_generators_kept(),
        warnings.catch_warnings(),
        nullcontext() if stance is None else stance("force_eager"),
    ):
        warnings.simplefilter("ignore")
        yield
