"""The mixture: exact counts, every item once a pass, disjoint ranks, a pure function of (seed, generation)."""

import math
import threading
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sc_loops.data.mixture import Mixture, MixtureLoader, Training, loss_weights, mix, one_ahead, synthetic_count
from sc_loops.errors import InvalidValue
from sc_loops.randomness import generator_for
from sc_loops.samples import Samples


def items(n: int, start: int = 0) -> Samples:
    return Samples(torch.arange(start, start + n, dtype=torch.float32)[:, None])


def mixed(real: int, pool: int, synthetic_ratio: float, parts: int = 1) -> Mixture:
    """Of a pool, or of as many as ``parts`` of it."""
    pools = [items(pool, 1000)[part] for part in torch.arange(pool).tensor_split(parts)]
    return mix(items(real), pools, synthetic_ratio=synthetic_ratio, generator=generator_for(0, "mixture", 1))


def test_counts_are_exact_in_decimal() -> None:
    assert synthetic_count(100, 0.29) == 29  # 0.29 * 100 is 28.999... in floating point
    assert synthetic_count(50, 0.5) == 25
    assert synthetic_count(3, 0.5) == 1


@pytest.mark.parametrize(
    ("ratio", "real", "synthetic"), [(0.0, 40, 0), (0.5, 40, 20), (2.0, 40, 80), (math.inf, 0, 30)]
)
def test_a_pass_holds_n_plus_floor_lambda_n(ratio: float, real: int, synthetic: int) -> None:
    mixture = mixed(40, 30, ratio)
    assert (mixture.real_items, mixture.synthetic_items) == (real, synthetic)
    values = mixture.items.x.flatten()
    assert len(mixture) == len(values)
    assert torch.equal(mixed(40, 30, ratio, parts=3).items.x, mixture.items.x)
    assert int((values < 1000).sum()) == real
    assert int((values >= 1000).sum()) == synthetic


def test_a_mixture_in_one_part_has_the_same_items_once() -> None:
    mixture = mixed(40, 30, 0.5)
    one = mixture.in_one_part()
    assert torch.equal(one.items.x, mixture.items.x)
    assert (one.real_items, one.synthetic_items, len(one.parts)) == (40, 20, 1)
    assert one.items is one.parts[0]  # not copied again


def test_synthetic_items_are_drawn_without_replacement_and_repeated_evenly() -> None:
    few = mixed(40, 30, 0.5).items.x.flatten()
    assert len(few[few >= 1000].unique()) == 20
    many = mixed(40, 30, 2.0).items.x.flatten()
    counts = torch.bincount((many[many >= 1000] - 1000).long(), minlength=30)
    assert set(counts.tolist()) == {2, 3}


def test_a_condition_survives_only_if_both_sides_have_one() -> None:
    labelled = Samples(torch.zeros(4, 1), torch.ones(4, dtype=torch.int64))
    generator = generator_for(0, "mixture", 1)
    both = mix(labelled, [labelled], synthetic_ratio=1.0, generator=generator).items
    assert both.condition is not None
    assert both.condition.tolist() == [1] * 8
    assert mix(labelled, [items(4)], synthetic_ratio=1.0, generator=generator).items.condition is None


# λ by the weights of losses.


@pytest.mark.parametrize("ratio", [0.01, 0.5, 1.0, 30.0])
@pytest.mark.parametrize(("real", "synthetic"), [(40, 30), (1, 500)])
def test_weights_have_the_totals_of_the_theory_and_mean_one(ratio: float, real: int, synthetic: int) -> None:
    weights = loss_weights(real, synthetic, ratio).double()
    assert float(weights.mean()) == pytest.approx(1, rel=1e-6)
    shares = weights[:real].sum() / weights.sum(), weights[real:].sum() / weights.sum()
    assert [float(share) for share in shares] == pytest.approx([1 / (1 + ratio), ratio / (1 + ratio)], rel=1e-5)
    assert len(weights[:real].unique()) == len(weights[real:].unique()) == 1


def test_the_whole_pool_is_trained_on_where_weights_keep_the_ratio() -> None:
    generator = generator_for(0, "mixture", 1)
    found = mix(items(40), items(30, 1000).split(20), synthetic_ratio=0.1, mixing="weight", generator=generator)
    assert (found.real_items, found.synthetic_items) == (40, 30)
    mixture = found.items
    assert torch.equal(mixture.columns["weight"], loss_weights(40, 30, 0.1))
    assert sorted(mixture.x.flatten().tolist()) == [*range(40), *range(1000, 1030)]
    heavy = mixture.columns["weight"] > 1
    assert torch.equal(heavy, mixture.x.flatten() < 1000)


