"""The verb motion-evaluate on a tiny run: what it writes, that it continues, and what it refuses."""

import json
import math
import shutil
import statistics
import sys
from pathlib import Path

import pytest
import torch

from sc_loops import Run, config
from sc_loops.cli import train
from sc_loops.data.files import read_json, write_json
from sc_loops.evaluating.command import motion_evaluate
from sc_loops.evaluating.opened import opened
from sc_loops.evaluating.table import interval, table
from sc_loops.experiment import resolved_config

MODULE = '''
import torch
from torch import nn

from sc_loops import GenerativeModel, RealData, Samples
from sc_loops.data.motions import Motions


def clips(*, size: int = 24, held_out: int = 40) -> RealData:
    n, generator = size + held_out, torch.Generator().manual_seed(1)
    captions = [[f"clip {i}", f"again {i}"] for i in range(n)]
    table, rows = Motions.of_clips(
        [str(i) for i in range(n)], captions, [12 - 4 * (i % 2) for i in range(n)], torch.zeros(263), torch.ones(263)
    )
    x = torch.randn(n, 12, 263, generator=generator) * table.mask(rows, 12)[..., None]
    parts = (Samples(x[:size], rows[:size]), Samples(x[size:], rows[size:]))
    return RealData(*parts, "motions", name="clips", motions=table)


class Shifted(GenerativeModel):
    """Noise around a learnt number."""

    conditional = True

    def __init__(self, data: RealData, *, spread: float = 1.0, width: int = 1) -> None:
        super().__init__(learning_rate=0.1, ema_decay=0.5)
        self.shift = nn.Linear(1, width)
        self.spread, self.motions = spread, data.motions

    def loss(self, batch):
        return (self.shift(torch.ones(1)) - 3).square().mean()

    def sample(self, generator, n, condition=None):
        assert len(condition) == n
        noise = torch.randn(n, 12, 263, generator=generator)
        x = self.shift(torch.ones(1)) + self.spread * noise
        return x * self.motions.mask(condition, 12)[..., None]
'''
CONFIG = """
data: {name: "own_motions:clips"}
batch_size: 8
model: {name: "own_motions:Shifted"}
evaluation:
  metrics: [{name: motion_text, width: 8, features: 4, epochs: 1}]
loop:
  generations: 1
  synthetic_ratio: 1.0
  first: {steps: 4}
  later: {steps: 4}
  chunk_size: 16
  preview: 2
wandb: {mode: disabled}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a run that is finished."""
    folder = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("own_motions.py").write_text(MODULE)
        Path("tiny.yaml").write_text(CONFIG)
        path = sys.path.copy()
        assert train(["--config", "tiny.yaml"]) == 0
        sys.path[:] = path
        del sys.modules["own_motions"]
    return folder


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """The run, to be spoilt."""
    shutil.copytree(trained, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.syspath_prepend(tmp_path / "copy")
    return Path("runs/tiny")


def command(*arguments):
    return motion_evaluate(["--captions", "5", "--motions", "6", *map(str, arguments)])


def test_repeats_are_written_continued_and_summed_up(run, capsys):
    assert command(run, "--repeats", 2) == 0
    path = run / "evaluation-1.json"
    record = read_json(path)
    first, second = record["repeats"]
    assert record["samples"] == 40
    assert first["diversity/motion_text"] != second["diversity/motion_text"]
    assert first["matching_score/motion_text/real"] == second["matching_score/motion_text/real"]
    mean, error, captions = record["multimodality"]["motion_text"]
    assert captions == 5
    assert mean > 0
    assert error > 0
    # An interrupted one goes on: its first repeat stays, and the second comes out as before.
    write_json(path, {**record, "repeats": [first], "multimodality": {}})
    capsys.readouterr()
    assert command(run, "--repeats", 3) == 0
    again = read_json(path)
    assert again["repeats"][:2] == [first, second]
    assert again["multimodality"] == record["multimodality"]
    printed = capsys.readouterr()
    assert "repeat 2 of 3" in printed.err
    assert "repeat 1 of 3" not in printed.err
    values = [repeat["diversity/motion_text"] for repeat in again["repeats"]]
    line = next(line for line in printed.out.splitlines() if "iversity" in line)
    assert f"{statistics.fmean(values):.3f}"[:4] in line
    assert str(path) in printed.out
    # Nothing is left to do.
    assert command(run, "--repeats", 3) == 0
    assert "repeat" not in capsys.readouterr().err


def test_generations_and_changed_options_are_kept_apart(run):
    assert command(run, "--repeats", 1) == 0
    assert command(run, "--repeats", 1, "--generation", 0, "--samples", 50) == 0
    assert command(run, "--repeats", 1, "model.spread=0") == 0
    own, zero, (changed,) = (
        run / "evaluation-1.json",
        run / "evaluation-0.json",
        list(run.glob("evaluation-1-*.json")),
    )
    assert read_json(zero)["samples"] == 50
    # Without spread all motions of a caption are one.
    assert read_json(changed)["multimodality"]["motion_text"][0] == pytest.approx(0, abs=1e-5)
    assert read_json(own)["multimodality"]["motion_text"][0] > 0.01


def test_whatever_changes_the_samples_is_kept_apart(run):
    assert command(run, "--repeats", 1, "loop.chunk_size=16") == 0
    assert command(run, "--repeats", 1, "loop.chunk_size=20") == 0
    assert command(run, "--repeats", 1, "text={name: latent_semantic, width: 4}") == 0
    assert len(list(run.glob("evaluation-1-*.json"))) == 3


def test_the_model_has_the_averaged_weights_of_the_generation_within_and_its_own_after(run):
    generation = opened(run, 0, ())
    before = generation.experiment.model.shift.weight.clone()
    content = torch.load(run / "checkpoints" / "generation-0000.ckpt", weights_only=True)
    with generation.model() as model:
        assert torch.equal(model.shift.weight, content["ema"]["shadow"][0])
        assert not torch.equal(model.shift.weight, before)
    assert torch.equal(generation.experiment.model.shift.weight, before)


def refusal(capsys, *arguments):
    assert command(*arguments) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


def test_what_cannot_be_evaluated_is_said(run, capsys):
    assert "nothing" in refusal(capsys, "runs/none")
    assert "config.yaml" in refusal(capsys, run.parent)
    assert "which was not trained" in refusal(capsys, run, "--generation", 7)
    (run / "checkpoints" / "generation-0000.ckpt").unlink()
    error = refusal(capsys, run, "--generation", 0)
    assert "no longer there" in error
    assert "one of the generations 1" in error
    assert "--repeats" in refusal(capsys, run, "--repeats", 0)
    assert "spread" in refusal(capsys, run, "model.spraed=2")
    assert "generation-0001.ckpt" in refusal(capsys, run, "model.width=2")


def test_a_run_of_points_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = Run("runs/points")
    run.checkpoints.mkdir(parents=True)
    run.config_path.write_text(config.to_yaml(resolved_config("moons_curated", ())))
    torch.save({}, run.checkpoint(0))
    assert "a run of motions" in refusal(capsys, "runs/points")


def test_interval_of_known_repeats():
    assert interval([1.0, 2.0, 3.0]) == (2.0, pytest.approx(1.96 / math.sqrt(3)))
    assert math.isnan(interval([1.0])[1])


def test_a_table_of_known_repeats():
    row = {"diversity/s": 1.0, "diversity/s/real": 5.0, "frechet_distance_error/s": 0.1}
    record = {
        "generation": 3,
        "samples": 9,
        "repeats": [row, {**row, "diversity/s": 2.0}],
        "multimodality": {"s": [4.0, 0.5, 7]},
    }
    title, head, *lines = table(json.loads(json.dumps(record))).splitlines()
    assert title == "generation 3: 2 x 9 motions of held-out captions"
    assert head.split() == ["mean", "±", "95", "%", "real"]
    numbers = sorted(line.split()[-3:] for line in lines)
    assert ["1.50", "0.980", "5.00"] in numbers
    assert any(line.split()[-2:] == ["4.00", "0.980"] for line in lines)
    assert len(lines) == 2
