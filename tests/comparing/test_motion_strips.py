"""Motions on the page that compares runs."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import torch
from made_up_runs import config, run_of
from PIL import Image

from sc_loops.comparing.page import write_comparison
from sc_loops.comparing.record import read
from sc_loops.comparing.settings import settings_of
from sc_loops.comparing.strips import MOTIONS, strips
from sc_loops.data.motion_record import write_motions
from sc_loops.data.motions import Motions
from sc_loops.data.real import RealData
from sc_loops.reporting.motion_pictures import written
from sc_loops.run import Run
from sc_loops.samples import Samples

SEVERAL = 4


def motions_run(path: Path, strength: float | None) -> Run:
    """Previews of random vectors under four captions."""
    metrics = {"physical/error/real": 18.0, "frechet_distance/motion_text/real": 0.5}
    made = run_of(
        path,
        config(strength=strength),
        lambda t, _: {"physical/error": 20.0 + t, "frechet_distance/motion_text": 3.0 + t, **metrics},
        facts={"data/kind": "motions"},
    )
    motions, rows = Motions.of_clips(
        [f"clip {i}" for i in range(SEVERAL)],
        [[f"caption {i}"] for i in range(SEVERAL)],
        [20] * SEVERAL,
        torch.zeros(263),
        torch.ones(263),
    )
    x = torch.randn(SEVERAL, 20, 263, generator=torch.Generator().manual_seed(0)) * 0.1
    samples = Samples(x, rows)
    write_motions(path, RealData(samples, samples, "motions", motions=motions))
    for t in range(4):
        made.pool(t).write_preview(Samples(x * t, rows))
    return made


def test_strips_of_motions_stand_side_by_side_with_their_captions(tmp_path: Path) -> None:
    runs = [motions_run(tmp_path / f"run-{strength}", strength) for strength in (None, 1.0)]
    found = strips(settings_of(read(runs)).all)
    assert found is not None
    assert found.kind == "motions"
    assert [t for t, _ in found.rows] == [0, 1, 2, 3]
    assert all(None not in pictures and len(pictures) == 2 for _, pictures in found.rows)
    source = found.rows[1][1][0]
    assert source is not None
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).convert("RGB"))
    beneath = len(written("caption 0", picture.shape[1]))
    assert picture.shape[0] == MOTIONS * (120 + beneath)
    assert found.rows[1][1][0] == found.rows[1][1][1]  # the same samples
    assert found.rows[1][1][0] != found.rows[2][1][0]


def test_the_real_datas_own_values_are_no_metric_of_the_runs(tmp_path: Path) -> None:
    runs = [motions_run(tmp_path / f"run-{strength}", strength) for strength in (None, 1.0)]
    page = write_comparison(runs, tmp_path / "out", title="motions").read_text(encoding="utf-8")
    assert "<h3>physical error</h3>" in page
    assert "<h3>FD motion_text</h3>" in page
    assert "/real" not in page
    assert "Penetration, floating and skating added up, in mm; real data: 18.0." in page
    assert "physical/error/real" in (tmp_path / "out" / "comparison.csv").read_text(encoding="utf-8")
