"""All observers on a real loop: what the loop records is what they look for."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import fit, tiny_loop

from sc_loops.reporting.dashboard import WandbDashboard
from sc_loops.reporting.report import HtmlReport
from sc_loops.reporting.terminal import Terminal


def test_the_observers_follow_a_loop(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    observers = [Terminal(), HtmlReport(), WandbDashboard()]
    loop = tiny_loop(tmp_path / "tiny", observers=observers)
    fit(loop)
    for observer in observers:
        observer.closed()
    out, err = capfd.readouterr()
    assert "dashboard:" not in err
    assert "report:" not in err
    lines = [line for line in out.splitlines() if line.startswith("gen ")]
    assert [line[:7] for line in lines] == ["gen 0/3", "gen 1/3", "gen 2/3", "gen 3/3"]
    assert all("loss" in line and "60 real" in line and "e^r" in line and "W2" in line for line in lines)
    assert out.rstrip().endswith(f"report  {loop.run.report_path}")
    page = loop.run.report_path.read_text(encoding="utf-8")
    assert "Finished · generation 3 of 3" in page
    for title in ("Mean of eʳ", "Reward by generation", "Wasserstein-2 distance", "Loss by step", "Time by phase"):
        assert f"<h3>{title}</h3>" in page
    assert "stroke-dasharray" in page
    assert len(list(loop.run.path.glob("wandb/offline-run-*/files/media/images/samples_*.png"))) == 4
