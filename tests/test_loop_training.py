"""How a generation trains: plain training to the last bit, its learning rate, and from which weights it starts."""

from __future__ import annotations

import pytest
import torch
from conftest import TinyModel, fit, tiny_data, tiny_loop
from stopped_loops import weights

from sc_loops import Run, Training
from sc_loops.data.module import LoopDataModule
from sc_loops.models.ema import WeightAverage
from sc_loops.randomness import seed_global


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


def test_a_generation_has_its_own_learning_rate_and_warm_up(tmp_path) -> None:
    """Generation 0 warms up to its own rate; the later ones, for which none is given, have the model's."""
    first = Training(steps=6, learning_rate=0.05, warmup_steps=4)
    fit(tiny_loop(tmp_path, generations=1, first=first, later=Training(steps=6)))
    rates = [row["train/learning_rate"] for row in Run(tmp_path).training_rows()]
    assert rates == pytest.approx([0.05 * 3 / 4, 0.05, 0.01, 0.01])


def test_clipping_works_with_mixed_precision(tmp_path) -> None:
    """Gradients clipped far below Adam's ε of 1e-8 leave the weights where they were; others move them by ~0.01."""
    torch.manual_seed(0)
    untrained = weights(TinyModel())
    for norm, moved in ((1e-12, False), (1.0, True)):
        loop = tiny_loop(tmp_path / str(norm), generations=0)
        model = fit(loop, precision="bf16-mixed", gradient_clip_val=norm)
        for before, after in zip(untrained, weights(model), strict=True):
            assert torch.allclose(before, after, rtol=0, atol=1e-4) != moved


def test_sampling_leaves_training_as_it_was(tmp_path) -> None:
    without = fit(tiny_loop(tmp_path / "a", synthetic_ratio=0.0, samples=50))
    much = fit(tiny_loop(tmp_path / "b", synthetic_ratio=0.0, samples=500, chunk_size=100))
    for a, b in zip(weights(without), weights(much), strict=True):
        assert torch.equal(a, b)


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


def test_from_scratch_forgets_and_finetuning_does_not(tmp_path) -> None:
    budget = {"first": Training(steps=50), "later": Training(steps=1, learning_rate=1e-12), "generations": 1}
    torch.manual_seed(0)
    untrained = weights(TinyModel())
    scratch = weights(fit(tiny_loop(tmp_path / "a", retraining="from_scratch", **budget)))
    tuned = weights(fit(tiny_loop(tmp_path / "b", retraining="finetune", **budget)))
    for initial, a, b in zip(untrained, scratch, tuned, strict=True):
        torch.testing.assert_close(a, initial)
        assert not torch.allclose(b, initial, atol=1e-2)
