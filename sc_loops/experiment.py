"""``Experiment``: the sections of a config, and a run of it from the first check to the last generation."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lightning import Trainer

from sc_loops import config, schema
from sc_loops.curation.reward import Reward
from sc_loops.data.files import write_atomically
from sc_loops.data.module import LoopDataModule
from sc_loops.data.real import RealData
from sc_loops.environment import environment
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

    def write_record(self, resolved: dict[str, Any]) -> None:
        """Make the run directory, with config.yaml and env.json in it."""
        run = self.loop.run
        run.path.mkdir(parents=True, exist_ok=True)
        write_atomically(run.config_path, config.to_yaml(resolved))
        write_atomically(run.path / "env.json", json.dumps(environment(), indent=2) + "\n")

    def fit(self) -> None:
        """Run the loop, from its last checkpoint if there is one, to its last generation."""
        run, loop = self.loop.run, self.loop
        module = LoopDataModule(self.data, batch_size=self.batch_size, seed=self.seed)
        loop.observers = [Terminal(), HtmlReport(), self.wandb]
        trainer = self._trainer()
        if self.classifier is not None:
            accuracies = self.classifier.prepare(Path(self.output) / "classifiers")
            loop.facts |= {f"classifier/{key}": value for key, value in accuracies.items()}
        checkpoint = run.last_checkpoint if run.last_checkpoint.exists() else None
        try:
            trainer.fit(self.model, module, ckpt_path=checkpoint)
        finally:
            for observer in loop.observers:
                observer.closed()

    def _trainer(self) -> Trainer:
        """A plain Lightning trainer that leaves progress, checkpoints and records to the loop."""
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
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
