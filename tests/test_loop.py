"""The loop on a tiny model: what it trains on, what it leaves behind, and that resuming changes nothing."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from conftest import TinyModel, first_coordinate, fit, tiny_data, tiny_loop
from torch import Tensor

from sc_loops import Curate, Observer, Run, Samples, Training
from sc_loops.data.module import LoopDataModule
from sc_loops.disk import Keep
from sc_loops.errors import RunError, UsageError
from sc_loops.models.ema import WeightAverage
from sc_loops.randomness import generator_for, seed_global


def rows_without_times(run: Run) -> list[dict]:
    timed = ("seconds/", "samples_per_second/")
    return [{k: v for k, v in row.items() if not k.startswith(timed)} for row in run.rows()]


def pool_bytes(run: Run, generations: int) -> dict[str, bytes]:
    paths = [p for t in range(generations + 1) for p in sorted(run.pool(t).path.iterdir())]
    return {str(p.relative_to(run.path)): p.read_bytes() for p in paths}


def weights(model: TinyModel) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def test_without_synthetic_data_it_is_plain_training_to_the_last_bit(tmp_path) -> None:
    looped = fit(tiny_loop(tmp_path, synthetic_ratio=0.0, first=Training(steps=8), later=Training(steps=5)))

    torch.manual_seed(0)
    model = TinyModel()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0, fused=True)
    average = WeightAverage(0.999)
    average.reset(list(model.parameters()))
    module = LoopDataModule(tiny_data(), batch_size=16)
    for generation, steps in enumerate([8, 5, 5, 5]):
        budget = Training(steps=steps)
        module.begin_generation(generation, synthetic_ratio=0.0, training=budget, seed=0)
        for step, batch in enumerate(module.train_dataloader()):
            seed_global(0, "train", generation, step, 0)
            optimizer.zero_grad()
            model.loss(batch).backward()
            optimizer.step()
            average.update(list(model.parameters()))

    for ours, plain in zip(weights(looped), weights(model), strict=True):
        assert torch.equal(ours, plain)
    with looped.averaged():
        for ours, plain in zip(weights(looped), average.shadow, strict=True):
            assert torch.equal(ours, plain)


def test_the_learning_rate_may_fall_linearly_to_zero(tmp_path) -> None:
    falling = Training(steps=4, learning_rate=1e-2, warmup_steps=2, decay=True)
    fit(tiny_loop(tmp_path, generations=1, first=falling, later=Training(steps=2), log_every=1))
    rates = [row["train/learning_rate"] for row in Run(tmp_path).training_rows()]
    assert rates == pytest.approx([0.5e-2, 0.75e-2, 0.5e-2, 0.25e-2, 1e-2, 1e-2])


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
    assert scored == [8] + 2 * [50, 50, 20]  # the check on 8 real samples, then each raw sample once
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
    from sc_loops import Evaluation

    few = Evaluation(tiny_data(), None, first_coordinate, samples=10)
    fit(tiny_loop(tmp_path / "a", generations=0, synthetic_ratio=0.5, evaluation=few))
    fit(tiny_loop(tmp_path / "b", generations=0, synthetic_ratio=math.inf, stages=[], evaluation=few))
    assert Run(tmp_path / "a").pool(0).manifest["raw"] == 2 * 30
    assert Run(tmp_path / "b").pool(0).manifest["raw"] == 60


def test_sampling_leaves_training_as_it_was(tmp_path) -> None:
    without = fit(tiny_loop(tmp_path / "a", synthetic_ratio=0.0, samples=50))
    much = fit(tiny_loop(tmp_path / "b", synthetic_ratio=0.0, samples=500, chunk_size=100))
    for a, b in zip(weights(without), weights(much), strict=True):
        assert torch.equal(a, b)


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


def test_a_generation_has_its_own_learning_rate_and_warm_up(tmp_path) -> None:
    """Generation 0 warms up to its own rate; the later ones, for which none is given, have the model's."""
    first = Training(steps=6, learning_rate=0.05, warmup_steps=4)
    fit(tiny_loop(tmp_path, generations=1, first=first, later=Training(steps=6)))
    rates = [row["train/learning_rate"] for row in Run(tmp_path).training_rows()]
    assert rates == pytest.approx([0.05 * 3 / 4, 0.05, 0.01, 0.01])


