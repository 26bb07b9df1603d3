"""Curves go through the means and bands of their seeds; axes, colours and pale ends say what they should."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_runs import config, run_of
from matplotlib.colors import to_rgb
from scipy import stats

from sc_loops.comparing.panels import MAX_POINTS, Line, has_open_band, is_wide, looks, panel, points_of
from sc_loops.comparing.record import read
from sc_loops.comparing.settings import settings_of
from sc_loops.reporting.figures import MUTED, PALETTE


def steady(t: int, generator: np.random.Generator) -> Mapping[str, Any]:
    return {"m": 1 + t + generator.normal()}


def test_the_line_is_the_mean_and_the_band_scipys_interval(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / f"{seed}", config(seed=seed), steady, last=5) for seed in range(3)]
    settings = settings_of(read(runs))
    values = np.array([[row["m"] for row in run.rows()] for run in runs])
    figure = panel([Line.of(settings.all[0], "m")], looks(settings))
    (axes,) = figure.axes
    assert axes.lines[0].get_xdata().tolist() == list(range(6))
    assert axes.lines[0].get_ydata() == pytest.approx(values.mean(axis=0))
    low, high = stats.t.interval(0.95, 2, loc=values.mean(axis=0), scale=stats.sem(values, axis=0))
    outline = axes.collections[0].get_paths()[0].vertices
    for t in range(6):
        heights = outline[outline[:, 0] == t, 1]
        assert (heights.min(), heights.max()) == pytest.approx((low[t], high[t]))


def test_a_single_seed_has_no_band(tmp_path: Path) -> None:
    settings = settings_of(read([run_of(tmp_path / "one", config(), steady)]))
    assert not panel([Line.of(settings.all[0], "m")], looks(settings)).axes[0].collections


def test_where_a_seed_has_ended_the_line_goes_on_paler(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / f"{s}", config(seed=s), steady, last=last) for s, last in enumerate((5, 2))]
    line = Line.of(settings_of(read(runs)).all[0], "m")
    assert line.n.tolist() == [2, 2, 2, 1, 1, 1]
    assert line.mean[4] == runs[0].rows()[4]["m"]
    full, pale = panel([line], looks(settings_of(read(runs)))).axes[0].lines
    assert np.isfinite(full.get_ydata()).tolist() == [True] * 3 + [False] * 3
    assert np.isfinite(pale.get_ydata()).tolist() == [False] * 2 + [True] * 4  # joined to the other
    assert pale.get_alpha() < 1


def test_the_axis_is_logarithmic_for_positive_values_over_a_wide_range(tmp_path: Path) -> None:
    def line(*values: float) -> Line:
        y = np.array(values)
        return Line(np.arange(len(y), dtype=float), y, np.full(len(y), np.nan), np.ones(len(y), int), 1, np.zeros(0))

    settings = settings_of(read([run_of(tmp_path / "one", config(), steady)]))
    for values, wide in (((1, 21), True), ((1, 19), False), ((0, 100), False), ((-1, -30), False)):
        assert is_wide([line(*values)]) == wide
        assert panel([line(*values)], looks(settings)).axes[0].get_yscale() == ("log" if wide else "linear")


def test_means_fill_a_third_of_the_frame_however_wide_the_bands_are() -> None:
    line = Line(np.arange(2.0), np.array([1.0, 2.0]), np.array([100.0, 100.0]), np.full(2, 2), 2, np.zeros(0))
    low, high = panel([line], [looks_of_one()]).axes[0].get_ylim()
    assert low < 1
    assert high > 2
    assert high - low < 3.5


def test_on_a_logarithmic_axis_a_band_that_reaches_0_is_drawn_above_the_mean_only() -> None:
    mean, half = np.array([100.0, 10.0, 1.0, 2.0]), np.array([20.0, 11.0, 1.0, 0.5])
    (axes,) = panel([Line(np.arange(4.0), mean, half, np.full(4, 3), 3, np.zeros(0))], [looks_of_one()]).axes
    assert axes.get_yscale() == "log"
    outline = axes.collections[0].get_paths()[0].vertices
    for t, expected in enumerate(((80, 120), (10, 21), (1, 2), (1.5, 2.5))):
        heights = outline[outline[:, 0] == t, 1]
        assert (heights.min(), heights.max()) == pytest.approx(expected)
    assert 0.5 < axes.get_ylim()[0] < 1  # no room is made for what has no place there


def test_a_band_has_both_its_edges_on_a_linear_axis() -> None:
    line = Line(np.arange(2.0), np.array([1.0, 2.0]), np.array([3.0, 1.0]), np.full(2, 3), 3, np.zeros(0))
    assert not has_open_band([line])
    outline = panel([line], [looks_of_one()]).axes[0].collections[0].get_paths()[0].vertices
    assert outline[outline[:, 0] == 0, 1].min() == pytest.approx(-2)


def test_the_frame_of_a_logarithmic_axis_has_few_numbers_however_far_theory_goes() -> None:
    nothing = np.full(3, np.nan)
    line = Line(np.arange(3.0), np.array([10.0, 1.0, 0.1]), nothing, np.ones(3, int), 1, np.array([10.0, 0.1, 1e-4]))
    (axes,) = panel([line], [looks_of_one()]).axes
    low, high = axes.get_ylim()
    assert 3 <= sum(low <= tick <= high for tick in axes.get_yticks()) <= 8


def looks_of_one() -> Any:
    from sc_loops.comparing.panels import Look

    return Look("#000000")


def test_theory_is_averaged_over_seeds_and_dashed(tmp_path: Path) -> None:
    settings = settings_of(read([run_of(tmp_path / f"{s}", config(seed=s), steady) for s in range(2)]))
    paths = [np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 4.0, 5.0, 6.0])]
    axes = panel([Line.of(settings.all[0], "m", paths)], looks(settings)).axes[0]
    assert axes.lines[0].get_linestyle() == "-"
    assert axes.lines[1].get_linestyle() == "--"
    assert axes.lines[1].get_ydata().tolist() == [2, 3, 4, 5]


def test_numbers_get_shades_in_order_and_words_the_palette(tmp_path: Path) -> None:
    numbered = [run_of(tmp_path / f"g{g}", config(strength=g), steady) for g in (None, 0.1, 1.0, 2.0)]
    plain, *shades = [look.colour for look in looks(settings_of(read(numbered)))]
    assert plain == MUTED
    luminance = [np.dot(to_rgb(colour), [0.2126, 0.7152, 0.0722]) for colour in shades]
    assert luminance == sorted(luminance, reverse=True)
    words = [run_of(tmp_path / name, config(model={"name": name}), steady) for name in ("b", "a")]
    assert [look.colour for look in looks(settings_of(read(words)))] == list(PALETTE[:2])


def test_thinning_keeps_both_ends_and_changes_no_value() -> None:
    y = np.random.default_rng(0).normal(size=5001)
    line = Line(np.arange(5001.0), y, np.ones(5001), np.full(5001, 3), 3, np.zeros(0)).thinned(MAX_POINTS)
    assert len(line.t) == MAX_POINTS
    assert line.t[[0, -1]].tolist() == [0, 5000]
    assert (line.mean == y[line.t.astype(int)]).all()
    assert points_of(8) == MAX_POINTS
    assert points_of(10_000) == 60