@pytest.mark.parametrize("ratio", [0.0, math.inf])
def test_there_are_no_weights_where_all_items_are_of_one_kind(ratio: float) -> None:
    by_weight, by_count = (
        mix(
            items(40), [items(30)], synthetic_ratio=ratio, mixing=mixing, generator=generator_for(0, "mixture", 1)
        ).items
        for mixing in ("weight", "count")
    )
    assert by_weight.columns == {}
    assert torch.equal(by_weight.x, by_count.x)


def test_weights_go_with_their_items_through_ranks_and_pairings() -> None:
    weighted = images(50).with_columns(weight=torch.arange(50).float())
    for pairing in (None, backwards):
        for rank in (0, 1):
            loader = MixtureLoader(
                weighted, batch_size=24, steps=5, seed=0, generation=1, pairing=pairing, rank=rank, world_size=2
            )
            for batch in loader:
                assert torch.equal(batch.columns["weight"], batch.x[:, 0, 0, 0].float())


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


# What happens to a batch on its way: mirroring, and pairing with noise.


def images(n: int) -> Samples:
    """Image i shows i at its left and 100 + i at its right."""
    left = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1)
    return Samples(torch.cat([left, left + 100], dim=3))


def image_batches(*, rank: int = 0, world_size: int = 1, flips: bool = True, start: int = 0, pairing=None):
    loader = MixtureLoader(
        images(50),
        batch_size=24,
        steps=5,
        seed=0,
        generation=1,
        flips=flips,
        pairing=pairing,
        rank=rank,
        world_size=world_size,
        start=start,
    )
    return list(loader)


def test_half_of_the_images_are_mirrored_and_stay_pixels() -> None:
    x = torch.cat([batch.x for batch in image_batches()]).flatten(1).long()
    assert {batch.x.dtype for batch in image_batches()} == {torch.uint8}
    mirrored = x[:, 0] > x[:, 1]
    assert torch.equal((x[:, 0] - x[:, 1]).abs(), torch.full((120,), 100))
    assert 60 - 4 * 30**0.5 < mirrored.sum() < 60 + 4 * 30**0.5  # four standard deviations
    assert not any((batch.x[..., 0] > batch.x[..., 1]).any() for batch in image_batches(flips=False))


def backwards(x: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs noise with the items in the order of their values, from the largest on."""
    assert x.dtype == torch.float32
    return torch.randn(x.shape, generator=generator), x.flatten(1).sum(1).argsort(descending=True, stable=True)


def test_a_pairing_orders_the_whole_batch_and_its_noise_comes_along() -> None:
    plain = image_batches()
    paired = image_batches(pairing=backwards)
    for before, after in zip(plain, paired, strict=True):
        assert after.x.dtype == torch.uint8
        assert torch.equal(after.x, before.x[before.x.flatten(1).long().sum(1).argsort(descending=True, stable=True)])
        assert after.columns["noise"].shape == after.x.shape
    assert not torch.equal(paired[0].columns["noise"], paired[1].columns["noise"])


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_pairs_and_mirrored_images_as_one_process_has_them(world_size: int) -> None:
    whole = image_batches(pairing=backwards)
    shares = [image_batches(pairing=backwards, rank=r, world_size=world_size) for r in range(world_size)]
    for step, batch in enumerate(whole):
        for rank, share in enumerate(shares):
            mine = batch[slice(rank, None, world_size)]
            assert torch.equal(share[step].x, mine.x)
            assert torch.equal(share[step].columns["noise"], mine.columns["noise"])


def test_a_loader_that_starts_later_serves_the_same_batches() -> None:
    whole, rest = image_batches(pairing=backwards), image_batches(pairing=backwards, start=2)
    assert len(rest) == 3
    for batch, again in zip(whole[2:], rest, strict=True):
        assert torch.equal(batch.x, again.x)
        assert torch.equal(batch.columns["noise"], again.columns["noise"])


def test_a_batch_is_made_while_the_one_before_it_is_used_and_not_earlier() -> None:
    made = [threading.Event() for _ in range(4)]

    def make(number: int) -> Samples:
        assert threading.current_thread() is not threading.main_thread()
        made[number].set()
        return items(1, number)

    for number, batch in enumerate(one_ahead(make(number) for number in range(4))):
        assert batch.x.item() == number
        assert number == 3 or made[number + 1].wait(timeout=10)
        assert not any(event.is_set() for event in made[number + 2 :])


def test_what_goes_wrong_in_the_thread_is_raised_where_the_batch_is_wanted() -> None:
    def failing() -> Iterator[Samples]:
        yield items(1)
        raise ValueError("no more")

    batches = one_ahead(failing())
    next(batches)
    with pytest.raises(ValueError, match="no more"):
        next(batches)
