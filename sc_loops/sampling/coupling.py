"""Pairing noise with data by optimal transport within a batch."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def optimal_permutation(x0: Tensor, x1: Tensor) -> Tensor:
    """The permutation p of ``x1`` that minimises sum_i |x0_i - x1_p(i)|^2: ``(N,)`` int64.

    It is the exact optimal transport plan between two batches of one size (Tong et al. 2024, Equation 16),
    found as the assignment that maximises sum_i <x0_i, x1_p(i)>: the squares do not depend on p.
    """
    # Without autocast: half precision would blur the costs, and numpy knows no bfloat16.
    with torch.autocast(x0.device.type, enabled=False):
        inner = x0.flatten(1).float() @ x1.flatten(1).float().T
    _, permutation = linear_sum_assignment(inner.cpu().numpy(), maximize=True)
    return torch.from_numpy(permutation).to(x1.device)
