"""The mixture: exact counts, every item once a pass, disjoint ranks, a pure function of (seed, generation)."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sc_loops.data.mixture import MixtureLoader, Training, mix, synthetic_count
from sc_loops.errors import InvalidValue
from sc_loops.randomness import generator_for
from sc_loops.samples import Samples


def items(n: int, start: int = 0) -> Samples:
    return Samples(torch.arange(start, start + n, dtype=torch.float32)[:, None])


def mixed(real: int, pool: int, synthetic_ratio: float) -> tuple[Samples, int, int]:
    return mix(
        items(real), items(pool, 1000), synthetic_ratio=synthetic_ratio, generator=generator_for(0, "mixture", 1)
    )


def test_counts_are_exact_in_decimal() -> None:
    assert synthetic_count(100, 0.29) == 29  # 0.29 * 100 is 28.999... in floating point
    assert synthetic_count(50, 0.5) == 25
    assert synthetic_count(3, 0.5) == 1


@pytest.mark.parametrize(
    ("ratio", "real", "synthetic"), [(0.0, 40, 0), (0.5, 40, 20), (2.0, 40, 80), (math.inf, 0, 30)]
)
def test_a_pass_holds_n_plus_floor_lambda_n(ratio: float, real: int, synthetic: int) -> None:
    mixture, real_items, synthetic_items = mixed(40, 30, ratio)
    assert (real_items, synthetic_items) == (real, synthetic)
    values = mixture.x.flatten()
    assert int((values < 1000).sum()) == real
    assert int((values >= 1000).sum()) == synthetic


def test_synthetic_items_are_drawn_without_replacement_and_repeated_evenly() -> None:
    few = mixed(40, 30, 0.5)[0].x.flatten()
    assert len(few[few >= 1000].unique()) == 20
    many = mixed(40, 30, 2.0)[0].x.flatten()
    counts = torch.bincount((many[many >= 1000] - 1000).long(), minlength=30)
    assert set(counts.tolist()) == {2, 3}


def test_a_condition_survives_only_if_both_sides_have_one() -> None:
    labelled = Samples(torch.zeros(4, 1), torch.ones(4, dtype=torch.int64))
    generator = generator_for(0, "mixture", 1)
    both = mix(labelled, labelled, synthetic_ratio=1.0, generator=generator)[0]
    assert both.condition is not None
    assert both.condition.tolist() == [1] * 8
    assert mix(labelled, items(4), synthetic_ratio=1.0, generator=generator)[0].condition is None


def batches(n: int, *, rank: int = 0, world_size: int = 1, generation: int = 0, batch_size: int = 12, steps: int = 9):
    loader = MixtureLoader(
        items(n),
        batch_size=batch_size,
        steps=steps,
        seed=0,
        generation=generation,
        rank=rank,
        world_size=world_size,
    )
    assert len(loader) == steps
    return [batch.x.flatten() for batch in loader]


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 60), batch_size=st.integers(1, 20))
def test_every_item_of_a_pass_is_seen_once_and_batches_are_full(n: int, batch_size: int) -> None:
    passes = 3
    got = batches(n, batch_size=batch_size, steps=math.ceil(passes * n / batch_size))
    assert {len(b) for b in got} == {batch_size}
    stream = torch.cat(got)
    for number in range(passes):
        one_pass = stream[number * n : (number + 1) * n]
        assert sorted(one_pass.tolist()) == list(range(n))


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_share_each_batch_without_overlap(world_size: int) -> None:
    whole = batches(50)
    shares = [batches(50, rank=r, world_size=world_size) for r in range(world_size)]
    for step, batch in enumerate(whole):
        together = torch.cat([share[step] for share in shares])
        assert sorted(together.tolist()) == sorted(batch.tolist())


def test_the_order_depends_on_the_generation_and_on_nothing_else() -> None:
    torch.manual_seed(1)
    first = torch.cat(batches(50))
    torch.manual_seed(2)
    assert torch.equal(first, torch.cat(batches(50)))
    assert not torch.equal(first, torch.cat(batches(50, generation=1)))


def test_a_batch_that_ranks_cannot_share_is_refused() -> None:
    with pytest.raises(InvalidValue, match="batch_size"):
        batches(50, world_size=5)


def test_budgets() -> None:
    assert Training(steps=7).optimizer_steps(1000, 10) == 7
    assert Training(passes=2).optimizer_steps(1000, 300) == 7
    for wrong in ({}, {"steps": 1, "passes": 1}, {"steps": 0}, {"passes": 0.0}, {"passes": math.inf}):
        with pytest.raises(InvalidValue, match=r"steps|passes"):
            Training(**wrong)
