"""``python -m sc_loops reproduce`` on a model in closed form, whose runs take milliseconds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sc_loops.cli import main
from sc_loops.reproducing.claims_file import read_claims
from sc_loops.reproducing.making import Maker
from sc_loops.reproducing.reproduction import PROJECT_TABLE
from sc_loops.run import Run
from sc_loops.sweeping.crew import Crew

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """
seed: 0
data: {name: gaussian, size: 20, seed: "${seed}"}
model: {name: gaussian}
evaluation: {metrics: [{name: gaussian_distance}]}
loop: {generations: 3, synthetic_ratio: 0.5, first: {passes: 1}, later: {passes: 1}, stages: [], preview: 4}
trainer: {accelerator: cpu, devices: 1}
"""
BROKEN = """
def broken(samples, generator):
    raise ValueError("broken for now")
"""
MEASURE = "measures: [{label: W₂, key: wasserstein_2/gaussian}]"
CLAIMS = f"""
own:
  title: Own
  claims:
    - recipe: quick.yaml
      published: "it stays [paper]"
      minutes: 0.1
      seeds: 0..1
      sweep: {{loop.synthetic_ratio: [0, 1]}}
      {MEASURE}
      differences: [{{label: each minus that before, key: wasserstein_2/gaussian}}]
    - name: absent
      recipe: quick.yaml
      published: "of data that is not here [paper]"
      minutes: 0.1
      overrides: ["data={{name: mnist, root: nowhere, download: false}}"]
      {MEASURE}
    - name: breaks
      recipe: quick.yaml
      published: "of a stage that fails [paper]"
      minutes: 0.1
      sweep: {{"loop.stages": ["[]", "[my_stages:broken]"]}}
      {MEASURE}
    - name: misread
      recipe: quick.yaml
      published: "of a key that is none [paper]"
      minutes: 0.1
      seeds: 0..3
      measures: [{{label: W₂, key: wasserstein_2/gausian}}]
    - name: slow
      recipe: quick.yaml
      published: "it takes long [paper]"
      minutes: 60
      size: long
      {MEASURE}
    - name: large
      recipe: quick.yaml
      published: "as above [paper]"
      size: published
      recorded: "not measured: for a GPU"
