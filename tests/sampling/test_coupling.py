"""The optimal permutation against all permutations and against optimal transport of POT."""

from itertools import permutations

import ot
import pytest
import torch

from sc_loops.sampling.coupling import optimal_permutation


def cost(x0, x1):
    return float((x0 - x1).double().square().sum())


def test_no_permutation_is_better():
    x0, x1 = torch.randn(6, 2), 3 * torch.rand(6, 2)
    best = min(cost(x0, x1[list(p)]) for p in permutations(range(6)))
    assert cost(x0, x1[optimal_permutation(x0, x1)]) == pytest.approx(best, rel=1e-5)


def test_its_cost_is_that_of_the_transport_plan_of_images():
    x0, x1 = torch.randn(64, 1, 4, 4), torch.rand(64, 1, 4, 4)
    order = optimal_permutation(x0, x1)
    assert sorted(order.tolist()) == list(range(64))
    plan_cost = ot.emd2([], [], ot.dist(x0.flatten(1).numpy(), x1.flatten(1).numpy()))
    assert cost(x0, x1[order]) / 64 == pytest.approx(float(plan_cost), rel=1e-4)


def test_half_precision_training_does_not_blur_it():
    x0, x1 = torch.randn(64, 2), torch.randn(64, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        order = optimal_permutation(x0, x1)
    assert torch.equal(order, optimal_permutation(x0, x1))
