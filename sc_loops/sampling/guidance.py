"""Guidance, and classes in training and in sampling: condition dropout and classifier-free guidance."""

from __future__ import annotations

import torch
from torch import Tensor

from sc_loops.errors import require
from sc_loops.networks.network import Network


def extrapolate(origin: Tensor, target: Tensor, scale: float | Tensor) -> Tensor:
    """origin + scale (target - origin): 0 is the origin, 1 the target, and what is above 1 lies beyond it, away from
    the origin.

    All guidance is this combination of two predictions at one x and t. What is linked to the score by an affine map,
    as the noise, the sample, v and the velocity are, is combined as the scores are, since the coefficients sum to
    one. Classifier-free guidance (Ho and Salimans 2022) goes from the prediction without a class, autoguidance
    (Karras et al. 2024, arXiv 2406.02507) from that of a worse model, SIMS (Alemohammad et al. 2024, arXiv
    2408.16333) from that of a model trained on the first one's samples. Neon (arXiv 2510.03597) combines weights
    instead.
    """
    return origin + scale * (target - origin)


def training_labels(network: Network, condition: Tensor | None, dropout: float) -> Tensor | None:
    """The classes to train ``network`` on: ``condition``, each replaced by the null class with probability
    ``dropout`` (Ho and Salimans 2022, Algorithm 1), or None where the network looks at no classes.

    Raises:
        InvalidValue: the network is class-conditional and the batch has no condition.
    """
    if not network.class_conditional:
        return None
    require(
        condition is not None,
        "class_conditional",
        True,
        "false, since the samples to train on carry no condition",
    )
    assert condition is not None
    dropped = torch.rand(len(condition), device=condition.device) < dropout
    return torch.where(dropped, network.null(condition), condition)


def guided(network: Network, t: Tensor, x: Tensor, y: Tensor | None, scale: float, rows: int | None = None) -> Tensor:
    """null + scale (conditional - null), whatever the network predicts (Ho and Salimans 2022, Equation 6,
    whose w is scale - 1): scale 1 is the conditional prediction, 0 the unconditional one. Both are computed
    in one call of twice the batch, and only one where the other is not needed.

    Args:
        t: ``(N,)`` in [0, 1].
        x: ``(N, *shape)``.
        y: ``(N,)`` classes, or None for no class and no guidance.
        rows: see ``in_parts``.
    """
    if y is None or scale == 1:
        return in_parts(network, t, x, y, rows)
    both = torch.cat([y, network.null(y)])
    conditional, null = in_parts(network, torch.cat([t, t]), torch.cat([x, x]), both, rows).chunk(2)
    return extrapolate(null, conditional, scale)


def in_parts(network: Network, t: Tensor, x: Tensor, y: Tensor | None, rows: int | None) -> Tensor:
    """``network(t, x, y)``, evaluated on ``rows`` of the N at a time, or on all at once.

    Where the network wants all calls to have one shape, as a compiled one does, the last part is filled up with
    repetitions of the last row.
    """
    n = len(x)
    if rows is None or n == rows:
        return network(t, x, y)
    filled = -(-n // rows) * rows if network.one_shape else n
    parts = torch.arange(filled, device=x.device).clamp(max=n - 1).split(rows)
    return torch.cat([network(t[p], x[p], None if y is None else y[p]) for p in parts])[:n]
