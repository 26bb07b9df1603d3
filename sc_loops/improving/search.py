"""Which ω is best: every one is sampled from the same noise and measured as the generations are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch

from sc_loops.data.pixels import as_float, as_stored
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue, RunError, nearest
from sc_loops.evaluation import checked
from sc_loops.evaluation.evaluation import Evaluation
from sc_loops.evaluation.metric import Metric
from sc_loops.evaluation.rewards import RewardStatistics
from sc_loops.improving.auxiliary import SelfSynthesis
from sc_loops.models.base import GenerativeModel
from sc_loops.run import Row
from sc_loops.samples import Samples

DISTANCES = ("frechet_distance", "fid", "wasserstein_2", "energy_distance")  # the first is taken first
TRIED = 100  # real samples
BESIDE = ("precision", "recall")  # a distance alone does not tell which of them it is bought with

Extrapolating = Callable[[float], AbstractContextManager[None]]
"""Of ω, the context in which the model is extrapolated by it."""


def measurable(evaluation: Evaluation) -> list[Metric]:
    """The metrics that need nothing but samples, which have no reward."""
    return [metric for metric in evaluation.metrics if not isinstance(metric, RewardStatistics)]


def find_metric(evaluation: Evaluation, data: RealData, wanted: str | None) -> tuple[Metric, str]:
    """The metric of ``evaluation``, which is prepared, that gives the key ``wanted``, and that key; for None the
    first that gives a Fréchet, Wasserstein or energy distance. They are tried on a few held-out samples.

    Raises:
        InvalidValue: there is none.
    """
    real = data.test[:TRIED].as_float().with_columns(index=torch.arange(len(data.test[:TRIED])))
    known: list[str] = []
    for metric in measurable(evaluation):
        keys = list(metric.summarise([metric.observe(real)]))
        distances = (key for name in DISTANCES for key in keys if key.split("/")[0] == name and "/real" not in key)
        found = wanted if wanted in keys else next(distances, None) if wanted is None else None
        if found is not None:
            return metric, found
        known += keys
    expected = (
        "a key that a metric of the evaluation gives" if wanted else "a distance among the evaluation's metrics"
    )
    do = nearest(wanted, known) if wanted else "give omega, or a metric; images have distances with a classifier"
    raise InvalidValue("search_metric", found=repr(wanted), expected=expected, do=do)


def search(
    model: GenerativeModel,
    extrapolating: Extrapolating,
    omegas: Sequence[float],
    samples: int,
    metric: Metric,
    like: RealData,
    synthesis: SelfSynthesis,
) -> dict[float, dict[str, float]]:
    """All that ``metric`` gives of ``samples`` samples for each of ``omegas``, all from the same noise and
    conditions; nothing where a sample is not finite."""
    found = {}
    for omega in omegas:
        with extrapolating(omega), model.averaged():
            found[omega] = _measured(model, samples, metric, like, synthesis)
    return found


def _measured(
    model: GenerativeModel, samples: int, metric: Metric, like: RealData, synthesis: SelfSynthesis
) -> dict[str, float]:
    observed = []
    for chunk in synthesis.chunks(model, samples, "search"):
        if not torch.isfinite(chunk.x).all():
            return {}
        x = as_float(as_stored(chunk.x, like=like.train.x))  # what is measured is what would be kept
        observation = checked.observed(metric, Samples(x, chunk.condition, chunk.columns), RunError)
        observed.append({name: tensor.cpu() for name, tensor in observation.items()})
    return checked.summarised(metric, observed, {}, RunError)


def curve_of(found: dict[float, dict[str, float]], key: str) -> dict[float, float]:
    """``key`` over ω; nan where it was not measured."""
    return {omega: float(values.get(key, math.nan)) for omega, values in found.items()}


def recorded(found: dict[float, dict[str, float]], key: str) -> Row:
    """What a row tells of the search: ``improvement/search/<ω>`` of ``key``, and ``improvement/precision/<ω>`` and
    ``improvement/recall/<ω>`` where the metric gives them."""
    row: Row = {f"improvement/search/{omega:g}": value for omega, value in curve_of(found, key).items()}
    for quantity in BESIDE:
        for omega, values in found.items():
            of = next((k for k in values if k.split("/")[0] == quantity), None)  # precision/<features>
            if of is not None:
                row[f"improvement/{quantity}/{omega:g}"] = values[of]
    return row


def lowest(curve: dict[float, float], key: str) -> float:
    """The ω with the lowest value, of several the one nearest to 0.

    Raises:
        RunError: no value is finite.
    """
    finite = {omega: value for omega, value in curve.items() if math.isfinite(value)}
    if not finite:
        raise RunError(
            f"the search for omega by {key}",
            found="no finite value for any omega",
            expected="a number to compare by",
            do="raise search_samples, or give omega or another search_metric",
        )
    return min(finite, key=lambda omega: (finite[omega], abs(omega)))
