from __future__ import annotations

import math
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sc_loops.correction.gaussian_theory import expected_fits
from sc_loops.correction.theory import largest_synthetic_ratio
from sc_loops.data.files import write_samples
from sc_loops.reporting.history import expected_series, generation_rows
from sc_loops.reporting.report import write_report
from sc_loops.reporting.sections import Section, sections
from sc_loops.reporting.stability import ASSUMPTIONS, admissible_region, position
from sc_loops.reporting.wording import meaning, symbol
from sc_loops.run import Run
from sc_loops.samples import Samples

REAL = torch.from_numpy(np.random.default_rng(1).standard_normal((20, 2))).float()
LOOP = {"mean": [0.5, 0.0], "covariance": [[1.0, 0.2], [0.2, 2.0]], "strength": 0.3, "kept_per_generation": 10}
PANELS = [
    "Samples corrected", "Distance moved", "Wasserstein-2 distance to the target", "Squared error of the mean",
    "Trace of the covariance", "Admissible region",
]  # fmt: skip


def gaussian_run(path: Path, *, generations: int = 4, real: bool = True, **facts: Any) -> Run:
    """A run of the Gaussian loop, as far as the report knows it; a fact of None is left out."""
    run = Run(path)
    usual = {
        "generations": generations,
        "synthetic_ratio": 0.5,
        "strength": 0.3,
        "memory": "fading",
        "gaussian_loop": LOOP,
    }
    run.record({"fact": True, **{k: v for k, v in {**usual, **facts}.items() if v is not None}})
    if real:
        write_samples(run.path / "real_train.safetensors", Samples(REAL))
    for t in range(generations + 1):
        run.record(
            {"generation": t, "correction/share": 0.23, "correction/failed_share": 0.0, "correction/distance": 1.9,
             "wasserstein_2/gaussian": 0.3, "mean_square/gaussian": 0.05, "covariance_trace/gaussian": 2.9}
        )  # fmt: skip
    return run


def correction(run: Run) -> Section | None:
    return next((s for s in sections(run, generation_rows(run)) if s.title == "Correction"), None)


@pytest.mark.parametrize("memory", ["replace", "fading"])
@pytest.mark.parametrize("ratio", [0.5, math.inf])
def test_expected_series_are_those_of_the_theory(tmp_path: Path, memory: Any, ratio: float) -> None:
    run = gaussian_run(tmp_path, memory=memory, synthetic_ratio=ratio)
    series = expected_series(run, 3)
    theory = expected_fits(
        REAL.double().numpy(), mean=LOOP["mean"], covariance=LOOP["covariance"], strength=0.3, kept=10,
        generations=3, memory=memory, fully_synthetic=math.isinf(ratio),
    )  # fmt: skip
    assert set(series) == {"mean_square/gaussian", "covariance_trace/gaussian"}
    assert series["mean_square/gaussian"] == pytest.approx(theory.mean_square)
    assert series["covariance_trace/gaussian"] == pytest.approx(theory.covariance_trace)


def test_the_theory_uses_the_points_that_are_trained_on(tmp_path: Path) -> None:
    larger = gaussian_run(tmp_path / "larger", gaussian_loop={**LOOP, "kept_per_generation": 17})
    usual, found = expected_series(gaussian_run(tmp_path / "usual"), 4), expected_series(larger, 4)
    assert all((found[key] == usual[key]).all() for key in usual)
    fit = expected_series(gaussian_run(tmp_path / "baseline", synthetic_ratio=0.0), 4)["covariance_trace/gaussian"]
    assert fit == pytest.approx([float(REAL.double().var(dim=0, correction=0).sum()) + 2e-6] * 5)


@pytest.mark.parametrize(
    "facts",
    [
        {"gaussian_loop": None},
        {"memory": "another"},
        {"synthetic_ratio": None},
        {"real": False},
        {"gaussian_loop": {**LOOP, "kept_per_generation": 9}},  # floor(λ n) is 10: one is there twice
    ],
)
def test_nothing_is_expected_where_the_theory_does_not_hold(tmp_path: Path, facts: dict[str, Any]) -> None:
    run = gaussian_run(tmp_path, **facts)
    assert expected_series(run, 4) == {}
    section = correction(run)
    assert section is not None
    assert "exact expectation" not in section.text
    assert not any("stroke-dasharray" in panel.figure for panel in section.panels if "covariance" in panel.title)


def test_the_section_of_a_gaussian_loop(tmp_path: Path) -> None:
    section = correction(gaussian_run(tmp_path))
    assert section is not None
    assert [panel.title for panel in section.panels] == PANELS
    dashed = [panel.title for panel in section.panels if "stroke-dasharray" in panel.figure]
    assert dashed == ["Squared error of the mean", "Trace of the covariance"]
    assert "here γ = 0.3." in section.text
    assert "exact expectation" in section.text
    assert section.panels[-1].caption == ASSUMPTIONS


