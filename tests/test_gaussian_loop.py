"""The Gaussian loop: closed-form fits, the growing memory, generations that are held in memory, and resuming them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from sc_loops import Run, gaussian
from sc_loops.cli import train
from sc_loops.experiment import build, resolved_config
from sc_loops.models.gaussian import Gaussian
from sc_loops.processes import Processes
from sc_loops.start import carry_out

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ["--config", "gaussian_self_correction"]
TIMED = ("seconds/", "samples_per_second/")


def run_recipe(output: Path, *overrides: str) -> Run:
    """Run or continue the recipe as ``train.py`` does, without reports: those would take most of the time."""
    run, resolved = Run(output / "run"), resolved_config(RECIPE[1], [f"output={output}", "name=run", *overrides])
    experiment = build(resolved, run)
    experiment.check()
    experiment.prepare(Processes())
    carry_out(experiment, run, resolved, Processes(), observers=[])
    return run


def rows(run: Run) -> list[dict]:
    return [{k: v for k, v in row.items() if not k.startswith(TIMED)} for row in run.rows()]


def test_the_fit_is_the_maximum_likelihood_of_scikit_learn() -> None:
    from sklearn.mixture import GaussianMixture

    data = gaussian(size=50)
    model = Gaussian(data)
    model.fit(data.train)
    x = data.train.x.double().numpy()
    reference = GaussianMixture(1).fit(x)
    assert np.allclose(model.mean.numpy(), reference.means_[0])
    assert np.allclose(model.covariance.numpy(), reference.covariances_[0])
    assert float(model.loss(data.train)) == pytest.approx(-reference.score(x))


def test_samples_have_the_moments_of_the_model() -> None:
    model = Gaussian(gaussian())
    model.mean, model.covariance = torch.tensor([1.0, -2.0]).double(), torch.tensor([[2.0, 0.8], [0.8, 0.5]]).double()
    x = model.sample(torch.Generator().manual_seed(0), 200_000)
    assert torch.allclose(x.mean(dim=0).double(), model.mean, atol=0.02)
    assert torch.allclose(x.T.cov().double(), model.covariance, atol=0.03)


def test_the_loop_fits_what_it_says_it_trains_on(tmp_path) -> None:
    """From the pools on disk and the published rule of the memory, each generation's distance follows."""
    run = run_recipe(tmp_path, "loop.generations=6", "loop.keep.every=1", "loop.keep.hold_seconds=null")
    real = gaussian(size=50, seed=0).train.x.double()
    pools = [run.pool(t).samples().x.double() for t in range(7)]
    for t, row in enumerate(run.rows()):
        synthetic = [pools[j][: (j + 1) * 25 // t] for j in range(t)]
        x = torch.cat([real, *synthetic])
        assert row["synthetic_items"] == len(x) - 50
        mean, covariance = x.mean(dim=0), x.T.cov(correction=0) + 1e-6 * torch.eye(2)
        root = torch.linalg.eigvalsh(covariance).sqrt().sum()  # against the identity
        squared = mean.square().sum() + covariance.trace() + 2 - 2 * root
        assert row["wasserstein_2/gaussian"] == pytest.approx(float(squared.sqrt()), abs=1e-6)
        assert row["covariance_trace/gaussian"] == pytest.approx(float(covariance.trace()), abs=1e-6)


def test_held_generations_are_those_that_are_written(tmp_path) -> None:
    held = run_recipe(tmp_path / "held", "loop.generations=30", "loop.keep.hold_seconds=60")
    written = run_recipe(tmp_path / "written", "loop.generations=30", "loop.keep.hold_seconds=null")
    assert rows(held) == rows(written)
    assert len(rows(held)) == 31
    assert held.generations() == [0, 30]
    assert written.generations() == list(range(31))
    assert torch.equal(held.pool(30).samples().x, written.pool(30).samples().x)


def test_a_run_whose_generations_were_held_goes_on_to_the_same_end(tmp_path) -> None:
    straight = run_recipe(tmp_path / "straight", "loop.generations=40")
    first = run_recipe(tmp_path / "twice", "loop.generations=17")
    assert first.generations() == [0, 17]
    second = run_recipe(tmp_path / "twice", "loop.generations=40")
    assert rows(second) == rows(straight)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_real_signal_in_the_middle_changes_nothing(tmp_path, how: signal.Signals) -> None:
    straight = run_recipe(tmp_path / "straight", "loop.generations=250")
    command = [sys.executable, str(ROOT / "train.py"), *RECIPE, f"output={tmp_path / 'killed'}", "name=run"]
    command += ["loop.generations=250", "loop.keep.hold_seconds=0.5"]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    killed = Run(tmp_path / "killed" / "run")
    deadline = time.monotonic() + 60
    while len(killed.rows()) < 60 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(how)
    assert process.wait(60) == (143 if how == signal.SIGTERM else -signal.SIGKILL)
    so_far, on_disk = len(killed.rows()), killed.generations()
    assert 60 <= so_far < 250
    if how == signal.SIGTERM:  # nothing is lost: the last generation was written, but for its pool
        assert on_disk[-1] >= so_far - 1
    resumed = run_recipe(tmp_path / "killed", "loop.generations=250", "loop.keep.hold_seconds=0.5")
    assert rows(resumed) == rows(straight)
    numbers = [row for line in resumed.metrics_path.read_text().splitlines() if '"generation":' in (row := line)]
    assert len(numbers) == 251  # what was computed again said the same, and was recorded once


def test_without_the_growing_memory_the_newest_pool_alone_is_trained_on(tmp_path) -> None:
    run = run_recipe(tmp_path, "loop.generations=3", "loop.memory=replace")
    assert [row["synthetic_items"] for row in run.rows()] == [0, 25, 25, 25]


def test_fading_without_holding_keeps_the_samples_that_it_needs(tmp_path) -> None:
    run = run_recipe(
        tmp_path, "loop.generations=5", "loop.keep.last=1", "loop.keep.every=null", "loop.keep.hold_seconds=null"
    )
    assert all(run.pool(t).has_samples for t in range(6))
    straight = rows(run_recipe(tmp_path / "straight", "loop.generations=9"))
    more = run_recipe(
        tmp_path, "loop.generations=9", "loop.keep.last=1", "loop.keep.every=null", "loop.keep.hold_seconds=null"
    )
    assert rows(more) == straight


def test_a_run_may_begin_or_end_to_hold_generations(tmp_path) -> None:
    """What it remembers is in the pools or in the checkpoints, and not deleted in one before it is in the other."""
    straight = rows(run_recipe(tmp_path / "straight", "loop.generations=7"))
    ways = {False: "loop.keep={last: 1}", True: "loop.keep={last: 1, hold_seconds: 60}"}
    for begin in (False, True):
        changing = tmp_path / str(begin)
        for generations, hold in zip((3, 5, 7), (begin, not begin, not begin), strict=True):
            run = run_recipe(changing, f"loop.generations={generations}", ways[hold])
        assert rows(run) == straight


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("loop.stages.0.strength=-1", "γ >= 0"),
        ("loop.memory=forget", "replace, fading"),
        ("loop.keep={hold_seconds: 5}", "also last or every"),
        ("model={name: gaussian, regularisation: -1}", "regularisation"),
        ("loop.later={passes: 2}", "passes: 1"),
        ("trainer.devices=2", "one process"),
    ],
)
def test_bad_input(tmp_path, capsys, override: str, says: str) -> None:
    assert train([*RECIPE, f"output={tmp_path}", override]) == 2
    assert says in capsys.readouterr().err


