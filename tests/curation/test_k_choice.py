"""K-choice against softmax, against the exact H_K of enumeration, and its counts against arithmetic."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sc_loops.curation.k_choice import Curate, disjoint_groups, luce_choice, random_subsets
from sc_loops.errors import InvalidValue, RunError
from sc_loops.samples import Samples


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def reward_of(x):
    return x[:, 0]


def scored(r, **columns):
    """Samples whose x is their number and whose condition is that number too."""
    n = len(r)
    number = torch.arange(n)
    return Samples(number[:, None].float(), number, {"index": number, "reward": r, **columns})


def expected_after_curation(p, r, K):
    """p(x) H_K(x) of Ferbach et al. 2024, Eq. 6, by enumeration of all K-tuples."""
    after = torch.zeros(len(p), dtype=torch.float64)
    for group in itertools.product(range(len(p)), repeat=K):
        group = list(group)
        after.index_add_(0, torch.tensor(group), p[group].prod() * r[group].softmax(0))
    return after


def test_one_comparison_keeps_by_softmax():
    r = torch.tensor([1.0, 0.0, -1.0, 2.5])
    winners = luce_choice(r.expand(100_000, 4), generator())
    shares = winners.bincount(minlength=4) / 100_000
    torch.testing.assert_close(shares, r.softmax(0), atol=0.006, rtol=0)


def test_choice_does_not_depend_on_the_scale_of_rewards():
    r = torch.tensor([[1000.0, 0.0], [-1e5, -1e5 - 50]])
    assert luce_choice(r, generator()).tolist() == [0, 0]


@pytest.mark.parametrize("kept", [None, 150_000])
def test_curated_frequencies_are_those_of_enumeration(kept):
    p, r, K = torch.tensor([0.2, 0.3, 0.5]).double(), torch.tensor([1.0, 0.0, -1.0]).double(), 4
    kinds = torch.multinomial(p, 600_000, replacement=True, generator=generator(1))
    curate = Curate(reward_of, choices=K, kept=kept)
    curate.prepare(len(kinds), reward_of)
    after = curate(scored(r.float()[kinds]), generator(2))
    assert len(after) == 150_000
    shares = kinds[after.condition].bincount().double() / len(after)
    torch.testing.assert_close(shares, expected_after_curation(p, r, K), atol=0.006, rtol=0)


def test_groups_are_disjoint_and_leave_less_than_one_group():
    groups = disjoint_groups(11, 3, generator())
    assert groups.shape == (3, 3)
    assert len(set(groups.flatten().tolist())) == 9


def test_subsets_are_uniform_and_without_repetition():
    subsets = random_subsets(5, 3, 50_000, generator()).sort(dim=1).values
    assert (subsets.diff(dim=1) > 0).all()
    found, counts = subsets.unique(dim=0, return_counts=True)
    assert found.tolist() == [list(c) for c in itertools.combinations(range(5), 3)]
    torch.testing.assert_close(counts / 50_000, torch.full((10,), 0.1), atol=0.006, rtol=0)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), total=st.integers(1, 400))
def test_kept_is_exact_whatever_the_chunks(data, total):
    kept = data.draw(st.integers(1, total))
    cuts = data.draw(st.lists(st.integers(0, total), max_size=5))
    curate = Curate(reward_of, choices=1, kept=kept)
    curate.prepare(total, reward_of)
    everything = scored(torch.zeros(total))
    edges = sorted({0, *cuts, total})
    chunks = [everything[a:b] for a, b in itertools.pairwise(edges)]
    found = [len(curate(chunk, generator())) for chunk in chunks]
    assert sum(found) == kept
    assert curate.outputs(total) == kept
    wanted = data.draw(st.integers(0, kept))
    needed = curate.inputs(wanted)
    assert curate.outputs(needed) >= wanted
    assert needed == 0 or curate.outputs(needed - 1) < wanted


def test_disjoint_counts_are_those_announced():
    curate = Curate(reward_of, choices=4)
    for n in (4, 7, 8):
        assert len(curate(scored(torch.zeros(n)), generator())) == curate.outputs(n) == n // 4
    assert curate.inputs(3) == 12


@pytest.mark.parametrize("kept", [None, 10])
def test_kept_samples_carry_their_condition_and_columns(kept):
    curate = Curate(reward_of, choices=3, kept=kept)
    curate.prepare(60, reward_of)
    r = torch.linspace(-1, 1, 60)
    after = curate(scored(r, pair=torch.arange(120).reshape(60, 2)), generator())
    number = after.condition
    assert torch.equal(after.x[:, 0], number.float())
    assert torch.equal(after.columns["index"], number)
    assert torch.equal(after.columns["reward"], r[number])
    assert torch.equal(after.columns["pair"][:, 1], 2 * number + 1)


def test_scores_what_has_no_reward_yet():
    x = torch.tensor([[0.0], [100.0], [0.0], [0.0]])
    after = Curate(reward_of, choices=4)(Samples(x), generator())
    assert after.x.tolist() == [[100.0]]
    assert after.columns["reward"].tolist() == [100.0]


def test_a_reward_column_goes_before_the_reward():
    def fails(x):
        raise AssertionError("scored again")

    after = Curate(fails, choices=2)(scored(torch.tensor([0.0, 80.0])), generator())
    assert after.condition.tolist() == [1]


def test_depends_on_its_generator_alone():
    curate, samples = Curate(reward_of, choices=2), scored(torch.zeros(1000))
    torch.manual_seed(0)
    first = curate(samples, generator(5)).condition
    torch.manual_seed(1)
    assert torch.equal(first, curate(samples, generator(5)).condition)
    assert not torch.equal(first, curate(samples, generator(6)).condition)


def test_a_chunk_smaller_than_one_comparison_is_an_error():
    with pytest.raises(RunError, match="3 samples"):
        Curate(reward_of, choices=4)(scored(torch.zeros(3)), generator())


def test_impossible_values_end_before_the_run():
    with pytest.raises(InvalidValue, match="choices"):
        Curate(reward_of, choices=0)
    with pytest.raises(InvalidValue, match=r"loop\.samples"):
        Curate(reward_of, choices=2, kept=5).prepare(None, reward_of)
    with pytest.raises(InvalidValue, match="at most the number of samples drawn, 4"):
        Curate(reward_of, choices=2, kept=5).prepare(4, reward_of)
