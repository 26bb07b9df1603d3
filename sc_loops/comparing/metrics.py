"""Which of the recorded metrics are compared, and which must not be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sc_loops.comparing.record import Record
from sc_loops.comparing.settings import MISSING, differing, replicates
from sc_loops.errors import UsageError
from sc_loops.reporting.history import measured
from sc_loops.reporting.wording import family, in_order

# Distances to real data mean nothing side by side where the real data, or the features of them, are others.
_DISTANCES = (
    "wasserstein_2", "energy_distance", "frechet_distance", "fid", "kid", "precision", "recall", "diversity",
    "matching_score", "r_precision", "multimodality",
)  # fmt: skip
_REWARDS = ("reward/", "exp_reward/", "curated/reward/", "curated/exp_reward/")  # of one reward
_SHARES = ("class_share/", "class_entropy")  # of one list of classes
_AMOUNTS = (
    "real_items", "synthetic_items", "items_seen", "real_items_seen", "synthetic_items_seen", "samples", "pool_items",
    "nfe",
)  # fmt: skip
_TIMES = ("seconds", "samples_per_second")


@dataclass(frozen=True)
class Metrics:
    """The keys of the generation rows, sorted by what becomes of them.

    Args:
        compared: have a panel and a column in the tables, in their order.
        amounts: of items and evaluations: a panel apart.
        constants: the same number in every generation of every run.
        errors: by metric the key of its standard error, where it records one.
        times: seconds and samples per second.
        refused: what may not be compared: distances to different data, rewards by different rewards, and shares of
            different classes.
        reason: the config keys for which they are refused, each with its values.
    """

    compared: list[str]
    amounts: list[str]
    constants: dict[str, Any]
    errors: dict[str, str]
    times: list[str]
    refused: list[str]
    reason: dict[str, list[Any]]


def metrics_of(records: Sequence[Record]) -> Metrics:
    """Sort the metrics of ``records``.

    Raises:
        UsageError: the runs are of different data and record nothing but distances to them.
    """
    keys = in_order(sorted({k for record in records for k in measured(record.columns) if _is_number(records, k)}))
    errors = {metric: key for key in keys if (metric := key.replace("_error", "", 1)) != key and metric in keys}
    times = [key for key in keys if family(key) in _TIMES]
    data, kinds = different_data(records), _different_kinds(records)
    refusals = ((_DISTANCES, data), (_REWARDS, "reward.name" in kinds), (_SHARES, "data.name" in kinds))
    refused = [key for key in keys if any(key.startswith(these) for these, reason in refusals if reason)]
    reason = {**data, **kinds}
    left = [key for key in keys if key not in (*errors.values(), *times, *refused)]
    constants = _constants(records, left)
    amounts = [key for key in left if key in _AMOUNTS and key not in constants]
    compared = [key for key in left if key not in _AMOUNTS and key not in constants]
    if refused and not any(key not in _AMOUNTS for key in left):
        _refuse(reason)
    return Metrics(compared, amounts, constants, errors, times, refused, reason)


def different_data(records: Sequence[Record]) -> dict[str, list[Any]]:
    """The keys of the sections ``data`` and ``classifier`` in which the runs differ, each with its values, but for
    seeds that follow the run's. Without configs, the names of the data."""
    free = replicates(records)
    configs = [record.config for record in records]
    if not all(configs):
        free = set()
        configs = [{"data.name": record.facts.get("data/name")} for record in records]
    keys = [k for k in differing(configs) if k.split(".", 1)[0] in ("data", "classifier") and k not in free]
    return {key: list(dict.fromkeys(config.get(key, MISSING) for config in configs)) for key in keys}


def _different_kinds(records: Sequence[Record]) -> dict[str, list[Any]]:
    """Of the data and the rewards that the runs have, what they are called where that is not the same."""
    names = {
        key: list(dict.fromkeys(record.config[key] for record in records if record.config.get(key) is not None))
        for key in ("data.name", "reward.name")
    }
    return {key: found for key, found in names.items() if len(found) > 1}


def _is_number(records: Sequence[Record], key: str) -> bool:
    """Whether ``key`` is a finite number somewhere."""
    columns = (record.columns[key] for record in records if key in record.columns)
    return any(type(v) in (int, float) and math.isfinite(v) for column in columns for v in column)


def _constants(records: Sequence[Record], keys: Sequence[str]) -> dict[str, Any]:
    """Of ``keys`` those that are one and the same number throughout, where there are generations to tell."""
    if sum(len(record.generations) for record in records) < 2:
        return {}
    values = {key: {v for record in records for v in record.columns.get(key, (None,))} for key in keys}
    return {key: next(iter(found)) for key, found in values.items() if len(found) == 1}


def _refuse(reason: dict[str, list[Any]]) -> None:
    shown = "; ".join(f"{key}: {', '.join(map(str, values[:4]))}" for key, values in list(reason.items())[:4])
    raise UsageError(
        "compare",
        found=f"runs of different data ({shown}) which record only distances to real data",
        expected="runs of the same data, or some that record rewards, class shares or losses as well",
        do="compare the runs of each data set by themselves",
    )