def test_a_generation_from_scratch_equals_a_fresh_model_on_the_same_pool(tmp_path) -> None:
    loop = tiny_loop(tmp_path, generations=1, retraining="from_scratch", later=Training(steps=10))
    scratch = weights(fit(loop))
    torch.manual_seed(0)
    model = TinyModel()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0, fused=True)
    module = LoopDataModule(tiny_data(), batch_size=16)
    pool, budget = Run(tmp_path).pool(0), Training(steps=10)
    module.begin_generation(1, pools=[pool.samples()], synthetic_ratio=1.0, training=budget, seed=0)
    for step, batch in enumerate(module.train_dataloader()):
        seed_global(0, "train", 1, step, 0)
        optimizer.zero_grad()
        model.loss(batch).backward()
        optimizer.step()
    for ours, fresh in zip(scratch, weights(model), strict=True):
        assert torch.equal(ours, fresh)


def test_what_is_drawn_for_different_purposes_differs(tmp_path) -> None:
    """A stage's noise is not the noise that the samples were made from, nor that of the next stage."""
    drawn = []

    def record(samples: Samples, generator: torch.Generator) -> Samples:
        drawn.append(torch.randn(5, generator=generator))
        return samples

    fit(tiny_loop(tmp_path, generations=0, stages=[record, record], samples=100))
    sampled = [torch.randn(5, generator=generator_for(0, "sample", 0, chunk)) for chunk in (0, 1)]
    assert len({tuple(values.tolist()) for values in [*drawn, *sampled]}) == 6


def test_a_stage_with_a_reward_of_its_own_chooses_by_it(tmp_path) -> None:
    """The column holds the scores of the loop's reward; a stage must not take another's for its own."""
    fit(tiny_loop(tmp_path, generations=0, stages=[Curate(lambda x: -10 * x[:, 0], choices=4)]))
    row = Run(tmp_path).rows()[0]
    assert row["curated/reward/mean"] < row["reward/mean"] - 0.5
    assert "choices" not in Run(tmp_path).facts()


def test_stages_that_drop_columns_or_misalign_them(tmp_path) -> None:
    def forget(samples: Samples, generator: torch.Generator) -> Samples:
        return Samples(samples.x, samples.condition)

    fit(tiny_loop(tmp_path / "a", generations=1, stages=[forget, Curate(first_coordinate, choices=2)]))
    assert Run(tmp_path / "a").pool(1).samples().columns.keys() == {"index", "reward"}
    for stage, message in [
        (lambda s, g: Samples(s.x[::2]), "without the column 'index'"),
        (lambda s, g: Samples(s.x[::2], None, s.columns), "the same length"),
        (lambda s, g: Samples(s.x, torch.zeros(len(s), dtype=torch.int64)), "conditions"),
        (lambda s, g: s.x, "Tensor"),
    ]:
        with pytest.raises(RunError, match=message):
            fit(tiny_loop(tmp_path / message.replace(" ", "_"), generations=0, stages=[stage]))


def test_a_metrics_file_cut_in_the_middle_of_a_line_is_read_as_far_as_it_goes(tmp_path) -> None:
    fit(tiny_loop(tmp_path, generations=1))
    run = Run(tmp_path)
    text = run.metrics_path.read_text()
    before = rows_without_times(run)
    run.metrics_path.write_text(text[: text.rindex('"samples"')])
    assert [row["generation"] for row in run.rows()] == [0]
    fit(tiny_loop(tmp_path, generations=1))
    assert rows_without_times(run) == before


def test_clipping_works_with_mixed_precision(tmp_path) -> None:
    fit(tiny_loop(tmp_path, generations=0), precision="bf16-mixed", gradient_clip_val=1.0)
    assert Run(tmp_path).rows()


class Stop(Exception):
    pass


class StopAt(Observer):
    """Ends the run at the n-th event of a kind, as a crash would."""

    def __init__(self, event: str, generation: int, phase: str = "", done: int = 0) -> None:
        self.event, self.at = event, (generation, phase, done)

    def progress(self, generation, phase, done, total, unit) -> None:
        if self.event == "progress" and (generation, phase) == self.at[:2] and done >= self.at[2]:
            raise Stop

    def generation_finished(self, run, row) -> None:
        if self.event == "generation_finished" and row["generation"] == self.at[0]:
            raise Stop


