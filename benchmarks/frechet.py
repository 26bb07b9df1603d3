"""The Fréchet distance between a generation and the real data: the usual ways to its matrix root, and ours.

    OMP_NUM_THREADS=1 python -m benchmarks.frechet [--features 2048] [--samples 10000] [--few 1000] [--rounds 3]

From the means and covariances of both sides on, all ways give the same number:

* scipy.linalg.sqrtm of the product of the covariances, as in the TTUR reference, pytorch-fid and clean-fid;
* torch.linalg.eigvals of the product, as in torchmetrics (torch-fidelity does this in numpy);
* ours with an unknown root: eigh of the real covariance, then eigvalsh of a symmetric product;
* ours in a loop: the root of the real covariance was computed once, eigvalsh is what is left.

Printed once with more samples than features and once with fewer, where the covariances are singular. The features
are made up: their variances fall by six orders of magnitude, about as those of a network do.

Required: relative differences from scipy's value of at most 1e-6.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from benchmarks.measure import Cost, cpu_ratio, interleaved, milliseconds, quiet, timed, wall_ratio
from sc_loops.evaluation.frechet import Gaussian, frechet_distance, gaussian

SCIPY, EIGVALS = "scipy.linalg.sqrtm", "torch.linalg.eigvals"
OURS, CACHED = "eigh and eigvalsh", "cached root and eigvalsh"
TOLERANCE = 1e-6


def made_up(samples: int, features: int) -> tuple[Tensor, Tensor]:
    """Features ``(samples, features)`` in float32 of samples and of real data, correlated by the same mixing."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.logspace(0, -3, features)
    mixing = torch.randn(features, features, generator=generator) / features**0.5
    fake, real = (torch.randn(samples, features, generator=generator) * scales @ mixing for _ in range(2))
    return 1.1 * fake + 0.02, real


def by_scipy(fake: Gaussian, real: Gaussian) -> float:
    """With the root of the product, complex where rounding makes it so."""
    root = scipy.linalg.sqrtm((fake.covariance @ real.covariance).numpy())
    return _distance(fake, real, float(np.trace(root).real))


def by_eigvals(fake: Gaussian, real: Gaussian) -> float:
    """With the complex eigenvalues of the product."""
    return _distance(fake, real, float(torch.linalg.eigvals(fake.covariance @ real.covariance).sqrt().real.sum()))


def _distance(fake: Gaussian, real: Gaussian, overlap: float) -> float:
    traces = fake.covariance.trace() + real.covariance.trace()
    return float((fake.mean - real.mean).square().sum() + traces) - 2 * overlap


def ways(fake: Tensor, real: Tensor, values: dict[str, float]) -> dict[str, Callable[[], Cost]]:
    """The ways by name; each leaves its distance in ``values``."""
    one, other = gaussian(fake), gaussian(real).with_root()
    unrooted = replace(other, root=None)

    def way(name: str, distance: Callable[[], float]) -> Cost:
        with timed() as watch:
            values[name] = distance()
        return watch.cost

    distances = {
        SCIPY: partial(by_scipy, one, unrooted),
        EIGVALS: partial(by_eigvals, one, unrooted),
        OURS: partial(frechet_distance, one, unrooted),
        CACHED: partial(frechet_distance, one, other),
    }
    return {name: partial(way, name, distance) for name, distance in distances.items()}


def largest_difference(values: dict[str, float]) -> float:
    """Of our distances from scipy's, relative to it."""
    return max(abs(values[name] / values[SCIPY] - 1) for name in (OURS, CACHED))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--few", type=int, default=1000, help="samples for singular covariances; 0 leaves them out")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    quiet()
    for samples in filter(None, (chosen.samples, chosen.few)):
        values: dict[str, float] = {}
        costs = interleaved(ways(*made_up(samples, chosen.features), values), chosen.rounds)
        print(f"{samples} samples of {chosen.features} features")
        print(f"{'':<28}{'distance':>14}{'differs by':>12}{'cpu ms':>9}{'times cheaper':>15}{'(wall)':>8}")
        for name, spent in costs.items():
            difference = values[name] / values[SCIPY] - 1
            cheaper, wall = cpu_ratio(costs[SCIPY], spent), wall_ratio(costs[SCIPY], spent)
            times = f"{milliseconds(spent):>9.0f}{cheaper:>15.1f}{wall:>8.1f}"
            print(f"{name:<28}{values[name]:>14.7f}{difference:>12.1e}{times}")
        met = "met" if largest_difference(values) <= TOLERANCE else "NOT met"
        print(f"required: at most {TOLERANCE:g} from scipy's; {largest_difference(values):.1e}: {met}\n")


if __name__ == "__main__":
    main()
