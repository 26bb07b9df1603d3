"""``Network``: what a generative model asks of its neural network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from sc_loops.data.real import RealData
from sc_loops.errors import RunError, require


class Network(nn.Module, ABC):
    """A function of time, sample and class to something of the sample's shape (a velocity, a noise, ...).

    Args:
        data: gives ``shape``, the shape of one sample, and ``num_classes``, 0 for unlabelled data.
        class_conditional: whether the network looks at classes.

    Attributes:
        one_shape: whether all calls had better have one shape.
        evaluations: for how many evaluations of a network a call counts, for each of its rows.
        num_classes: the number of classes C. Index C is the null class, which stands for "no class given". A network
            with other null classes overrides ``null``.
    """

    one_shape: bool = False
    evaluations: int = 1

    def __init__(self, data: RealData, *, class_conditional: bool = False) -> None:
        super().__init__()
        require(
            data.num_classes > 0 or not class_conditional,
            "class_conditional",
            class_conditional,
            f"false, since the data set {data.name!r} has no classes",
        )
        self.shape = data.shape
        self.num_classes = data.num_classes
        self.class_conditional = class_conditional

    @abstractmethod
    def forward(self, t: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Evaluate at N times, samples and classes.

        Args:
            t: ``(N,)`` in [0, 1].
            x: ``(N, *shape)``.
            y: ``(N,)`` int64 in 0..C, or None for the null class throughout. Ignored by a network that is not
                class-conditional.

        Returns:
            ``(N, *shape)``.
        """

    def labels(self, y: Tensor | None, x: Tensor) -> Tensor:
        """``y``, or where it is None the null class for each of ``x``: ``(N,)`` int64."""
        if y is None:
            return torch.full((len(x),), self.num_classes, dtype=torch.int64, device=x.device)
        return y

    def null(self, y: Tensor) -> Tensor:
        """``(N,)``: for each of the classes ``y (N,)`` the null class that takes its place where it is dropped."""
        return torch.full_like(y, self.num_classes)


def predicted(network: nn.Module, t: Tensor, x: Tensor, y: Tensor | None) -> Tensor:
    """``network(t, x, y)``, to be compared with something of the shape of ``x``.

    Raises:
        RunError: it has another shape. A loss would broadcast it, and train something else without a word.
    """
    output: Any = network(t, x, y)
    given = tuple(output.shape) if isinstance(output, Tensor) else None
    if given != tuple(x.shape):
        raise RunError(
            f"the network {type(network).__name__}",
            found=f"a {type(output).__name__}" if given is None else f"an output of shape {given}",
            expected=f"a tensor of shape {tuple(x.shape)}, that of the samples x which it was given",
            do="correct forward(t, x, y)",
        )
    return output
