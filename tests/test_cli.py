"""The command line: what is printed, which directory a run gets, and the exit status of every kind of end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from sc_loops.cli import main, train
from sc_loops.errors import UsageError
from sc_loops.run import Run

TRAIN = Path(__file__).resolve().parent.parent / "train.py"

TINY = """
data: {name: two_moons, size: 200, test_size: 40}
batch_size: 20
reward: {name: clipped_distance, center: [0.0, 0.0]}
model: {name: flow_matching, steps: 2, network: {name: mlp, width: 8, depth: 1}}
loop:
  generations: 1
  synthetic_ratio: 0.5
  stages: [{name: k_choice, choices: 2}]
  first: {steps: 3}
  later: {steps: 3}
  chunk_size: 100
  preview: 4
evaluation: {samples: 40}
trainer: {accelerator: cpu}
wandb: {mode: disabled}
"""

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Iterator[Path]:
    """An empty working directory with tiny.yaml in it, from which modules can be imported."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    on_interrupt = signal.getsignal(signal.SIGINT)
    yield tmp_path
    signal.signal(signal.SIGINT, on_interrupt)  # Lightning ignores it once it was interrupted


@pytest.fixture
def tiny(here, capfd) -> Command:
    """Run train.py's command on tiny.yaml with further arguments: status, output, errors."""

    def command(*arguments: str) -> tuple[int, str, str]:
        status = train(["--config", "tiny.yaml", *arguments])
        printed = capfd.readouterr()
        return status, printed.out, printed.err

    return command


def generations(path: Path | str) -> list[int]:
    return [row["generation"] for row in Run(path).rows()]


def runs(here: Path) -> list[str]:
    return sorted(path.name for path in (here / "runs").iterdir())


# Arguments.


@pytest.mark.parametrize("arguments", [["--help"], ["-h"]])
def test_help_shows_examples(arguments: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        train(arguments)
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text
    assert "--dry-run" in text
    assert "--fresh" in text
    assert "--sweep" in text


def test_help_of_the_verbs(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "train" in text
    assert "report" in text
    assert "compare" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--config"),
        (["--config"], "--config"),
        (["--config", "moons_curated", "--fersh"], "--fersh"),
        (["--config", "moons_curated", "-x"], "-x"),
        (["--config", "moons_curated", "--dry-run=1"], "--dry-run"),
        (["--config", "moons_curated", "--jobs", "many"], "--jobs"),
        (["--config", "moons_curated", "--dry"], "--dry"),  # no abbreviations: --seed=3 is an override
    ],
)
def test_wrong_arguments(arguments: list[str], message: str, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        train(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["retrain"], ["report"], ["compare"]])
def test_wrong_verbs(arguments: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


# The dry run.


def test_the_dry_run_prints_a_config_that_means_the_same(here, tiny) -> None:
    status, printed, errors = tiny("--dry-run", "loop.synthetic_ratio=inf")
    assert (status, errors) == (0, "")
    assert yaml.safe_load(printed)["loop"]["synthetic_ratio"] == float("inf")
    (here / "tiny.yaml").write_text(printed)
    assert tiny("--dry-run") == (0, printed, "")
    assert not (here / "runs").exists()


def test_overrides_with_and_without_dashes_and_anywhere(here, capfd) -> None:
    outputs = []
    for arguments in (
        ["--config", "tiny.yaml", "--dry-run", "seed=3", "loop.first.steps=4"],
        ["--config", "tiny.yaml", "--seed=3", "--dry-run", "--loop.first.steps=4"],
        ["seed=3", "--config=tiny.yaml", "--loop.first.steps=4", "--dry-run"],
    ):
        assert train(arguments) == 0
        outputs.append(capfd.readouterr().out)
    assert outputs[0] == outputs[1] == outputs[2]
    assert yaml.safe_load(outputs[0])["seed"] == 3
    assert yaml.safe_load(outputs[0])["loop"]["first"]["steps"] == 4


@pytest.mark.parametrize("name", ["moons_curated", "moons_curated.yaml"])
def test_a_recipe_is_found_by_its_name_from_anywhere(here, capfd, name: str) -> None:
    assert train(["--config", name, "--dry-run"]) == 0
    assert yaml.safe_load(capfd.readouterr().out)["data"]["name"] == "two_moons"


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "no settings"), (b"\x89PNG\r\n\x1a\n\x00\xff", "readable text"), (b"\x00\x01", "not YAML")],
)
def test_configs_that_are_none(here, tiny, content: bytes, message: str) -> None:
    (here / "tiny.yaml").write_bytes(content)
    status, _, errors = tiny()
    assert status == 2
    assert message in errors
    assert os.listdir(here) == ["tiny.yaml"]


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs a file that even root cannot read")
def test_an_unreadable_config(capfd) -> None:
    assert train(["--config", "/proc/self/mem"]) == 2
    assert "a readable text file" in capfd.readouterr().err


