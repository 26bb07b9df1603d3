"""A batch in parts on two processes is the batch of one: the exchange of gradients comes once, after all parts. Slow:
real processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

TRAIN = Path(__file__).resolve().parents[2] / "train.py"

MODEL = """
from torch import nn
from sc_loops import GenerativeModel, RealData

class Noiseless(GenerativeModel):
    def __init__(self, data: RealData, *, network_batch: int | None = None):
        super().__init__(network_batch=network_batch, learning_rate=0.01)
        self.network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))

    def loss(self, batch):
        return (self.network(batch.x) - batch.x.flip(1)).square().mean()

    def sample(self, generator, n, condition=None):
        return self.network(batch_of(n, generator))

def batch_of(n, generator):
    import torch
    return torch.randn(n, 2, generator=generator)
"""

CONFIG = """
data: {name: two_moons, size: 200, test_size: 40}
batch_size: 32
model: {name: "my_noiseless:Noiseless"}
loop: {generations: 1, synthetic_ratio: 0.5, first: {steps: 6}, later: {steps: 6}, chunk_size: 100, preview: 4}
evaluation: {samples: 40}
trainer: {accelerator: cpu, devices: 1, gradient_clip_val: 0.5}
wandb: {mode: disabled}
"""


@pytest.mark.slow
def test_parts_and_processes_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "my_noiseless.py").write_text(MODEL)
    (tmp_path / "noiseless.yaml").write_text(CONFIG)
    ways = {
        "whole": [],
        "parts": ["model.network_batch=5"],
        "two": ["trainer.devices=2", "trainer.strategy=ddp"],
        "both": ["model.network_batch=5", "trainer.devices=2", "trainer.strategy=ddp"],
    }
    weights = {}
    for name, overrides in ways.items():
        command = [sys.executable, str(TRAIN), "--config", "noiseless.yaml", f"name={name}", *overrides]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        path = tmp_path / "runs" / name / "checkpoints" / "generation-0001.ckpt"
        weights[name] = torch.load(path, weights_only=True)["state_dict"]
    for name in ("parts", "two", "both"):
        for key, expected in weights["whole"].items():
            torch.testing.assert_close(weights[name][key], expected, rtol=1e-5, atol=1e-7)
