"""The weights of a batch's losses, for a ratio of real and synthetic data that is kept by weight."""

from __future__ import annotations

from torch import Tensor

from sc_loops.samples import Samples


def weighted_mean(losses: Tensor, batch: Samples) -> Tensor:
    """The mean of ``losses``, each times the weight of its item; a scalar.

    Weights average 1 over the training mixture, not over a batch, so they are not normalised here: the mean is
    unbiased, and parts of a batch add up, over ``network_batch`` and over processes.

    Args:
        losses: ``(N,)``, the loss of each item, or ``(N, *shape)``, of which an item's loss is the mean.
        batch: the N items; without the column ``weight`` ``(N,)`` all count the same.
    """
    weight = batch.columns.get("weight")
    if weight is None:
        return losses.mean()
    return (losses.flatten(1).mean(1) if losses.ndim > 1 else losses).mul(weight).mean()
