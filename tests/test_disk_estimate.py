"""What a run takes on the disk is told before it starts, and is about right."""

from __future__ import annotations

from pathlib import Path

import pytest

from sc_loops.cli import train
from sc_loops.disk import used_bytes
from sc_loops.experiment import build, resolved_config
from sc_loops.processes import Processes
from sc_loops.run import Run
from sc_loops.start import carry_out

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


@pytest.mark.parametrize(
    "options",
    [
        ["data.dimensions=200", "model.replicas=1", "loop.memory=replace"],  # a covariance in each checkpoint
        ["model={name: kde}", "data.dimensions=50", "data.size=400", "loop.memory=accumulate"],  # and all its items
    ],
)
def test_the_estimate_counts_what_a_closed_form_fits(tmp_path, options: list[str]) -> None:
    keep = "loop.keep={last: null, every: null, hold_seconds: null}"
    common = [f"output={tmp_path}", "name=run", "loop.generations=5", keep]
    run, resolved = Run(tmp_path / "run"), resolved_config("accumulate_vs_replace", [*common, *options])
    experiment = build(resolved, run)
    experiment.check()
    experiment.prepare(Processes())
    carry_out(experiment, run, resolved, Processes(), observers=[])
    expected, taken = experiment.loop.facts["disk/expected_bytes"], used_bytes(run)
    checkpoint = run.checkpoint(5).stat().st_size
    assert taken < expected < 1.15 * taken + 2 * checkpoint


def test_a_disk_that_is_too_small_is_refused_before_anything_is_done(small_disk: Path, capfd) -> None:
    assert train(["--config", "mog_curated", f"output={small_disk}", *SMALL]) == 2
    errors = capfd.readouterr().err
    assert "output" in errors
    assert "loop.keep.last" in errors
    assert not list(small_disk.iterdir())
