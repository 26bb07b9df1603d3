"""Means over seeds and what is known of them: Student's t throughout, since seeds are few."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import special

from sc_loops.reporting.history import Array

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Mean:
    """A mean of ``n`` values, its standard error, and half the width of its 95 % confidence interval. Of one value
    the latter two are nan."""

    mean: float
    error: float
    half: float
    n: int


@dataclass(frozen=True)
class Difference(Mean):
    """A mean of paired differences, with the two-sided p-value of there being none: nan where all are alike."""

    p: float


@cache
def t_factor(n: int) -> float:
    """Standard errors in half a 95 % interval of the mean of ``n`` values; nan of fewer than two."""
    return float(special.stdtrit(n - 1, 0.5 + CONFIDENCE / 2)) if n > 1 else math.nan


def means(values: Array) -> tuple[Array, Array, Array]:
    """Mean, half the width of its 95 % interval, and n over the finite values ``(seeds, T)``, each ``(T,)``.

    Where no seed has a value the mean is nan; where only one has, half the width is.
    """
    there = np.isfinite(values)
    n = there.sum(axis=0)
    mean = np.where(n > 0, np.where(there, values, 0.0).sum(axis=0) / np.maximum(n, 1), np.nan)
    squares = (np.where(there, values - mean, 0.0) ** 2).sum(axis=0)
    error = np.sqrt(squares / np.maximum(n - 1, 1) / np.maximum(n, 1))
    factors = np.array([t_factor(k) for k in range(values.shape[0] + 1)])
    return mean, factors[n] * error, n


def mean_of(values: Sequence[float]) -> Mean:
    """Of the finite ones of ``values``."""
    mean, half, n = means(np.array([values], dtype=float).T.reshape(-1, 1))
    return Mean(float(mean[0]), float(half[0]) / t_factor(int(n[0])), float(half[0]), int(n[0]))


def paired(before: Sequence[float], after: Sequence[float]) -> Difference:
    """``after - before``, pair by pair; pairs in which one is not finite are left out. As scipy.stats.ttest_rel."""
    of = mean_of([b - a for a, b in zip(before, after, strict=True)])
    spread = of.error > 1e-12 * abs(of.mean)  # less is the rounding of differences that are all alike
    statistic = of.mean / of.error if spread else math.nan
    p = 2 * float(special.stdtr(of.n - 1, -abs(statistic))) if math.isfinite(statistic) else math.nan
    return Difference(of.mean, of.error, of.half, of.n, p)
