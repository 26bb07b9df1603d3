"""A table holds the rows' numbers, curves their points and the theory's, a strip the previews' very pixels."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from fabricated import fabricate, rewards_of
from PIL import Image

from sc_loops.data.files import write_samples
from sc_loops.reporting.comparison import DPI, GAP, MARGIN, curves, film_strip, table
from sc_loops.reporting.history import expected_rewards
from sc_loops.run import Run
from sc_loops.samples import Samples


def pixels(figure: object) -> np.ndarray:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI)  # type: ignore[attr-defined]
    return np.asarray(Image.open(out).convert("RGB"))


def test_a_table_has_a_line_for_each_number_and_a_column_for_each_generation(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run", generations=2)
    lines = table(run, ["reward/mean", "never/recorded", "seconds/sampling"]).splitlines()
    assert lines == [
        "| generation | 0 | 1 | 2 |",
        "| --- | --- | --- | --- |",
        "| E[r] | 0.00 | 0.250 | 0.500 |",
        "| sampling s | 4.10 | 4.10 | 4.10 |",
    ]


def test_curves_go_through_the_numbers_and_the_recursion_is_dashed(tmp_path: Path) -> None:
    runs = {name: fabricate(tmp_path / name, generations=last) for name, last in (("a", 3), ("b", 2))}
    figure = curves(runs, ["reward/mean", "never/recorded", "wasserstein_2"])
    rewards, distances = figure.axes[:2]
    assert [axes.get_title(loc="left") for axes in (rewards, distances)] == ["E[r]", "W₂"]
    solid = [line for line in rewards.lines if line.get_linestyle() == "-"]
    assert [line.get_label() for line in solid] == ["a", "b"]
    for line, last in zip(solid, (3, 2), strict=True):
        assert line.get_xdata().tolist() == list(range(last + 1))
        assert line.get_ydata() == pytest.approx([float(rewards_of(t).mean()) for t in range(last + 1)])
    dashed = [line for line in rewards.lines if line.get_linestyle() != "-"]
    for line, run, last in zip(dashed, runs.values(), (3, 2), strict=True):
        assert line.get_ydata() == pytest.approx(expected_rewards(run, last)["reward/mean"])
    assert all(line.get_linestyle() == "-" for line in distances.lines)


def test_no_run_is_dropped_and_the_legend_stays_inside(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run", generations=1)
    figure = curves({f"a rather long label {i}": run for i in range(12)}, ["wasserstein_2"])
    lines = figure.axes[0].lines
    assert len(lines) == 12
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 12
    figure.draw_without_rendering()
    inside = figure.legends[0].get_window_extent()
    assert 0 <= inside.x0 < inside.x1 <= figure.bbox.width
    assert inside.y0 > figure.axes[0].bbox.y1  # above the panels


def test_a_long_label_stays_above_its_own_pictures(tmp_path: Path) -> None:
    labels = ["a", "a very_long_label of a run, of " + "e" * 30]
    runs = {label: fabricate(tmp_path / str(i), generations=0, kind="images") for i, label in enumerate(labels)}
    for run in runs.values():
        images(run, 0)
    figure = film_strip(runs, columns=8, scale=2)
    figure.draw_without_rendering()
    width = 8 * 18 - 2
    for text, left in zip(figure.texts[:2], (MARGIN, MARGIN + width + GAP), strict=True):
        box = text.get_window_extent()
        assert left <= box.x0
        assert box.x1 <= left + width + GAP
        assert 8 * 2 + 2 * 2 < box.y0 < box.y1 <= figure.bbox.height  # between the pictures and the edge


def images(run: Run, generation: int, n: int = 12) -> np.ndarray:
    """Random pixels as the preview of ``generation``: ``(n, h, w, 3)``."""
    x = torch.randint(0, 256, (n, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(generation))
    write_samples(run.pool(generation).path / "preview.safetensors", Samples(x))
    return x.permute(0, 2, 3, 1).numpy()


def test_a_strip_holds_the_same_places_of_each_generation_pixel_by_pixel(tmp_path: Path) -> None:
    runs = {name: fabricate(tmp_path / name, generations=last, kind="images") for name, last in (("a", 1), ("b", 2))}
    shown = {(name, t): images(run, t) for name, run in runs.items() for t in range(2)}
    columns, scale = 3, 2
    strip = pixels(film_strip(runs, columns=columns, scale=scale))
    side, tile = 8 * scale, (8 + 1) * scale  # tiles of 8 pixels have a seam of one
    strip_width = columns * tile - scale + GAP
    for (name, t), x in shown.items():
        for column in range(columns):
            top, left = MARGIN + t * (side + 2 * scale), MARGIN + (name == "b") * strip_width + column * tile
            expected = x[column].repeat(scale, axis=0).repeat(scale, axis=1)
            assert np.array_equal(strip[top : top + side, left : left + side], expected), (name, t, column)
    below = MARGIN + 2 * (side + 2 * scale)
    assert (strip[below:, MARGIN : MARGIN + strip_width - GAP] == 255).all()  # a has no generation 2
    assert (strip[:MARGIN, MARGIN:] < 200).any()  # the runs' labels


def test_runs_without_pictures_are_left_out(tmp_path: Path) -> None:
    points = fabricate(tmp_path / "points", generations=1)
    assert (pixels(film_strip({"points": points})) == 255).all()
    assert (pixels(film_strip({"absent": Run(tmp_path / "absent")})) == 255).all()
    with_images = {"images": fabricate(tmp_path / "images", generations=1, kind="images")}
    assert np.array_equal(pixels(film_strip(with_images)), pixels(film_strip({"points": points, **with_images})))
    assert table(Run(tmp_path / "absent"), ["reward/mean"]) == "| generation |\n| --- |\n"
    assert curves({"absent": Run(tmp_path / "absent")}, ["reward/mean"]).axes