def test_generations_that_may_be_interrupted_inside_are_not_held(tmp_path, capsys) -> None:
    """A checkpoint inside one would be of no use without the pool before it."""
    keep = "loop.keep={last: 1, hold_seconds: 10}"
    assert train(["--config", "moons_curated", f"output={tmp_path}", keep]) == 2
    assert "loop.keep.hold_seconds" in capsys.readouterr().err


def test_the_distance_is_for_gaussian_models(tmp_path, capsys) -> None:
    assert train(["--config", "moons_curated", f"output={tmp_path}", "evaluation.metrics=[gaussian_distance]"]) == 2
    assert "the model gaussian" in capsys.readouterr().err


def test_the_facts_of_the_theory(tmp_path) -> None:
    """The facts from which the theory is drawn are recorded where it applies, and only there."""
    run = run_recipe(tmp_path / "ideal", "loop.generations=1", "loop.stages.0.strength=2")
    assert run.facts()["gaussian_loop"]["strength"] == 2
    assert run.facts()["gaussian_loop"]["kept_per_generation"] == 25
    kmeans = "loop.stages=[{name: correct, strength: 1, corrector: {name: kmeans, clusters: 4}}]"
    assert "gaussian_loop" not in run_recipe(tmp_path / "kmeans", "loop.generations=1", kmeans).facts()
    plain = run_recipe(tmp_path / "plain", "loop.generations=1", "loop.stages=[]")
    assert plain.facts()["gaussian_loop"]["strength"] == 0
