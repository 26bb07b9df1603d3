"""``Reward``: a score of each sample."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Reward(Protocol):
    """A callable ``(N, *shape) -> (N,)``, higher is better. Knows nothing of Lightning; any function will do.

    It is called on the device of its input, without gradients, on raw and on curated samples, chunk by chunk, and
    before a run on a few real samples. What it is given is a copy, which it may change in place.

    It sees x alone: what is to depend on the condition is a stage. It remembers nothing: another process may score
    the next chunk, and after a kill the same one is scored again. Where it draws at random, it draws from the global
    generators of torch, numpy or Python, which are seeded for each chunk, and not from a generator of its own.
    """

    def __call__(self, x: Tensor, /) -> Tensor: ...
