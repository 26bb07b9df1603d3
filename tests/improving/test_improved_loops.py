"""Improvements in a loop: what is sampled, what is trained, and that stopping or losing a file changes nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import first_coordinate
from improved_runs import SMALL, looped, pools, rows
from tiny_flows import DATA, trained

from sc_loops import SIMS, Neon, Observer, Run
from sc_loops.cli import train
from sc_loops.data.files import read_tensors
from sc_loops.disk import Keep
from sc_loops.errors import Stopped

KINDS = pytest.mark.parametrize("kind", [SIMS, Neon])


def weights(run: Run, generation: int) -> dict[str, torch.Tensor]:
    content = torch.load(run.checkpoint(generation), weights_only=True)
    return content["state_dict"] | {str(i): t for i, t in enumerate(content["ema"]["shadow"])}


@KINDS
def test_omega_0_is_the_loop_without_an_improvement(kind, tmp_path) -> None:
    plain = looped(tmp_path / "plain", None)
    run = looped(tmp_path / "zero", kind(DATA, **SMALL, omega=0.0))
    assert pools(run) == pools(plain)
    kept = [{k: v for k, v in row.items() if not k.startswith("improvement/")} for row in rows(run)]
    assert kept == rows(plain)


@KINDS
def test_the_next_generation_trains_from_the_base(kind, tmp_path) -> None:
    """Without synthetic data the weights are those of the plain loop, whatever was sampled in between."""
    plain = looped(tmp_path / "plain", None, synthetic_ratio=0.0)
    run = looped(tmp_path / "improved", kind(DATA, **SMALL, omega=2.0), synthetic_ratio=0.0)
    for t in range(3):
        for name, tensor in weights(plain, t).items():
            assert torch.equal(tensor, weights(run, t)[name]), (t, name)
    assert pools(run) != pools(plain)


def test_the_pool_is_of_the_extrapolated_weights(tmp_path) -> None:
    """Neon, by hand: the samples of a model that has (1 + ω) base - ω auxiliary for weights."""
    run = looped(tmp_path / "neon", Neon(DATA, **SMALL, omega=1.5), generations=0)
    model = trained()
    content = torch.load(run.checkpoint(0), weights_only=True)
    model.load_state_dict(content["state_dict"])
    auxiliary = read_tensors(run.improvement(0))
    names = [name for name, _ in model.named_parameters()]
    base = dict(zip(names, content["ema"]["shadow"], strict=True))
    extrapolated = {name: 2.5 * base[name] - 1.5 * auxiliary[name] for name in names}
    model.load_state_dict({**model.state_dict(), **extrapolated})
    model._average.reset(list(model.parameters()))
    start = tmp_path / "start.ckpt"
    shutil.copy(run.checkpoint(0), start)
    torch.save({**content, "state_dict": model.state_dict(), "ema": model._average.state_dict()}, start)
    by_hand = looped(tmp_path / "by_hand", None, generations=0, start=str(start))
    torch.testing.assert_close(run.pool(0).samples().x, by_hand.pool(0).samples().x, rtol=1e-4, atol=1e-4)


@KINDS
def test_the_row_tells_of_the_search_and_of_what_it_cost(kind, tmp_path) -> None:
    searching = {"omega": None, "omegas": (0.5, 1.0), "search_samples": 50}
    run = looped(tmp_path, kind(DATA, **SMALL, **searching))
    for row in run.rows():
        curve = {omega: row[f"improvement/search/{omega}"] for omega in ("0", "0.5", "1")}
        assert curve[f"{row['improvement/omega']:g}"] == min(curve.values())
        assert row["improvement/items_seen"] == 6 * 20
        assert row["nfe"] == (8 if kind is SIMS and row["improvement/omega"] else 4)
        times = [v for k, v in row.items() if k.startswith("seconds/") and k != "seconds/total"]
        assert row["seconds/improving"] > 0
        assert row["seconds/total"] == pytest.approx(sum(times))


class Stop(Observer):
    """Sends a signal in ``phase`` of generation 1, once."""

    def __init__(self, phase: str) -> None:
        self.phase: str | None = phase

    def progress(self, generation: int, phase: str, done: int, total: int, unit: str) -> None:
        if (generation, phase) == (1, self.phase) and done:
            assert unit == ("steps" if phase == "auxiliary" else "samples")
            self.phase = None
            os.kill(os.getpid(), signal.SIGTERM)


@KINDS
@pytest.mark.parametrize("phase", ["self-synthesis", "auxiliary", "search", "sampling"])
def test_stopped_in_any_phase_it_comes_to_the_same_end(kind, phase, tmp_path) -> None:
    def improvement() -> Any:
        return kind(DATA, **SMALL, omegas=(0.5,), search_samples=30)

    handler = signal.getsignal(signal.SIGTERM)
    whole = looped(tmp_path / "whole", improvement())
    if phase == "sampling":  # of which a chunk may begin, and not have done anything yet
        phase = "writing"
    with pytest.raises(Stopped):
        looped(tmp_path / "stopped", improvement(), observers=[Stop(phase)])
    run = looped(tmp_path / "stopped", improvement())
    assert rows(run) == rows(whole)
    assert pools(run) == pools(whole)
    signal.signal(signal.SIGTERM, handler)


@KINDS
def test_a_lost_file_is_made_again(kind, tmp_path) -> None:
    run = looped(tmp_path, kind(DATA, **SMALL, omega=1.0), generations=1)
    before, made = pools(run), run.improvement(1).read_bytes()
    run.improvement(1).unlink()
    shutil.rmtree(run.pool(1).path)
    looped(tmp_path, kind(DATA, **SMALL, omega=1.0), generations=1)
    assert pools(run) == before
    assert run.improvement(1).read_bytes() == made


def test_what_is_not_kept_goes(tmp_path) -> None:
    run = looped(tmp_path, Neon(DATA, **SMALL, omega=1.0), keep=Keep(last=1))
    assert [run.improvement(t).exists() for t in range(3)] == [False, False, True]


CONFIG = """\
data: {name: two_moons, size: 60, test_size: 40}
batch_size: 20
model: {name: flow_matching, network: {name: mlp, width: 16, depth: 2}, coupling: independent, steps: 2}
evaluation: {samples: 50}
loop:
  generations: 1
  synthetic_ratio: 1.0
  improvement: {name: sims, samples: 40, steps: 4, batch_size: 20, omegas: [0.5], search_samples: 30}
  first: {steps: 6}
  later: {steps: 4}
  chunk_size: 40
