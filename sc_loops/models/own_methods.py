"""What users write in a model: where it raises, or returns something else than was asked for, a message names it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sc_loops.errors import Complaint, RunError
from sc_loops.out_of_memory import out_of_memory

if TYPE_CHECKING:
    from sc_loops.models.base import GenerativeModel

EXPECTED = {
    "loss": "loss(batch) that returns a finite scalar with a gradient, the mean over the items",
    "sample": "sample(generator, n, condition) that returns finite samples (n, *shape)",
    "pairing": "pairing() that returns None, or a function of items (N, *shape) and a generator to noise and order",
    "configure_optimizers": "configure_optimizers() that returns one optimizer",
    "fit": "fit(items) that fits the model, and loss(items) that returns a scalar",
}


def is_foreign(module: nn.Module) -> bool:
    """Whether ``module``, or a part of it such as its network, is of a class that neither sc_loops nor torch has."""
    return any(type(m).__module__.split(".")[0] not in ("sc_loops", "torch") for m in [module, *module.children()])


@contextmanager
def blaming_method(model: nn.Module, method: str, where: str, error: type[Complaint] = RunError) -> Iterator[None]:
    """Make an ``error`` about ``method`` of what a foreign ``model`` raises inside. A lack of memory, of which much
    can be said, stays what it is, and so does what is raised by a model that is all ours.

    Args:
        where: follows the name of the method, as in ``" in generation 3"``.
        error: ``UsageError`` before a run, ``RunError`` within.
    """
    try:
        yield
    except Complaint as problem:
        if error is RunError or isinstance(problem, error):
            raise
        raise error(problem.where, found=problem.found, expected=problem.expected, do=problem.do) from problem
    except Exception as problem:
        if out_of_memory(problem) or not is_foreign(model):
            raise
        found = " ".join(f"it raised {type(problem).__name__}: {problem}".split())[:400]
        raise complaint(model, method, where, found, error) from problem


def require_loss(loss: Any, model: nn.Module, where: str, error: type[Complaint] = RunError) -> Tensor:
    """``loss``, which ``model.loss`` returned, if it is a scalar with a gradient; else an ``error``. Whether it is
    finite is not looked at, which would wait for the device."""
    by_gradients = torch.is_grad_enabled() and getattr(model, "automatic_optimization", True)
    if not isinstance(loss, Tensor):
        found = f"a {type(loss).__name__}"
    elif loss.ndim:
        found = f"a tensor of shape {tuple(loss.shape)}"
    elif by_gradients and not loss.requires_grad:
        found = "a tensor without a gradient: it was detached, or no weight has a part in it"
    else:
        return loss
    raise complaint(model, "loss", where, found, error)


def sampled(
    model: GenerativeModel, generator: torch.Generator, n: int, condition: Tensor | None, where: str
) -> Tensor:
    """What ``model.sample`` returns; a ``RunError`` of what it raises."""
    with blaming_method(model, "sample", where):
        return model.sample(generator, n, condition)


def complaint(model: nn.Module, method: str, where: str, found: str, error: type[Complaint]) -> Complaint:
    """The ``error`` that ``method`` of ``model`` did what was ``found``."""
    do = f"correct {method}" + "; --debug shows where it failed" * found.startswith("it raised")
    return error(f"{type(model).__name__}.{method}{where}", found=found, expected=EXPECTED[method], do=do)
