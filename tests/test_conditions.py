"""Which conditions the samples of a generation have."""

from __future__ import annotations

import pytest
import torch

from sc_loops.data.motions import Motions
from sc_loops.data.pool import Chunk
from sc_loops.data.real import RealData
from sc_loops.errors import UsageError
from sc_loops.evaluation.evaluation import Evaluation
from sc_loops.models.base import GenerativeModel
from sc_loops.samples import Samples
from sc_loops.synthesis import Conditions, Stopwatch, Synthesis


class Echo(GenerativeModel):
    """Its samples are their conditions."""

    conditional = True

    def loss(self, batch: Samples) -> torch.Tensor:
        return batch.x.mean()

    def sample(self, generator, n, condition=None):
        return condition[:, None].float()


@pytest.fixture
def data() -> RealData:
    """Seven real samples of classes 0, 10, ..., 60: no two are alike."""
    labels = torch.arange(7) * 10
    samples = Samples(labels[:, None].float(), labels)
    return RealData(samples, samples, "points", tuple(map(str, range(61))))


def drawn(data: RealData, conditions: Conditions, sizes: list[int], generation: int = 0) -> list[list[int]]:
    """The conditions of chunks of ``sizes``."""
    synthesis = Synthesis(data, None, [], Evaluation(data, None, None), conditions=conditions, seed=3)
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    chunks = [Chunk(i, start, size) for i, (start, size) in enumerate(zip(starts, sizes, strict=True))]
    made = [synthesis.make(Echo(), generation, chunk, Stopwatch())[0].condition for chunk in chunks]
    return [condition.tolist() for condition in made if condition is not None]


def test_in_turn_takes_each_once_before_any_comes_again(data) -> None:
    flat = [c for chunk in drawn(data, "in_turn", [5, 5, 4, 7]) for c in chunk]
    passes = [flat[:7], flat[7:14], flat[14:]]
    assert all(sorted(one) == [0, 10, 20, 30, 40, 50, 60] for one in passes)
    assert len({tuple(one) for one in passes}) == 3  # in another order each time
    assert drawn(data, "in_turn", [7], generation=1) != drawn(data, "in_turn", [7])


def test_in_turn_does_not_depend_on_the_chunks(data) -> None:
    whole = [c for chunk in drawn(data, "in_turn", [21]) for c in chunk]
    parts = [c for chunk in drawn(data, "in_turn", [1, 2, 3, 15]) for c in chunk]
    assert whole == parts


class Plain(Echo):
    conditional = False


@pytest.mark.parametrize("conditions", ["uniform", "in_turn"])
def test_a_model_without_conditions_has_none_to_choose(data, conditions: Conditions) -> None:
    def synthesis(conditions: Conditions) -> Synthesis:
        return Synthesis(data, None, [], Evaluation(data, None, None), conditions=conditions, seed=3)

    with pytest.raises(UsageError, match="the model is not conditional") as error:
        synthesis(conditions).check(Plain())
    assert error.value.where == "conditions"
    synthesis("real").check(Plain())
    synthesis(conditions).check(Echo())


def test_real_draws_only_what_is_there(data) -> None:
    [conditions] = drawn(data, "real", [700])
    counts = torch.tensor(conditions).bincount(minlength=61)[::10]
    assert counts.sum() == 700
    assert (counts > 60).all()


@pytest.fixture
def motions() -> RealData:
    """A clip to train on of 3 frames, and a held-out one of 5, with captions of their own."""
    unit = torch.zeros(263), torch.ones(263)
    table, rows = Motions.of_clips(["a", "b"], [["walks", "strolls"], ["sits"]], [3, 5], *unit)
    x = torch.randn(2, 5, 263, generator=torch.Generator().manual_seed(0)) * table.mask(rows, 5)[..., None]
    return RealData(Samples(x[:1], rows[:1]), Samples(x[1:], rows[1:]), "motions", motions=table)


def of_motions(data: RealData, conditions: Conditions) -> Synthesis:
    return Synthesis(data, None, [], Evaluation(data, None, None), conditions=conditions, seed=3)


def test_held_out_captions_are_not_sampled_under(motions) -> None:
    with pytest.raises(UsageError, match="held-out"):
        of_motions(motions, "uniform").check(Echo())
    for conditions in ("real", "in_turn"):
        of_motions(motions, conditions).check(Echo())


class Ones(Echo):
    def sample(self, generator, n, condition=None):
        return torch.ones(n, 5, 263)


def test_a_motion_is_0_beyond_its_end_whatever_the_model(motions) -> None:
    synthesis = of_motions(motions, "real")
    samples, _ = synthesis.make(Ones(), 0, Chunk(0, 0, 2), Stopwatch())
    for x in (samples.x, synthesis.preview(Ones(), 0, 2).x):
        assert (x[:, :3] == 1).all()
        assert (x[:, 3:] == 0).all()
