"""``Neon``: extrapolation in weights (arXiv 2510.03597)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from sc_loops.improving.improvement import Improvement
from sc_loops.models.base import GenerativeModel
from sc_loops.sampling.guidance import extrapolate


class Neon(Improvement):
    """Negative extrapolation from self-training: samples with the weights (1 + ω) base - ω auxiliary (arXiv
    2510.03597), at no further evaluations of the network. For any model with weights to train.

    Both are averaged weights. What the model does not train, such as frozen weights and a batch normalisation's
    running statistics, stays the base's: extrapolated, a variance could turn negative. Published settings: 6k samples
    for 50k images of CIFAR-10, 1.75 % of the base's training, ω about 1 in 0..2. Precision falls and recall rises,
    and a sampler that prefers diversity wants ω < 0.
    """

    @contextmanager
    def extrapolated(self, model: GenerativeModel, auxiliary: dict[str, Tensor], omega: float) -> Iterator[None]:
        with model.averages_changed(lambda name, own: extrapolate(auxiliary[name].to(own), own, 1 + omega)):
            yield
