"""What is constant over a run, as its record says it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from sc_loops.correction.ideal import Ideal
from sc_loops.correction.stage import Correct
from sc_loops.correction.targets import GaussianTarget
from sc_loops.curation.k_choice import Curate
from sc_loops.curation.plural import PluralCurate
from sc_loops.curation.rewards import BoundedReward
from sc_loops.curation.stage import outputs_of
from sc_loops.data.mixture import synthetic_count
from sc_loops.data.module import LoopDataModule
from sc_loops.data.real import RealData
from sc_loops.evaluation.gaussian import GaussianDistance
from sc_loops.models.base import GenerativeModel
from sc_loops.models.closed_form import ClosedFormModel
from sc_loops.models.gaussian import Gaussian
from sc_loops.models.kde import KDE
from sc_loops.models.moments import MomentModel
from sc_loops.run import Row
from sc_loops.training_sets import later_items

if TYPE_CHECKING:
    from sc_loops.loop import SelfConsumingLoop


def facts_of(loop: SelfConsumingLoop, model: GenerativeModel, module: LoopDataModule, device: torch.device) -> Row:
    """What is constant over the run of ``loop``."""
    corrections = [stage for stage in loop.stages if isinstance(stage, Correct)]
    closed = isinstance(model, ClosedFormModel)
    return {
        **loop.facts,
        "generations": loop.generations,
        "synthetic_ratio": loop.synthetic_ratio,
        **({"start": loop.start} if loop.start else {}),
        "memory": loop.memory,
        "real": loop.real,
        "mixing": loop.mixing,
        **({"sampling_bias": model.sampling_bias} if model.sampling_bias < 1 else {}),
        **({"improvement": loop.improvement.described()} if loop.improvement is not None else {}),
        **_curation(loop, model),
        **({"strength": corrections[0].strength} if len(loop.stages) == len(corrections) == 1 else {}),
        **(_gaussian_loop(loop, model, module.data) if module.data.kind == "points" and not loop.start else {}),
        **({"reward/supremum": loop.reward.supremum} if isinstance(loop.reward, BoundedReward) else {}),
        "device": device.type,
        "samples_per_generation": sum(chunk.size for chunk in loop.chunks),
        **_repeats(loop, module.data),
        **({} if closed else {"batch_size": module.batch_size}),
        "parameters": sum(p.numel() for p in (model.buffers() if closed else model.parameters())),
    }


def _repeats(loop: SelfConsumingLoop, data: RealData) -> Row:
    """How often a sample is trained on in a pass, at most, where pools have fewer than floor(λ n) samples."""
    ratio = loop.synthetic_ratio
    if loop.mixing == "weight" or not 0 < ratio < math.inf:
        return {}
    wanted = synthetic_count(later_items(loop.real_items, data), ratio)
    there = sum(outputs_of(loop.stages, chunk.size) for chunk in loop.chunks)
    return {"repeats": -(-wanted // there)} if wanted > there > 0 else {}


def _curation(loop: SelfConsumingLoop, model: GenerativeModel) -> Row:
    """What the theory of curation needs, where it applies: to K-choice alone, by the reward that is measured or by
    several that are recorded, of a model as it was trained, with no classes drawn anew in every generation, and the
    newest pool alone. ``flipped`` is there if any choice is, ``shares`` if several rewards decide."""
    as_trained = loop.improvement is None and model.sampling_bias == 1 and not model.conditional
    if len(loop.stages) != 1 or loop.memory != "replace" or not as_trained:
        return {}
    stage = loop.stages[0]
    if isinstance(stage, PluralCurate):
        return {"choices": stage.choices, "shares": stage.shares}
    if not (isinstance(stage, Curate) and stage.reward is loop.reward):
        return {}
    return {"choices": stage.choices, **({"flipped": stage.flipped} if stage.flipped else {})}


def _gaussian_loop(loop: SelfConsumingLoop, model: GenerativeModel, data: RealData) -> Row:
    """What the exact theory of the Gaussian loop needs beside the real points, where it applies: a model that knows
    its moments, and samples that are regenerated as they are, or ideally corrected towards the Gaussian with which
    the model is compared. It starts from a fit of the real points, which are as they are: pixels would be rounded.
    With fading memory it knows one replica, fixed real points, counts, and fits without a bias."""
    measured = (
        [m.target for m in loop.evaluation.metrics if isinstance(m, GaussianDistance)] if loop.evaluation else []
    )
    corrections = [stage for stage in loop.stages if isinstance(stage, Correct)]
    towards = [c.corrector.target for c in corrections if isinstance(c.corrector, Ideal)]
    known = len(loop.stages) == len(corrections) == len(towards) <= 1 and loop.improvement is None
    if not (isinstance(model, MomentModel) and measured and known and all(t == measured[0] for t in towards)):
        return {}
    target, later = measured[0], later_items(loop.real_items, data)
    if loop.real == "fresh" and not _drawn_from(data, target):
        return {}
    fit = _fit(model)
    plain = loop.real == "fixed" and loop.mixing == "count" and later == len(data.train) and model.replicas == 1
    if loop.memory == "fading" and not (plain and fit.keys() == {"regularisation"}):
        return {}
    return {
        "gaussian_loop": {
            "mean": target.mean.tolist(),
            "covariance": target.covariance.tolist(),
            "strength": corrections[0].strength if corrections else 0.0,
            "kept_per_generation": outputs_of(loop.stages, sum(chunk.size for chunk in loop.chunks)),
            "real_items": later,
            **fit,
        }
    }


def _fit(model: MomentModel) -> Row:
    """The options of ``model`` that its moments depend on. A KDE's bandwidth is to them what a regularisation is."""
    if isinstance(model, KDE):
        return {"regularisation": model.bandwidth**2}
    assert isinstance(model, Gaussian)
    bias = {"sampling_bias": model.sampling_bias} if model.sampling_bias < 1 else {}
    return {"regularisation": model.regularisation, **bias, **({"unbiased": True} if model.unbiased else {})}


def _drawn_from(data: RealData, target: GaussianTarget) -> bool:
    """Whether the held-out points may be draws of ``target``, by their mean and the mean of ||x - m*||^2: both within
    6 standard errors. So may fresh points then, which are not there yet."""
    z = data.test.x.view(-1, len(target.mean)).double() - target.mean
    found = torch.cat([z, z.square().sum(dim=1, keepdim=True) - target.covariance.trace()], dim=1)
    return len(z) > 1 and bool((found.mean(dim=0).abs() <= 6 * found.std(dim=0) / len(z) ** 0.5).all())
