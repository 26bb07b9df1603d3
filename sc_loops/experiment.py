"""``Experiment``: the sections of a config, and a run of it from the first check to the last generation."""

from __future__ import annotations

import copy
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lightning import Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from sc_loops import config, schema
from sc_loops.curation.reward import Reward
from sc_loops.curation.rewards import check_reward
from sc_loops.data.files import write_atomically
from sc_loops.data.module import LoopDataModule
from sc_loops.data.real import RealData
from sc_loops.environment import environment
from sc_loops.errors import RunError, UsageError, blaming, require, within
from sc_loops.evaluation.evaluation import Evaluation
from sc_loops.loop import SelfConsumingLoop
from sc_loops.models.base import GenerativeModel
from sc_loops.networks.classifier import Classifier
from sc_loops.randomness import seed_global
from sc_loops.reporting.dashboard import WandbDashboard
from sc_loops.reporting.report import HtmlReport
from sc_loops.reporting.terminal import Terminal
from sc_loops.run import Run


@dataclass(frozen=True, kw_only=True)
class TrainerOptions:
    """Passed on to ``lightning.Trainer``; its documentation says what they mean."""

    accelerator: str = "auto"
    devices: int | str = "auto"
    strategy: str = "auto"
    num_nodes: int = 1
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    gradient_clip_val: float | None = None

    def __post_init__(self) -> None:
        require(self.num_nodes >= 1, "num_nodes", self.num_nodes, "an integer >= 1")
        clip = self.gradient_clip_val
        require(clip is None or 0 < clip < math.inf, "gradient_clip_val", clip, "a number > 0, or null")


@dataclass(kw_only=True)
class Experiment:
    """The top level of a config. A section may use those before it: the reward the classifier, and so on.

    Attributes:
        seed: of everything random.
        output: the directory that holds run directories.
        name: of the run directory; by default the config's, with a digest of what was overridden.
        data: the real data.
        batch_size: items of one optimizer step, over all processes.
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
            UsageError: options that do not go together, or a reward that fails on real samples.
        """
        self._module()
        processes = self._trainer().world_size
        shared = self.batch_size % processes == 0
        require(shared, "batch_size", self.batch_size, f"a multiple of the {processes} processes, which share it")
        with within("loop"):
            self.loop.plan(self.model, self.data)
        if self.loop.start and not self.loop.run.last_checkpoint.exists():
            copy.deepcopy(self.model).load_weights(Path(self.loop.start))
        needs_nothing = self.classifier is None or type(self.classifier).prepare is Classifier.prepare
        if self.reward is not None and needs_nothing:
            check_reward(self.reward, self.data)

    def prepare(self) -> None:
        """Prepare the classifier and with it try the reward: the work that comes before the run is recorded.

        Raises:
            UsageError: the classifier cannot be prepared, or the reward fails on real samples.
        """
        if self.classifier is not None:
            with blaming("classifier", "a classifier that can be prepared"):
                accuracies = self.classifier.prepare(Path(self.output) / "classifiers")
            self.loop.facts |= {f"classifier/{key}": value for key, value in accuracies.items()}
        if self.reward is not None:
            check_reward(self.reward, self.data)

    def write_record(self, resolved: dict[str, Any]) -> None:
        """Make the run directory, with config.yaml and env.json in it."""
        run = self.loop.run
        with blaming("output", "a directory that can be written to"):
            run.path.mkdir(parents=True, exist_ok=True)
            write_atomically(run.config_path, config.to_yaml(resolved))
            write_atomically(run.path / "env.json", json.dumps(environment(), indent=2) + "\n")

    def fit(self) -> None:
        """Run the loop, from its last checkpoint if there is one, to its last generation.

        Raises:
            KeyboardInterrupt: Ctrl-C, which Lightning would make an exit of status 1.
            RunError: the run cannot go on, or was told to end by SIGTERM.
        """
        run, loop = self.loop.run, self.loop
        loop.observers = [Terminal(), HtmlReport(), self.wandb]
        checkpoint = run.last_checkpoint if run.last_checkpoint.exists() else None
        try:
            self._trainer().fit(self.model, self._module(), ckpt_path=checkpoint)
        except UsageError as error:  # nobody can be told before what only a run under way finds out
            raise RunError(error.where, found=error.found, expected=error.expected, do=error.do) from error
        except SIGTERMException as stop:
            raise RunError("the run", found="SIGTERM", expected="to run to its last generation") from stop
        except SystemExit as stop:
            if isinstance(stop.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from stop
            raise
        finally:
            for observer in loop.observers:
                observer.closed()

    def _module(self) -> LoopDataModule:
        return LoopDataModule(self.data, batch_size=self.batch_size, seed=self.seed)

    def _trainer(self) -> Trainer:
        """A plain Lightning trainer that leaves progress, checkpoints and records to the loop."""
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        with blaming("trainer", "options that lightning.Trainer takes on this machine"):
            return Trainer(
                **vars(self.trainer),
                callbacks=[self.loop],
                max_epochs=self.loop.generations + 1,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )


def resolved_config(name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The config with every default written out.

    Raises:
        UsageError: see ``config.load`` and ``schema.resolve``.
    """
    return schema.resolve(Experiment, config.load(name, overrides))


def build(resolved: dict[str, Any], run: Run) -> Experiment:
    """The experiment that a resolved config describes, with ``run`` as its directory.

    Raises:
        UsageError: a constructor found a value impossible.
    """
    seed_global(resolved["seed"], "weights")
    experiment: Experiment = schema.build(Experiment, resolved, {"run": run})
    return experiment
