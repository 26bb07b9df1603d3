"""The self-consuming loop as a Lightning callback.

One generation is one epoch. At its end the loop saves the weights, samples the model, evaluates the raw samples,
transforms them and writes the pool, which the next epoch's loader mixes with the real data:

    real data ──┐
                ├─ mixture (λ) ─► train ─► sample ─► evaluate
    pool t-1 ───┘                            └─► stages (curate, correct, ...) ─► pool t
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from lightning import Callback, LightningModule, Trainer

from sc_loops import fit_checks, opening
from sc_loops.claim import Claim
from sc_loops.curation.reward import Reward
from sc_loops.curation.stage import StageLike, prepare_stages
from sc_loops.data.files import damage, read_tensors, write_tensors
from sc_loops.data.memory import MemoryPolicy
from sc_loops.data.mixture import Mixing, Training
from sc_loops.data.module import LoopDataModule
from sc_loops.data.pool import Pool
from sc_loops.data.real import RealData, RealPolicy
from sc_loops.disk import Keep
from sc_loops.evaluation.evaluation import Evaluation
from sc_loops.facts import facts_of
from sc_loops.improving.improvement import Improvement
from sc_loops.improving.together import Improving
from sc_loops.models.agreement import take_buffers_of_rank_0
from sc_loops.models.base import GenerativeModel
from sc_loops.out_of_memory import explained
from sc_loops.pool_maker import PoolMaker
from sc_loops.processes import Processes
from sc_loops.progress import TrainingProgress
from sc_loops.reporting.observer import Observer
from sc_loops.reporting.observers import Observers
from sc_loops.run import Row, Run
from sc_loops.saving import save
from sc_loops.shelf import Shelf
from sc_loops.synthesis import Conditions, Synthesis, plan_chunks
from sc_loops.training_sets import TrainingSets, later_items, planned_ratio

KEEP_ALL = Keep()


class SelfConsumingLoop(Callback):
    """Retrains a generative model on its own, transformed samples.

    Give it to a plain ``lightning.Trainer`` and fit a ``GenerativeModel`` on a ``LoopDataModule``. The loop sets the
    trainer's number of epochs and has it ask for a new loader in each. Fitting with ``ckpt_path=loop.resume()``
    goes on where the run stopped. SIGTERM, SIGUSR1 and Ctrl-C let the step or chunk end, save, and raise ``Stopped``.

    Args:
        run: the run directory, or its path.
        reward: scores samples for curation and evaluation; any callable ``(N, *shape) -> (N,)``.
        evaluation: what is measured on a generation's raw samples; by default what suits the data.
        observers: told of progress: terminal, dashboard, report.
        seed: of everything random, in training and in sampling.
        generations: the last generation T. Generation 0 sees real data only.
        synthetic_ratio: λ in [0, inf], synthetic : real. 0 is the baseline, inf is fully synthetic.
        real_items: n, how many real items generations 1 to T train on: the first ones, or of fresh data the first of
            each draw. Generation 0 trains on all; by default they all do.
        improvement: what is done to the trained model before it is sampled, such as ``sims`` or ``neon``; the next
            generation trains on from the model as it was.
        stages: what happens to the samples on their way to the pool, in this order; none regenerates the
            samples as they are.
        memory: what becomes of older pools: ``replace`` trains on the newest alone, ``accumulate`` on all,
            ``accumulate_subsample`` on n items of what accumulate has, ``fading`` on all, the older the less (see the
            classes in ``data/memory.py``).
        real: the n real items are ``fixed``, or ``fresh`` ones in each generation. What is held out to evaluate
            with, and what else was made of real data (rewards, correctors), stays that of generation 0.
        mixing: λ is kept by the ``count`` of items, or by the ``weight`` of their losses, where a generation trains
            on all n real items and the whole pool, by default of n too.
        first: training of generation 0.
        later: training of generations 1 to T. With ``steps`` all see as many items, whatever λ and memory.
        retraining: continue from the last weights (``finetune``) or the initial ones (``from_scratch``),
            which are the same in every generation.
        samples: raw samples drawn per generation; by default as many as λ and the stages need. Of fewer, each is
            trained on several times.
        chunk_size: samples made at once; with the seed, it determines them.
        conditions: of a conditional model's samples: by ``real`` frequencies, ``uniform`` or ``in_turn``.
        preview: size of the sample grid that is drawn from the same noise in each generation.
        start: weights used as generation 0 instead of training it: see ``GenerativeModel.load_weights``.
        log_every: optimizer steps between two rows of the training loss.
        checkpoint_steps, checkpoint_minutes: between two checkpoints inside a generation, or None.
        keep: the generations whose checkpoint and samples stay on disk.
        nonfinite: a step with NaN or infinite gradients ends the run (``stop``) or is left out (``skip``).
    """

    def __init__(
        self,
        run: Run | Path | str,
        reward: Reward | None = None,
        evaluation: Evaluation | None = None,
        observers: Sequence[Observer] = (),
        seed: int = 0,
        *,
        generations: int,
        synthetic_ratio: float,
        real_items: int | None = None,
        improvement: Improvement | None = None,
        stages: Sequence[StageLike] = (),
        memory: MemoryPolicy = "replace",
        real: RealPolicy = "fixed",
        mixing: Mixing = "count",
        first: Training,
        later: Training,
        retraining: Literal["finetune", "from_scratch"] = "finetune",
        samples: int | None = None,
        chunk_size: int = 1000,
        conditions: Conditions = "real",
        preview: int = 64,
        start: str | None = None,
        log_every: int = 50,
        checkpoint_steps: int | None = None,
        checkpoint_minutes: float | None = 10.0,
        keep: Keep = KEEP_ALL,
        nonfinite: Literal["stop", "skip"] = "stop",
    ) -> None:
        self.run = run if isinstance(run, Run) else Run(run)
        self.reward, self.evaluation, self.observers, self.seed = reward, evaluation, Observers(observers), seed
        self.generations, self.synthetic_ratio, self.stages = generations, synthetic_ratio, list(stages)
        self.first, self.later, self.retraining, self.improvement = first, later, retraining, improvement
        self.samples, self.chunk_size, self.conditions = samples, chunk_size, conditions
        self.preview, self.start, self.log_every = preview, start, log_every
        self.checkpoint_steps, self.checkpoint_minutes = checkpoint_steps, checkpoint_minutes
        self.keep, self.nonfinite = keep, nonfinite
        self.memory, self.real, self.mixing, self.real_items = memory, real, mixing, real_items
        self.facts: Row = {}  # further constants of the run, recorded with its own
        self.processes: Processes | None = None  # those of the trainer, unless they were joined before it
        self.patience: dict[str, float] = {}  # options of ``Processes.of``
        self.failure: BaseException | None = None  # what ended the fit, as it is to be told
        self.claim = Claim()  # to the run directory
        self._trained = -1  # the last generation whose training is complete
        self._training_row: Row = {}  # what is known of that training
        self._inside: Row | None = None  # how far the next one is, when it was interrupted
        fit_checks.check_options(self)

    def resume(self) -> Path | None:
        """The ``ckpt_path`` from which ``trainer.fit`` goes on with what is in the directory, or None if nothing is.
        What is damaged there is said, and made again or refused: see ``Claim.resume``."""
        return self.claim.resume(self.run)

    # The state: how much was trained, and what is kept of pools never written. All else is on disk or the seed's.

    def state_dict(self) -> dict[str, Any]:
        state = {"trained": self._trained, "training_row": self._training_row, "inside": self._inside}
        return {**state, "memory": self._training_sets.memory.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._trained, self._training_row = state_dict["trained"], state_dict["training_row"]
        self._inside = state_dict.get("inside")
        self._training_sets.memory.load_state_dict(state_dict.get("memory", {}))

    # What Lightning calls, in the order in which it does.

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        model, module = GenerativeModel.of(pl_module), LoopDataModule.of(trainer)
        fit_checks.check_trainer(trainer)
        trainer.reload_dataloaders_every_n_epochs = 1  # type: ignore[attr-defined]
        trainer.fit_loop.max_epochs = self.generations + (0 if self.start else 1)
        if self.processes is None or self.processes.closed:
            self.processes = Processes.of(trainer, **self.patience)
        self.processes.signals.listen()
        self.plan(model, module.data)
        fit_checks.check_model(self, model, module.data, trainer)
        fit_checks.check_on_samples(self, model, module.data, trainer.strategy.root_device)
        self.claim.take(self.run, trainer)
        if self.processes.local_rank == 0:
            self.run.checkpoints.mkdir(parents=True, exist_ok=True)
            begins = not self.run.saved.generations()
            if self.retraining == "from_scratch" and (begins or damage(self.run.initial_weights)):
                write_tensors(self.run.initial_weights, model.state_dict())
        if trainer.is_global_zero:
            self._facts = facts_of(self, model, module, trainer.strategy.root_device)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model, module = GenerativeModel.of(pl_module), LoopDataModule.of(trainer)
        self.claim.check(self.run, trainer.ckpt_path)
        if trainer.is_global_zero:
            self.run.open(self._facts, module.data)
            self._recorded = max((row["step"] for row in self.run.training_rows()), default=0)
        if self._trained < 0 and self._inside is None and self.start:
            model.load_weights(Path(self.start))
            self._trained = 0
            self._training_row = TrainingSets.nothing()
        self._tell(trainer, "run_started", self.run, self.generations, self._trained + 1)
        unfinished = self._together.decided(lambda: opening.unfinished(self.run, self._trained))
        if self._trained >= 0 and self._inside is None and self._trained not in unfinished:
            unfinished.append(self._trained)  # its pool may be whole, but of other weights
        for generation in unfinished:
            with self._as_of(generation, model):
                self._finish_generation(generation, trainer, model)
        if self._trained < self.generations:
            self._mix_next(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._together.signals.listen()  # again, since Lightning has just installed its own handlers
        if self._inside is not None:  # Lightning does not start an epoch that it continues
            self._begin_training(trainer, GenerativeModel.of(pl_module))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin_training(trainer, GenerativeModel.of(pl_module))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._together.advance("working")

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Any) -> None:
        self._together.advance("together")  # in the exchange of gradients

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        steps, done = LoopDataModule.of(trainer).steps, batch_idx + 1
        mean = self._progress.losses.add(outputs["loss"], last=done == steps)
        self._together.advance("working")  # rank 0 by itself
        # After an interruption some steps are done again, to the same end; they are recorded once.
        if mean is not None and trainer.is_global_zero and trainer.global_step > self._recorded:
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            row = {"step": trainer.global_step, "train/loss": mean, "train/learning_rate": rate}
            self.run.record(row)
            self._recorded = trainer.global_step
            self._tell(trainer, "training_row", self.run, row)
        self._tell(trainer, "progress", self._trained + 1, "training", done, steps, "steps")
        self._together.advance("together")
        if done < steps:
            stop, due = self._progress.agreed(done)
            if stop or due:
                self._save_inside(trainer, GenerativeModel.of(pl_module), done)
            if stop:
                self._together.stop()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module, model = LoopDataModule.of(trainer), GenerativeModel.of(pl_module)
        self._require_all_steps(trainer, model, module.steps)
        take_buffers_of_rank_0(model)
        model.require_finite(f"generation {self._trained + 1}, at the end of its training")
        self._trained, self._inside = self._trained + 1, None
        self._shelf.begin(self._trained, self._together)
        self._training_row = {
            **TrainingSets.row(module, self._training_row),
            "train/loss": self._progress.losses.mean,
            **({"skipped_steps": model.skipped_steps} if self.nonfinite == "skip" else {}),
            "seconds/training": self._progress.seconds,
        }
        if not self._shelf.holds:
            with self._shelf.writing():
                save(trainer, self.run, self.run.checkpoint(self._trained), self._together)
        self._finish_generation(self._trained, trainer, model)
        if self._trained < self.generations:
            self._mix_next(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._trained == self.generations:
            self._tell(trainer, "run_finished", self.run)
        self._together.close()
        self.claim.release()
        self.observers.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        batch = getattr(getattr(trainer, "datamodule", None), "batch_size", 1)
        share, part = batch // trainer.world_size, getattr(pl_module, "network_batch", None)
        self.failure = explained(exception, batch=batch, share=share, chunk=self.chunk_size, network_batch=part)
        if self.processes is not None:
            self.processes.fail(self.failure)
            self.processes.close()
        self.claim.release()
        self.observers.close()

    def plan(self, model: GenerativeModel, data: RealData) -> None:
        """Plan ``chunks``, which every generation draws.

        Raises ``UsageError`` for options that do not go together, or not with the model and the data.
        """
        prepare_stages(self.stages, self.samples, self.reward)
        self.chunks = plan_chunks(
            real=later_items(self.real_items, data),
            synthetic_ratio=planned_ratio(self.synthetic_ratio, self.mixing),
            stages=self.stages,
            samples=self.samples,
            chunk_size=self.chunk_size,
        )
        self._evaluation = self.evaluation or Evaluation(data, None, self.reward)
        fit_checks.check_together(self, model, data, self._evaluation)
        self._shelf = Shelf(self.run, self.keep, self.generations)
        self._training_sets = TrainingSets.of(self, data, self._shelf.samples)
        self._synthesis(0).check(model)

    # Training.

    def _begin_training(self, trainer: Trainer, model: GenerativeModel) -> None:
        """Set out on the next generation, or go on where it was interrupted."""
        generation, inside = self._trained + 1, self._inside
        training = self.later if generation else self.first
        model.begin_generation(
            seed=self.seed,
            generation=generation,
            learning_rate=training.learning_rate,
            warmup_steps=training.warmup_steps,
            ema_decay=training.ema_decay,
            decay_steps=LoopDataModule.of(trainer).steps if training.decay else None,
            nonfinite=self.nonfinite,
        )
        self._progress = TrainingProgress(
            generation,
            self._together,
            trainer.strategy,
            log_every=self.log_every,
            checkpoint_steps=self.checkpoint_steps,
            checkpoint_minutes=self.checkpoint_minutes,
            skip=self.nonfinite == "skip",
            resumed=inside,
        )
        if inside is not None:
            model.skipped_steps = inside["skipped_steps"]
            self._inside = None
        elif self.retraining == "from_scratch" and generation > 0:
            model.restart(read_tensors(self.run.initial_weights))

    def _save_inside(self, trainer: Trainer, model: GenerativeModel, done: int) -> None:
        """Write a checkpoint inside the generation that is trained, from which it goes on to the same end."""
        generation = self._trained + 1
        take_buffers_of_rank_0(model)  # as DDP does before the next step
        model.require_finite(f"generation {generation}, after step {done}")
        self._inside = {"step": done, "skipped_steps": model.skipped_steps, **self._progress.state_dict()}
        save(trainer, self.run, self.run.saved.step(generation, done), self._together)
        self._inside = None
        self._progress.saved()

    def _require_all_steps(self, trainer: Trainer, model: GenerativeModel, steps: int) -> None:
        """Raise ``RunError``, with all saved, where the trainer ended a generation before it did its ``steps``."""
        done = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        if 0 < done < steps:
            with fit_checks.epoch_under_way(trainer):
                self._save_inside(trainer, model, done)
        fit_checks.require_all_steps(self.run, self._trained + 1, done, steps)

    def _mix_next(self, trainer: Trainer) -> None:
        """Have the next loader serve what the next generation trains on."""
        generation, done = self._trained + 1, 0 if self._inside is None else self._inside["step"]
        module, model = LoopDataModule.of(trainer), GenerativeModel.of(trainer.lightning_module)
        self._training_sets.begin(module, generation, model, self.later if generation else self.first, done)

    @contextmanager
    def _as_of(self, generation: int, model: GenerativeModel) -> Iterator[None]:
        """Within the context the model has the weights with which the training of ``generation`` ended."""
        if generation == self._trained and self._inside is None:
            yield
            return
        checkpoint, row = opening.checkpoint_of(self.run, generation), self._training_row
        self._training_row = checkpoint["callbacks"][self.state_key]["training_row"]
        try:
            with model.holding(checkpoint):
                yield
        finally:
            self._training_row = row

    def _finish_generation(self, generation: int, trainer: Trainer, model: GenerativeModel) -> None:
        """Leave the pool and the row of a trained generation behind, as far as they are not there yet."""
        pool, together = self._shelf.pool(generation), self._together
        improving = Improving(self.improvement, self.run, self.chunk_size, together)
        maker = PoolMaker(pool, self.chunks, self._synthesis(generation), improving, together)

        def tell(phase: str, done: int, total: int) -> None:
            unit = "steps" if phase == "auxiliary" else "samples"
            self._tell(trainer, "progress", generation, phase, done, total, unit)

        with trainer.precision_plugin.forward_context():
            made = maker.make(model, generation, preview=self.preview, tell=tell)
        if trainer.is_global_zero and (made or not self.run.has_row(generation)):
            row = maker.row(generation, self._training_row)
            if not self.run.has_row(generation, row):
                self.run.record(row, durable=isinstance(pool, Pool))
                self._tell(trainer, "generation_finished", self.run, row)
        together.meet()
        if together.local_rank == 0 and generation == self._trained and isinstance(pool, Pool):
            self._shelf.written(generation, self._training_sets.memory.needs)

    def _synthesis(self, generation: int) -> Synthesis:
        """How the samples of ``generation`` are made: under the conditions of the real data that it saw."""
        data, conditions, seed = self._training_sets.real(generation), self.conditions, self.seed
        return Synthesis(data, self.reward, self.stages, self._evaluation, conditions=conditions, seed=seed)

    @property
    def _together(self) -> Processes:
        assert self.processes is not None  # set in setup
        return self.processes

    def _tell(self, trainer: Trainer, event: str, *details: Any) -> None:
        """Call the method ``event`` of all observers, on rank 0."""
        if trainer.is_global_zero:
            self.observers.tell(event, *details)
