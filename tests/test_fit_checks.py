"""A fit with a plain ``lightning.Trainer``: what the loop refuses, and a generation that the trainer ends early."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import torch
from conftest import TinyModel, generations, plain_fit, tiny_data, tiny_loop
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.strategies import DDPStrategy
from stopped_loops import pool_bytes, rows_without_times, weights

from sc_loops import Run, Training
from sc_loops.errors import RunError, UsageError
from sc_loops.fit_checks import check_trainer

# The trainer.


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("fast_dev_run", True),
        ("max_steps", 15),
        ("max_time", timedelta(days=1)),
        ("limit_train_batches", 3),
        ("limit_train_batches", 1),  # one batch, where 1.0 are all
        ("limit_train_batches", 0.5),
        ("overfit_batches", 2),
        ("accumulate_grad_batches", 4),
        ("callbacks", [GradientAccumulationScheduler({1: 2})]),
        ("precision", "64-true"),
        ("precision", "bf16-true"),
    ],
)
def test_trainers_that_change_what_a_generation_trains_on_are_refused(tmp_path, option: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"^trainer\.{option}\n"):
        plain_fit(tiny_loop(tmp_path, generations=0), **{option: value})
    assert not Run(tmp_path).generations()


def test_processes_share_the_buffers_that_a_checkpoint_holds() -> None:
    for shared in (True, False):
        strategy = DDPStrategy(broadcast_buffers=shared)
        trainer = Trainer(strategy=strategy, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
        if shared:
            check_trainer(trainer)
        else:
            with pytest.raises(UsageError, match=r"^trainer\.strategy\n.*broadcast_buffers=False"):
                check_trainer(trainer)


class StopAfter(Callback):
    """Asks the trainer to stop after ``batches`` of an epoch, as one that watches the loss or the clock does."""

    def __init__(self, epoch: int, batches: int, hook: str = "end") -> None:
        self.at, self.hook = (epoch, batches), hook

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if self.hook == "start" and (trainer.current_epoch, batch_idx + 1) == self.at:
            trainer.should_stop = True

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if self.hook == "end" and (trainer.current_epoch, batch_idx + 1) == self.at:
            trainer.should_stop = True


@pytest.mark.parametrize(
    ("generation", "batches", "hook", "retraining"),
    [(0, 5, "end", "from_scratch"), (1, 1, "end", "finetune"), (2, 4, "start", "from_scratch")],
)
def test_a_generation_that_the_trainer_ends_early_goes_on_to_the_same_end(
    tmp_path, generation: int, batches: int, hook: str, retraining: str
) -> None:
    whole, cut = Run(tmp_path / "whole"), Run(tmp_path / "cut")
    options = {"retraining": retraining, "generations": 2}
    final = weights(plain_fit(tiny_loop(whole.path, **options)))
    with pytest.raises(RunError, match=f"ended generation {generation} after {batches} of its"):
        plain_fit(tiny_loop(cut.path, **options), callbacks=[StopAfter(generation, batches, hook)])
    assert generations(cut.path) == list(range(generation))
    assert cut.last_checkpoint.resolve().name == f"generation-{generation:04d}-step-{batches:010d}.ckpt"
    loop = tiny_loop(cut.path, **options)
    resumed = weights(plain_fit(loop, loop.resume()))
    assert pool_bytes(cut, 2) == pool_bytes(whole, 2)
    assert rows_without_times(cut) == rows_without_times(whole)
    assert cut.training_rows() == whole.training_rows()
    assert all(torch.equal(a, b) for a, b in zip(resumed, final, strict=True))


def test_a_trainer_may_end_the_loop_between_two_generations(tmp_path) -> None:
    whole, cut = Run(tmp_path / "whole"), Run(tmp_path / "cut")
    plain_fit(tiny_loop(whole.path, generations=1))
    plain_fit(tiny_loop(cut.path, generations=1), callbacks=[StopAfter(0, 8)])
    assert generations(cut.path) == [0]
    loop = tiny_loop(cut.path, generations=1)
    plain_fit(loop, loop.resume())
    assert rows_without_times(cut) == rows_without_times(whole)


# Options.


@pytest.mark.parametrize("which", ["first", "later"])
def test_points_are_not_flipped(tmp_path, which: str) -> None:
    """Refused by ``plan``, which needs no run: the command line then says so before it starts one."""
    loop = tiny_loop(tmp_path, **{which: Training(steps=8, horizontal_flips=True)})
    with pytest.raises(UsageError, match=rf"^{which}\.horizontal_flips\n"):
        loop.plan(TinyModel(), tiny_data())


@pytest.mark.parametrize("count", [-1, 10**6 + 1, 10**30])
def test_generations_are_bounded(tmp_path, count: int) -> None:
    with pytest.raises(UsageError, match=r"^generations\n.*\n.*an integer in 0\.\.1000000: each leaves"):
        tiny_loop(tmp_path, generations=count)
