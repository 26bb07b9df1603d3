"""Solvers against the closed-form solution of an ODE."""

import math

import pytest
import torch

from sc_loops.sampling.solvers import SOLVER_EVALUATIONS, solve

X0 = torch.tensor([[1.0, 2.0], [0.5, 3.0]], dtype=torch.float64)


def velocity(t, x):
    """dx/dt = -(1 + t) x^2, solved by x(t) = x(0) / (1 + x(0) (t + t^2 / 2))."""
    return -(1 + t) * x**2


EXACT = X0 / (1 + 1.5 * X0)


def error(method, steps):
    return (solve(velocity, X0, method=method, steps=steps, tolerance=1.0) - EXACT).abs().max().item()


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4)])
def test_order_of_convergence(method, order):
    measured = math.log2(error(method, 32) / error(method, 64))
    assert measured == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("method", SOLVER_EVALUATIONS)
def test_evaluations_are_counted_exactly(method):
    times = []

    def counted(t, x):
        times.append(float(t))
        return velocity(t, x)

    solve(counted, X0, method=method, steps=7, tolerance=1.0)
    assert len(times) == 7 * SOLVER_EVALUATIONS[method]
    assert min(times) == 0
    assert max(times) <= 1


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
def test_dopri5_keeps_its_tolerance(tolerance):
    solved = solve(velocity, X0, method="dopri5", steps=1, tolerance=tolerance)
    error = (solved - EXACT).abs().max().item()
    assert error < 30 * tolerance


@pytest.mark.parametrize("method", SOLVER_EVALUATIONS)
def test_fixed_steps_treat_every_sample_alone(method):
    together = solve(velocity, X0, method=method, steps=5, tolerance=1.0)
    alone = solve(velocity, X0[:1], method=method, steps=5, tolerance=1.0)
    assert torch.equal(together[:1], alone)
