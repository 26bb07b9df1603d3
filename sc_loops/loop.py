"""The self-consuming loop as a Lightning callback.

One generation is one epoch. At its end the loop saves the weights, samples the model, evaluates the raw samples,
transforms them and writes the pool, which the next epoch's loader mixes with the real data:

    real data ──┐
                ├─ mixture (λ) ─► train ─► sample ─► evaluate
    pool t-1 ───┘                            └─► stages (curate, correct, ...) ─► pool t
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from lightning import Callback, LightningModule, Trainer

from sc_loops.curation.k_choice import Curate
from sc_loops.curation.reward import Reward
from sc_loops.curation.rewards import BoundedReward, check_reward
from sc_loops.curation.stage import Stage, StageLike
from sc_loops.data.files import read_tensors, write_tensors
from sc_loops.data.mixture import Training
from sc_loops.data.module import LoopDataModule
from sc_loops.data.pool import Chunk, Pool
from sc_loops.data.real import RealData
from sc_loops.errors import RunError, UsageError, require, within
from sc_loops.evaluation.evaluation import Evaluation
from sc_loops.models.base import GenerativeModel
from sc_loops.models.losses import LossLog
from sc_loops.reporting.observer import Observer
from sc_loops.run import Row, Run
from sc_loops.samples import Observation, Samples
from sc_loops.synthesis import Stopwatch, Synthesis, plan_chunks


class SelfConsumingLoop(Callback):
    """Retrains a generative model on its own, transformed samples.

    Give it to a plain ``lightning.Trainer`` and fit a ``GenerativeModel`` on a ``LoopDataModule``. The loop sets
    the trainer's number of epochs and has it ask for a new loader in each. Fitting again from
    ``run.last_checkpoint`` continues where the run stopped.

    Args:
        run: the run directory, or its path.
        reward: scores samples for curation and evaluation; any callable ``(N, *shape) -> (N,)``.
        evaluation: what is measured on a generation's raw samples; by default what suits the data.
        observers: told of progress: terminal, dashboard, report.
        seed: of everything random, in training and in sampling.
        generations: the last generation T. Generation 0 sees real data only.
        synthetic_ratio: λ in [0, inf], synthetic : real. 0 is the baseline, inf is fully synthetic.
        stages: what happens to the samples on their way to the pool, in this order; none regenerates the
            samples as they are.
        first: training of generation 0.
        later: training of generations 1 to T.
        retraining: continue from the last weights (``finetune``) or from the initial ones (``from_scratch``).
        samples: raw samples drawn per generation; by default as many as λ and the stages need.
        chunk_size: samples made at once; with the seed, it determines them.
        conditions: classes of a conditional model's samples, by ``real`` frequencies or ``uniform``.
        preview: size of the sample grid that is drawn from the same noise in every generation.
        start: a checkpoint of this kind of model, used as generation 0 instead of training it.
        log_every: optimizer steps between two rows of the training loss.
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
        stages: Sequence[StageLike] = (),
        first: Training,
        later: Training,
        retraining: Literal["finetune", "from_scratch"] = "finetune",
        samples: int | None = None,
        chunk_size: int = 1000,
        conditions: Literal["real", "uniform"] = "real",
        preview: int = 64,
        start: str | None = None,
        log_every: int = 50,
    ) -> None:
        require(generations >= 0, "generations", generations, "an integer >= 0")
        require(
            synthetic_ratio >= 0,
            "synthetic_ratio",
            synthetic_ratio,
            "λ >= 0, the ratio synthetic : real (0 is real data only, inf is synthetic data only)",
        )
        require(samples is None or samples >= 1, "samples", samples, "an integer >= 1")
        require(1 <= chunk_size <= 10**7, "chunk_size", chunk_size, "an integer in 1..10000000")
        require(1 <= preview <= 10**4, "preview", preview, "an integer in 1..10000")
        require(log_every >= 1, "log_every", log_every, "an integer >= 1")
        self.run = run if isinstance(run, Run) else Run(run)
        self.reward, self.evaluation, self.observers, self.seed = reward, evaluation, observers, seed
        self.generations, self.synthetic_ratio, self.stages = generations, synthetic_ratio, list(stages)
        self.first, self.later, self.retraining = first, later, retraining
        self.samples, self.chunk_size, self.conditions = samples, chunk_size, conditions
        self.preview, self.start, self.log_every = preview, start, log_every
        self.facts: Row = {}  # further constants of the run, recorded with the loop's own
        self._trained = -1  # the last generation whose training is complete
        self._training_row: Row = {}  # what is known of that training

    # The state of a run is how many generations were trained; all else is on disk or a function of the seed.

    def state_dict(self) -> dict[str, Any]:
        return {"trained": self._trained, "training_row": self._training_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._trained, self._training_row = state_dict["trained"], state_dict["training_row"]

    # What Lightning calls, in the order in which it does.

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        model, module = _model(pl_module), _data_module(trainer)
        trainer.reload_dataloaders_every_n_epochs = 1  # type: ignore[attr-defined]
        trainer.fit_loop.max_epochs = self.generations + (0 if self.start else 1)
        self.plan(model, module.data)
        if self.reward is not None:
            check_reward(self.reward, module.data)
        if trainer.is_global_zero:
            self.run.open(self._facts(trainer, model, module), module.data)
            if self.retraining == "from_scratch" and not self.run.initial_weights.exists():
                write_tensors(self.run.initial_weights, model.state_dict())

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._trained < 0 and self.start:
            _model(pl_module).load_weights(Path(self.start))
            self._trained = 0
            self._training_row = {"real_items": 0, "synthetic_items": 0, "items_seen": 0}
        self._tell(trainer, "run_started", self.run, self.generations, self._trained + 1)
        if self._trained >= 0:
            self._finish_generation(trainer, pl_module)
        if self._trained < self.generations:
            self._mix_next(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model, generation = _model(pl_module), self._trained + 1
        training = self._training(generation)
        model.begin_generation(
            seed=self.seed,
            generation=generation,
            learning_rate=training.learning_rate,
            warmup_steps=training.warmup_steps,
        )
        if self.retraining == "from_scratch" and generation > 0:
            model.restart(read_tensors(self.run.initial_weights))
        self._losses = LossLog(
            f"the training loss of generation {generation}", every=self.log_every, reduce=trainer.strategy.reduce
        )
        self._started = perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        steps, done = _data_module(trainer).steps, batch_idx + 1
        mean = self._losses.add(outputs["loss"], last=done == steps)
        if mean is not None and trainer.is_global_zero:
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            row = {"step": trainer.global_step, "train/loss": mean, "train/learning_rate": rate}
            self.run.record(row)
            self._tell(trainer, "training_row", self.run, row)
        self._tell(trainer, "progress", self._trained + 1, "training", done, steps, "steps")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module = _data_module(trainer)
        self._trained += 1
        self._training_row = {
            "real_items": module.real_items,
            "synthetic_items": module.synthetic_items,
            "items_seen": self._training_row.get("items_seen", 0) + module.steps * module.batch_size,
            "train/loss": self._losses.mean,
            "seconds/training": perf_counter() - self._started,
        }
        self._save(trainer)
        self._finish_generation(trainer, pl_module)
        if self._trained < self.generations:
            self._mix_next(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._trained == self.generations:
            self._tell(trainer, "run_finished", self.run)

    def plan(self, model: GenerativeModel, data: RealData) -> None:
        """Plan the chunks that every generation draws.

        Raises:
            UsageError: the options do not go together, or not with the model and the data.
        """
        for number, stage in enumerate(self.stages):
            if isinstance(stage, Stage):
                with within(f"stages.{number}"):
                    stage.prepare(self.samples, self.reward)
        self._chunks = plan_chunks(
            real=len(data.train),
            synthetic_ratio=self.synthetic_ratio,
            stages=self.stages,
            samples=self.samples,
            chunk_size=self.chunk_size,
        )
        evaluation = self.evaluation or Evaluation(data, None, self.reward)
        self._synthesis = Synthesis(
            data, self.reward, self.stages, evaluation, conditions=self.conditions, seed=self.seed
        )
        self._synthesis.check(model)

    # The steps of one generation.

    def _mix_next(self, trainer: Trainer) -> None:
        """Hand the last pool to the next generation; the next loader serves the mixture."""
        generation = self._trained + 1
        pool = self.run.pool(generation - 1) if generation > 0 and self.synthetic_ratio > 0 else None
        if pool is not None and not len(pool):
            do = "have the stages keep more, or draw more samples with loop.samples"
            raise RunError(str(pool.path), found="no samples", expected="samples to train on", do=do)
        _data_module(trainer).begin_generation(
            generation,
            pool=pool,
            synthetic_ratio=self.synthetic_ratio,
            training=self._training(generation),
            seed=self.seed,
        )

    def _finish_generation(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the pool and the row of the last trained generation behind, as far as they are not there yet."""
        generation, clock = self._trained, Stopwatch()
        pool = self.run.pool(generation)
        if not pool.finished:
            self._fill(pool, trainer, _model(pl_module), clock)
            trainer.strategy.barrier()
            if trainer.is_global_zero:
                pool.finish(generation, self._chunks)
        if trainer.is_global_zero and generation not in {row["generation"] for row in self.run.rows()}:
            with clock("evaluating"):
                metrics = self._synthesis.evaluation.summarise(pool)
            row = self._generation_row(pool, metrics, clock)
            self.run.record(row)
            self._tell(trainer, "generation_finished", self.run, row)
        trainer.strategy.barrier()

    def _fill(self, pool: Pool, trainer: Trainer, model: GenerativeModel, clock: Stopwatch) -> None:
        """Make this rank's chunks that are not there yet, from the averaged weights."""
        generation, started = self._trained, perf_counter()
        done, total = 0, sum(c.size for c in self._chunks[trainer.global_rank :: trainer.world_size])

        def make(chunk: Chunk) -> tuple[Samples, dict[str, Observation]]:
            clock.samples += chunk.size
            return self._synthesis.make(model, generation, chunk, clock)

        clock.on_start = lambda phase: self._tell(trainer, "progress", generation, phase, done, total, "samples")
        with model.averaged(), trainer.precision_plugin.forward_context():
            if trainer.is_global_zero and pool.preview is None:
                with clock("sampling"):
                    pool.write_preview(self._synthesis.preview(model, self.preview))
            for chunk in pool.fill(self._chunks, make, rank=trainer.global_rank, world_size=trainer.world_size):
                done += chunk.size
                self._tell(trainer, "progress", generation, "writing", done, total, "samples")
        clock.seconds["writing"] = perf_counter() - started - sum(clock.seconds.values())

    def _generation_row(self, pool: Pool, metrics: dict[str, float], clock: Stopwatch) -> Row:
        raw = pool.manifest["raw"]
        evaluations = sum(int(o["network_evaluations"]) for o in pool.observations("loop"))
        seconds = {f"seconds/{phase}": spent for phase, spent in clock.seconds.items()}
        return {
            "generation": self._trained,
            **self._training_row,
            "samples": raw,
            "pool_items": len(pool),
            "nfe": evaluations / raw,
            **metrics,
            **seconds,
            "seconds/total": self._training_row.get("seconds/training", 0.0) + sum(clock.seconds.values()),
            **{f"samples_per_second/{p}": clock.samples / s for p, s in clock.seconds.items() if clock.samples and s},
        }

    def _save(self, trainer: Trainer) -> None:
        """Write the checkpoint of the generation just trained and point last.ckpt to it."""
        path = self.run.checkpoint(self._trained)
        trainer.save_checkpoint(path)
        if trainer.is_global_zero:
            link = path.with_name(".last.tmp")
            link.unlink(missing_ok=True)
            link.symlink_to(path.name)
            os.replace(link, self.run.last_checkpoint)

    def _training(self, generation: int) -> Training:
        return self.first if generation == 0 else self.later

    def _facts(self, trainer: Trainer, model: GenerativeModel, module: LoopDataModule) -> Row:
        """What is constant over the run. ``choices`` is there when the theory of curation applies: K-choice alone,
        by the reward that is measured, and no classes that are drawn anew in every generation."""
        curations = [stage for stage in self.stages if isinstance(stage, Curate) and stage.reward is self.reward]
        applies = len(self.stages) == len(curations) == 1 and not model.conditional
        return {
            **self.facts,
            "generations": self.generations,
            "synthetic_ratio": self.synthetic_ratio,
            **({"choices": curations[0].choices} if applies else {}),
            **({"reward/supremum": self.reward.supremum} if isinstance(self.reward, BoundedReward) else {}),
            "device": trainer.strategy.root_device.type,
            "samples_per_generation": sum(chunk.size for chunk in self._chunks),
            "batch_size": module.batch_size,
            "parameters": sum(p.numel() for p in model.parameters()),
        }

    def _tell(self, trainer: Trainer, event: str, *details: Any) -> None:
        """Call the method ``event`` of all observers, on rank 0."""
        if trainer.is_global_zero:
            for observer in self.observers:
                getattr(observer, event)(*details)


def _model(module: LightningModule) -> GenerativeModel:
    if isinstance(module, GenerativeModel):
        return module
    raise UsageError(
        "the model",
        found=f"a {type(module).__name__}",
        expected="a subclass of sc_loops.GenerativeModel, with loss(batch) and sample(generator, n, condition)",
    )


def _data_module(trainer: Trainer) -> LoopDataModule:
    module = getattr(trainer, "datamodule", None)
    if isinstance(module, LoopDataModule):
        return module
    raise UsageError(
        "the data",
        found=f"trainer.fit with {'no data module' if module is None else type(module).__name__}",
        expected="trainer.fit(model, LoopDataModule(data))",
    )
