from __future__ import annotations

import base64
import html
import io
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from fabricated_motions import CAPTIONS, LENGTHS, fabricate_motions, motion_data, motion_row, walk
from PIL import Image

from sc_loops.correction.physics.outcome import STATUSES
from sc_loops.data.files import write_samples
from sc_loops.motion.drawing import gif
from sc_loops.reporting.dashboard import _media
from sc_loops.reporting.history import recorded_motions, shown_motions
from sc_loops.reporting.motion_pictures import caption_of, distinct, joints_of, sheet, written
from sc_loops.reporting.motion_section import scenes
from sc_loops.reporting.pictures import Camera
from sc_loops.reporting.report import write_report
from sc_loops.reporting.terminal import banner, status_line
from sc_loops.reporting.wording import family, symbol
from sc_loops.run import Run
from sc_loops.samples import Samples


def content(source: str) -> bytes:
    return base64.b64decode(source.partition(",")[2])


def test_the_record_holds_what_pictures_need(tmp_path: Path) -> None:
    run, data = fabricate_motions(tmp_path / "run", generations=0), motion_data()
    motions, known = recorded_motions(run), data.motions
    assert motions is not None
    assert known is not None
    for name in ("captions", "names", "action_names"):
        assert getattr(motions, name) == getattr(known, name)
    for name in ("first", "count", "lengths", "mean", "std"):
        torch.testing.assert_close(getattr(motions, name), getattr(known, name), rtol=0, atol=0)
    assert motions.actions is None
    shown = shown_motions(run)
    assert shown is not None
    assert caption_of(motions, shown, 1) == CAPTIONS[1][0]
    np.testing.assert_allclose(joints_of(motions, shown, 2), walk(45, speed=1.2, swing=0.46)[:44], atol=1e-5)
    assert [len(joints_of(motions, shown, i)) for i in range(5)] == LENGTHS[:5]
    assert run.facts()["data/left_out"] == ["3 clips: NaN"]


