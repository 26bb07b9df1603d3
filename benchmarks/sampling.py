"""What a solver's evaluations of the network buy: the error of the samples, for a velocity learnt on two moons.

    OMP_NUM_THREADS=1 python -m benchmarks.sampling [--points 4000] [--rounds 5]

Trains an MLP by OT-CFM for 2000 steps and solves the same ODE from the same noise in different ways. The error is
the root mean square distance to the end points of a fine solve (RK4 with 500 steps). Distances between
distributions cannot tell the solvers apart here: all are at the floor that the number of points sets.

Required: a solver with at most 32 evaluations whose error is no larger than that of Euler with 100 steps.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.measure import Cost, cpu_ratio, interleaved, milliseconds, quiet, timed
from sc_loops import FlowMatching, LoopDataModule, TimeMLP, Training, two_moons
from sc_loops.randomness import seed_global
from sc_loops.sampling.solvers import Solver, solve

EULER_100 = ("euler", 100)
SOLVERS: list[tuple[Solver, int]] = [
    EULER_100,
    ("midpoint", 4),
    ("midpoint", 8),
    ("midpoint", 16),
    ("heun", 8),
    ("heun", 16),
    ("rk4", 4),
    ("rk4", 8),
    ("dopri5", 0),
]
TOLERANCE = 1e-5


@dataclass
class Outcome:
    """What one solver gave: exact network evaluations, and the error in the units of the data."""

    evaluations: int
    error: float


class Field:
    """The velocity of a flow-matching model, counting its evaluations."""

    def __init__(self, model: FlowMatching) -> None:
        self._network, self.evaluations = model.network, 0

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        self.evaluations += 1
        return self._network(t.expand(len(x)), x)


def trained_model(steps: int = 2000, width: int = 64) -> FlowMatching:
    """A flow-matching model of two moons, trained by a plain loop."""
    seed_global(0, "benchmark")
    data = two_moons()
    model = FlowMatching(data, network=TimeMLP(data, width=width))
    module = LoopDataModule(data, batch_size=256)
    module.begin_generation(0, synthetic_ratio=0.0, training=Training(steps=steps), seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for batch in module.train_dataloader():
        optimizer.zero_grad()
        model.loss(batch).backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def end_points(model: FlowMatching, noise: Tensor, method: Solver, steps: int) -> tuple[Tensor, int]:
    """Where the noise arrives, and the evaluations that took."""
    field = Field(model)
    x = solve(field, noise, method=method, steps=steps, tolerance=TOLERANCE)
    return x, field.evaluations


def outcomes(model: FlowMatching, noise: Tensor) -> dict[tuple[Solver, int], Outcome]:
    """The evaluations and the error of each solver."""
    exact, _ = end_points(model, noise, "rk4", 500)
    found = {}
    for method, steps in SOLVERS:
        x, evaluations = end_points(model, noise, method, steps)
        found[method, steps] = Outcome(evaluations, float((x - exact).square().sum(1).mean().sqrt()))
    return found


def cheapest_as_good_as_euler(found: dict[tuple[Solver, int], Outcome]) -> tuple[Solver, int]:
    """The solver with the fewest evaluations of those with an error no larger than that of Euler-100."""
    as_good = [key for key, outcome in found.items() if outcome.error <= found[EULER_100].error]
    return min(as_good, key=lambda key: found[key].evaluations)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    quiet()
    model = trained_model()
    noise = torch.randn(chosen.points, 2, generator=torch.Generator().manual_seed(0))

    def way(method: Solver, steps: int) -> Cost:
        with timed() as watch:
            end_points(model, noise, method, steps)
        return watch.cost

    found = outcomes(model, noise)
    costs = interleaved({key: (lambda key=key: way(*key)) for key in SOLVERS}, chosen.rounds)
    print(f"{'':<14}{'evaluations':>12}{'rms error':>11}{'cpu ms':>8}{'times cheaper':>15}")
    for (method, steps), outcome in found.items():
        spent = costs[method, steps]
        name = f"{method} {steps}" if steps else f"{method} {TOLERANCE:g}"
        cheaper = cpu_ratio(costs[EULER_100], spent)
        print(f"{name:<14}{outcome.evaluations:>12}{outcome.error:>11.5f}{milliseconds(spent):>8.1f}{cheaper:>15.1f}")
    method, steps = cheapest_as_good_as_euler(found)
    evaluations = found[method, steps].evaluations
    met = "met" if evaluations <= 32 else "NOT met"
    print(f"required: at most 32 evaluations for the error of euler 100: {method} {steps} takes {evaluations}: {met}")


if __name__ == "__main__":
    main()