def test_the_target_is_not_among_the_distances_to_real_data(tmp_path: Path) -> None:
    run = gaussian_run(tmp_path)
    assert [s.title for s in sections(run, generation_rows(run))] == ["Correction"]


def test_a_gaussian_loop_without_a_stage_has_its_theory_and_no_word_of_correction(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.record({"fact": True, "synthetic_ratio": 0.5, "gaussian_loop": {**LOOP, "strength": 0.0}})
    write_samples(run.path / "real_train.safetensors", Samples(REAL))
    run.record({"generation": 0, "mean_square/gaussian": 0.1})
    assert correction(run) is None
    section = next(s for s in sections(run, generation_rows(run)) if s.title == "Fits of the model")
    assert [panel.title for panel in section.panels] == ["Squared error of the mean"]
    assert section.text.startswith("The dashed line is theory")


def test_so_many_generations_that_a_report_would_take_minutes_have_no_expectation(tmp_path: Path) -> None:
    run = gaussian_run(tmp_path)
    assert expected_series(run, 4)
    run.record({"fact": True, "generations": 10_000})
    assert expected_series(run, 4) == {}


def test_a_run_without_correction_has_no_section(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.record({"fact": True, "synthetic_ratio": 0.5})
    run.record({"generation": 0, "wasserstein_2": 0.3})
    assert correction(run) is None


@pytest.mark.parametrize(
    ("strength", "ratio", "drawn"), [(0.3, 0.5, True), (math.inf, 1.5, True), (0.3, math.inf, False)]
)
def test_the_region_is_drawn_for_any_run_that_is_corrected(
    tmp_path: Path, strength: float, ratio: float, drawn: bool
) -> None:
    run = gaussian_run(tmp_path, strength=strength, synthetic_ratio=ratio, gaussian_loop=None)
    section = correction(run)
    assert section is not None
    assert ("Admissible region" in [panel.title for panel in section.panels]) == drawn


def test_the_region_is_largest_for_c_1_and_holds_the_dots_below_it() -> None:
    points = [(0.0, 0.2), (0.0, 0.5), (1.0, 0.6), (1.0, 1.5), (math.inf, 0.9), (1.0, math.inf)]
    axes = admissible_region(points).axes[0]
    borders, dots = axes.lines[:3], axes.lines[3:]
    first = [float(line.get_ydata()[0]) for line in borders]
    assert first == pytest.approx([1 / 2, 1 / 3, 1 / 4])
    assert [float(line.get_ydata()[-1]) for line in borders] == pytest.approx([1, 2 / 3, 1 / 2], abs=1e-3)
    assert [float(dot.get_ydata()[0]) for dot in dots] == [0.2, 0.5, 0.6, 1.5, 0.9]
    hollow = [dot.get_markerfacecolor() == "white" for dot in dots]
    assert hollow == [False, True, False, True, False]
    assert axes.get_ylim()[1] > 1.5
    for strength in (0.0, 0.03, 1.0, 40.0):  # the border is drawn where the dots of its λ would lie
        x, y = borders[0].get_data()
        assert np.interp(position(strength), x, y) == pytest.approx(largest_synthetic_ratio(strength), abs=1e-4)


def test_the_axis_of_the_strength_holds_0_and_infinity() -> None:
    assert [position(s) for s in (0.0, 0.99, math.inf)] == pytest.approx([0, 2, 5])
    labels = [label.get_text() for label in admissible_region([]).axes[0].get_xticklabels()]
    assert labels == ["0", "0.01", "0.1", "1", "10", "100", "∞"]


def test_metrics_have_symbols_and_meanings() -> None:
    keys = ("mean_square/gaussian", "covariance_trace/gaussian", "correction/share", "correction/failed_share",
            "correction/distance", "wasserstein_2/gaussian")  # fmt: skip
    assert [symbol(key) for key in keys] == [
        "‖μ-μ*‖² gaussian", "tr Σ gaussian", "corrected", "failed", "moved", "W₂ to target",
    ]  # fmt: skip
    assert all(meaning(key) for key in keys)


def test_a_report_of_501_generations_takes_seconds(tmp_path: Path) -> None:
    run = gaussian_run(tmp_path, generations=500)
    began = time.process_time()
    page = write_report(run).read_text(encoding="utf-8")
    assert time.process_time() - began < 5
    assert all(title in re.findall(r"<h3>(.*?)</h3>", page) for title in PANELS)
