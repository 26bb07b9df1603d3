"""What the page shows: numbers against scipy, what is refused and why, how far unfinished runs are."""

from __future__ import annotations

import base64
import csv
import io
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up_runs import config, noisy, run_of, with_images
from PIL import Image
from scipy import stats

from sc_loops.comparing import page as page_module
from sc_loops.comparing.page import write_comparison
from sc_loops.comparing.record import read
from sc_loops.comparing.settings import settings_of
from sc_loops.comparing.strips import MOST, WIDTHS, strips
from sc_loops.data.files import write_samples
from sc_loops.errors import UsageError
from sc_loops.run import Run
from sc_loops.samples import Samples

W2 = "wasserstein_2/gaussian"


def sweep(tmp_path: Path, strengths: tuple[float, ...] = (0.0, 0.3), seeds: int = 4, **more: Any) -> list[Run]:
    return [
        run_of(tmp_path / f"s-{g:g}-{seed}", config(seed=seed, strength=g), shifted(g), **more)
        for g in strengths
        for seed in range(seeds)
    ]


def shifted(strength: float) -> Any:
    """``noisy`` metrics that depend on γ, and not by the same in every seed."""

    def metrics(t: int, generator: np.random.Generator) -> Mapping[str, Any]:
        usual = noisy(t, generator)
        scale = 1 / (1 + strength)
        return {W2: usual[W2] * scale, "reward/mean": usual["reward/mean"] * scale, "items_seen": 50 * (t + 1)}

    return metrics


def written(runs: list[Run], tmp_path: Path) -> str:
    return write_comparison(runs, tmp_path / "out", title="a title").read_text(encoding="utf-8")


def text_of(page: str) -> str:
    """What a reader reads, in one line."""
    shown = re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", page, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", shown)).replace("&lt;", "<")


def section(page: str, title: str) -> str:
    return text_of(page[page.index(f"<h2>{title}") :].split("</section>", 1)[0])


def finals(runs: list[Run], generation: int, key: str) -> np.ndarray:
    return np.array([run.rows()[generation][key] for run in runs])


def test_final_values_are_means_with_their_standard_errors(tmp_path: Path) -> None:
    runs = sweep(tmp_path)
    shown = section(written(runs, tmp_path), "Final values")
    for of in (runs[:4], runs[4:]):
        values = finals(of, 3, W2)
        assert f"{values.mean():.3f} ± {stats.sem(values):.3f}"[:-1] in shown
    assert "Generation 3." in shown
    assert shown.count("n = 4") == 2


def test_differences_are_paired_over_the_seeds_that_both_have(tmp_path: Path) -> None:
    runs = sweep(tmp_path)
    runs.pop(1)  # seed 1 of the reference
    shown = section(written(runs, tmp_path), "Differences to γ = 0")
    before, after = finals([runs[0], *runs[1:3]], 3, W2), finals([runs[3], *runs[5:7]], 3, W2)
    expected = stats.ttest_rel(after, before)
    low, high = expected.confidence_interval(0.95)
    difference, interval, p = re.search(r"(-0\.\d+) ± 0\.\d+ (\[.*?\]) p = (0\.\d+)", shown).groups()  # type: ignore[union-attr]
    digits = len(difference.split(".")[1])
    assert float(difference) == pytest.approx((after - before).mean(), abs=10**-digits)
    assert interval == f"[{low:.{digits}f}, {high:.{digits}f}]"
    assert float(p) == pytest.approx(expected.pvalue, rel=0.06)
    assert "3 pairs, 1 seed left out" in shown


def test_one_seed_shows_the_metrics_own_error_and_marks_it(tmp_path: Path) -> None:
    def metrics(t: int, _: np.random.Generator) -> Mapping[str, Any]:
        return {"frechet_distance/x": 3.25 + t, "frechet_distance_error/x": 0.125, "class_entropy": 1.5 + t}

    run = run_of(tmp_path / "one", config(), metrics)
    page = written([run], tmp_path)
    shown = section(page, "Final values")
    assert "6.25 ± 0.12*" in shown
    assert "4.50 " in shown
    assert "frechet_distance_error" not in page  # the error of a metric is no metric
    assert "Differences to" not in page


