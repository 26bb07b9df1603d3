"""Loops of many replicas against what theory expects of every data policy, by the numbers that the report draws."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sc_loops import Run
from sc_loops.cli import train
from sc_loops.experiment import build, resolved_config
from sc_loops.models import running_moments
from sc_loops.processes import Processes
from sc_loops.randomness import generator_for
from sc_loops.reporting.history import expected_series
from sc_loops.start import carry_out

SMALL = ["data.dimensions=400", "data.size=10", "data.test_size=200", "model.replicas=200", "loop.generations=12"]
FRESH = ["data.size=16", "loop.real_items=10", "loop.synthetic_ratio=1.5"]


def run_recipe(recipe: str, output: Path, *overrides: str) -> Run:
    """Run or continue ``recipe`` as ``train.py`` does, without reports, which would take most of the time."""
    run, resolved = Run(output / "run"), resolved_config(recipe, [f"output={output}", "name=run", *overrides])
    experiment = build(resolved, run)
    experiment.check()
    experiment.prepare(Processes())
    carry_out(experiment, run, resolved, Processes(), observers=[])
    return run


CASES = [
    ("mad_fully_synthetic", ["model.sampling_bias=0.8"]),
    ("mad_augmentation", ["model.sampling_bias=0.8"]),
    ("mad_augmentation", ["loop.mixing=weight"]),
    ("mad_fresh", FRESH),
    ("accumulate_vs_replace", ["loop.memory=accumulate"]),
    ("accumulate_vs_replace", ["loop.memory=replace", "loop.synthetic_ratio=inf"]),
    ("accumulate_vs_replace_kde", ["loop.memory=accumulate"]),
    ("accumulate_vs_replace_kde", ["loop.memory=replace", "loop.synthetic_ratio=inf"]),
]


@pytest.mark.parametrize(("recipe", "overrides"), CASES, ids=lambda value: value if isinstance(value, str) else None)
def test_the_loop_is_what_theory_expects(tmp_path: Path, recipe: str, overrides: list[str]) -> None:
    run = run_recipe(recipe, tmp_path, *SMALL, *overrides)
    rows, theory = run.rows(), expected_series(run, 12)
    for key in ("mean_square", "covariance_trace"):
        found, error = (np.array([row[f"{name}/gaussian"] for row in rows]) for name in (key, f"{key}_error"))
        expected = theory[f"{key}/gaussian"]
        assert found[0] == pytest.approx(expected[0], rel=1e-6)  # given the real points
        assert (np.abs(found - expected) <= 4 * error).all()


@pytest.mark.parametrize(("recipe", "h"), [("accumulate_vs_replace", 1e-3), ("accumulate_vs_replace_kde", 0.5)])
def test_a_subsample_is_what_theory_expects_of_the_items_drawn(tmp_path: Path, recipe: str, h: float) -> None:
    """All replicas draw the same items, so their mean is the expectation given these, not that over draws too."""
    run = run_recipe(recipe, tmp_path, *SMALL)
    inner = 2.0 * np.eye(10)  # E<z, z'> of all items so far
    for t, row in enumerate(run.rows()):
        order = torch.randperm(len(inner), generator=generator_for(0, "memory", t))
        seen = order[:10].numpy() if t else np.arange(10)
        square = inner[np.ix_(seen, seen)].mean()
        trace = inner[seen, seen].mean() - square + 2 * h**2
        for key, expected in (("mean_square", square), ("covariance_trace", trace)):
            assert abs(row[f"{key}/gaussian"] - expected) < 4 * row[f"{key}_error/gaussian"]
        with_mean = np.repeat(inner[:, seen].mean(axis=1)[:, None], 10, axis=1)
        inner = np.block([[inner, with_mean], [with_mean.T, square + trace * np.eye(10)]])


def test_the_recipes_run_and_are_drawn(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recipe, small = "accumulate_vs_replace_kde", ["data.dimensions=6", "model.replicas=3", "loop.generations=2"]
    status = train(["--config", recipe, f"output={tmp_path}", "name=run", "data.size=8", "data.test_size=9", *small])
    assert status == 0, capfd.readouterr().err
    page = Run(tmp_path / "run").report_path.read_text()
    assert "Trace of the covariance" in page
    assert "exact expectation" in page


@pytest.mark.parametrize("recipe", ["accumulate_vs_replace", "accumulate_vs_replace_kde"])
def test_an_interrupted_run_goes_on_to_the_same_end(tmp_path: Path, recipe: str) -> None:
    small = ["data.dimensions=6", "model.replicas=3", "data.size=8", "data.test_size=9"]
    timed = ("seconds/", "samples_per_second/")
    rows = []
    for parts in ((7,), (3, 7)):
        for generations in parts:
            run = run_recipe(recipe, tmp_path / str(parts), *small, f"loop.generations={generations}")
        rows.append([{k: v for k, v in row.items() if not k.startswith(timed)} for row in run.rows()])
    assert rows[0] == rows[1]


@pytest.mark.parametrize("ratio", [1, math.inf])
def test_a_generation_that_accumulates_looks_at_what_is_new_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ratio: float
) -> None:
    """Whatever happens to the items between the loop's memory and the model."""
    looked_at: list[int] = []
    moments = running_moments._moments

    def note(groups: Iterable[Tensor]) -> running_moments.Moments:
        found = moments(groups)
        looked_at.append(found[0])
        return found

    monkeypatch.setattr(running_moments, "_moments", note)
    small = ["data.dimensions=6", "model.replicas=3", "data.size=8", "data.test_size=9", "loop.generations=4"]
    run_recipe("accumulate_vs_replace", tmp_path, *small, "loop.memory=accumulate", f"loop.synthetic_ratio={ratio}")
    # With λ = 1 generations 0 and 1 begin with the same real items; with λ = inf there are none from 1 on.
    assert looked_at == [8] * 5


