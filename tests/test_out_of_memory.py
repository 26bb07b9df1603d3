"""Memory that runs out: a message with the sizes to lower, and a run that goes on with a smaller one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sc_loops.cli import train
from sc_loops.out_of_memory import explained
from sc_loops.run import Run

TRAIN = Path(__file__).resolve().parent.parent / "train.py"

# The allocation is a real one, of more than any machine has. It fails as it would on a full GPU, in the network: in
# training from generation 1 on, or in sampling, if more than 8 samples go through it at once.
NETWORK = """
import torch
from sc_loops import TimeMLP

class Hungry(TimeMLP):
    where = "{where}"

    def forward(self, t, x, y=None):
        if len(x) > 8 and self.where == ("training" if torch.is_grad_enabled() else "sampling"):
            torch.empty(2**58)
        return super().forward(t, x, y)
"""

CONFIG = """
data: {name: two_moons, size: 200, test_size: 40}
batch_size: 20
model: {name: flow_matching, steps: 2, network: {name: "my_network:Hungry", width: 8, depth: 1}}
loop:
  generations: 1
  synthetic_ratio: 0.5
  first: {steps: 3}
  later: {steps: 3}
  chunk_size: 100
  preview: 4
evaluation: {samples: 40}
trainer: {accelerator: cpu}
wandb: {mode: disabled}
"""


@pytest.mark.parametrize("where", ["training", "sampling"])
def test_the_message_names_the_sizes_and_a_smaller_one_continues(where: str, tmp_path: Path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("my_network.py").write_text(NETWORK.format(where=where))
    Path("tiny.yaml").write_text(CONFIG)
    assert train(["--config", "tiny.yaml"]) == 1
    errors = capfd.readouterr().err
    for part in (
        "no memory left",
        "batches of 20 (batch_size)",
        "chunks of 100 samples (loop.chunk_size)",
        "all at once go through the network (model.network_batch)",
        "model.network_batch=10",
        "What was finished is saved",
    ):
        assert part in errors
    assert "Traceback" not in errors
    trained = Path("runs/tiny/checkpoints/generation-0000.ckpt")
    assert trained.exists() == (where == "sampling")
    before = trained.stat().st_mtime_ns if trained.exists() else None

    assert train(["--config", "tiny.yaml", "model.network_batch=8"]) == 0, capfd.readouterr().err
    assert [row["generation"] for row in Run(Path("runs/tiny")).rows()] == [0, 1]
    assert before is None or trained.stat().st_mtime_ns == before  # nothing was trained again


REWARD = """
import torch

def greedy(x):
    if len(x) > 50:
        torch.empty(2**58)
    return x[:, 0]
"""


def test_a_reward_that_runs_out_gets_a_whole_chunk(tmp_path: Path, monkeypatch, capfd):
    """network_batch would not help it."""
    monkeypatch.chdir(tmp_path)
    Path("my_reward.py").write_text(REWARD)
    Path("tiny.yaml").write_text(CONFIG.replace('"my_network:Hungry"', "mlp"))
    assert train(["--config", "tiny.yaml", "reward=my_reward:greedy"]) == 1
    errors = capfd.readouterr().err
    assert "the reward in generation 0, chunk 0" in errors
    assert "loop.chunk_size" in errors
    assert "network_batch" not in errors


def test_one_at_a_time_cannot_be_halved():
    error = explained(MemoryError(), batch=8, share=8, chunk=100, network_batch=1)
    assert "network_batch=" not in error.do
    assert "network_batch=4" in explained(MemoryError(), batch=64, share=8, chunk=100, network_batch=None).do
    other = ValueError("something else")
    assert explained(other, batch=8, share=8, chunk=100, network_batch=1) is other


@pytest.mark.slow
def test_a_rank_that_runs_out_names_the_sizes_too(tmp_path: Path):
    (tmp_path / "my_network.py").write_text(
        NETWORK.format(where="training").replace("len(x) > 8", 'os.environ.get("LOCAL_RANK") == "1"')
    )
    network = (tmp_path / "my_network.py").read_text()
    (tmp_path / "my_network.py").write_text("import os\n" + network)
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    command = [sys.executable, str(TRAIN), "--config", "tiny.yaml", "trainer.devices=2", "trainer.strategy=ddp"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "rank 1: memory" in done.stderr
    assert "model.network_batch=5" in done.stderr  # half of its share of 10
