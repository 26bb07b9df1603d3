"""Energy and Wasserstein distance, precision and recall against other ways to compute them."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sc_loops.evaluation.distances import distance_blocks, evenly
from sc_loops.evaluation.images import neighbour_radii, share_within
from sc_loops.evaluation.points import energy_distance, mean_distance, wasserstein_2


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_blocks_make_up_the_whole_matrix():
    x, y = normal(2500, 2), normal(7, 2, seed=1)
    whole = torch.cat(list(distance_blocks(x, y)))
    torch.testing.assert_close(whole, (x[:, None] - y[None]).norm(dim=2))


def test_evenly():
    x = torch.arange(10)
    assert evenly(x, 5).tolist() == [0, 2, 4, 6, 8]
    assert evenly(x, 10) is x
    assert evenly(torch.arange(7), 3).tolist() == [0, 2, 4]


def test_energy_distance_against_a_double_loop():
    x, y = normal(9, 2), 1 + normal(6, 2, seed=1)

    def mean(pairs):
        distances = [math.dist(a.tolist(), b.tolist()) for a, b in pairs]
        return sum(distances) / len(distances)

    cross = mean([(a, b) for a in x for b in y])
    within_x = mean([(x[i], x[j]) for i in range(9) for j in range(9) if i != j])
    within_y = mean([(y[i], y[j]) for i in range(6) for j in range(6) if i != j])
    assert energy_distance(x, y) == pytest.approx(2 * cross - within_x - within_y)


def test_mean_distances_give_scipys_energy_distance():
    x, y = normal(30, 1), 2 * normal(50, 1, seed=1)
    biased = 2 * mean_distance(x, y) - mean_distance(x, x) - mean_distance(y, y)
    assert math.sqrt(biased) == pytest.approx(scipy.stats.energy_distance(x[:, 0].numpy(), y[:, 0].numpy()))


def test_energy_distance_is_unbiased():
    x, y = normal(200, 10, 2), normal(200, 20, 2, seed=1)
    found = np.array([energy_distance(a, b) for a, b in zip(x, y, strict=True)])
    assert abs(found.mean()) < 4 * found.std() / math.sqrt(200)
    assert found.min() < 0


def test_wasserstein_of_sorted_numbers():
    x, y = normal(400, 1), 1 + 3 * normal(400, 1, seed=1)
    by_order = (x.sort(dim=0).values - y.sort(dim=0).values).square().mean().sqrt()
    assert wasserstein_2(x, y) == pytest.approx(float(by_order))


def test_wasserstein_of_a_shift_is_its_length():
    x = normal(100, 2)
    assert wasserstein_2(x, x.flip(0) + torch.tensor([3.0, 4.0])) == pytest.approx(5.0)
    assert wasserstein_2(x, x) == 0.0


def support_share(points, centres, k):
    """Precision of Kynkäänniemi et al. 2019 in plain loops."""
    inside = 0
    for point in points:
        for i, centre in enumerate(centres):
            others = sorted(math.dist(centre, c) for j, c in enumerate(centres) if j != i)
            if math.dist(point, centre) <= others[k - 1]:
                inside += 1
                break
    return inside / len(points)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), k=st.integers(1, 5))
def test_precision_and_recall_against_plain_loops(seed, k):
    real, fake = normal(25, 2, seed=seed), 1 + 0.7 * normal(20, 2, seed=seed + 1)
    for points, centres in ((fake, real), (real, fake)):
        found = share_within(points, centres, neighbour_radii(centres, k))
        assert found == support_share(points.tolist(), centres.tolist(), k)