def test_unfinished_runs_are_shown_as_far_as_they_are_and_marked(tmp_path: Path) -> None:
    runs = sweep(tmp_path, seeds=2)
    behind = run_of(tmp_path / "behind", config(seed=2, strength=0.3), shifted(0.3), last=1, total=3)
    text = text_of(written([*runs, behind], tmp_path))
    assert "Not finished · 4 of 5 runs finished; behind is at generation 1 of 3" in text
    assert "Generation 1, the last that all runs have: behind has no later one." in text
    assert "n = 3, 2 finished" in text
    assert "Finished · 4 runs, generation 3" in text_of(written(runs, tmp_path))


def test_distances_of_different_data_are_refused_with_the_keys_that_differ(tmp_path: Path) -> None:
    data = [{"name": "gaussian", "size": n, "seed": 0, "root": f"place{n}", "download": False} for n in (50, 100)]
    runs = [run_of(tmp_path / f"n{d['size']}", config(data=d), metrics_of_both) for d in data]
    page = written(runs, tmp_path)
    text = text_of(page)
    assert "data.size: 50, 100" in text
    assert "W₂" in text.split("are not compared")[0]
    assert "precision x" in text.split("are not compared")[0]
    assert "data.root:" not in text  # where it lies says nothing of what it is
    assert W2 not in page
    assert 'title="precision/x"' not in page
    assert 'title="reward/mean"' in page
    assert W2 in (tmp_path / "out" / "comparison.csv").read_text()


@pytest.mark.parametrize("kind", ["reward", "data"])
def test_rewards_by_different_rewards_and_shares_of_different_classes_are_refused(tmp_path: Path, kind: str) -> None:
    def metrics(t: int, generator: np.random.Generator) -> Mapping[str, Any]:
        return {**noisy(t, generator), "class_share/0": generator.random(), "train/loss": generator.random()}

    parts = {"reward": {"name": "clipped_distance"}, "data": {"name": "gaussian", "size": 50}}
    configs = [config(**parts), config(**{**parts, kind: {**parts[kind], "name": "other"}})]
    page = written([run_of(tmp_path / f"{i}", c, metrics) for i, c in enumerate(configs)], tmp_path)
    shown = {key: f'title="{key}"' in page for key in ("reward/mean", "class_share/0", W2, "train/loss")}
    of_reward = kind == "reward"
    expected = {"reward/mean": not of_reward, "class_share/0": of_reward, W2: of_reward, "train/loss": True}
    assert shown == expected
    assert f"{kind}.name: {parts[kind]['name']}, other" in text_of(page)


def metrics_of_both(t: int, generator: np.random.Generator) -> Mapping[str, Any]:
    return {**noisy(t, generator), "precision/x": 0.5 + t / 10}


def test_runs_of_different_data_with_nothing_but_distances_are_refused(tmp_path: Path) -> None:
    def distances(t: int, generator: np.random.Generator) -> Mapping[str, Any]:
        return {W2: generator.random(), "items_seen": 10 * t}

    sizes = (50, 100)
    runs = [run_of(tmp_path / f"n{n}", config(data={"name": "gaussian", "size": n}), distances) for n in sizes]
    with pytest.raises(UsageError, match="different data"):
        written(runs, tmp_path)
    assert not (tmp_path / "out").exists()


def test_seeds_of_the_data_that_follow_the_run_are_the_same_data(tmp_path: Path) -> None:
    assert "are not compared" not in written(sweep(tmp_path), tmp_path)


def test_runs_without_configs_are_of_different_data_where_their_names_are(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / name, None, facts={"data/name": name}) for name in ("digits", "moons")]
    assert "data.name: digits, moons" in text_of(written(runs, tmp_path))


