"""What a run directory tells of the generations so far: series, rewards and the theory's curves beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from sc_loops.data.files import read_samples
from sc_loops.data.motion_record import read_motions, read_shown
from sc_loops.data.motions import Motions
from sc_loops.evaluation.rewards import slack
from sc_loops.reporting.expected_gaussians import expected_gaussians
from sc_loops.run import Row, Run
from sc_loops.samples import Samples
from sc_loops.theory import Vector, curation_path, nash_welfare, plural_curation_path, reward_moments

Array = NDArray[np.float64]

REAL = "/real"
"""The end of the key under which a row has the real data's own value of a metric, constant over a run."""

# The recursion is exact on the atoms it is given; this many evenly spaced order statistics are as good for a
# drawing as tens of thousands of samples, and keep the report cheap.
MAX_ATOMS = 4000


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

    The exact recursion of K-choice curation, started from the rewards of generation 0's samples; where several
    rewards decide, the means of each of them too. Empty when the run was not curated that way, or kept no rewards.
    """
    facts = run.facts()
    if not {"choices", "synthetic_ratio"} <= facts.keys():
        return {}
    if "shares" in facts:
        return _expected_plural(run, facts, generations)
    values = rewards(run, 0)
    if values is None or not len(values):
        return {}
    r = np.sort(values)[_spread(len(values))]
    path = curation_path(
        np.full(len(r), 1 / len(r)),
        r,
        choices=int(facts["choices"]),
        synthetic_ratio=float(facts["synthetic_ratio"]),
        generations=generations,
        flipped=float(facts.get("flipped", 0.0)),
    )
    return _expected_moments(path, r, facts)


def _expected_plural(run: Run, facts: Row, generations: int) -> dict[str, Array]:
    """What ``expected_rewards`` says where several rewards decide, each a share of the choices."""
    deciding, own = observed(run, 0, "stage 0", "values"), observed(run, 0, "reward", "values")
    if deciding is None:
        return {}
    # Neighbours in this order are alike in all rewards, to about 1 of each.
    order = np.lexsort(deciding.round().T[::-1])
    atoms = order[_spread(len(order))]
    r = deciding[atoms].T
    path = plural_curation_path(
        np.full(len(atoms), 1 / len(atoms)),
        r,
        facts["shares"],
        choices=int(facts["choices"]),
        synthetic_ratio=float(facts["synthetic_ratio"]),
        generations=generations,
    )
    expected = {"nash_welfare": np.array([nash_welfare(p, r, facts["shares"]) for p in path])}
    for i, values in enumerate(r):
        moments = [reward_moments(p, values) for p in path]
        expected[f"plural_reward/{i}"] = np.array([m.mean for m in moments])
        expected[f"plural_exp_reward/{i}"] = np.array([m.exp_mean for m in moments])
    # The reward that is measured, of the same samples, where enough of it is kept.
    known = own is not None and len(own) >= len(deciding)
    return {**expected, **(_expected_moments(path, own[atoms], facts) if known and own is not None else {})}


def _spread(n: int) -> NDArray[np.int_]:
    """At most ``MAX_ATOMS`` of the positions below n, evenly spread."""
    return np.linspace(0, n - 1, min(n, MAX_ATOMS)).round().astype(int)


def _expected_moments(path: Sequence[Vector], r: Array, facts: Row) -> dict[str, Array]:
    """By the key of the metric, of a measured reward ``(N,)`` under the distributions of ``path``, each ``(N,)``."""
    moments = np.array([reward_moments(p, r) for p in path])
    keys = ("reward/mean", "reward/var", "exp_reward/mean", "exp_reward/var")
    expected = dict(zip(keys, moments.T, strict=True))
    if "reward/supremum" in facts:
        top = r >= facts["reward/supremum"] - slack(facts["reward/supremum"])
        expected["reward/top_share"] = np.array([p[top].sum() for p in path])
    return expected
