"""``Reward``: a score of each sample."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Reward(Protocol):
    """A callable ``(N, *shape) -> (N,)``, higher is better. Knows nothing of Lightning; any function will do.

    It is called on the device of its input, without gradients, on raw and on curated samples, chunk by chunk.
    """

    def __call__(self, x: Tensor, /) -> Tensor: ...