def test_the_csv_holds_every_number_as_it_was_recorded(tmp_path: Path) -> None:
    def metrics(t: int, generator: np.random.Generator) -> Mapping[str, Any]:
        odd = {"count": 3 * t, 'a "quoted", key': generator.normal() * 1e-30, "endless": "inf", "word": "a, b"}
        return odd if t else {"count": 0}

    runs = [run_of(tmp_path / name, config(strength=g), metrics) for name, g in (("a", 0.1), ("b, c", None))]
    written(runs, tmp_path)
    with (tmp_path / "out" / "comparison.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0])[:2] == ["run", "seed"]
    head = list(lines[0])
    metrics_in = head[head.index("generation") + 1 :]
    assert head[:2] == ["run", "seed"]
    assert set(metrics_in) == {"count", 'a "quoted", key', "endless", "word"}
    for run in runs:
        for row in run.rows():
            t = row.pop("generation")
            line = next(line for line in lines if (line["run"], line["generation"]) == (run.name, str(t)))
            found = {metric: line[metric] for metric in metrics_in if line[metric]}
            assert found.keys() == row.keys()
            for metric, value in row.items():
                assert type(value)(found[metric]) == value
    assert {(line["run"], line["loop.stages.0.strength"]) for line in lines} == {("a", "0.1"), ("b, c", "")}


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    runs = [with_images(run, 4, 50) for run in sweep(tmp_path, seeds=2)]
    first = write_comparison(runs, tmp_path / "one", title="t")
    again = write_comparison(runs, tmp_path / "two", title="t")
    assert first.read_bytes() == again.read_bytes()
    assert (tmp_path / "one/comparison.csv").read_bytes() == (tmp_path / "two/comparison.csv").read_bytes()
    assert {p.name for p in (tmp_path / "one").iterdir()} == {"comparison.html", "comparison.csv"}


def test_the_page_is_one_file_that_refers_to_nothing_outside(tmp_path: Path) -> None:
    page = written([with_images(run, 4, 50) for run in sweep(tmp_path)], tmp_path)
    references = re.findall(r'(?:src|href|xlink:href)="([^"]*)"', page)
    assert references
    assert all(r.startswith(("#", "data:image/png;base64,")) for r in references)
    assert not re.search(r"<(script|link|iframe)|@import|url\((?!#)", page)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert {r[1:] for r in references if r.startswith("#")} <= set(ids)


def test_strips_hold_the_first_seed_of_each_setting_generation_by_generation(tmp_path: Path) -> None:
    runs = sweep(tmp_path, seeds=2)
    colours = {0: 20, 2: 120}  # of the first seed of each setting
    for i, run in enumerate(runs):
        with_images(run, 3 if i == 2 else 4, colours.get(i, 200))
    page = written(runs, tmp_path)
    pictures = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(code))))
        for code in re.findall(r'<img src="data:image/png;base64,([^"]*)"', page)
    ]
    greys = [int(picture[0, 0, 0]) for picture in pictures]
    assert greys == [20, 120, 30, 130, 40, 140, 50]  # the second has no picture of generation 3
    assert all(picture.shape == (8, 8 * 8 + 7, 3) for picture in pictures)
    assert "generation 3" not in page.split('alt="γ = 0.3, generation 2"')[1].split("</table>")[0].replace(
        "γ = 0, generation 3", ""
    )


def test_columns_of_pictures_are_of_one_width_and_fit_the_page_whatever_their_labels(tmp_path: Path) -> None:
    names = ["short", "a_name_that_is_" + "very_" * 12 + "long"]
    page = written([with_images(run_of(tmp_path / name, None), 4, 50) for name in names], tmp_path)
    (rule,) = re.findall(r"\n\.pictures table \{(.*?)\}", page, flags=re.S)
    assert "table-layout: fixed" in rule  # so that neither labels nor pictures set the widths
    least, most = WIDTHS["images"]
    assert f'style="--columns: 2; --least: {least}rem; --most: {most}rem"' in page
    assert "very_<wbr>very_<wbr>" in page  # a long name breaks between its words
    for kind, (least, most) in WIDTHS.items():
        assert least < most
        assert MOST[kind][0] * (least + 0.6) + 2.8 <= 65  # rem, the width of the page