@pytest.mark.parametrize(
    "stop",
    [
        StopAt("progress", 0, "training", 4),
        StopAt("progress", 1, "training", 4),
        StopAt("progress", 1, "sampling", 0),
        StopAt("progress", 1, "sampling", 50),
        StopAt("progress", 2, "scoring", 100),
        StopAt("progress", 3, "writing", 150),
        StopAt("generation_finished", 1),
        StopAt("generation_finished", 3),
    ],
    ids=lambda s: f"{s.event}-{s.at}",
)
@pytest.mark.parametrize("retraining", ["finetune", "from_scratch"])
@pytest.mark.parametrize("checkpoint_steps", [None, 1, 3])
def test_stopped_anywhere_and_resumed_equals_uninterrupted(
    tmp_path, stop: StopAt, retraining: str, checkpoint_steps: int | None
) -> None:
    options = {"samples": 200, "retraining": retraining, "checkpoint_steps": checkpoint_steps}
    whole = fit(tiny_loop(tmp_path / "whole", **options))
    with pytest.raises(Stop):
        fit(tiny_loop(tmp_path / "cut", observers=[stop], **options))
    resumed = fit(tiny_loop(tmp_path / "cut", **options))
    assert pool_bytes(Run(tmp_path / "cut"), 3) == pool_bytes(Run(tmp_path / "whole"), 3)
    assert rows_without_times(Run(tmp_path / "cut")) == rows_without_times(Run(tmp_path / "whole"))
    assert Run(tmp_path / "cut").training_rows() == Run(tmp_path / "whole").training_rows()
    for a, b in zip(weights(resumed), weights(whole), strict=True):
        assert torch.equal(a, b)


def test_training_goes_on_from_the_last_step_checkpoint(tmp_path) -> None:
    """Stopped after step 7 of 8, with a checkpoint every 3: steps 7 and 8 are trained, not all eight."""
    with pytest.raises(Stop):
        fit(tiny_loop(tmp_path, checkpoint_steps=3, observers=[StopAt("progress", 0, "training", 7)]))
    steps: list[int] = []

    class Note(Observer):
        def progress(self, generation, phase, done, total, unit) -> None:
            if (generation, phase) == (0, "training"):
                steps.append(done)

    fit(tiny_loop(tmp_path, checkpoint_steps=3, observers=[Note()]))
    assert steps == [7, 8]
    assert not list(Run(tmp_path).checkpoints.glob("*-step-*"))


def test_a_checkpoint_is_written_by_the_clock(tmp_path) -> None:
    with pytest.raises(Stop):
        fit(tiny_loop(tmp_path, checkpoint_minutes=1e-9, observers=[StopAt("progress", 0, "training", 7)]))
    assert Run(tmp_path).last_checkpoint.resolve().name == "generation-0000-step-0000000006.ckpt"


def test_what_is_kept_is_bounded_and_the_loop_comes_to_the_same_end(tmp_path) -> None:
    whole = fit(tiny_loop(tmp_path / "all", generations=5))
    few = fit(tiny_loop(tmp_path / "few", generations=5, keep=Keep(last=2, every=3)))
    for a, b in zip(weights(few), weights(whole), strict=True):
        assert torch.equal(a, b)
    run = Run(tmp_path / "few")
    assert [t for t in range(6) if run.checkpoint(t).exists()] == [0, 3, 4, 5]
    assert [t for t in range(6) if run.pool(t).has_samples] == [0, 3, 4, 5]
    assert [row["generation"] for row in run.rows()] == list(range(6))
    assert all(run.pool(t).preview is not None for t in range(6))


def test_a_step_that_is_not_finite_is_skipped_and_counted(tmp_path) -> None:
    class Sometimes(TinyModel):
        def loss(self, batch: Samples) -> Tensor:
            bad = self._generation == 1 and self.trainer.global_step == 10
            return super().loss(batch) * (math.nan if bad else 1)

    model = fit(tiny_loop(tmp_path, nonfinite="skip"), Sometimes())
    assert [row["skipped_steps"] for row in Run(tmp_path).rows()] == [0, 1, 0, 0]
    assert all(bool(w.isfinite().all()) for w in weights(model))


