"""What a fit must be like for the loop to take part in it: options that are possible and go together, and a trainer
that leaves every generation all of its steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler, Timer

from sc_loops.curation.applied import check_stages
from sc_loops.curation.rewards import check_reward
from sc_loops.data.real import RealData
from sc_loops.errors import RunError, require, within
from sc_loops.evaluation.evaluation import Evaluation
from sc_loops.models.base import GenerativeModel
from sc_loops.models.closed_form import check_training
from sc_loops.models.moments import MomentModel
from sc_loops.models.trial import try_model
from sc_loops.run import Run
from sc_loops.training_sets import check_mixing

if TYPE_CHECKING:
    from sc_loops.loop import SelfConsumingLoop

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")

# Options of lightning.Trainer by which a generation has fewer optimizer steps, and what they are where it has not.
_CUTTING = {"max_steps": -1, "overfit_batches": 0.0, "limit_train_batches": 1.0, "accumulate_grad_batches": 1}


def check_options(loop: SelfConsumingLoop) -> None:
    """Raise ``InvalidValue`` for a number among the options of ``loop`` that is impossible by itself."""
    possible = 0 <= loop.generations <= 10**6
    require(possible, "generations", loop.generations, "an integer in 0..1000000: each leaves files and a row behind")
    require(
        loop.synthetic_ratio >= 0,
        "synthetic_ratio",
        loop.synthetic_ratio,
        "λ >= 0, the ratio synthetic : real (0 is real data only, inf is synthetic data only)",
    )
    require(1 <= loop.chunk_size <= 10**7, "chunk_size", loop.chunk_size, "an integer in 1..10000000")
    require(1 <= loop.preview <= 10**4, "preview", loop.preview, "an integer in 1..10000")
    for option in ("samples", "log_every", "checkpoint_steps"):
        count = getattr(loop, option)
        require(count is None or count >= 1, option, count, "an integer >= 1")
    minutes = loop.checkpoint_minutes
    require(minutes is None or minutes > 0, "checkpoint_minutes", minutes, "a number > 0, or null")


def check_together(loop: SelfConsumingLoop, model: GenerativeModel, data: RealData, evaluation: Evaluation) -> None:
    """Raise ``InvalidValue`` for options of ``loop`` that do not go together, or not with the model and the data."""
    images = len(data.shape) == 3
    for name, training in (("first", loop.first), ("later", loop.later)):
        with within(name):
            flips = training.horizontal_flips
            require(images or not flips, "horizontal_flips", flips, f"false: {data.name} are no images")
    check_training(model, loop.first, loop.later, loop.keep, loop.processes.world_size if loop.processes else 1)
    check_mixing(loop.mixing, model)
    MomentModel.check(model, loop.stages)
    if loop.improvement is not None:
        with within("improvement"):
            loop.improvement.check(model, evaluation)


def check_model(loop: SelfConsumingLoop, model: GenerativeModel, data: RealData, trainer: Trainer) -> None:
    """Raise ``UsageError`` for a model that users wrote and that fails on real samples, on the trainer's device and
    in its precision. A run that goes on has shown that it works, and a command has tried it."""
    if not (loop.claim.granted or loop.run.saved.generations()):
        try_model(model, data, trainer.strategy.root_device, trainer.precision_plugin.forward_context())


def check_on_samples(loop: SelfConsumingLoop, model: GenerativeModel, data: RealData, device: torch.device) -> None:
    """Raise ``UsageError`` for a reward, a stage or a metric of ``loop`` that fails on real samples; the latter two
    get them on ``device``."""
    if loop.reward is not None:
        check_reward(loop.reward, data)
    check_stages(loop.stages, data, loop.reward, conditional=model.conditional, device=device)
    if loop.evaluation is not None:
        loop.evaluation.check_on_samples(loop.reward, conditional=model.conditional, device=device)


def check_trainer(trainer: Trainer) -> None:
    """Raise ``InvalidValue`` for options of ``trainer`` by which a generation would have fewer optimizer steps than
    its budget says, for buffers that processes do not share, and for precisions that convert batches, which are
    ``Samples``."""
    budget = "give the loop first=Training(steps=...) and later=Training(steps=...), which say how long it trains"
    parts = "give LoopDataModule the whole batch_size, and the model network_batch, to compute a batch in parts"
    fast = trainer.fast_dev_run  # type: ignore[attr-defined]  # before what it sets
    require(not fast, "trainer.fast_dev_run", fast, "False", budget)
    for option, neutral in _CUTTING.items():
        found, do = getattr(trainer, option), parts if option == "accumulate_grad_batches" else budget
        same = found == neutral and type(found) is type(neutral)  # a limit of 1 is one batch, 1.0 are all
        require(same, f"trainer.{option}", found, f"{neutral}, Lightning's default", do)
    shared = getattr(trainer.strategy, "_ddp_kwargs", {}).get("broadcast_buffers", True)
    why = "True, DDP's default: a checkpoint holds the buffers of rank 0, and all processes go on with them"
    require(shared, "trainer.strategy", "DDPStrategy(broadcast_buffers=False)", why)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        name = type(callback).__name__
        accumulates = isinstance(callback, GradientAccumulationScheduler)
        require(not accumulates, "trainer.callbacks", name, "none that accumulates gradients", parts)
        timed = isinstance(callback, Timer)  # what max_time becomes; in a checkpoint it keeps the time that is over
        signal = "send SIGTERM or SIGUSR1 when the time is over: the loop saves, and ckpt_path=loop.resume() goes on"
        require(not timed, "trainer.max_time", name, "None, and no Timer", signal)
    precision = trainer.precision
    require(precision in PRECISIONS, "trainer.precision", precision, " or ".join(PRECISIONS))


@contextmanager
def epoch_under_way(trainer: Trainer) -> Iterator[None]:
    """Within the context, and in checkpoints written there, the epoch that ``trainer`` is at the end of goes on:
    Lightning counts one as trained before it calls ``on_train_epoch_end``, however many steps it had."""
    progress = trainer.fit_loop.epoch_progress
    for counted in (progress.current, progress.total):
        counted.processed -= 1  # type: ignore[attr-defined]
    try:
        yield
    finally:
        progress.increment_processed()


def require_all_steps(run: Run, generation: int, done: int, steps: int) -> None:
    """Raise ``RunError`` where the trainer left ``generation`` after ``done`` of its ``steps``, which were saved."""
    if done < steps:
        raise RunError(
            str(run.path),
            found=f"the trainer ended generation {generation} after {done} of its {steps} steps, as it does where a "
            "callback sets trainer.should_stop",
            expected="all of them: the pool of a generation is that of its whole training",
            do="fit again with ckpt_path=loop.resume(): what was done is saved, and it goes on from there",
        )
