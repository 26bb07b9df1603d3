"""Networks in half precision for sampling, beside those that are trained."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class HalfPrecisionTwins:
    """A bfloat16 twin of each child module of a model.

    The trained weights could not be cast in place: that would cut the hooks by which DDP exchanges gradients. The
    twins are made once and filled anew for each generation, so a compiled one is compiled once. They are no part of
    the model's state.
    """

    def __init__(self) -> None:
        self._twins: dict[str, nn.Module] = {}

    @contextmanager
    def in_place_of(self, model: nn.Module) -> Iterator[None]:
        """Within the context the children of ``model`` are their twins, with the weights that they hold now, and
        autocast is off."""
        children, device = dict(model.named_children()), next(model.parameters()).device
        for name, child in children.items():
            if name not in self._twins:
                self._twins[name] = _twin(child)
            self._twins[name].to(device).load_state_dict(child.state_dict())
            self._twins[name].train(child.training)
        try:
            model._modules.update(self._twins)
            with torch.autocast(device.type, enabled=False):
                yield
        finally:
            model._modules.update(children)


def _twin(module: nn.Module) -> nn.Module:
    """A copy with bfloat16 parameters; buffers, such as frequencies, keep their precision."""
    twin = copy.deepcopy(module).requires_grad_(False)
    for weight in twin.parameters():
        weight.data = weight.data.bfloat16()
        weight.grad = None
    return twin
