"""What is constant over a run, as its record says it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from sc_loops.curation.k_choice import Curate
from sc_loops.curation.rewards import BoundedReward
from sc_loops.data.module import LoopDataModule
from sc_loops.models.base import GenerativeModel
from sc_loops.run import Row

if TYPE_CHECKING:
    from sc_loops.loop import SelfConsumingLoop


def facts_of(loop: SelfConsumingLoop, model: GenerativeModel, module: LoopDataModule, device: torch.device) -> Row:
    """What is constant over the run of ``loop``. ``choices`` is there when the theory of curation applies: K-choice
    alone, by the reward that is measured, and no classes drawn anew in every generation."""
    curations = [stage for stage in loop.stages if isinstance(stage, Curate) and stage.reward is loop.reward]
    applies = len(loop.stages) == len(curations) == 1 and not model.conditional
    return {
        **loop.facts,
        "generations": loop.generations,
        "synthetic_ratio": loop.synthetic_ratio,
        **({"start": loop.start} if loop.start else {}),
        **({"choices": curations[0].choices} if applies else {}),
        **({"reward/supremum": loop.reward.supremum} if isinstance(loop.reward, BoundedReward) else {}),
        "device": device.type,
        "samples_per_generation": sum(chunk.size for chunk in loop.chunks),
        "batch_size": module.batch_size,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
