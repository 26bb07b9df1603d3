"""Two processes: the loop runs under DDP, and the pool does not depend on how many made it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sc_loops import Run

TRAIN = Path(__file__).parent.parent / "train.py"
TINY = """
data: {name: two_moons, size: 200, test_size: 60}
batch_size: 32
classifier: nearest_mean
reward: {name: clipped_distance, center: [0.0, 1.0]}
model: {name: flow_matching, network: {name: mlp, width: 16}}
loop:
  generations: 1
  synthetic_ratio: 1
  stages: [{name: k_choice, choices: 2}]
  first: {steps: 6}
  later: {passes: 1}
  chunk_size: 60
wandb: {mode: disabled}
trainer: {accelerator: cpu}
"""


def train(folder: Path, *arguments: str) -> str:
    command = [sys.executable, str(TRAIN), "--config", "tiny.yaml", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_pool_of_the_same_weights_is_the_same_from_one_and_from_two_processes(tmp_path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    train(tmp_path, "name=start", "loop.generations=0", "trainer.devices=1")
    start = f"loop.start={Run(tmp_path / 'runs/start').checkpoint(0)}"
    two = ("trainer.devices=2", "trainer.strategy=ddp")
    train(tmp_path, "name=one", start, "loop.generations=0", "trainer.devices=1")
    train(tmp_path, "name=two", start, "loop.generations=0", *two)
    one, other = (Run(tmp_path / "runs" / name).pool(0).path for name in ("one", "two"))
    assert {p.name: p.read_bytes() for p in one.iterdir()} == {p.name: p.read_bytes() for p in other.iterdir()}


@pytest.mark.slow
def test_two_processes_train_and_fresh_starts_one_run_beside_the_old(tmp_path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    two = ("trainer.devices=2", "trainer.strategy=ddp")
    train(tmp_path, *two)
    train(tmp_path, "--fresh", *two)
    runs = sorted(path.name for path in (tmp_path / "runs").iterdir() if path.name.startswith("tiny"))
    assert runs == ["tiny", "tiny-2"]
    first, second = (Run(tmp_path / "runs" / name) for name in runs)
    assert [row["generation"] for row in second.rows()] == [0, 1]
    assert [row["items_seen"] for row in second.rows()] == [6 * 32, (6 + 13) * 32]
    assert first.rows()[1]["wasserstein_2"] == second.rows()[1]["wasserstein_2"]
