"""``Experiment``: the sections of a config, and a run of it from the first check to the last generation."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sc_loops import config, fit_checks, opening, schema
from sc_loops.cache_lock import alone
from sc_loops.curation.applied import check_stages
from sc_loops.curation.reward import Reward
from sc_loops.curation.rewards import check_reward
from sc_loops.curation.stage import Stage, outputs_of, stages_observed_bytes
from sc_loops.data.files import write_atomically
from sc_loops.data.mixture import synthetic_count
from sc_loops.data.module import LoopDataModule
from sc_loops.data.real import RealData
from sc_loops.disk import ModelBytes, expected_bytes, free_bytes, items_of, used_bytes
from sc_loops.environment import environment
from sc_loops.errors import RunError, UsageError, blaming, require, within
from sc_loops.evaluation.evaluation import Evaluation
from sc_loops.exchange import fetch
from sc_loops.loop import SelfConsumingLoop
from sc_loops.models.base import GenerativeModel
from sc_loops.models.closed_form import require_no_clipping, require_one_process
from sc_loops.models.starts import read_start
from sc_loops.networks.classifier import Classifier
from sc_loops.networks.devices import work_device, working_on
from sc_loops.networks.text import TextEncoder
from sc_loops.processes import Processes
from sc_loops.randomness import seed_global
from sc_loops.reporting.dashboard import WandbDashboard
from sc_loops.reporting.observer import Observer
from sc_loops.reporting.observers import Observers
from sc_loops.reporting.report import HtmlReport
from sc_loops.reporting.terminal import Terminal
from sc_loops.reporting.wording import size
from sc_loops.run import Run
from sc_loops.trainer import TrainerOptions
from sc_loops.training_sets import later_items


@dataclass(kw_only=True)
class Experiment:
    """The top level of a config. A section may use those before it: the reward the classifier, and so on.

    Attributes:
        seed: of everything random.
        output: the directory that holds run directories.
        name: of the run directory; by default the config's, with a digest of what was overridden.
        data: the real data.
        batch_size: items of one optimizer step, over all processes.
        text: what a model of motions knows captions by.
        classifier: what rewards and evaluation know classes and features from.
        reward: scores samples, for curation and evaluation.
        model: what is trained and sampled.
        evaluation: what is measured.
        loop: see ``SelfConsumingLoop``.
        trainer: see ``lightning.Trainer``.
        wandb: the Weights & Biases dashboard.
    """

    seed: int = 0
    output: str = "runs"
    name: str | None = None
    data: RealData
    batch_size: int = 256
    text: TextEncoder | None = None
    classifier: Classifier | None = None
    reward: Reward | None = None
    model: GenerativeModel
    evaluation: Evaluation
    loop: SelfConsumingLoop
    trainer: TrainerOptions
    wandb: WandbDashboard

    def check(self) -> None:
        """Find what would fail later, as far as it can be known without doing any work.

        Raises:
            UsageError: options that do not go together, a reward or a model that fails on real samples, or too small
                a disk.
        """
        GenerativeModel.of(self.model)
        self._module()
        trainer = self.trainer.trainer()
        processes = trainer.world_size
        shared = self.batch_size % processes == 0
        require(shared, "batch_size", self.batch_size, f"a multiple of the {processes} processes, which share it")
        with within("trainer"):
            require_one_process(self.model, processes)
            require_no_clipping(self.model, self.trainer.gradient_clip_val)
        with within("loop"):
            self.loop.plan(self.model, self.data)
        if self.loop.start and not self.loop.run.last_checkpoint.exists():
            read_start(self.model, Path(self.loop.start))
        if self.text is None:
            fit_checks.check_model(self.loop, self.model, self.data, trainer)
        needs_nothing = self.classifier is None or type(self.classifier).prepare is Classifier.prepare
        if self.reward is not None and needs_nothing:
            check_reward(self.reward, self.data)
        self._check_disk()

    def prepare(self, processes: Processes) -> None:
        """Prepare text encoder and classifier, with it try the reward, prepare the metrics and try the user's, all on
        the trainer's device: the work that comes before the run is recorded.

        Raises:
            UsageError: the classifier or a metric cannot be prepared, or a reward or metric fails on real samples.
        """
        with working_on(self.trainer.device):
            self._prepare(processes)

    def _prepare(self, processes: Processes) -> None:
        conditional, device = self.model.conditional, work_device()
        if processes.rank == 0:
            self.evaluation.check()  # before the classifier, which may take long
        self._prepare_together(self._prepare_text, Path(self.output) / "texts", processes)
        if self.text is not None:
            fit_checks.check_model(self.loop, self.model, self.data, self.trainer.trainer())
        self._prepare_together(self._prepare_classifier, Path(self.output) / "classifiers", processes)
        if self.reward is not None:
            check_reward(self.reward, self.data)
        if any(isinstance(stage, Stage) for stage in self.loop.stages):
            self._prepare_together(self._load_stages, Path(self.output) / "correctors", processes)
        with within("loop"):
            check_stages(self.loop.stages, self.data, self.reward, conditional=conditional, device=device)
        self._prepare_together(self.evaluation.prepare, Path(self.output) / "statistics", processes)
        self.evaluation.check_on_samples(self.reward, conditional=conditional, device=device)
        if self.loop.improvement is not None:
            with within("loop.improvement"):
                self.loop.improvement.check_search(self.evaluation)

    @staticmethod
    def _prepare_together(prepare: Callable[[Path], None], cache: Path, processes: Processes) -> None:
        """Rank 0 prepares first, and the others find the result in ``cache``; so do other runs with the same one."""
        if processes.rank == 0:
            with alone(cache):
                prepare(cache)
        made = processes.decided(lambda: sorted(path.name for path in cache.glob("*")))
        fetch(cache, [name for name in made if not (cache / name).exists()], processes)
        if processes.rank != 0:
            prepare(cache)

    def _prepare_text(self, cache: Path) -> None:
        if self.text is not None:
            with blaming("text", "a text encoder that can be prepared"), within("text"):
                self.text.prepare(cache)

    def _prepare_classifier(self, cache: Path) -> None:
        if self.classifier is None:
            return
        with blaming("classifier", "a classifier that can be prepared"):
            accuracies = self.classifier.prepare(cache)
        self.loop.facts |= {f"classifier/{key}": value for key, value in accuracies.items()}

    def _load_stages(self, cache: Path) -> None:
        for number, stage in enumerate(self.loop.stages):
            if isinstance(stage, Stage):
                with blaming(f"loop.stages.{number}", "a stage that can be loaded"):
                    stage.load(cache)

    def _check_disk(self) -> None:
        """Note how much of the disk the run will take, and refuse to start where there is less."""
        loop, free = self.loop, free_bytes(self.loop.run.path)
        one = self.data.train.x[0].nbytes
        sizes = [chunk.size for chunk in loop.chunks]
        observed = self.evaluation.observed_bytes(sum(sizes)) + stages_observed_bytes(loop.stages, sizes)
        grows = loop.memory != "replace" and loop.synthetic_ratio > 0
        pool_items = sum(outputs_of(loop.stages, size) for size in sizes)
        n, endless = later_items(loop.real_items, self.data), loop.synthetic_ratio == math.inf
        synthetic = pool_items if endless or loop.mixing == "weight" else synthetic_count(n, loop.synthetic_ratio)

        def items(generation: int) -> int:
            first, sees_real = len(self.data.train), not endless
            return items_of(generation, loop.memory, first=first, real=n, synthetic=synthetic, sees_real=sees_real)

        expected = expected_bytes(
            model=ModelBytes.of(self.model),
            items=items,
            sample_bytes=one + 20,  # index, condition, reward
            pool_items=pool_items,
            observed_bytes=observed + 1500 * len(sizes) + loop.preview * one,
            generations=loop.generations,
            keep=loop.keep,
            older="nowhere" if not grows else "checkpoints" if loop.keep.hold_seconds else "pools",
            improved=loop.improvement is not None,
        )
        loop.facts["disk/expected_bytes"] = expected
        left = expected - used_bytes(loop.run) if loop.run.path.exists() else expected
        require(
            left <= free,
            "output",
            self.output,
            f"a disk with {size(left)} free, about what this run takes; there are {size(free)}",
            do="bound what is kept, as with loop.keep.last=2, free some space, or give another output=...",
        )

    def write_record(self, resolved: dict[str, Any]) -> None:
        """Make the run directory, with config.yaml and env.json in it."""
        run = self.loop.run
        with blaming("output", "a directory that can be written to"):
            run.path.mkdir(parents=True, exist_ok=True)
            write_atomically(run.config_path, config.to_yaml(resolved))
            write_atomically(run.path / "env.json", json.dumps(environment(), indent=2) + "\n")

    def open(self, run: Run, processes: Processes) -> Path | None:
        """Have ``run`` whole on every node; the checkpoint from which it continues, or None.

        Raises:
            UsageError: something that the run needs is damaged and cannot be made again.
        """
        self.loop.run = run

        def opened() -> dict[str, Any]:
            checkpoint = opening.mend(run)
            contents = opening.contents(run) if processes.world_size > 1 else {}
            return {"checkpoint": checkpoint and checkpoint.name, "contents": contents}

        found = processes.decided(opened)
        if processes.world_size > 1:
            fetch(run.path, opening.lacking(run, found["contents"]), processes)
        return run.checkpoints / found["checkpoint"] if found["checkpoint"] else None

    def fit(
        self,
        checkpoint: Path | None,
        processes: Processes | None = None,
        observers: Sequence[Observer] | None = None,
    ) -> None:
        """Run the loop, from ``checkpoint`` if there is one, to its last generation.

        Args:
            checkpoint: what ``open`` returned.
            processes: those that were joined already; by default those that the trainer starts.
            observers: told of progress; by default the terminal, the report and the dashboard.

        Raises:
            Stopped: a signal asked for it; all is saved.
            KeyboardInterrupt: something inside raised it.
            RunError: the run cannot go on.
        """
        loop = self.loop
        loop.observers = Observers([Terminal(), HtmlReport(), self.wandb] if observers is None else observers)
        loop.processes, loop.patience = processes, self.trainer.patience
        loop.claim.granted = True  # who fits has opened the directory, and the config is the one recorded there
        try:
            trainer = self.trainer.trainer(loop, epochs=loop.generations + 1)
            trainer.fit(self.model, self._module(), ckpt_path=checkpoint)
        except UsageError as error:  # nobody can be told before what only a run under way finds out
            raise RunError(error.where, found=error.found, expected=error.expected, do=error.do) from error
        except Exception as error:
            if loop.failure is None or loop.failure is error:
                raise
            raise loop.failure from error
        except SystemExit as stop:
            if isinstance(stop.__context__, KeyboardInterrupt):  # one that a component raised; Lightning makes it 1
                raise KeyboardInterrupt from stop
            raise
        finally:
            loop.observers.close()
            if loop.processes is not None:
                loop.processes.wait_for_children()

    def _module(self) -> LoopDataModule:
        return LoopDataModule(self.data, batch_size=self.batch_size, seed=self.seed)


def resolved_config(name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The config with every default written out.

    Raises:
        UsageError: see ``config.load`` and ``schema.resolve``.
    """
    return schema.resolve(Experiment, config.load(name, overrides))


def completed(recorded: dict[str, Any]) -> dict[str, Any]:
    """A config that was resolved before, with the defaults of options that are new since.

    Raises:
        UsageError: it has options that are no longer known.
    """
    classifier = recorded.get("classifier")
    if isinstance(classifier, dict) and classifier.get("name") in ("trained", "vgg11_bn"):
        # Before classifiers had a seed of their own, it was the run's.
        recorded = {**recorded, "classifier": {"seed": recorded.get("seed", 0), **classifier}}
    return schema.resolve(Experiment, recorded)


def build(resolved: dict[str, Any], run: Run) -> Experiment:
    """The experiment that a resolved config describes, with ``run`` as its directory.

    Raises:
        UsageError: a constructor found a value impossible.
    """
    seed_global(resolved["seed"], "weights")
    experiment: Experiment = schema.build(Experiment, resolved, {"run": run})
    return experiment
