"""What theory expects of a run of the models that are known in closed form, from what its directory tells."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from sc_loops.correction.gaussian_theory import REGULARISATION, expected_fits
from sc_loops.data.files import read_samples
from sc_loops.data.memory import MemoryPolicy
from sc_loops.data.mixture import synthetic_count
from sc_loops.moment_theory import KnownMemory, MomentLoop, RealMoments, expected_moments
from sc_loops.run import Row, Run

Array = NDArray[np.float64]

# With fading memory the time that it takes grows with the cube of the generations: some 10 s for so many.
MAX_GENERATIONS = 2000


def expected_gaussians(run: Run, generations: int) -> dict[str, Array]:
    """The expectation of ‖μ - μ*‖² and of tr Σ in generations 0 to ``generations`` of a self-consuming Gaussian, or
    of a KDE.

    Exact, given the real points of generation 0, and on average over fresh ones. Empty when the facts do not say that
    the run is such a loop (``gaussian_loop``), when the real points are not kept beside them, when pools are
    repeated, or when there are more than ``MAX_GENERATIONS``.
    """
    facts, path = run.facts(), run.path / "real_train.safetensors"
    loop, memory, ratio = facts.get("gaussian_loop"), facts.get("memory", "replace"), facts.get("synthetic_ratio")
    # To the end, whatever is asked for: what does not depend on the data is then computed once for all reports.
    last = max(generations, int(facts.get("generations", 0)))
    if loop is None or ratio is None or memory not in get_args(MemoryPolicy):
        return {}
    if last > MAX_GENERATIONS or not path.exists():
        return {}
    real = read_samples(path).x.flatten(1).double().numpy()
    kept, later = int(loop["kept_per_generation"]), int(loop.get("real_items", len(real)))
    whole = math.isinf(ratio) or facts.get("mixing") == "weight"
    used = kept if whole and ratio > 0 else synthetic_count(later, ratio)
    if used > kept:
        return {}
    found = _fading(real, loop, used, ratio, last) if memory == "fading" else _moments(real, facts, used, later, last)
    return {key: values[: generations + 1] for key, values in found.items()}


def _moments(real: Array, facts: Row, used: int, later: int, last: int) -> dict[str, Array]:
    loop, ratio = facts["gaussian_loop"], float(facts["synthetic_ratio"])
    mean, weighted = np.array(loop["mean"]), facts.get("mixing") == "weight" and 0 < ratio < math.inf
    memory: KnownMemory = facts.get("memory", "replace") if ratio else "replace"  # of nothing there is no memory
    found = expected_moments(
        RealMoments.of(real.reshape(len(real), -1, len(mean)), mean, later),
        MomentLoop(
            dimensions=len(mean),
            trace=float(np.trace(loop["covariance"])),
            kept=used,
            memory=memory,
            fresh=facts.get("real") == "fresh" and ratio < math.inf,
            fully_synthetic=math.isinf(ratio),
            real_weight=1 / (1 + ratio) if weighted else None,
            strength=float(loop["strength"]),
            sampling_bias=float(loop.get("sampling_bias", 1.0)),
            unbiased=bool(loop.get("unbiased", False)),
            regularisation=float(loop.get("regularisation", REGULARISATION)),
        ),
        last,
    )
    return _by_key(found.mean_square, found.covariance_trace)


def _fading(real: Array, loop: Row, used: int, ratio: float, last: int) -> dict[str, Array]:
    fits = expected_fits(
        real,
        mean=loop["mean"],
        covariance=loop["covariance"],
        strength=float(loop["strength"]),
        kept=used,
        generations=last,
        memory="fading",
        fully_synthetic=math.isinf(ratio),
        regularisation=float(loop.get("regularisation", REGULARISATION)),
    )
    return _by_key(fits.mean_square, fits.covariance_trace)


def _by_key(mean_square: Array, covariance_trace: Array) -> dict[str, Array]:
    return {"mean_square/gaussian": mean_square, "covariance_trace/gaussian": covariance_trace}