trainer: {accelerator: cpu, devices: 1}
wandb: {mode: disabled}
"""


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model={name: gaussian}", "loop.first={passes: 1}", "loop.later={passes: 1}"], "no auxiliary"),
        (["loop.improvement.omega=99"], "loop.improvement.omega"),
        (["loop.improvement.search_metric=wasserstein"], "wasserstein_2"),
        (["loop.improvement.shares=[0.5, 0.5]", "loop.improvement.omega=1"], "classifier"),
        (["classifier=nearest_mean", "loop.improvement.shares=[0.5, 0.6]", "loop.improvement.omega=1"], "1.1"),
    ],
)
def test_bad_input_ends_before_work_starts(overrides, words, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(CONFIG)
    assert train(["--config", "tiny.yaml", *overrides]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "improvement" in said
    assert "Traceback" not in said
    assert not list(Path("runs").glob("tiny*/checkpoints/*"))


def test_a_config_reaches_it(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(CONFIG)
    assert train(["--config", "tiny.yaml"]) == 0
    assert "improvement/omega" in Run("runs/tiny").rows()[1]
    assert first_coordinate(Run("runs/tiny").pool(1).samples().x).isfinite().all()


@pytest.mark.slow
def test_two_processes_improve_as_one_does(tmp_path, monkeypatch) -> None:
    """The auxiliary, which rank 0 makes alone, and the pool of generation 0 of the same weights."""
    (tmp_path / "tiny.yaml").write_text(CONFIG)

    def run(name: str, *overrides: str) -> Run:
        command = [sys.executable, "-m", "sc_loops", "train", "--config", "tiny.yaml", f"name={name}", *overrides]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=280)
        return Run(tmp_path / "runs" / name)

    start = f"loop.start={run('start', 'loop.generations=0').checkpoint(0)}"
    one = run("one", start, "loop.generations=0")
    two = run("two", start, "loop.generations=0", "trainer.devices=2", "trainer.strategy=ddp")
    assert one.improvement(0).read_bytes() == two.improvement(0).read_bytes()
    assert pools(one) == pools(two)
