"""Seeding: the same draws as torch's and numpy's own seeding, a different stream for every purpose."""

import numpy as np
import torch

from sc_loops.randomness import generator_for, seed_for, seed_global


def test_seed_global_seeds_as_torch_and_numpy_do() -> None:
    seed_global(3, "train", 1, 2)
    drawn = torch.randn(5), np.random.rand(5)
    torch.manual_seed(seed_for(3, "train", 1, 2))
    np.random.seed(seed_for(3, "train", 1, 2) % 2**32)
    assert torch.equal(drawn[0], torch.randn(5))
    assert np.array_equal(drawn[1], np.random.rand(5))
    assert torch.equal(drawn[0], torch.randn(5, generator=generator_for(3, "train", 1, 2)))


def test_every_part_of_a_seed_counts() -> None:
    seeds = [seed_for(*parts) for parts in ((0, "a"), (1, "a"), (0, "b"), (0, "a", 1), (0, "a", 1, 1), (0, "a", 11))]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