"""

Printed = tuple[int, str, str]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quick.yaml").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "my_stages.py").write_text(BROKEN)
    (tmp_path / "claims.yaml").write_text(CLAIMS, encoding="utf-8")
    return tmp_path


@pytest.fixture
def reproduce(here, capfd) -> Callable[..., Printed]:
    def command(*arguments: str, claims: str = "claims.yaml") -> Printed:
        where = [] if "--table" in arguments else ["--table", "papers.md"]
        status = main(["reproduce", "--claims", claims, *where, "--jobs", "1", *arguments])
        printed = capfd.readouterr()
        return status, printed.out, printed.err

    return command


@pytest.fixture
def no_crew(monkeypatch) -> None:
    """No run may be started."""

    def refuse(*arguments: Any) -> None:
        raise AssertionError("a run was started")

    monkeypatch.setattr(Crew, "carry_out", refuse)


def rows(here: Path) -> dict[str, str]:
    """The measured cells of the table, by recipe or published claim."""
    lines = [line for line in (here / "papers.md").read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    cells = [line.split(" | ") for line in lines]
    return {cell[1].removesuffix(" [paper]"): cell[2] for cell in cells}


def test_all_small_ones_are_run_and_those_that_fail_are_named(here, reproduce, monkeypatch) -> None:
    status, out, err = reproduce("--small")
    assert (status, err) == (1, "")
    assert [line.split("  ")[:2] for line in out.splitlines() if line[1:3] == "/4"] == [
        ["1/4", "quick"],
        ["2/4", "absent"],
        ["3/4", "breaks"],
        ["4/4", "misread"],
    ]
    assert "\nabsent: not run: data.root (in the run seed=0): no complete MNIST in 'nowhere'" in out
    assert "breaks: 1 of 2 runs failed: " in out
    assert "misread: not run: wasserstein_2/gausian@0: 'wasserstein_2/gausian'; did you mean 'wasserst" in out
    assert len(list((here / "runs/reproduce/misread").glob("seed=*"))) == 1  # it ends with the first run
    assert out.splitlines()[-1] == "1 of 4 claims are measured. Table: papers.md"

    told = rows(here)
    assert told["it stays"].startswith("W₂ in generations 0, 3, by λ: (0) ")
    assert told["it stays"].endswith(". 2 seeds")
    assert told["of data that is not here"].startswith("not run: data.root ")
    assert "One run. 1 of 2 runs failed: " in told["of a stage that fails"]
    assert told["it takes long"] == "not measured yet"
    assert told["as above"] == "not measured: for a GPU"

    # The numbers are those of the runs.
    kept = json.loads((here / "papers.json").read_text())
    arms = kept["quick"]["arms"]
    assert [(arm["setting"], arm["seeds"]) for arm in arms] == [
        ({"loop.synthetic_ratio": ratio}, [0, 1]) for ratio in ("0", "1")
    ]
    last = Run(here / "runs/reproduce/quick/synthetic_ratio=1,seed=1").rows()[-1]
    assert arms[1]["numbers"]["wasserstein_2/gaussian@last"][1] == pytest.approx(last["wasserstein_2/gaussian"])
    assert kept["quick"]["command"].startswith("python train.py --config quick.yaml --sweep loop.synthetic_ratio=0,1")

    # Again: only what failed is tried.
    tried: list[str] = []
    monkeypatch.setattr(Crew, "carry_out", lambda crew, members: tried.extend(member.name for member in members))
    status, out, _ = reproduce("--small")
    assert status == 1
    assert len(tried) == 1
    assert "broken" in tried[0]
    assert "quick  4 runs, 4 finished\n" in out

    # What is measured stays when its runs are gone.
    shutil.rmtree(here / "runs")
    (here / "papers.md").unlink()
    assert reproduce("--table-only")[:2] == (0, "papers.md\n")
    assert rows(here)["it stays"] == told["it stays"]


def test_a_dry_run_lists_and_runs_nothing(here, reproduce, no_crew) -> None:
    status, out, _ = reproduce("--small", "--dry-run")
    assert status == 1  # the data of one is not there
    lines = out.splitlines()
    assert lines[0].split("  ")[0] == "quick"
    assert "4 runs, about 24.0 s" in lines[0]
    assert lines[1].startswith(f"{'absent':<32}  cannot be run: data.root (in the run seed=0): no complete MNIST")
    assert lines[-1] == "4 claims, about 1.0 min with one run at a time; nothing was run"
    assert not (here / "runs").exists()
    assert not (here / "papers.md").exists()


def test_long_ones_are_run_when_they_are_named(reproduce, no_crew) -> None:
    assert "slow" in reproduce("--only", "sl*,quick", "--dry-run")[1]
    assert "slow" not in reproduce("--small", "--dry-run")[1]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ([], "neither --small nor --only"),
        (["--only", "quik"], "'quik'"),
        (["--only", ","], "','"),
        (["--only", "large"], "'large', of which nothing is run here"),
        (["--small", "--data-root", "nowhere"], "nothing"),
        (["--small", "--data-root", "mnist=claims.yaml"], "a file"),
        (["--small", "--data-root", "mnits=."], "'mnits'"),
        (["--small", "--jobs", "0"], "0"),
        (["--small", "--output", "claims.yaml"], "FileExistsError"),
        (["--small", "--table", "nowhere/papers.md"], "no place for a file"),
        (["--small", "--table", "quick.yaml"], "no whole block 'own'"),
        (["--small", "--claims", "nowhere.yaml"], "No such file"),
        (["--tiny", "--small", "--table", str(PROJECT_TABLE)], "the project's table with --tiny"),
    ],
)
def test_bad_input_ends_before_work_starts(here, reproduce, no_crew, arguments, found) -> None:
    before = sorted(here.rglob("*.yaml"))
    status, out, err = reproduce(*arguments)
    assert (status, out) == (2, "")
    assert found in err.splitlines()[1]
    assert "Traceback" not in err
    assert sorted(here.rglob("*.yaml")) == before


def test_where_data_lies_is_passed_on(tmp_path) -> None:
    """To the data, and by the recipe's own reference to what the classifier is trained on."""
    folders = {"mnist": tmp_path / "a, b", "": tmp_path}
    claims = read_claims().by_name
    [member, *_] = Maker(output=tmp_path, roots=folders).plan(claims["mnist_small_baseline"]).members
    assert member.resolved["data"]["root"] == str(tmp_path / "a, b")
    assert member.resolved["classifier"]["trained_on"]["root"] == str(tmp_path / "a, b")
    [member, *_] = Maker(output=tmp_path, roots=folders).plan(claims["cifar_small_mixed"]).members
    assert member.resolved["data"]["root"] == str(tmp_path)
    assert (
        "root" not in Maker(output=tmp_path, roots=folders).plan(claims["moons_curated"]).members[0].resolved["data"]
    )


@pytest.mark.slow
def test_after_a_kill_the_rest_goes_on(here) -> None:
    """SIGKILL of the command: what was finished stays as it was, and the table is whole."""
    (here / "quick.yaml").write_text(RECIPE.replace("generations: 3", "generations: 60"), encoding="utf-8")
    (here / "claims.yaml").write_text(CLAIMS.replace("seeds: 0..1", "seeds: 0..4"), encoding="utf-8")
    command = [sys.executable, "-m", "sc_loops", "reproduce", "--claims", "claims.yaml", "--table", "papers.md"]
    command += ["--only", "quick,slow", "--jobs", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folder = here / "runs/reproduce/quick"

    def finished() -> dict[Path, int]:
        paths = list(folder.glob("*/metrics.jsonl"))
        return {path: path.stat().st_mtime_ns for path in paths if len(Run(path.parent).rows()) == 61}

    try:
        while process.poll() is None and len(finished()) < 3:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait(timeout=60) == -signal.SIGKILL
    finally:
        process.kill()
    time.sleep(2)  # its worker ends by itself
    done = finished()
    assert 3 <= len(done) < 10
    assert "not measured yet" in rows(here)["it stays"]

    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"quick  10 runs, {len(done)} finished" in ended.stdout
    assert len(finished()) == 10
    assert done.items() <= finished().items()
    assert rows(here)["it stays"].endswith("5 seeds")
    assert rows(here)["it takes long"].endswith("One run")