def test_points_of_each_data_set_have_a_frame_of_their_own(tmp_path: Path) -> None:
    near, far = torch.randn(2, 300, 2, generator=torch.Generator().manual_seed(0)) + torch.tensor([[[0.0]], [[50.0]]])
    runs = {}
    for name, data, x in (("a", "one", near), ("b", "other", far), ("c", "one", far)):
        runs[name] = run_of(tmp_path / name, None, last=0, facts={"data/name": data})
        runs[name].pool(0).path.mkdir(parents=True)
        write_samples(runs[name].pool(0).path / "preview.safetensors", Samples(x))

    def sources(*names: str) -> list[str | None]:
        found = strips(settings_of(read([runs[name] for name in names])).all)
        assert found is not None
        assert found.frames == len({runs[name].facts()["data/name"] for name in names})
        return found.rows[0][1]

    alone = {name: sources(name)[0] for name in runs}
    assert sources("a", "b") == [alone["a"], alone["b"]]
    with_c = sources("a", "c")
    assert with_c[0] == alone["a"]
    assert with_c[1] != alone["c"]  # in the frame of a, where it can be seen to have moved
    assert "in one frame for each data set." in text_of(written([runs["a"], runs["b"]], tmp_path))


def test_what_a_page_says_once_is_not_said_under_every_panel(tmp_path: Path) -> None:
    def shares(t: int, generator: np.random.Generator) -> Mapping[str, Any]:
        return {f"class_share/{k}": generator.random() for k in range(3)}

    text = text_of(written([run_of(tmp_path / "run", config(), shares)], tmp_path))
    assert "Class shares of the raw samples" in text
    assert "hare of the raw samples in a class" not in text


def test_a_band_that_reaches_0_on_a_logarithmic_axis_is_explained(tmp_path: Path) -> None:
    def falling(t: int, generator: np.random.Generator) -> Mapping[str, Any]:
        return {W2: 10.0**-t * (0.01 if generator.random() < 0.5 else 1.0), "reward/mean": generator.normal()}

    runs = [run_of(tmp_path / f"{seed}", config(seed=seed), falling) for seed in range(4)]
    text = text_of(written(runs, tmp_path))
    assert text.count("logarithmic; a band that reaches 0 is drawn above its mean only.") == 1


def test_time_is_told_by_phase_the_total_last(tmp_path: Path) -> None:
    seconds = {"seconds/training": 2.0, "seconds/total": 60.0, "seconds/curating": 8.5e-6, "seconds/sampling": 3.0}
    run = run_of(tmp_path / "run", config(), lambda t, _: {**noisy(t, _), **seconds}, last=1)
    shown = section(written([run], tmp_path), "Time")
    assert re.search(r"curating sampling training total run .* 0\.00 3\.00 2\.00 60\.0 2\.0 min", shown)


def test_constants_are_told_once_and_not_drawn(tmp_path: Path) -> None:
    def metrics(t: int, generator: np.random.Generator) -> Mapping[str, Any]:
        return {**noisy(t, generator), "samples": 25, "pool_items": 1437}

    page = written([run_of(tmp_path / "run", config(), metrics)], tmp_path)
    assert "The same in every generation of every run: samples = 25, pool = 1 437 ." in text_of(page)
    assert '<span class="whole">pool = 1 437</span>' in page  # in one line
    assert "<h3>samples</h3>" not in page


