"""What the metrics that compare all pairs of samples share."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 1024  # rows of a distance matrix in memory at a time


def distance_blocks(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """The Euclidean distances ``(n, m)`` between ``x (n, d)`` and ``y (m, d)``, a block of rows at a time.

    Differences are taken before they are squared, so that equal points are at distance 0.
    """
    for block in x.split(BLOCK):
        yield torch.cdist(block, y, compute_mode="donot_use_mm_for_euclid_dist")


def evenly(x: Tensor, n: int) -> Tensor:
    """n rows of ``x`` at even distances, all of them if there are no more; as good in data sorted by class."""
    return x if len(x) <= n else x[torch.arange(n) * len(x) // n]
