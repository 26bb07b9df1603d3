"""What a run takes on the disk is told before it starts, and is about right."""

from __future__ import annotations

from pathlib import Path

import pytest

from sc_loops.cli import train
from sc_loops.run import Run

SMALL = ["loop.first={steps: 2}", "loop.later={steps: 2}", "wandb.mode=disabled", "trainer.accelerator=cpu"]


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("mog_curated", ["loop.generations=2", "model.steps=2", "evaluation.samples=500", "data.size=5000"]),
        pytest.param("mog_curated", ["loop.generations=5", "loop.keep.last=1"], marks=pytest.mark.slow),
        pytest.param(
            "digits_curated", ["loop.generations=2", "classifier.epochs=1", "model.steps=1"], marks=pytest.mark.slow
        ),
    ],
)
def test_the_estimate_is_about_what_the_run_takes(tmp_path, capfd, recipe: str, options: list[str]) -> None:
    """Within a third: it counts two checkpoints inside a generation, and a pool in the making, which then go."""
    assert train(["--config", recipe, f"output={tmp_path}", "name=run", *options, *SMALL]) == 0
    run = Run(tmp_path / "run")
    parts = (run.path / "pools", run.checkpoints)
    taken = sum(p.lstat().st_size for part in parts for p in part.rglob("*") if p.is_file() and not p.is_symlink())
    checkpoint = run.last_checkpoint.stat().st_size
    pool = sum(p.stat().st_size for p in run.pool(1).path.glob("chunk-*")) if run.pool(1).has_samples else 0
    expected = run.facts()["disk/expected_bytes"]
    assert taken < expected < 4 / 3 * (taken + 2 * checkpoint + pool + 0.2 * taken)
    assert "disk        about" in capfd.readouterr().out


def test_a_disk_that_is_too_small_is_refused_before_anything_is_done(small_disk: Path, capfd) -> None:
    assert train(["--config", "mog_curated", f"output={small_disk}", *SMALL]) == 2
    errors = capfd.readouterr().err
    assert "output" in errors
    assert "loop.keep.last" in errors
    assert not list(small_disk.iterdir())
