"""What a run directory tells of the generations so far: series, rewards and the theory's curves beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from sc_loops.correction.gaussian_theory import REGULARISATION, expected_fits
from sc_loops.data.files import read_samples
from sc_loops.data.memory import MemoryPolicy
from sc_loops.data.mixture import synthetic_count
from sc_loops.data.motion_record import read_motions, read_shown
from sc_loops.data.motions import Motions
from sc_loops.evaluation.rewards import slack
from sc_loops.run import Row, Run
from sc_loops.samples import Samples
from sc_loops.theory import curation_path, reward_moments

Array = NDArray[np.float64]

REAL = "/real"
"""The end of the key under which a row has the real data's own value of a metric, constant over a run."""

# The recursion is exact on the atoms it is given; this many evenly spaced order statistics are as good for a
# drawing as tens of thousands of samples, and keep the report cheap.
MAX_ATOMS = 4000
# The time that the Gaussian's expectation takes grows with the cube of the generations: some 10 s for so many.
MAX_GENERATIONS = 2000


def generation_rows(run: Run) -> list[Row]:
    """The rows of the generations, one each (the last recorded) and in order."""
    by_generation = {int(row["generation"]): row for row in run.rows()}
    return [by_generation[t] for t in sorted(by_generation)]


def series(rows: Sequence[Row], key: str) -> tuple[Array, Array]:
    """The generations in which ``key`` was finite, and its values."""
    found = [(r["generation"], r[key]) for r in rows if isinstance(r.get(key), (int, float))]
    pairs = np.array([p for p in found if math.isfinite(p[1])], dtype=float).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def keys_of(rows: Sequence[Row], prefix: str) -> list[str]:
    """The keys that are ``prefix`` or start with ``prefix/``, in order of appearance."""
    return list(dict.fromkeys(k for row in rows for k in row if k == prefix or k.startswith(f"{prefix}/")))


def measured(keys: Iterable[str]) -> list[str]:
    """Those of ``keys`` that are of samples, and not the real data's own values."""
    return [key for key in keys if not key.endswith(REAL)]


def picked(generations: Sequence[int], most: int) -> list[int]:
    """At most ``most`` of ``generations``, evenly spread, always with the first and the last."""
    if len(generations) <= most:
        return list(generations)
    return [generations[round(i)] for i in np.linspace(0, len(generations) - 1, most)]


def real_samples(run: Run) -> Samples | None:
    """The real samples kept beside the pools to compare with, if there are any."""
    path = run.path / "real.safetensors"
    return read_samples(path) if path.exists() else None


def recorded_motions(run: Run) -> Motions | None:
    """Captions, lengths and units of the motions of ``run``, if it is of motions."""
    return read_motions(run.path)


def shown_motions(run: Run) -> Samples | None:
    """The real clips of the captions that previews are sampled under first, if the run is of motions."""
    return read_shown(run.path)


def observed(run: Run, generation: int, metric: str, key: str) -> Array | None:
    """What ``metric`` kept under ``key`` of the raw samples of a generation, concatenated; None if nothing."""
    parts = [o[key].double().numpy() for o in run.pool(generation).observations(metric) if key in o]
    values = np.concatenate(parts) if parts else np.empty(0)
    return values if len(values) else None


def rewards(run: Run, generation: int) -> Array | None:
    """The finite rewards kept of the raw samples of a generation, ``(N,)``."""
    values = observed(run, generation, "reward", "values")
    return None if values is None else values[np.isfinite(values)]


def expected_series(run: Run, generations: int) -> dict[str, Array]:
    """What theory expects in generations 0 to ``generations``, by the key of the metric: of what it knows."""
    return {**expected_rewards(run, generations), **expected_gaussians(run, generations)}


def expected_rewards(run: Run, generations: int) -> dict[str, Array]:
    """The moments of r and e^r, and the share of the highest reward where that is known, that the theory
    expects in generations 0 to ``generations``.

    The exact recursion of K-choice curation, started from the rewards of generation 0's samples. Empty when
    the run was not curated that way, or kept no rewards.
    """
    facts = run.facts()
    values = rewards(run, 0) if {"choices", "synthetic_ratio"} <= facts.keys() else None
    if values is None or not len(values):
        return {}
    spread = np.linspace(0, len(values) - 1, min(len(values), MAX_ATOMS)).round().astype(int)
    r = np.sort(values)[spread]
    path = curation_path(
        np.full(len(r), 1 / len(r)),
        r,
        choices=int(facts["choices"]),
        synthetic_ratio=float(facts["synthetic_ratio"]),
        generations=generations,
    )
    moments = np.array([reward_moments(p, r) for p in path])
    keys = ("reward/mean", "reward/var", "exp_reward/mean", "exp_reward/var")
    expected = dict(zip(keys, moments.T, strict=True))
    if "reward/supremum" in facts:
        top = r >= facts["reward/supremum"] - slack(facts["reward/supremum"])
        expected["reward/top_share"] = np.array([p[top].sum() for p in path])
    return expected


def expected_gaussians(run: Run, generations: int) -> dict[str, Array]:
    """The expectation of ‖μ - μ*‖² and of tr Σ in generations 0 to ``generations`` of a self-consuming Gaussian.

    Exact, given the run's real points. Empty when the facts do not say that the run is such a loop
    (``gaussian_loop``), when the real points are not kept beside them, when pools are repeated, or when there are
    more than ``MAX_GENERATIONS``.
    """
    facts, path = run.facts(), run.path / "real_train.safetensors"
    loop, memory, ratio = facts.get("gaussian_loop"), facts.get("memory", "replace"), facts.get("synthetic_ratio")
    if loop is None or ratio is None or memory not in get_args(MemoryPolicy) or not path.exists():
        return {}
    real, kept = read_samples(path).x.flatten(1).double().numpy(), int(loop["kept_per_generation"])
    used = kept if math.isinf(ratio) else synthetic_count(len(real), ratio)
    # To the end, whatever is asked for: what does not depend on the data is then computed once for all reports.
    last = max(generations, int(facts.get("generations", 0)))
    if used > kept or last > MAX_GENERATIONS:
        return {}
    fits = expected_fits(
        real,
        mean=loop["mean"],
        covariance=loop["covariance"],
        strength=float(loop["strength"]),
        kept=used,
        generations=last,
        memory=memory,
        fully_synthetic=math.isinf(ratio),
        regularisation=float(loop.get("regularisation", REGULARISATION)),
    )
    found = {"mean_square/gaussian": fits.mean_square, "covariance_trace/gaussian": fits.covariance_trace}
    return {key: values[: generations + 1] for key, values in found.items()}