def test_the_mean_of_what_theory_expects_is_dashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = sweep(tmp_path)
    assert "dashed: theory" not in text_of(written(runs, tmp_path))
    monkeypatch.setattr(page_module, "expected_series", lambda run, last: {W2: np.linspace(0.2, 0.3, last + 1)})
    assert text_of(written(runs, tmp_path)).count("dashed: theory.") == 1


def test_the_recursion_of_curation_is_computed_for_no_more_seeds_than_there_is_time_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def expected(run: Run, last: int) -> dict[str, np.ndarray]:
        asked.append(run.name)
        return {W2: np.linspace(0.2, 0.3, last + 1)}

    monkeypatch.setattr(page_module, "expected_series", expected)
    monkeypatch.setattr(page_module, "MOST_CURATED", 16)  # two settings of four generations: two seeds of each
    runs = sweep(tmp_path, facts={"choices": 2})
    assert "dashed: theory, of 2 seeds" in text_of(written(runs, tmp_path))
    assert sorted(asked) == sorted(run.name for run in (*runs[:2], *runs[4:6]))


def test_settings_without_a_seed_in_common_have_no_differences(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / f"g{g}", config(seed=g, strength=float(g)), shifted(g)) for g in range(2)]
    page = written(runs, tmp_path)
    assert "No paired differences: no other setting has a seed of γ = 0." in text_of(page)
    assert "Differences to" not in page


def test_the_admissible_region_has_a_dot_for_each_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    drawn = page_module.admissible_region
    monkeypatch.setattr(page_module, "admissible_region", lambda points: (asked.extend(points), drawn(points))[1])
    runs = [
        run_of(tmp_path / f"g{g}", config(strength=g), facts={"strength": g, "synthetic_ratio": 0.5})
        for g in (0.3, 2.0)
    ]
    runs.append(run_of(tmp_path / "plain", config(strength=None), facts={"synthetic_ratio": 0.5}))
    assert "Admissible region" in written(runs, tmp_path)
    assert asked == [(0.0, 0.5), (0.3, 0.5), (2.0, 0.5)]
    curated = {"generations": 3, "synthetic_ratio": 0.5, "stages": [{"name": "k_choice", "choices": 2}]}
    other = run_of(tmp_path / "curated", config(loop=curated), facts={"synthetic_ratio": 0.5, "choices": 2})
    assert "Admissible region" not in written([other], tmp_path)


def test_hundreds_of_generations_stay_a_small_page(tmp_path: Path) -> None:
    def many(t: int, generator: np.random.Generator) -> Mapping[str, Any]:
        return {f"metric{k}": generator.normal() for k in range(10)}

    runs = [
        run_of(tmp_path / f"{g}-{seed}", config(strength=g, seed=seed), many, last=500)
        for g in range(4)
        for seed in range(2)
    ]
    assert len(written(runs, tmp_path)) < 1_000_000  # of 40 curves; a page of any number of them has five times that


def test_a_metric_that_is_never_finite_is_left_out(tmp_path: Path) -> None:
    def broken(t: int, generator: np.random.Generator) -> Mapping[str, Any]:
        return {
            "reward/mean": generator.normal(),
            "reward/var": "nan",
            "train/loss": "inf" if t == 2 else 1.0 / (t + 1),
        }

    page = written([run_of(tmp_path / "run", config(), broken)], tmp_path)
    assert "reward/var" not in page
    assert "nan" not in section(page, "Final values")
    assert math.isinf(Run(tmp_path / "run").rows()[2]["train/loss"])


def test_classes_are_named_where_all_runs_have_the_same(tmp_path: Path) -> None:
    def shares(t: int, generator: np.random.Generator) -> Mapping[str, Any]:
        return {"class_share/0": generator.random()}

    cats, dogs = (
        run_of(tmp_path / name, config(strength=g), shares, facts={"class_names": [name]})
        for name, g in (("cat", 0.1), ("dog", 0.2))
    )
    assert "share of cat" in text_of(written([cats], tmp_path))
    assert "share of class 0" in text_of(written([cats, dogs], tmp_path))
