from __future__ import annotations

import base64
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from fabricated import fabricate, rewards_of, row
from PIL import Image

from sc_loops.reporting.history import expected_rewards, picked, rewards, series
from sc_loops.reporting.pictures import frame_of, image_grid, scatter
from sc_loops.reporting.report import HtmlReport, write_report
from sc_loops.run import Run


class Page(HTMLParser):
    """What a test wants to know of a page: its tags, its references, its text outside <style>."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.text, self._open = "", []
        self.content = path.read_text(encoding="utf-8")
        self.feed(self.content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._open.append(tag)
        self.references += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "srcset", "data")]

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += data

    def figure(self, title: str) -> str:
        """The markup of the panel called ``title``."""
        return next(part for part in self.content.split("<figure>") if part.startswith(f"<h3>{title}</h3>"))


def test_the_report_is_one_file_that_refers_to_nothing_outside(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run", generations=3)
    page = Page(write_report(run))
    assert page.references
    assert all(r.startswith(("#", "data:image/png;base64,")) for r in page.references)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "@import" not in page.content
    assert not re.search(r"url\((?!#)", page.content)
    targets = {r[1:] for r in page.references if r.startswith("#")}
    ids = re.findall(r'\bid="([^"]+)"', page.content)
    assert targets <= set(ids)
    assert {p.name for p in run.path.iterdir()} >= {"report.html"}
    assert not list(run.path.glob("*.tmp"))


def test_the_report_holds_the_numbers_of_the_rows(tmp_path: Path) -> None:
    page = Page(write_report(fabricate(tmp_path / "run", generations=3)))
    assert "Finished · generation 3 of 3" in page.text
    table = page.content.split("All generations")[1]
    cells = [re.findall(r"<td>(.*?)</td>", line) for line in table.split("<tr>")[2:]]
    head = re.findall(r'<th title="(.*?)">', table)
    assert [line[0] for line in cells[:4]] == ["0", "1", "2", "3"]
    shown = dict(zip(head, cells[3][1:], strict=True))
    assert shown["train/loss"] == "0.212"
    assert shown["wasserstein_2"] == "0.277"
    assert shown["items_seen"] == "1 240 000"
    for key, value in row(3).items():
        if isinstance(value, float):
            assert float(shown[key]) == pytest.approx(value, rel=6e-3)
    key_numbers = page.content.split("Key numbers")[1]
    assert '<td>0.217</td><td class="last">0.277</td><td class="change">+0.060</td>' in key_numbers


def test_every_figure_is_there(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run", generations=3)
    for t in range(4):
        run.record(
            row(t, **{"class_share/0": 0.5, "class_share/1": 0.5, "class_entropy": 0.69, "energy_distance": 0.1,
                      "frechet_distance/f": 2.0, "precision/f": 0.9, "recall/f": 0.4})
        )  # fmt: skip
    page = Page(write_report(run))
    titles = re.findall(r"<h3>(.*?)</h3>", page.content)
    assert titles == [
        "Mean reward", "Variance of the reward", "Mean of eʳ", "Variance of eʳ", "Reward by generation",
        "Class shares", "Class entropy", "Wasserstein-2 distance", "Energy distance", "Fréchet distance (f)",
        "Precision and recall (f)", "Loss by generation", "Loss by step", "Time by phase",
    ]  # fmt: skip
    assert page.tags.count("svg") == len(titles)
    assert page.tags.count("img") == 1 + 4  # real data and four generations
    assert all("generation t" in page.figure(t) for t in titles if t != "Loss by step")


@pytest.mark.parametrize(
    ("facts", "drawn"), [({}, True), ({"choices": None}, False), ({"synthetic_ratio": None}, False)]
)
def test_the_theory_is_drawn_only_for_k_choice(tmp_path: Path, facts: dict, drawn: bool) -> None:
    page = Page(write_report(fabricate(tmp_path / "run", generations=2, facts=facts)))
    assert ("stroke-dasharray" in page.figure("Mean of eʳ")) == drawn
    assert ("exact recursion" in page.text) == drawn


def test_the_theory_starts_at_generation_0_and_tilts_by_pairs(tmp_path: Path) -> None:
    # K = 2, λ = inf: p_1(x) = 2 p_0(x) E_y[e^r(x) / (e^r(x) + e^r(y))], written out.
    run = fabricate(tmp_path / "run", generations=1, facts={"choices": 2, "synthetic_ratio": math.inf})
    r = rewards_of(0).numpy()
    e = np.exp(r)
    tilted = 2 * (e[:, None] / (e[:, None] + e)).mean(axis=1) / len(r)
    expected = expected_rewards(run, 1)
    assert expected["reward/mean"] == pytest.approx([r.mean(), tilted @ r], abs=1e-6)
    assert expected["exp_reward/mean"] == pytest.approx([e.mean(), tilted @ e], rel=1e-6)
    assert expected["reward/var"][1] == pytest.approx(tilted @ r**2 - (tilted @ r) ** 2, rel=1e-6)


@pytest.mark.parametrize("kind", ["points", "images"])
def test_one_generation_is_enough(tmp_path: Path, kind: str) -> None:
    page = Page(write_report(fabricate(tmp_path / "run", generations=0, kind=kind)))
    assert "generation 0 of 0" in page.text
    assert page.tags.count("img") == 2
    assert "change" not in page.text.split("Samples")[0]  # one column of numbers


def test_missing_parts_are_left_out(tmp_path: Path) -> None:
    run = Run(tmp_path / "bare")
    run.record({"generation": 0, "something/else": 3.5, "reward/mean": math.nan})
    page = Page(write_report(run))
    assert "Not finished · generation 0" in page.text
    assert "something/else" in page.text
    assert "3.50" in page.text
    assert not {"svg", "img"} & set(page.tags)
    assert "no config file" in page.text


def test_a_run_without_a_generation_has_a_report(tmp_path: Path) -> None:
    run = Run(tmp_path / "empty")
    run.record({"fact": True, "generations": 3})
    assert "no generation finished yet" in Page(write_report(run)).text


def test_names_are_escaped_and_no_markup(tmp_path: Path) -> None:
    names = ["<b>&cat", "_$x$", 'say "hi"', "a" * 60]
    run = fabricate(tmp_path / "a<i>&b", generations=1, facts={"class_names": names, "data/name": "<script>x"})
    run.record(row(1, **{f"class_share/{k}": 0.25 for k in range(4)}))
    run.config_path.write_text("name: <script>alert(1)</script>\n")
    page = Page(write_report(run))
    assert not {"script", "b", "i"} & set(page.tags)
    assert "a<i>&b" in page.text
    legend = page.figure("Class shares")
    assert "&lt;b&gt;&amp;cat" in legend
    assert "_$x$" in legend
    assert "name: <script>alert(1)</script>" in page.text


def test_how_to_reproduce(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "my run", generations=0)
    run.config_path.write_text("seed: 3\n")
    (run.path / "env.json").write_text(json.dumps({"git": "abc123+changes", "packages": {"torch": "2.4"}}))
    text = Page(write_report(run)).text
    assert (
        f"git checkout abc123  # it had uncommitted changes\npython train.py --config '{run.config_path}' --fresh"
        in text
    )
    assert "seed: 3" in text
    assert "torch 2.4" in text


def test_the_same_directory_gives_the_same_page(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run", generations=1)
    assert write_report(run).read_bytes() == write_report(run).read_bytes()


def test_a_report_that_cannot_be_drawn_is_said_and_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fabricate(tmp_path / "run", generations=0)
    (run.path / "env.json").write_text("{")
    HtmlReport().generation_finished(run, row(0))
    assert capsys.readouterr().err.startswith("report: not drawn this time (JSONDecodeError: ")
    (run.path / "env.json").unlink()
    HtmlReport().generation_finished(run, row(0))
    assert run.report_path.exists()


def test_many_generations_are_thinned_with_both_ends() -> None:
    assert picked(range(3), 12) == [0, 1, 2]
    chosen = picked(range(101), 12)
    assert len(set(chosen)) == 12
    assert (chosen[0], chosen[-1]) == (0, 100)
    assert max(np.diff(chosen)) - min(np.diff(chosen)) <= 1


def test_series_skip_what_is_missing_or_not_finite() -> None:
    rows = [
        {"generation": 0},
        {"generation": 1, "a": math.inf},
        {"generation": 2, "a": 0.5},
        {"generation": 3, "a": 1},
    ]
    x, y = series(rows, "a")
    assert (x.tolist(), y.tolist()) == ([2, 3], [0.5, 1])


def test_rewards_are_those_of_all_chunks(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run", generations=1)
    assert rewards(run, 1) == pytest.approx(rewards_of(1).numpy(), abs=1e-6)
    assert rewards(run, 7) is None


def test_an_image_grid_puts_images_in_reading_order() -> None:
    x = np.full((4, 1, 8, 8), -1.0)
    x[1], x[2] = 1.0, 0.0
    grid = image_grid(x, columns=3)
    assert grid.shape == (17, 26, 3)
    assert [grid[4, 4, 0], grid[4, 13, 0], grid[4, 22, 0], grid[13, 4, 0]] == [0, 255, 128, 0]
    assert (grid[8] == 255).all()  # the gap


def test_colours_keep_their_channels_and_large_images_shrink() -> None:
    x = np.full((1, 3, 256, 256), -1.0)
    x[:, 0] = 1.0
    grid = image_grid(x)
    assert grid.shape == (64, 64, 3)
    assert (grid == [255, 0, 0]).all()


def test_a_scatter_draws_points_where_they_are() -> None:
    frame = (np.zeros(2), 1.0)
    picture = scatter(np.array([[0.5, 0.5], [9.0, 9.0]]), np.array([[-0.5, -0.5]]), frame).astype(int)
    inked = np.argwhere(picture[2:-2, 2:-2].sum(axis=2) < 765) + 2
    top_right, bottom_left = inked[inked[:, 1] > 180], inked[inked[:, 1] < 180]
    assert len(top_right) + len(bottom_left) == len(inked)
    assert top_right.mean(axis=0) == pytest.approx([90, 270], abs=1)
    assert bottom_left.mean(axis=0) == pytest.approx([270, 90], abs=1)
    assert scatter(np.zeros((5, 1)), None, (np.zeros(1), 1.0)).shape == (360, 360, 3)


def test_the_frame_holds_the_points_and_ignores_an_outlier() -> None:
    x = np.random.default_rng(0).uniform(-1, 3, (1000, 2))
    x[0] = 100
    centre, half = frame_of(x)
    assert centre == pytest.approx([1, 1], abs=0.1)
    assert 2.0 < half < 3.0


def test_the_film_strip_shows_the_previews(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run", generations=0, kind="images")
    page = Page(write_report(run))
    picture = next(r for r in page.references[::-1] if r.startswith("data:"))
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.split(",")[1]))))
    preview = run.pool(0).preview
    assert preview is not None
    assert (pixels == image_grid(preview.x.double().numpy())).all()