@pytest.mark.parametrize("name", [".", "absent.yaml", "a" * 5000, "a\0b"])
def test_a_config_that_is_not_there(here, capfd, name: str) -> None:
    assert train(["--config", name]) == 2
    assert "neither a file nor a recipe" in capfd.readouterr().err


def test_a_classifier_whose_weights_are_not_there(here, tiny) -> None:
    status, _, errors = tiny("classifier={name: trained, weights: absent.pt}")
    assert status == 2
    assert "classifier.weights" in errors
    assert not (here / "runs").exists()


# Run directories.


def test_a_run_is_continued_finished_and_started_afresh(here, tiny) -> None:
    status, _, _ = tiny()
    assert status == 0
    assert runs(here) == ["tiny"]
    assert generations("runs/tiny") == [0, 1]
    assert yaml.safe_load(Run("runs/tiny").config_path.read_text())["loop"]["generations"] == 1
    assert (here / "runs/tiny/env.json").exists()

    pools = {path: path.stat().st_mtime_ns for path in (here / "runs/tiny/pools").rglob("*.safetensors")}
    status, printed, _ = tiny()
    assert status == 0
    first = printed.splitlines()[0]
    assert first.startswith("runs/tiny is finished")
    assert first.endswith("Report: runs/tiny/report.html")

    # What changes nothing of what was computed continues the same run; what is there stays.
    status, _, _ = tiny("loop.generations=2", "trainer.timeout_minutes=9", "loop.log_every=1", "wandb.project=x")
    assert status == 0
    assert runs(here) == ["tiny"]
    assert generations("runs/tiny") == [0, 1, 2]
    assert pools.items() <= {p: p.stat().st_mtime_ns for p in (here / "runs/tiny/pools").rglob("*")}.items()

    # What matters goes elsewhere, under a name that the same overrides find again, in whatever order.
    status, _, _ = tiny("seed=1", "loop.first.steps=2", "loop.generations=0")
    assert status == 0
    (other,) = set(runs(here)) - {"tiny"}
    assert other.startswith("tiny-")
    status, printed, _ = tiny("loop.first.steps=2", "seed=1", "loop.generations=0")
    assert printed.startswith(f"runs/{other} is finished")

    status, _, _ = tiny("--fresh", "loop.generations=0")
    assert status == 0
    assert set(runs(here)) == {"tiny", other, "tiny-2"}
    assert generations("runs/tiny-2") == [0]

    # A recipe that was edited is another experiment.
    (here / "tiny.yaml").write_text(TINY.replace("synthetic_ratio: 0.5", "synthetic_ratio: 0.25"))
    status, _, errors = tiny()
    assert status == 2
    assert "loop.synthetic_ratio: 0.5 then, 0.25 now" in errors
    assert "--fresh" in errors
    assert set(runs(here)) == {"tiny", other, "tiny-2"}
    assert tiny("--fresh", "--dry-run")[0] == 0


def test_a_run_of_a_version_with_fewer_options_is_continued(here, tiny) -> None:
    assert tiny("loop.synthetic_ratio=1")[0] == 0
    (path,) = (here / "runs").glob("tiny-*/config.yaml")
    recorded = yaml.safe_load(path.read_text())
    for section, option in (("first", "ema_decay"), ("later", "horizontal_flips")):
        del recorded["loop"][section][option]
    del recorded["model"]["sampling_precision"]
    path.write_text(yaml.safe_dump(recorded))
    status, out, _ = tiny("loop.synthetic_ratio=1", "loop.generations=2")
    assert status == 0
    assert "resuming" in out
    recorded["loop"]["first"]["steps"] = 7
    path.write_text(yaml.safe_dump(recorded))
    status, _, errors = tiny("loop.synthetic_ratio=1", "loop.generations=3")
    assert status == 2
    assert "loop.first.steps: 7 then, 3 now" in errors


