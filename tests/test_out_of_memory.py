"""Memory that runs out: a message with the sizes to lower, and a run that goes on with a smaller one."""

from __future__ import annotations

from pathlib import Path

import pytest

from sc_loops.cli import train
from sc_loops.run import Run

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
