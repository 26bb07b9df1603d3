"""The loop on a tiny model: what each generation trains on, what is sampled, and what the stages make of it."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import first_coordinate, fit, tiny_data, tiny_loop
from torch import Tensor

from sc_loops import Curate, Evaluation, Run, Samples, Training
from sc_loops.randomness import generator_for


@pytest.mark.parametrize(
    ("ratio", "real", "synthetic"), [(0.0, 60, 0), (0.5, 60, 30), (2.0, 60, 120), (math.inf, 0, 60)]
)
def test_what_each_generation_trains_on(tmp_path, ratio: float, real: int, synthetic: int) -> None:
    fit(tiny_loop(tmp_path, synthetic_ratio=ratio, generations=2))
    rows = Run(tmp_path).rows()
    assert [row["generation"] for row in rows] == [0, 1, 2]
    assert (rows[0]["real_items"], rows[0]["synthetic_items"]) == (60, 0)
    assert [(r["real_items"], r["synthetic_items"]) for r in rows[1:]] == [(real, synthetic)] * 2
    steps = math.ceil(1.5 * (real + synthetic) / 16)
    assert [row["items_seen"] for row in rows] == [8 * 16, (8 + steps) * 16, (8 + 2 * steps) * 16]


def test_raw_samples_are_made_once_and_scored_once(tmp_path) -> None:
    scored = []

    def reward(x: Tensor) -> Tensor:
        scored.append(len(x))
        return x[:, 0]

    model = fit(tiny_loop(tmp_path, generations=1, samples=120, reward=reward))
    assert model.samplings == 2 * (3 + 1)  # three chunks and the preview, in each of two generations
    assert scored == 2 * [8] + 2 * [50, 50, 20]  # it and the stages tried on 8 real samples, then each raw one once
    assert [row["nfe"] for row in Run(tmp_path).rows()] == [1, 1]


def test_the_pool_holds_what_the_stages_left(tmp_path) -> None:
    fit(tiny_loop(tmp_path, generations=1, samples=120))
    run = Run(tmp_path)
    for generation in (0, 1):
        pool = run.pool(generation)
        assert (pool.manifest["raw"], len(pool)) == (120, 60)
        samples = pool.samples()
        assert torch.equal(samples.columns["reward"], first_coordinate(samples.x))
        assert len(samples.columns["index"].unique()) == 60
    row = run.rows()[1]
    assert row["curated/reward/mean"] > row["reward/mean"]


def test_the_number_of_samples_follows_from_the_ratio_and_the_stages(tmp_path) -> None:
    few = Evaluation(tiny_data(), None, first_coordinate, samples=10)
    fit(tiny_loop(tmp_path / "a", generations=0, synthetic_ratio=0.5, evaluation=few))
    fit(tiny_loop(tmp_path / "b", generations=0, synthetic_ratio=math.inf, stages=[], evaluation=few))
    assert Run(tmp_path / "a").pool(0).manifest["raw"] == 2 * 30
    assert Run(tmp_path / "b").pool(0).manifest["raw"] == 60


def test_the_preview_has_the_same_noise_in_every_generation(tmp_path) -> None:
    """With a model whose training is undone, the previews agree and the pools do not."""
    fit(
        tiny_loop(
            tmp_path,
            generations=1,
            first=Training(steps=1, learning_rate=1e-12),
            later=Training(steps=1, learning_rate=1e-12),
        )
    )
    run = Run(tmp_path)
    first, second = run.pool(0).preview, run.pool(1).preview
    assert first is not None
    assert second is not None
    torch.testing.assert_close(first.x, second.x)
    assert not torch.allclose(run.pool(0).samples().x[:20], run.pool(1).samples().x[:20])


def test_what_is_sampled_are_the_averaged_weights(tmp_path) -> None:
    """Chunk 1 made by hand, from the average in the checkpoint and the noise of (seed, generation, chunk)."""
    fit(tiny_loop(tmp_path, generations=1, stages=[]))
    run = Run(tmp_path)
    weight, bias = torch.load(run.checkpoint(1), weights_only=True)["ema"]["shadow"]
    noise = torch.randn(10, 2, generator=generator_for(0, "sample", 1, 1))
    assert torch.equal(run.pool(1).chunk(1).x, noise + torch.nn.functional.linear(noise, weight, bias))


def test_what_is_drawn_for_different_purposes_differs(tmp_path) -> None:
    """A stage's noise is not the noise that the samples were made from, nor that of the next stage."""
    drawn = []

    def record(samples: Samples, generator: torch.Generator) -> Samples:
        drawn.append(torch.randn(5, generator=generator))
        return samples

    fit(tiny_loop(tmp_path, generations=0, stages=[record, record], samples=100))
    del drawn[:2]  # in the trial before the run
    sampled = [torch.randn(5, generator=generator_for(0, "sample", 0, chunk)) for chunk in (0, 1)]
    assert len({tuple(values.tolist()) for values in [*drawn, *sampled]}) == 6


def test_a_stage_with_a_reward_of_its_own_chooses_by_it(tmp_path) -> None:
    """The column holds the scores of the loop's reward; a stage must not take another's for its own."""
    fit(tiny_loop(tmp_path, generations=0, stages=[Curate(lambda x: -10 * x[:, 0], choices=4)]))
    row = Run(tmp_path).rows()[0]
    assert row["curated/reward/mean"] < row["reward/mean"] - 0.5
    assert "choices" not in Run(tmp_path).facts()


def test_any_function_can_be_a_stage(tmp_path) -> None:
    def negate(samples: Samples, generator: torch.Generator) -> Samples:
        return Samples(-samples.x.abs(), samples.condition, samples.columns)

    fit(tiny_loop(tmp_path, generations=1, stages=[negate]))
    assert (Run(tmp_path).pool(0).samples().x <= 0).all()
