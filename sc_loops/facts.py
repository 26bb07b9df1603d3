"""What is constant over a run, as its record says it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from sc_loops.correction.ideal import Ideal
from sc_loops.correction.stage import Correct
from sc_loops.curation.k_choice import Curate
from sc_loops.curation.rewards import BoundedReward
from sc_loops.curation.stage import outputs_of
from sc_loops.data.module import LoopDataModule
from sc_loops.evaluation.gaussian import GaussianDistance
from sc_loops.models.base import GenerativeModel
from sc_loops.models.closed_form import ClosedFormModel
from sc_loops.models.gaussian import Gaussian
from sc_loops.run import Row

if TYPE_CHECKING:
    from sc_loops.loop import SelfConsumingLoop


def facts_of(loop: SelfConsumingLoop, model: GenerativeModel, module: LoopDataModule, device: torch.device) -> Row:
    """What is constant over the run of ``loop``. ``choices`` is there when the theory of curation applies: K-choice
    alone, by the reward that is measured, no classes drawn anew in every generation, and the newest pool alone."""
    curations = [stage for stage in loop.stages if isinstance(stage, Curate) and stage.reward is loop.reward]
    corrections = [stage for stage in loop.stages if isinstance(stage, Correct)]
    closed = isinstance(model, ClosedFormModel)
    applies = len(loop.stages) == len(curations) == 1 and not model.conditional and loop.memory == "replace"
    return {
        **loop.facts,
        "generations": loop.generations,
        "synthetic_ratio": loop.synthetic_ratio,
        **({"start": loop.start} if loop.start else {}),
        "memory": loop.memory,
        "real": loop.real,
        "mixing": loop.mixing,
        **({"choices": curations[0].choices} if applies else {}),
        **({"strength": corrections[0].strength} if len(loop.stages) == len(corrections) == 1 else {}),
        **(_gaussian_loop(loop, model) if module.data.kind == "points" and not loop.start else {}),
        **({"reward/supremum": loop.reward.supremum} if isinstance(loop.reward, BoundedReward) else {}),
        "device": device.type,
        "samples_per_generation": sum(chunk.size for chunk in loop.chunks),
        **({} if closed else {"batch_size": module.batch_size}),
        "parameters": sum(p.numel() for p in (model.buffers() if closed else model.parameters())),
    }


def _gaussian_loop(loop: SelfConsumingLoop, model: GenerativeModel) -> Row:
    """What the exact theory of the Gaussian loop needs beside the real points, where it applies: samples that are
    regenerated as they are, or ideally corrected towards the Gaussian that the model is compared with. It starts from
    a fit of the real points, which are as they are: pixels would be rounded. It knows fixed real points, counts, and
    the memories replace and fading."""
    measured = (
        [m.target for m in loop.evaluation.metrics if isinstance(m, GaussianDistance)] if loop.evaluation else []
    )
    corrections = [stage for stage in loop.stages if isinstance(stage, Correct)]
    towards = [c.corrector.target for c in corrections if isinstance(c.corrector, Ideal)]
    known = len(loop.stages) == len(corrections) == len(towards) <= 1
    known = known and (loop.real, loop.mixing) == ("fixed", "count") and loop.memory in ("replace", "fading")
    if not (isinstance(model, Gaussian) and measured and known and all(t == measured[0] for t in towards)):
        return {}
    target = measured[0]
    return {
        "gaussian_loop": {
            "mean": target.mean.tolist(),
            "covariance": target.covariance.tolist(),
            "strength": corrections[0].strength if corrections else 0.0,
            "regularisation": model.regularisation,
            "kept_per_generation": outputs_of(loop.stages, sum(chunk.size for chunk in loop.chunks)),
        }
    }