def facts_of(recipe: str, output: Path, *overrides: str) -> dict[str, Any]:
    small = ["data.dimensions=20", "data.size=9", "data.test_size=200", "loop.generations=1"]
    return run_recipe(recipe, output, *small, *overrides).facts()


@pytest.mark.parametrize(
    ("overrides", "applies"),
    [
        ([], True),
        (["loop.real=fresh"], True),
        (["loop.real=fresh", "evaluation.metrics=[{name: gaussian_distance, mean: [2, 0]}]"], False),
        (["evaluation.metrics=[{name: gaussian_distance, mean: [2, 0]}]"], True),
        (["loop.memory=fading"], False),
        (["loop.memory=fading", "model={name: gaussian}", "data.dimensions=2"], True),
        (["loop.memory=fading", "model={name: gaussian, unbiased: true}", "data.dimensions=2"], False),
        (["loop.memory=fading", "model={name: gaussian}", "data.dimensions=2", "loop.real_items=8"], False),
    ],
)
def test_theory_is_drawn_where_it_is_known(tmp_path: Path, overrides: list[str], applies: bool) -> None:
    found = facts_of("accumulate_vs_replace", tmp_path, "model={name: gaussian, replicas: 10}", *overrides)
    assert ("gaussian_loop" in found) == applies


def test_what_theory_knows_of_a_fit(tmp_path: Path) -> None:
    biased = facts_of("mad_fresh", tmp_path / "mad", "model.replicas=10", "model.sampling_bias=0.5", *FRESH)
    loop = biased["gaussian_loop"]
    assert (loop["sampling_bias"], loop["unbiased"], loop["real_items"]) == (0.5, True, 10)
    assert loop["kept_per_generation"] == 15
    assert math.prod(map(len, (loop["mean"], loop["covariance"]))) == 4
    kde = facts_of("accumulate_vs_replace_kde", tmp_path / "kde", "model.replicas=10", "model.bandwidth=0.3")
    assert kde["gaussian_loop"]["regularisation"] == pytest.approx(0.09)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("model.replicas=7", "a divisor of 1000"),
        ("model.sampling_bias=0", "model.sampling_bias"),
        ("model={name: kde, bandwidth: 0}", "model.bandwidth"),
        ("model={name: kde, sampling_bias: 0.5}", "sampling_bias"),
        ("data.dimensions=100001", "from 1 to 100000"),
        ("loop.real_items=101", "1..100"),
    ],
)
def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, says: str) -> None:
    assert train(["--config", "accumulate_vs_replace", f"output={tmp_path}", override]) == 2
    assert says in capsys.readouterr().err


def test_a_kde_does_not_weight_its_items(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(["--config", "accumulate_vs_replace_kde", f"output={tmp_path}", "loop.mixing=weight"]) == 2
    assert "loop.mixing" in capsys.readouterr().err


def test_a_kde_of_other_points_has_the_distances_of_points(tmp_path: Path) -> None:
    small = ["data={name: two_moons, size: 40, test_size: 50}", "evaluation.metrics=[]", "loop.generations=2"]
    run = run_recipe("accumulate_vs_replace_kde", tmp_path, *small, "model={name: kde, bandwidth: 0.1}")
    assert [row["synthetic_items"] + row["real_items"] for row in run.rows()] == [40, 40, 40]
    assert all(row["wasserstein_2"] > 0 and "energy_distance" in row for row in run.rows())
    assert "gaussian_loop" not in run.facts()
