"""The optimal permutation against all permutations, the plain assignment solver and optimal transport of POT."""

from itertools import permutations

import numpy as np
import ot
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from sc_loops.errors import RunError
from sc_loops.out_of_memory import explained
from sc_loops.sampling.coupling import entropic_potential, optimal_assignment, optimal_permutation


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


def test_a_batch_whose_pairs_do_not_fit_into_memory_names_what_helps():
    with pytest.raises(RunError, match=r"3000000 x 3000000 pairs[^$]*model\.ot_block=256") as caught:
        optimal_permutation(torch.zeros(3_000_000, 1), torch.zeros(3_000_000, 1))  # 36 TB
    assert explained(caught.value, batch=1, share=1, chunk=1, network_batch=None) is caught.value


def matrices():
    rng = np.random.default_rng(0)
    for trial in range(200):
        n = int(rng.integers(1, 40))
        normal = rng.standard_normal((n, n))
        yield normal * 10.0 ** rng.integers(-20, 20)
        yield np.exp(3 * normal)  # far beyond the range of the warm start
        yield normal * (rng.random((n, n)) < 0.1)  # many ties
        yield np.full((n, n), float(trial % 2))


def test_the_warm_start_leaves_the_best_cost_as_it_is():
    for c in matrices():
        order, rows = optimal_assignment(c), np.arange(len(c))
        assert sorted(order) == list(rows)
        least = c[linear_sum_assignment(c)].sum()
        assert c[rows, order].sum() == pytest.approx(least, rel=1e-9, abs=1e-12 * len(c) * abs(c).max())


def test_the_warm_start_is_close_to_the_dual():
    """The dual value of its potential is below the optimum, as any is, and near it; without one it is far."""
    x0, x1 = torch.randn(2, 128, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    c = torch.cdist(x0, x1).square().numpy()
    c = c - c.min(axis=1, keepdims=True)
    optimum, potential = c[linear_sum_assignment(c)].sum(), entropic_potential(c)
    value = (c - potential).min(axis=1).sum() + potential.sum()
    assert 0.8 * optimum < value <= optimum * (1 + 1e-12)


def test_blocks_are_coupled_by_themselves():
    x0, x1 = torch.randn(70, 2), torch.rand(70, 2)
    order = optimal_permutation(x0, x1, block=32)
    for start in (0, 32, 64):
        part = slice(start, start + 32)
        assert torch.equal(order[part], start + optimal_permutation(x0[part], x1[part]))
    assert torch.equal(optimal_permutation(x0, x1, block=1), torch.arange(70))
    assert torch.equal(optimal_permutation(x0, x1, block=70), optimal_permutation(x0, x1))
