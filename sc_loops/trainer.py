"""The Lightning trainer of a run, and the processes that a launcher started together with this one."""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch
from lightning import Callback, Trainer
from lightning.pytorch.strategies import DDPStrategy

from sc_loops.errors import blaming, require
from sc_loops.processes import Processes


@dataclass(frozen=True, kw_only=True)
class TrainerOptions:
    """Passed on to ``lightning.Trainer``, whose documentation says what they mean, but for the last two.

    Attributes:
        timeout_minutes: a process that makes no progress (a step, a phase of a chunk) for so long ends the run.
        lost_after_seconds: a process that gives no sign of life for so long ends the run.
    """

    accelerator: str = "auto"
    devices: int | str = "auto"
    strategy: str = "auto"
    num_nodes: int = 1
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    gradient_clip_val: float | None = None
    timeout_minutes: float = 30.0
    lost_after_seconds: float = 60.0

    def __post_init__(self) -> None:
        require(self.num_nodes >= 1, "num_nodes", self.num_nodes, "an integer >= 1")
        clip = self.gradient_clip_val
        require(clip is None or 0 < clip < math.inf, "gradient_clip_val", clip, "a number > 0, or null")
        require(0 < self.timeout_minutes < math.inf, "timeout_minutes", self.timeout_minutes, "a number > 0")
        lost = self.lost_after_seconds
        require(5 <= lost < math.inf, "lost_after_seconds", lost, "a number >= 5: signs of life come once a second")

    @property
    def patience(self) -> dict[str, float]:
        """How long processes wait for one another, as ``Processes`` takes it."""
        return {"timeout": 60 * self.timeout_minutes, "lost_after": self.lost_after_seconds}

    @property
    def device(self) -> torch.device:
        """Where classifiers and feature extractors are prepared: the GPU that the trainer will use, or else the CPU,
        also for an accelerator that lacks some of what they need."""
        device = self.trainer().strategy.root_device
        return device if device.type == "cuda" else torch.device("cpu")

    def trainer(self, *callbacks: Callback, epochs: int = 1) -> Trainer:
        """A plain Lightning trainer that leaves progress, checkpoints and records to the loop.

        Raises:
            UsageError: Lightning does not take the options on this machine, or the loop does not.
        """
        for library in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(library).setLevel(logging.WARNING)
        given = {k: v for k, v in vars(self).items() if k not in ("timeout_minutes", "lost_after_seconds")}
        given |= self._launched()
        if given["strategy"] in ("ddp", "ddp_find_unused_parameters_true"):
            # A collective may take as long as any other progress, and no less than is usual.
            wait = timedelta(minutes=max(30.0, self.timeout_minutes))
            unused = given["strategy"].endswith("_true")
            given["strategy"] = DDPStrategy(timeout=wait, find_unused_parameters=unused)
        with blaming("trainer", "options that lightning.Trainer takes on this machine"):
            trainer = Trainer(
                **given,
                callbacks=list(callbacks),
                max_epochs=epochs,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
        shares = isinstance(trainer.strategy, DDPStrategy) and not {"spawn", "fork", "notebook"} & set(
            self.strategy.split("_")
        )
        several = trainer.world_size > 1
        require(shares or not several, "trainer.strategy", self.strategy, "ddp, where there are several processes")
        started = trainer.num_nodes == 1 or "LOCAL_RANK" in os.environ or "SLURM_PROCID" in os.environ
        do = "start it with torchrun or srun on every node; docs/many_machines.md has the commands"
        require(started, "trainer.num_nodes", self.num_nodes, "1, where no launcher started this process", do)
        return trainer

    def _launched(self) -> dict[str, Any]:
        """What torchrun, where it started this process, has decided already.

        Raises:
            InvalidValue: the config says otherwise.
        """
        if "LOCAL_WORLD_SIZE" not in os.environ or self.devices not in ("auto", int(os.environ["LOCAL_WORLD_SIZE"])):
            here = os.environ.get("LOCAL_WORLD_SIZE")
            do = "leave trainer.devices out, or give torchrun the same --nproc-per-node"
            require(here is None, "trainer.devices", self.devices, f"{here}, as torchrun started", do)
            return {}
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
        several = devices * nodes > 1 and self.strategy == "auto"
        return {"devices": devices, "num_nodes": nodes, "strategy": "ddp" if several else self.strategy}


def join(options: TrainerOptions) -> Processes:
    """The processes that torchrun or SLURM started together with this one; this one alone where nobody did."""
    trainer = options.trainer()
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if trainer.world_size == 1 or environment is None or not environment.creates_processes_externally:
        return Processes()
    trainer.strategy.setup_environment()
    return Processes.of(trainer, **options.patience)