def test_a_name_and_an_output_are_used(here, tiny) -> None:
    status, _, _ = tiny("name=mine", "output=elsewhere", "loop.generations=0")
    assert status == 0
    assert generations("elsewhere/mine") == [0]
    assert not (here / "runs").exists()


@pytest.mark.skipif(not os.path.exists("/proc/self"), reason="needs a directory that even root cannot write to")
def test_an_output_that_cannot_be_written(tiny) -> None:
    status, _, errors = tiny("output=/proc/runs")
    assert status == 2
    assert errors.startswith("error: output")


# The user's own rewards and models.


def test_a_reward_of_the_users_from_the_working_directory(here, tiny) -> None:
    (here / "my_rewards.py").write_text("def plain(x):\n    return -x[:, 1]\n")
    status, _, _ = tiny("reward.name=my_rewards:plain", "reward={name: my_rewards:plain}")
    assert status == 0
    (name,) = runs(here)
    assert generations(here / "runs" / name) == [0, 1]
    samples = Run(here / "runs" / name).pool(1).samples()
    assert (samples.columns["reward"] == -samples.x[:, 1]).all()


@pytest.mark.parametrize(
    ("body", "message"),
    [("x", "shape (8, 2)"), ("x[:, 0] / 0 * 0", "NaN"), ("x[:, 7]", "IndexError"), ("1", "a int")],
)
@pytest.mark.parametrize("classifier", ["null", "{name: trained, epochs: 1}"])
def test_a_reward_that_fails_on_real_data(here, tiny, body: str, message: str, classifier: str) -> None:
    """Also where it can only be tried once the classifier is trained: before there is a run."""
    (here / "my_rewards.py").write_text(f"def plain(x):\n    return {body}\n")
    status, _, errors = tiny("reward={name: my_rewards:plain}", f"classifier={classifier}", "name=mine")
    assert status == 2
    assert message in errors
    assert "reward" in errors.splitlines()[0]
    assert not (here / "runs/mine").exists()


def test_a_reward_that_breaks_on_the_way_and_is_repaired(here, tiny) -> None:
    module = here / "my_rewards.py"
    module.write_text(
        "calls = 0\n"
        "def plain(x):\n"
        "    global calls\n"
        "    calls += len(x) > 8\n"
        "    return x[:, 0] * (float('nan') if calls > 3 else 1.0)\n"
    )
    arguments = ("reward={name: my_rewards:plain}", "name=mine")
    status, _, errors = tiny(*arguments)
    assert status == 1
    assert "the reward in generation 1, chunk 1" in errors
    assert "the same command continues" in errors
    assert "Traceback" not in errors
    assert generations("runs/mine") == [0]

    made = {path: path.stat().st_mtime_ns for path in (here / "runs/mine/pools").rglob("chunk-*")}
    assert len(made) == 3  # two of generation 0, one of generation 1
    module.write_text("def plain(x):\n    return x[:, 0] * 1.0\n")
    del sys.modules["my_rewards"]
    status, _, _ = tiny(*arguments)
    assert status == 0
    assert generations("runs/mine") == [0, 1]
    assert made.items() <= {p: p.stat().st_mtime_ns for p in (here / "runs/mine/pools").rglob("chunk-*")}.items()


MODELS = """
import torch
from sc_loops import FlowMatching, GenerativeModel, Network, RealData

class NaN(FlowMatching):
    def __init__(self, data: RealData, *, network: Network) -> None:
        super().__init__(data, network=network)

    def sample(self, generator, n, condition=None):
        return super().sample(generator, n, condition) * float("nan")

class Raising(NaN):
    def loss(self, batch):
        raise ZeroDivisionError("in the loss")

class Interrupted(NaN):
    def loss(self, batch):
        raise KeyboardInterrupt
"""


def test_a_model_that_samples_nan(here, tiny) -> None:
    (here / "my_models.py").write_text(MODELS)
    status, _, errors = tiny("model.name=my_models:NaN", "model.steps=null", "--dry-run")
    assert (status, "unknown key 'steps'" in errors) == (2, True)
    model = "model={name: my_models:NaN, network: mlp}"
    status, _, errors = tiny(model, "name=mine")
    assert status == 1
    assert "the model's samples in generation 0" in errors
    assert "hold NaN or infinity" in errors
    assert Run("runs/mine").checkpoint(0).exists()


