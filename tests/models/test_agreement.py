"""Several processes sample one model, also where training changes buffers: rank 0's are everybody's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import TinyModel, fit, tiny_loop
from torch import nn

from sc_loops import Run
from sc_loops.data.files import read_metadata
from sc_loops.errors import RunError
from sc_loops.models.agreement import take_buffers_of_rank_0
from sc_loops.pool_maker import PoolMaker
from sc_loops.processes import Processes

TRAIN = Path(__file__).resolve().parents[2] / "train.py"


class WithState(nn.Module):
    """Buffers of all kinds: running statistics, a count without dimensions, a mask, one that is not laid out in its
    own order, an empty one, one that is not saved, a code book that is a frozen weight, and a trained weight."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.norm = nn.BatchNorm1d(3)
        self.norm.running_mean.normal_(generator=draw)
        self.norm.num_batches_tracked.fill_(seed)
        self.register_buffer("mask", torch.rand(5, generator=draw) > 0.5)
        self.register_buffer("turned", torch.randn(2, 3, generator=draw).T)
        self.register_buffer("empty", torch.zeros(0))
        self.register_buffer("passing", torch.randn(2, generator=draw).double(), persistent=False)
        self.codes = nn.Parameter(torch.randn(2, 2, generator=draw), requires_grad=False)
        self.trained = nn.Parameter(torch.randn(2, generator=draw))


def test_all_but_the_trained_weights_is_taken_from_rank_0(monkeypatch: pytest.MonkeyPatch) -> None:
    """The collective is played: first as in rank 0, which sends, and then as in rank 1, which is sent the same."""
    first, second, sent = WithState(1), WithState(2), []
    own = second.trained.detach().clone()
    before = {name: tensor.clone() for name, tensor in first.state_dict().items()}
    for name, answer in (("is_available", True), ("is_initialized", True), ("get_world_size", 2)):
        monkeypatch.setattr(torch.distributed, name, lambda answer=answer: answer)
    monkeypatch.setattr(torch.distributed, "broadcast", lambda tensor, src: sent.append(tensor.clone()))
    take_buffers_of_rank_0(first)
    monkeypatch.setattr(torch.distributed, "broadcast", lambda tensor, src: tensor.copy_(sent.pop(0)))
    take_buffers_of_rank_0(second)
    assert not sent
    for name, tensor in [*first.named_buffers(), ("codes", first.codes)]:
        assert torch.equal(second.get_buffer(name) if name != "codes" else second.codes, tensor), name
    assert torch.equal(second.trained, own)
    assert all(torch.equal(tensor, before[name]) for name, tensor in first.state_dict().items())


def test_one_process_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "broadcast", None)
    take_buffers_of_rank_0(WithState(1))


@pytest.mark.parametrize("same", [True, False])
def test_a_rank_with_another_model_ends_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, same: bool) -> None:
    """As rank 1 sees it: rank 0 decided that it has such weights."""
    model = TinyModel()
    theirs = model.weights_digest() if same else "of another model"
    monkeypatch.setattr(Processes, "decided", lambda self, decide: theirs)
    maker = PoolMaker(Run(tmp_path).pool(3), [], None, None, Processes(rank=1))  # type: ignore[arg-type]
    if same:
        maker._require_one_model(model.weights_digest(), 3)
        return
    with pytest.raises(RunError, match=r"generation 3\n.*rank 1 has other weights"):
        maker._require_one_model(model.weights_digest(), 3)


def test_no_chunk_is_made_before_the_weights_were_compared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []
    monkeypatch.setattr(PoolMaker, "_require_one_model", lambda self, weights, t: asked.append((t, weights)))
    model = fit(tiny_loop(tmp_path, generations=1))
    assert [t for t, _ in asked] == [0, 1]
    assert asked[1][1] == model.weights_digest() == Run(tmp_path).pool(1).manifest["weights"]


# Two real processes.

MODEL = """
import os, torch
from torch import nn
from sc_loops import GenerativeModel

class Normed(GenerativeModel):
    calls = 0

    def __init__(self, data, *, learning_rate: float = 1e-2):
        super().__init__(learning_rate=learning_rate)
        self.network = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2))
        self.register_buffer("centre", torch.zeros(2))
        self.codes = nn.Parameter(torch.zeros(2), requires_grad=False)

    def loss(self, batch):
        Normed.calls += 1
        if Normed.calls == int(os.environ.get("FAIL_AT", "0")):
            raise RuntimeError("as the test wants it")
        with torch.no_grad():
            self.centre = 0.5 * (self.centre + batch.x.mean(0))
            self.codes.lerp_(batch.x.mean(0), 0.1)
        return (self.network(torch.randn_like(batch.x)) - batch.x + self.centre).square().mean()

    def sample(self, generator, n, condition=None):
        return self.network(torch.randn(n, 2, generator=generator)) + self.centre + self.codes
"""

CONFIG = """
data: {name: two_moons, size: 200, test_size: 40}
batch_size: 32
model: {name: "my_normed:Normed"}
loop:
  generations: 1
  synthetic_ratio: 1
  first: {steps: 9}
  later: {steps: 9}
  chunk_size: 50
  preview: 4
  checkpoint_steps: 4
evaluation: {samples: 40}
trainer: {accelerator: cpu, devices: 2, strategy: ddp}
wandb: {mode: disabled}
"""


@pytest.mark.slow
def test_two_processes_sample_the_model_of_the_checkpoint_and_a_resumed_run_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "my_normed.py").write_text(MODEL)
    (tmp_path / "normed.yaml").write_text(CONFIG)

    def train(name: str, **variables: str) -> Run:
        command = [sys.executable, str(TRAIN), "--config", "normed.yaml", f"name={name}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
        assert bool(done.returncode) == bool(variables), done.stderr
        return Run(tmp_path / "runs" / name)

    whole = train("whole")
    for generation in (0, 1):
        chunks = sorted(whole.pool(generation).path.glob("chunk-*.safetensors"))
        assert len(chunks) == 4
        assert {read_metadata(c)["weights"] for c in chunks} == {whole.pool(generation).manifest["weights"]}
    train("cut", FAIL_AT="16")
    cut = Run(tmp_path / "runs/cut")
    assert cut.last_checkpoint.resolve().name.startswith("generation-0001-step")
    train("cut")
    for generation in (0, 1):
        files = [{p.name: p.read_bytes() for p in run.pool(generation).path.iterdir()} for run in (whole, cut)]
        assert files[0] == files[1]
