"""The T2M protocol's formulas: hand-computed cases, numpy, and closed forms."""

import math

import numpy as np
import pytest
import torch

from sc_loops.evaluation.retrieval import diversity, matching_score, multimodality, r_precision


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_matching_score_of_a_hand_computed_case():
    motions = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    texts = torch.tensor([[3.0, 4.0], [1.0, 2.0]])
    assert matching_score(motions, texts) == (5 + 1) / 2
    assert math.isnan(matching_score(motions[:0], texts[:0]))


def test_captions_at_their_own_motions_are_all_found():
    motions = normal(64, 5)
    assert r_precision(motions, motions) == (1.0, 1.0, 1.0)


def test_r_precision_of_a_known_ranking():
    """On a line at 0, 1, 2, ...: a caption 0.6 beyond its motion is nearer to the next one, one 1.4 beyond to two."""
    motions = torch.arange(32.0)[:, None]
    assert r_precision(motions, motions + 0.6) == (pytest.approx(1 / 32), 1.0, 1.0)  # the last has no next one
    assert r_precision(motions, motions + 1.4) == (1 / 32, 2 / 32, 1.0)


def numpys(motions, texts, order):
    """The shares found as published code does: for each caption of a batch of 32 its motion's place among all."""
    places = []
    for start in range(0, len(order) // 32 * 32, 32):
        part = order[start : start + 32]
        distances = np.linalg.norm(texts[part][:, None] - motions[part][None], axis=2)
        places += [int(np.where(np.argsort(row) == i)[0][0]) for i, row in enumerate(distances)]
    return tuple(float(np.mean(np.array(places) < k)) for k in (1, 2, 3))


def test_r_precision_is_numpys_in_batches_of_32_without_those_left_over():
    texts = normal(100, 8)
    motions = texts + 0.9 * normal(100, 8, seed=1)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0)).numpy()
    found = r_precision(motions, texts)
    assert found == pytest.approx(numpys(motions.double().numpy(), texts.double().numpy(), order))
    assert 0.1 < found[0] < found[1] < found[2] < 1


def test_chance_level_of_r_precision():
    found = r_precision(normal(6400, 8), normal(6400, 8, seed=1))
    for rank, share in enumerate(found, start=1):
        deviation = math.sqrt(rank / 32 * (1 - rank / 32) / 6400)
        assert abs(share - rank / 32) < 5 * deviation


def test_fewer_than_32_samples_have_no_r_precision():
    assert all(math.isnan(share) for share in r_precision(normal(31, 2), normal(31, 2)))


def test_a_motion_of_an_equal_caption_counts_only_where_captions_are_given():
    """16 pairs of equal captions; each caption is at the motion of the other one of its pair."""
    motions = torch.tensor([100.0 * (i // 2) + 10 * (i % 2) for i in range(32)])[:, None]
    texts = motions[torch.arange(32) ^ 1]
    captions = [f"caption {i // 2}" for i in range(32)]
    assert r_precision(motions, texts) == (0.0, 1.0, 1.0)
    assert r_precision(motions, texts, captions) == (1.0, 1.0, 1.0)


def test_diversity_is_the_mean_distance_of_normal_pairs():
    """The difference of two standard normal vectors has length sqrt(2) chi_d, of mean 2 gamma((d+1)/2)/gamma(d/2)."""
    d = 6
    expected = 2 * math.gamma((d + 1) / 2) / math.gamma(d / 2)
    deviation = math.sqrt((2 * d - expected**2) / 300)
    found = diversity(normal(4000, d))
    assert abs(found - expected) < 4 * deviation


def test_diversity_of_two_motions_is_their_distance_and_of_equal_ones_nothing():
    assert diversity(torch.tensor([[0.0, 0.0], [3.0, 4.0]])) == 5
    assert diversity(torch.ones(50, 3)) == 0
    assert math.isnan(diversity(torch.ones(1, 3)))


def test_diversity_pairs_no_motion_with_itself_or_twice():
    """At the powers of two every difference tells which pair it is: all differ where no motion is in two of them."""
    motions = 2.0 ** torch.arange(40, dtype=torch.float64)[:, None]
    distances = diversity(motions) * 20  # of 20 pairs: the sum of 20 powers of two less that of the other 20
    assert distances == int(distances)
    assert bin(int(distances) + 2**40 - 1).count("1") == 20  # twice the sum of the larger ones


def test_multimodality_of_a_hand_computed_case():
    motions = torch.tensor([[0.0], [7.0], [2.0], [100.0], [107.0 - 1]])
    mean, error, captions = multimodality(motions, ["a", "b", "a", "c", "c"])
    assert (mean, captions) == ((2 + 6) / 2, 2)  # b has but one motion
    assert error == pytest.approx(np.std([2, 6], ddof=1) / math.sqrt(2))


def test_multimodality_of_normal_groups_is_their_spread_whatever_their_centres():
    d, groups, each = 4, 200, 20
    centres = 100 * normal(groups, 1, d, seed=3)
    motions = (centres + normal(groups, each, d)).reshape(-1, d)
    captions = [g for g in range(groups) for _ in range(each)]
    mean, error, found = multimodality(motions, captions)
    expected = 2 * math.gamma((d + 1) / 2) / math.gamma(d / 2)
    assert abs(mean - expected) < 4 * error
    assert error == pytest.approx(math.sqrt((2 * d - expected**2) / (10 * groups)), rel=0.25)
    assert found == groups


def test_multimodality_where_no_caption_has_two_motions():
    mean, error, captions = multimodality(torch.ones(3, 2), ["a", "b", "c"])
    assert math.isnan(mean)
    assert math.isnan(error)
    assert captions == 0