def test_a_stage_that_leaves_nothing(here, tiny) -> None:
    (here / "my_stages.py").write_text("def none(samples, generator):\n    return samples[:0]\n")
    status, _, errors = tiny("loop.stages=[my_stages:none]", "name=mixed")
    assert status == 1
    assert "error: runs/mixed/pools/0000\n  found:    no samples" in errors
    assert tiny("loop.stages=[my_stages:none]", "name=real", "loop.synthetic_ratio=0")[0] == 0


def test_an_error_that_nobody_foresaw(here, tiny) -> None:
    (here / "my_models.py").write_text(MODELS)
    arguments = ("model={name: my_models:Raising, network: mlp}", "name=mine")
    status, _, errors = tiny(*arguments)
    assert status == 1
    assert "ZeroDivisionError: in the loss" in errors
    assert "--debug" in errors
    assert "Traceback" not in errors
    with pytest.raises(ZeroDivisionError):
        tiny(*arguments, "--debug")


def test_debug_raises_complaints_too(tiny) -> None:
    with pytest.raises(UsageError, match=r"loop\.generations"):
        tiny("loop.generations=-1", "--debug")


def test_ctrl_c_inside_a_step_ends_with_130(here, tiny) -> None:
    (here / "my_models.py").write_text(MODELS)
    status, _, errors = tiny("model={name: my_models:Interrupted, network: mlp}")
    assert status == 130
    assert errors.strip().splitlines()[-1].startswith("interrupted. The same command continues")
    assert "Traceback" not in errors


# Reports.


def test_the_report_is_drawn_again(here, tiny, capfd) -> None:
    assert tiny("loop.generations=0", "--fresh")[0] == 0
    page = Run("runs/tiny").report_path
    page.unlink()
    assert main(["report", "runs/tiny"]) == 0
    assert capfd.readouterr().out.strip() == str(page)
    assert page.stat().st_size > 1000


@pytest.mark.parametrize("path", [".", "absent", "tiny.yaml"])
def test_the_report_of_what_is_no_run(here, capfd, path: str) -> None:
    assert main(["report", path]) == 2
    assert "the directory of a run" in capfd.readouterr().err


# The real thing, in a process of its own.


def hear_interrupts() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so would all that it starts, this test's run too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(TRAIN), "--config", "tiny.yaml", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=hear_interrupts,
    )


def until(condition: Callable[[], object], process: subprocess.Popen[str], seconds: float = 90) -> None:
    """Wait for ``condition`` while ``process`` runs."""
    ends = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("number", "status"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_a_signal_ends_a_run_that_the_same_command_continues(here, tiny, number: int, status: int) -> None:
    process = start("loop.later.steps=100000", "loop.log_every=10", "name=mine")
    try:
        until(lambda: any(row["step"] > 3 for row in Run("runs/mine").training_rows()), process)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == status, errors
    assert "Traceback" not in errors
    assert "the same command continues" in errors.lower()
    assert len(errors.strip().splitlines()) == (2 if number == signal.SIGINT else 1)
    assert generations("runs/mine") == [0]
    assert Run("runs/mine").last_checkpoint.exists()


def test_train_py_runs_and_says_nothing_on_stderr(here) -> None:
    process = start("loop.generations=0")
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    assert generations("runs/tiny") == [0]


def test_a_run_from_before_classifiers_had_a_seed_has_that_of_the_run(tmp_path, capsys) -> None:
    command = ["--config", "moons_curated", f"output={tmp_path}", "name=old", "seed=3", "classifier.epochs=1"]
    command += [
        "data.size=100",
        "data.test_size=20",
        "loop.generations=0",
        "loop.first={steps: 2}",
        "loop.samples=20",
    ]
    command += ["wandb.mode=disabled"]
    assert train([*command, "classifier.seed=3"]) == 0
    path = tmp_path / "old" / "config.yaml"
    path.write_text(re.sub(r"^  seed: 3\n", "", path.read_text(), flags=re.MULTILINE))  # as it was written then
    assert train([*command, "classifier.seed=3"]) == 0
    assert train(command) == 2
    assert "classifier.seed: 3 then, 0 now" in capsys.readouterr().err