def test_no_poisoned_state_is_ever_saved(tmp_path) -> None:
    """Weights that become infinite in the last step, whose loss was still finite."""

    class Late(TinyModel):
        def on_train_batch_end(self, outputs, batch, batch_idx) -> None:
            if self._generation == 1 and batch_idx == 11:
                with torch.no_grad():
                    self.network.weight.mul_(math.inf)

    with pytest.raises(RunError, match="generation 1"):
        fit(tiny_loop(tmp_path, checkpoint_steps=1), Late())
    for path in Run(tmp_path).checkpoints.glob("*.ckpt"):
        assert all(bool(w.isfinite().all()) for w in torch.load(path, weights_only=True)["state_dict"].values())


def test_from_scratch_forgets_and_finetuning_does_not(tmp_path) -> None:
    budget = {"first": Training(steps=50), "later": Training(steps=1, learning_rate=1e-12), "generations": 1}
    torch.manual_seed(0)
    untrained = weights(TinyModel())
    scratch = weights(fit(tiny_loop(tmp_path / "a", retraining="from_scratch", **budget)))
    tuned = weights(fit(tiny_loop(tmp_path / "b", retraining="finetune", **budget)))
    for initial, a, b in zip(untrained, scratch, tuned, strict=True):
        torch.testing.assert_close(a, initial)
        assert not torch.allclose(b, initial, atol=1e-2)


def test_a_checkpoint_can_stand_in_for_generation_0(tmp_path) -> None:
    fit(tiny_loop(tmp_path / "pretrained", generations=0))
    start = str(Run(tmp_path / "pretrained").checkpoint(0))
    fit(tiny_loop(tmp_path / "started", generations=2, start=start))
    run = Run(tmp_path / "started")
    assert [row["generation"] for row in run.rows()] == [0, 1, 2]
    assert run.rows()[0]["items_seen"] == 0
    assert torch.equal(run.pool(0).samples().x, Run(tmp_path / "pretrained").pool(0).samples().x)


def test_a_wrong_start_is_refused(tmp_path) -> None:
    (tmp_path / "bad.ckpt").write_bytes(b"not a checkpoint")
    for path in ("absent.ckpt", "bad.ckpt"):
        with pytest.raises(UsageError, match="a checkpoint of a TinyModel"):
            fit(tiny_loop(tmp_path / "run", start=str(tmp_path / path)))


def test_any_function_can_be_a_stage(tmp_path) -> None:
    def negate(samples: Samples, generator: torch.Generator) -> Samples:
        return Samples(-samples.x.abs(), samples.condition, samples.columns)

    fit(tiny_loop(tmp_path, generations=1, stages=[negate]))
    assert (Run(tmp_path).pool(0).samples().x <= 0).all()


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda x: x, "shape"),
        (lambda x: x[:, 0] * math.nan, "nan"),
        (lambda x: x[:, 5], "IndexError"),
        (lambda x: 3, "int"),
    ],
)
def test_a_broken_reward_is_found_before_anything_is_trained(tmp_path, reward, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        fit(tiny_loop(tmp_path, reward=reward))
    assert message in str(caught.value).lower() or message in str(caught.value)
    assert not Run(tmp_path).rows()


def test_a_model_that_samples_nan_ends_the_run_with_its_state_saved(tmp_path) -> None:
    class Broken(TinyModel):
        def sample(self, generator, n, condition=None) -> Tensor:
            return super().sample(generator, n, condition) * (math.nan if self._generation == 2 else 1)

    with pytest.raises(RunError, match="generation 2"):
        fit(tiny_loop(tmp_path), Broken())
    assert [row["generation"] for row in Run(tmp_path).rows()] == [0, 1]
    assert Run(tmp_path).checkpoint(2).exists()
    assert not Run(tmp_path).pool(2).finished


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path) -> None:
    class Broken(TinyModel):
        def loss(self, batch: Samples) -> Tensor:
            return super().loss(batch) * (math.nan if self._generation == 1 else 1)

    with pytest.raises(RunError, match="training loss of generation 1"):
        fit(tiny_loop(tmp_path), Broken())
    assert [row["generation"] for row in Run(tmp_path).rows()] == [0]


def test_choices_beyond_the_chunk_are_refused(tmp_path) -> None:
    with pytest.raises(UsageError, match="chunk"):
        fit(tiny_loop(tmp_path, stages=[Curate(first_coordinate, choices=51)], chunk_size=50))


def test_checkpoints_load_without_unpickling(tmp_path: Path) -> None:
    fit(tiny_loop(tmp_path, generations=1))
    for path in Run(tmp_path).checkpoints.glob("*.ckpt"):
        assert torch.load(path, weights_only=True)["state_dict"]
