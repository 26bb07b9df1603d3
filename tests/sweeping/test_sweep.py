"""A whole sweep in a process of its own, against the same runs started one by one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import TINY
from faults.harness import TRAIN, losses, pools, results

from sc_loops.cli import train
from sc_loops.run import Run

STAGES = """
def loud(samples, generator):
    print("a word")
    return samples

def broken(samples, generator):
    if len(samples) > 8:  # not when it is tried
        raise ValueError("broken for now")
    return samples
"""
SWEEP = ["--sweep", "loop.stages.0={name: k_choice, choices: 2},my_stages:loud,my_stages:broken", "--seeds", "0,1"]


def sweep(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TRAIN), "--config", "tiny.yaml", *SWEEP, *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The folder of a sweep of six runs, of which two fail, and its end."""
    folder = tmp_path_factory.mktemp("swept")
    (folder / "tiny.yaml").write_text(TINY + "classifier: {name: trained, epochs: 1}\nname: swept\n")
    (folder / "my_stages.py").write_text(STAGES)
    return folder, sweep(folder, "--jobs", "2")


def runs(folder: Path, word: str) -> list[Run]:
    return [Run(path) for path in sorted((folder / "runs/swept").glob("stages.0=*")) if word in path.name]


def chunks(folder: Path) -> dict[Path, int]:
    """When each chunk that is there was written."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("runs/swept/*/pools/*/chunk-*.safetensors")}


def test_what_is_said(swept) -> None:
    _, ended = swept
    assert ended.returncode == 1, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0] == "6 runs in runs/swept"
    assert lines[3] == "  2 at a time"
    assert lines[-2] == "4 of 6 runs finished, 2 failed"
    assert lines[-1] == "runs/swept/comparison.html"
    assert "a word" not in ended.stdout
    errors = ended.stderr.splitlines()
    assert [line.split(" ")[0] for line in errors if not line.startswith(" ")] == ["failed:", "failed:", "2"]
    assert ended.stderr.count("broken for now") == 2
    assert "Traceback" not in ended.stderr


def test_each_run_is_a_run_directory(swept) -> None:
    folder, _ = swept
    assert len(runs(folder, "")) == 6
    for run in runs(folder, ""):
        config = yaml.safe_load(run.config_path.read_text())
        assert config["name"] == run.name
        assert config["output"] == "runs/swept"
        assert config["wandb"]["group"] == "swept"
        assert (run.path / "env.json").exists()
    for run in runs(folder, "broken"):
        assert "Traceback" in (run.path / "error.txt").read_text()
        assert run.rows() == []
    for run in runs(folder, "k_choice"):
        assert not (run.path / "error.txt").exists()
        assert not (run.path / "output.txt").exists()
    for run in runs(folder, "loud"):
        assert "a word\n" in (run.path / "output.txt").read_text()
        assert not (run.path / "error.txt").exists()


def test_one_classifier_for_all(swept) -> None:
    """Of each seed, while the seed of a classifier is the run's."""
    folder, _ = swept
    made = list((folder / "runs/swept/classifiers").glob("classifier-*.safetensors"))
    assert 1 <= len(made) <= 2
    said = [path.read_text() for path in (folder / "runs/swept").glob("*/output.txt")]
    assert sum(text.count("training the classifier") for text in said) <= len(made)


@pytest.mark.parametrize(("stage", "seed"), [("{name: k_choice, choices: 2}", 1), ("my_stages:loud", 0)])
def test_a_run_is_the_same_when_it_is_started_alone(swept, monkeypatch, capfd, stage: str, seed: int) -> None:
    folder, _ = swept
    monkeypatch.chdir(folder)
    arguments = ["--config", "tiny.yaml", f"loop.stages.0={stage}", f"seed={seed}", f"name=alone{seed}"]
    assert train([*arguments, "output=elsewhere"]) == 0
    alone, member = Run(f"elsewhere/alone{seed}"), runs(folder, "loud" if "loud" in stage else "k_choice")[seed]
    assert results(member) == results(alone)
    assert losses(member) == losses(alone)
    assert pools(member) == pools(alone)
    assert member.facts().keys() == alone.facts().keys()


@pytest.mark.slow
def test_the_same_command_again_does_what_is_left(swept) -> None:
    folder, _ = swept
    (folder / "my_stages.py").write_text(STAGES.replace('raise ValueError("broken for now")', "pass"))
    before = chunks(folder)
    again = sweep(folder, "--jobs", "1", "loop.log_every=9")
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[0] == "6 runs in runs/swept, of which 4 are finished"
    assert again.stdout.splitlines()[-1] == "runs/swept/comparison.html"
    assert (folder / "runs/swept/comparison.html").stat().st_size > 1000
    assert not list(folder.glob("runs/swept/*/error.txt"))
    assert before.items() <= chunks(folder).items()
