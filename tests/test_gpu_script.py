"""scripts/cifar_on_a_gpu.py: what it plans, that a failure of one part loses no other, and what it writes.

Slow: a toy run of all of it on real CIFAR-10.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from sc_loops.experiment import resolved_config
from sc_loops.run import Run

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "cifar_on_a_gpu.py"
CHOSEN: dict[str, Any] = {
    "root": "data", "toy": False, "inception_weights": None, "no_benchmarks": False, "overrides": [],
}  # fmt: skip


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "reporting"))
    import cifar_on_a_gpu

    return cifar_on_a_gpu


def planned(script: ModuleType, output: Path, **chosen: Any) -> dict[str, Any]:
    return {part.name: part for part in script.parts(output, SimpleNamespace(**{**CHOSEN, **chosen}))}


def config_of(part: Any) -> dict[str, Any]:
    """The resolved config of the command of a run."""
    recipe = part.command[part.command.index("--config") + 1]
    return resolved_config(recipe, part.command[part.command.index("--config") + 2 :])


# What is planned.


def test_the_runs_are_those_that_are_asked_for(script: ModuleType, tmp_path: Path) -> None:
    parts = planned(script, tmp_path)
    curated, confidence, mixed = (config_of(parts[name]) for name in ("curated", "confidence", "mixed"))
    for config in (curated, confidence, mixed):
        assert config["loop"]["generations"] >= 5
        assert config["loop"]["samples"] >= 10_000
        assert config["loop"]["first"]["steps"] >= 20_000
        assert config["loop"]["stages"] == [config["loop"]["stages"][0] | {"choices": 4, "kept": 2500}]
        assert config["model"]["network"]["channels"] == 128
        assert (config["model"]["solver"], config["model"]["steps"]) == ("midpoint", 8)
        assert config["classifier"] == curated["classifier"]
        assert config["classifier"]["name"] == "vgg11_bn"
        assert config["data"]["train_size"] is None
        assert config["evaluation"]["metrics"] == []
    assert [c["loop"]["synthetic_ratio"] for c in (curated, confidence, mixed)] == [float("inf"), float("inf"), 0.5]
    rewards = [config["reward"]["name"] for config in (curated, confidence, mixed)]
    assert rewards == ["class_probability", "classifier_confidence", "classifier_confidence"]
    start = str(Run(tmp_path / "curated").checkpoint(0))
    assert [config["loop"]["start"] for config in (curated, confidence, mixed)] == [None, start, start]
    assert curated["model"] == confidence["model"] == mixed["model"]


def test_options_reach_every_run(script: ModuleType, tmp_path: Path) -> None:
    chosen = {"overrides": ["model.network_batch=64"], "inception_weights": "w.pth", "toy": True}
    for name in script.RUNS:
        config = config_of(planned(script, tmp_path, **chosen)[name])
        assert config["model"]["network_batch"] == 64
        assert [(m["name"], m["weights"]) for m in config["evaluation"]["metrics"]] == [("inception", "w.pth")]
        assert config["trainer"]["accelerator"] == "cpu"


def test_it_is_estimated_below_half_an_hour(script: ModuleType, tmp_path: Path) -> None:
    parts = list(planned(script, tmp_path).values())
    assert script.total_estimate(parts) < 1800
    assert script.total_estimate(parts) == pytest.approx(sum(part.estimate for part in parts))


def test_the_estimate_of_training_is_that_of_its_operations(script: ModuleType, tmp_path: Path) -> None:
    def seconds(steps: int) -> float:
        first = f"loop.first={{steps: {steps}}}"
        return planned(script, tmp_path, overrides=[first])["curated"].estimate

    # The published 400,000 steps are 1911 PFLOP.
    assert seconds(400_000) - seconds(1) == pytest.approx(1911e15 / (script.TRAINING * script.PEAK), rel=1e-2)


def test_the_network_takes_the_operations_that_are_assumed(script: ModuleType, tmp_path: Path) -> None:
    from cifar_results import forward_flops

    run = Run(tmp_path)
    run.config_path.write_text(yaml.safe_dump(resolved_config("cifar_curated", [])))
    assert forward_flops(run) == pytest.approx(script.FORWARD, rel=1e-2)


# Bad input.


def test_without_a_gpu_it_says_so(script: ModuleType, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert script.main(["--output", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err
    assert "no GPU" in printed
    assert "--toy" in printed
    assert os.listdir(tmp_path) == []


def test_a_typo_in_an_override_ends_before_anything_runs(script: ModuleType, tmp_path: Path, capsys) -> None:
    assert script.main(["--toy", "--output", str(tmp_path / "out"), "loop.generation=3"]) == 2
    assert "did you mean 'generations'" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


# One part after the other.


def part(script: ModuleType, directory: Path, name: str, code: str, **options: Any) -> Any:
    return script.Part(name, [sys.executable, "-c", code], directory / name, **options)


def touching(path: Path) -> str:
    return f"open({str(path)!r}, 'a').write('x')"


def test_a_failure_loses_no_other_part_and_what_is_finished_is_left(script, tmp_path: Path, capsys) -> None:
    made = tmp_path / "made"
    parts = [
        part(script, tmp_path, "bad", "raise SystemExit(3)"),
        part(script, tmp_path, "waits", touching(tmp_path / "waits"), needs=tmp_path / "absent"),
        part(script, tmp_path, "made", touching(made)),
    ]
    assert script.go(parts, tmp_path / "out", "the command") == 1
    assert made.read_text() == "x"
    assert not (tmp_path / "waits").exists()
    results = (tmp_path / "out" / "results.md").read_text()
    assert "the command" in results
    assert "failed, exit status 3" in results
    (tmp_path / "absent").touch()
    parts[0] = part(script, tmp_path, "bad", touching(tmp_path / "bad"))
    assert script.go(parts, tmp_path / "out", "the command") == 0
    assert made.read_text() == "x"
    assert "made: finished before" in capsys.readouterr().out
    made.unlink()
    assert script.go(parts, tmp_path / "out", "the command") == 0
    assert made.read_text() == "x"


def test_what_a_benchmark_prints_is_kept_when_it_succeeds(script: ModuleType, tmp_path: Path, capsys) -> None:
    log = tmp_path / "logs" / "speed.txt"
    failing = part(script, tmp_path, "speed", "print('half'); raise SystemExit(1)", log=log)
    assert script.run(failing) == 1
    assert not log.exists()
    assert "half" in capsys.readouterr().out
    assert script.run(part(script, tmp_path, "speed", "print('7 images/s')", log=log)) == 0
    assert log.read_text() == "7 images/s\n"
    assert os.listdir(log.parent) == ["speed.txt"]


def test_a_part_over_its_limit_is_given_up(script: ModuleType, tmp_path: Path) -> None:
    assert script.run(part(script, tmp_path, "slow", "import time; time.sleep(60)", limit=0.3)) == 124


def test_a_signal_reaches_the_part_and_stops_the_rest(script: ModuleType, tmp_path: Path) -> None:
    ready, saved = tmp_path / "ready", tmp_path / "saved"
    code = (
        "import signal, sys, time\n"
        f"signal.signal(signal.SIGTERM, lambda *_: ({touching(saved)}, sys.exit(143)))\n"
        f"{touching(ready)}\n"
        "time.sleep(60)"
    )

    def send() -> None:
        while not ready.exists():
            threading.Event().wait(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    parts = [
        part(script, tmp_path, "long", code),
        part(script, tmp_path, "next", touching(tmp_path / "next")),
    ]
    thread = threading.Thread(target=send)
    thread.start()
    assert script.go(parts, tmp_path / "out", "the command") == 143
    thread.join()
    assert saved.exists()
    assert not (tmp_path / "next").exists()


# What is written.


def test_results_say_what_the_runs_recorded(script: ModuleType, tmp_path: Path, monkeypatch) -> None:
    import cifar_results
    from fabricated import fabricate

    network = {"name": "unet", "channels": 32, "residual_blocks": 1, "channel_multipliers": [1], "head_channels": 32}
    config = {"model": {"network": {**network, "attention_resolutions": [], "scale_shift": True}}}
    facts = {
        "class_names": ["airplane", "cat"],
        "classifier/test_accuracy": 0.9161,
        "classifier/test_accuracy/1": 0.84,
    }
    for name, ratio in (("curated", float("inf")), ("mixed", 0.5)):
        run = fabricate(tmp_path / name, generations=3, kind="images", facts={**facts, "synthetic_ratio": ratio})
        run.config_path.write_text(yaml.safe_dump(config))
        for row in run.rows():
            t = row["generation"]
            run.record({**row, "class_share/0": 0.1 * 2**t, "frechet_distance/vgg": 1.0 + t, "precision/vgg": 0.5})
    here = {**cifar_results.environment(), "gpus": ["NVIDIA H100 80GB HBM3"]}
    monkeypatch.setattr(cifar_results, "environment", lambda: here)
    log = tmp_path / "speed.txt"
    log.write_text("required: met\n")
    parts = [script.Part("speed", ["python", "-m", "speed"], log, log=log, estimate=90)]
    record = script.Record(tmp_path / "parts.json")
    record.add(parts[0], 0, 30)
    record.add(parts[0], 0, 30)
    cifar_results.write_results(tmp_path, script.RUNS, parts, record, "the command")
    text = (tmp_path / "results.md").read_text()
    assert "NVIDIA H100" in text
    assert "test accuracy 91.61%" in text
    assert "cat 84.0%" in text
    assert "## curated, λ = ∞" in text
    assert "## mixed, λ = 0.5" in text
    assert "| share of airplane | 0.100 | 0.200 | 0.400 | 0.800 |" in text
    assert "| FD vgg | 1.00 | 2.00 | 3.00 | 4.00 |" in text
    assert "| training s | 7.00 | 7.00 | 7.00 | 7.00 |" in text
    assert "required: met" in text
    assert "| speed | 1.5 min | 1.0 min |  |" in text
    flop, peak = cifar_results.forward_flops(Run(tmp_path / "mixed")), 989e12
    trained, sampled = 310_000 / 7.0, 8000 / 4.1
    speeds = f"{trained:.0f} | {3 * trained * flop / peak:.1%} | {sampled:.0f} | {16 * sampled * flop / peak:.1%} |"
    assert f"| mixed | {speeds}" in text
    for name in ("curves.png", "film_strip.png"):
        assert min(Image.open(tmp_path / name).size) > 50


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_missing_images_are_said_by_the_data_set(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(SCRIPT),
        "--toy",
        "--root",
        str(tmp_path / "absent"),
        "--output",
        str(tmp_path / "out"),
    ]
    done = subprocess.run([*command, "data.download=false"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "data.root" in done.stderr
    assert "cifar-10-batches-py" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_toy_run_of_all_of_it_on_real_images(cifar_root: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--toy", "--root", str(cifar_root), "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    runs = {name: Run(tmp_path / name) for name in ("curated", "confidence", "mixed")}
    for run in runs.values():
        rows = run.rows()
        assert [row["generation"] for row in rows] == [0, 1, 2]
        assert all((row["samples"], row["pool_items"], row["nfe"]) == (80, 20, 8) for row in rows)
    first = [run.pool(0).preview.x for run in runs.values()]
    assert torch.equal(first[0], first[1])  # the same weights, noise and chunks
    assert torch.equal(first[0], first[2])
    shared = [
        {k: v for k, v in runs[name].rows()[0].items() if "second" not in k} for name in ("confidence", "mixed")
    ]
    assert shared[0] == shared[1]  # λ does not matter yet
    assert [run.rows()[1]["synthetic_items"] for run in runs.values()] == [20, 20, 500]
    text = (tmp_path / "results.md").read_text()
    for expected in ("share of airplane", "FD cifar10_vgg11_bn", "test accuracy", "## precision", "required:"):
        assert expected in text
    width, height = Image.open(tmp_path / "film_strip.png").size
    assert width > 3 * 8 * 64
    assert height > 3 * 64
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0
    assert again.stdout.count("finished before") == 5