def test_data_without_motions_records_none_of_it(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert recorded_motions(run) is None
    assert shown_motions(run) is None
    assert scenes(run, [motion_row(0)]) == []


def test_the_report_shows_real_generated_and_corrected_side_by_side(tmp_path: Path) -> None:
    run = fabricate_motions(tmp_path / "run", generations=3)
    found = scenes(run, run.rows())
    assert [scene.caption for scene in found] == [own[0] for own in CAPTIONS[:4]]
    titles = ["real", "generation 3, raw", "pool of generation 3: kinematic, error 23.0 → 5.00 mm"]
    assert [film.title for film in found[0].films] == titles
    assert [s.title for s in found[0].strips] == ["real", *(f"generation {t}" for t in range(4))]
    assert found[1].films[2].title.startswith("pool of generation 3: valid")

    motions, shown = recorded_motions(run), shown_motions(run)
    assert motions is not None
    assert shown is not None
    real = [content(scene.films[0].source) for scene in found]
    assert real == [gif(joints_of(motions, shown, i)) for i in range(4)]
    assert real[0] == content(found[0].films[2].source)  # the pool holds the real clips here
    assert real[0] != content(found[0].films[1].source)
    assert found[0].strips[0].source == found[0].strips[1].source  # generation 0 has not sunk yet
    assert len({strip.source for strip in found[0].strips}) == 4

    page = write_report(run).read_text(encoding="utf-8")
    assert len(page) < 2_000_000
    assert page.count("data:image/gif;base64,") == 4 * 3
    assert page.count("data:image/png;base64,") == 4 * 5
    assert all(f"“{own[0]}”" in page for own in CAPTIONS[:4])
    assert "<li>3 clips: NaN</li>" in page


def test_the_panels_show_the_real_datas_own_values_and_the_tables_do_not(tmp_path: Path) -> None:
    run = fabricate_motions(tmp_path / "run", generations=2, pools=False)
    page = write_report(run).read_text(encoding="utf-8")
    titles = [html.unescape(title) for title in re.findall(r"<figure><h3>(.*?)</h3>", page)]
    wanted = [
        "Status of correction", "Physical error and correction", "Fréchet distance (motion_text)",
        "R-precision (motion_text)", "Matching score (motion_text)", "Diversity (motion_text)", "Physical error",
        "Penetration", "Floating", "Skating", "Jerk", "Self-penetration",
    ]  # fmt: skip
    assert [title for title in titles if title in wanted] == wanted
    for title in wanted[2:]:
        panel = page.split(f"<figure><h3>{title}</h3>")[1].split("</figure>")[0]
        assert "stroke-dasharray" in panel, title
    keys = re.findall(r'<th title="(.*?)">', page)
    assert "physical/error" in keys
    assert not [key for key in keys if key.endswith("/real")]
    assert "penetration, floating and skating added up, in mm; real data: 18.0" in page
    key_numbers = page.split("<h2>Key numbers</h2>")[1].split("</section>")[0]
    assert "error before" in key_numbers
    assert "status" not in key_numbers
    assert "rejected</text>" not in page  # of no motion


@pytest.mark.parametrize("conditional", [True, False])
def test_one_preview_is_enough_and_captions_are_not_needed(tmp_path: Path, conditional: bool) -> None:
    run = fabricate_motions(tmp_path / "run", generations=1, previews=1, conditional=conditional)
    (scene,) = scenes(run, run.rows())
    assert scene.caption == (CAPTIONS[0][0] if conditional else "")
    assert len(scene.films) == (3 if conditional else 1)
    camera = Camera.of(run)
    assert camera is not None
    picture = camera.take(1)
    assert picture is not None
    assert picture.shape[1] == camera.take_real().shape[1]  # type: ignore[union-attr]
    assert write_report(run).exists()


def test_what_was_deleted_or_never_recorded_is_not_shown(tmp_path: Path) -> None:
    run = fabricate_motions(tmp_path / "run", generations=1)
    run.pool(1).remove_samples()
    assert [film.title for film in scenes(run, run.rows())[0].films] == ["real", "generation 1, raw"]
    (run.path / "real_shown.safetensors").unlink()
    assert [film.title for film in scenes(run, run.rows())[0].films] == ["generation 1, raw"]
    (run.path / "captions.json").unlink()
    assert Camera.of(run) is None
    assert "Physical error" in write_report(run).read_text(encoding="utf-8")


def test_from_the_pool_corrected_motions_are_shown_first(tmp_path: Path) -> None:
    run = fabricate_motions(tmp_path / "run", generations=0, previews=1)
    pool, chunk = run.pool(0), run.pool(0).chunk(0)
    statuses = [-1, STATUSES.index("valid"), STATUSES.index("soft"), STATUSES.index("valid")]
    same = chunk[torch.zeros(4, dtype=torch.long)]  # all of the first caption

    def title_with(picked: list[int]) -> str:
        before = torch.tensor([math.nan if statuses[i] < 0 else 10.0 * i for i in picked])
        columns = {"status": torch.tensor([statuses[i] for i in picked]), "error_before": before}
        kept = same[: len(picked)].with_columns(**columns, error_after=before.clamp(max=25))
        write_samples(pool.path / "chunk-00000.safetensors", kept)
        return scenes(run, run.rows())[0].films[2].title

    assert title_with([0, 1, 2, 3]) == "pool of generation 0: soft, error 20.0 mm"
    assert title_with([0, 3, 1]) == "pool of generation 0: valid, error 30.0 → 25.0 mm"
    assert title_with([0]) == "pool of generation 0: not picked for correction"


def test_previews_of_one_clip_are_shown_once() -> None:
    motions = motion_data().motions
    assert motions is not None
    samples = Samples(torch.zeros(5, 60, 263), torch.tensor([1, 0, 1, 4, 3]))  # rows 0 and 1 are of one clip
    assert distinct(motions, samples) == [0, 3, 4]
    assert distinct(motions, samples, most=2) == [0, 3]
    assert distinct(motions, Samples(samples.x), most=2) == [0, 1]


def test_a_picture_has_the_captions_beneath() -> None:
    data = motion_data()
    assert data.motions is not None
    picture = sheet(data.motions, data.train, most=2, poses=4)
    beneath = [written(own[0], picture.shape[1]) for own in CAPTIONS[:2]]
    assert picture.shape[0] == 240 + sum(map(len, beneath))
    np.testing.assert_array_equal(picture[120 : 120 + len(beneath[0])], beneath[0])
    assert len(beneath[1]) == len(beneath[0]) + 16  # two lines
    assert len(written("long " * 500, 300)) == len(beneath[1])
    assert (written("", 300) == 255).all()


def test_the_dashboard_gets_a_film_with_its_captions(tmp_path: Path) -> None:
    run = fabricate_motions(tmp_path / "run", generations=0)
    media = _media(run, 0)
    video = media["motions"]
    image = Image.open(io.BytesIO(Path(video._path).read_bytes()))
    assert (image.format, image.size) == ("GIF", (4 * 160, 160))
    assert image.n_frames == LENGTHS[1] // 2  # type: ignore[attr-defined]
    assert video._caption == " | ".join(own[0] for own in CAPTIONS[:4])
    assert "samples" in media


def test_the_terminal_says_what_was_left_out_and_how_physical_motions_are(tmp_path: Path) -> None:
    run = fabricate_motions(tmp_path / "run", generations=1, pools=False)
    assert "left out    3 clips: NaN" in banner(run, 1, 0).plain
    run.record({"fact": True, "data/left_out": [f"reason {i}" for i in range(11)]})
    text = banner(run, 1, 0).plain
    assert "reason 7" in text
    assert "reason 8" not in text
    assert "and 3 more, see the report" in text
    rows = run.rows()
    line = status_line(rows[1], rows[0], generations=1).plain
    assert re.search(r"FD +2.00 \(\+1.00\) +error mm +20.0 \(\+2.0\) +diversity +5.70 \(-0.30\) +valid +50 %", line)
    only_real = {"generation": 0, "frechet_distance/motion_text/real": 0.3, "diversity/motion_text/real": 1.0}
    assert "FD" not in status_line(only_real, None, generations=1).plain


def test_keys_are_named_by_the_longest_entry_they_start_with() -> None:
    assert family("correction/status/kinematic") == "correction/status"
    assert symbol("correction/status/kinematic") == "status kinematic"
    assert symbol("physical/error") == "physical error"
    assert symbol("r_precision_3/motion_text") == "R@3 motion_text"
    assert family("unknown/of/all") == "unknown"
