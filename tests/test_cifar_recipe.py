"""``cifar_curated`` on real CIFAR-10, with everything real but the sizes: it starts, is stopped, resumes, and runs on
two processes. Slow: some minutes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sc_loops.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

TRAIN = Path(__file__).resolve().parent.parent / "train.py"
BATCH, SAMPLES, CHUNK, KEPT = 32, 96, 32, 24
STEPS = {"first": 3, "later": 12}

# The paper's recipe but for width, sizes and budgets; the Inception weights cannot be had without a network.
NARROW = [
    f"batch_size={BATCH}",
    "classifier.epochs=1",
    "classifier.batch_size=32",
    "classifier.learning_rate=0.02",  # 0.1 is too much for so few steps
    "data.train_size=1000",
    "data.test_size=500",
    "evaluation.metrics=[]",
    "evaluation.samples=64",
    "model.network.channels=32",
    "model.network.head_channels=32",
    "model.steps=2",
    "model.network_batch=32",
    "loop.generations=1",
    f"loop.samples={SAMPLES}",
    f"loop.chunk_size={CHUNK}",
    f"loop.stages.0.kept={KEPT}",
    f"loop.first={{steps: {STEPS['first']}, warmup_steps: 2, horizontal_flips: true}}",
    f"loop.later={{steps: {STEPS['later']}}}",
    "loop.checkpoint_steps=1",
    "loop.preview=4",
    "trainer.accelerator=cpu",
    "trainer.devices=1",
    "wandb.mode=disabled",
]


def command(root: Path, output: Path, *overrides: str) -> list[str]:
    where = [f"data.root={root}", f"output={output}", "name=run"]
    return [sys.executable, str(TRAIN), "--config", "cifar_curated", *NARROW, *where, *overrides]


def finish(root: Path, output: Path, *overrides: str) -> Run:
    done = subprocess.run(command(root, output, *overrides), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Run(output / "run")


@pytest.fixture(scope="module")
def undisturbed(cifar_root: Path, tmp_path_factory) -> Run:
    return finish(cifar_root, tmp_path_factory.mktemp("undisturbed"))


def measured(run: Run) -> list[dict[str, object]]:
    """The rows of the generations without what depends on the clock."""
    return [{k: v for k, v in row.items() if "second" not in k} for row in run.rows()]


def test_it_trains_samples_and_curates(undisturbed: Run) -> None:
    rows = undisturbed.rows()
    assert [row["generation"] for row in rows] == [0, 1]
    assert [row["items_seen"] for row in rows] == [3 * BATCH, 15 * BATCH]
    assert [row["synthetic_items"] for row in rows] == [0, KEPT]
    assert [row["nfe"] for row in rows] == [4, 4]
    for row in rows:
        assert 0 < row["reward/mean"] < 5
        assert "frechet_distance/cifar10_vgg11_bn" in row
    pool = undisturbed.pool(0).samples()
    assert pool.x.dtype == torch.uint8
    assert pool.x.shape == (KEPT, 3, 32, 32)
    chosen = pool.columns["index"] // CHUNK  # each chunk left its share, of its own samples
    assert chosen.bincount().tolist() == [KEPT * CHUNK // SAMPLES] * (SAMPLES // CHUNK)
    assert {
        f"classifier/{name}" for name in ("test_accuracy", "balanced_test_accuracy")
    } <= undisturbed.facts().keys()


def test_stopped_inside_a_generation_it_goes_on_to_the_same_end(
    cifar_root: Path, tmp_path: Path, undisturbed
) -> None:
    process = subprocess.Popen(command(cifar_root, tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    saved = tmp_path / "run" / "checkpoints"
    try:
        while process.poll() is None and not list(saved.glob("generation-0001-step-*.ckpt")):
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=300) == 143
    finally:
        process.kill()
    assert len(Run(tmp_path / "run").rows()) == 1
    run = finish(cifar_root, tmp_path)
    assert measured(run) == measured(undisturbed)
    for generation in (0, 1):
        ours, theirs = (each.pool(generation).samples() for each in (run, undisturbed))
        assert torch.equal(ours.x, theirs.x)


def test_two_processes_share_the_global_batch(cifar_root: Path, tmp_path: Path, undisturbed: Run) -> None:
    run = finish(cifar_root, tmp_path, "trainer.devices=2", "trainer.strategy=ddp")
    counts = ("items_seen", "real_items", "synthetic_items", "samples", "pool_items", "nfe")
    for ours, theirs in zip(run.rows(), undisturbed.rows(), strict=True):
        assert {k: ours[k] for k in counts} == {k: theirs[k] for k in counts}
        # Items and their noise are the same; the times t and the dropout are each rank's own.
        assert ours["train/loss"] == pytest.approx(theirs["train/loss"], rel=0.2)
    assert run.facts()["batch_size"] == BATCH
    assert os.path.getsize(run.pool(0).path / "manifest.json") > 0
