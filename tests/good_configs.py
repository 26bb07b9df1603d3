"""Two good configs to make bad ones of, and what a refusal looks like."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from sc_loops.cli import train

Config = dict[str, Any]
Key = tuple[str | int, ...]

MOONS: Config = {
    "seed": 0,
    "data": {"name": "two_moons", "size": 50, "test_size": 20, "noise": 0.05, "seed": 0},
    "batch_size": 16,
    "classifier": {"name": "nearest_mean"},
    "reward": {"name": "class_probability", "target": 0, "scale": 5.0},
    "model": {
        "name": "flow_matching",
        "network": {"name": "mlp", "width": 8, "depth": 2, "time_scale": 30.0},
        "coupling": "exact_ot",
        "solver": "midpoint",
        "steps": 2,
        "betas": [0.9, 0.999],
        "learning_rate": 1e-3,
        "ema_decay": 0.9,
    },
    "loop": {
        "generations": 1,
        "synthetic_ratio": "inf",
        "stages": [{"name": "k_choice", "choices": 4}],
        "first": {"steps": 3, "learning_rate": 1e-3},
        "later": {"passes": 1.0, "warmup_steps": 1},
        "retraining": "finetune",
        "conditions": "real",
        "chunk_size": 20,
    },
    "evaluation": {"samples": 20},
    "trainer": {"accelerator": "cpu", "precision": "32-true"},
    "wandb": {"mode": "disabled", "tags": ["a"]},
}
MIXTURE: Config = {
    "seed": 0,
    "name": "mixture",
    "data": {"name": "gaussian_mixture", "modes": 4, "radius": 5.0, "std": 0.5, "size": 50, "test_size": 20},
    "batch_size": 16,
    "reward": {"name": "clipped_distance", "center": [5.0, 0.0], "radius": 1.0, "scale": 10.0},
    "model": {
        "name": "ddpm",
        "network": {"name": "mlp", "width": 8},
        "timesteps": 10,
        "schedule": "linear",
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "steps": 5,
        "eta": 0.0,
        "weight_decay": 0.0,
    },
    "loop": {
        "generations": 1,
        "synthetic_ratio": 0.5,
        "stages": [{"name": "k_choice", "choices": 4, "kept": 10}],
        "first": {"steps": 3},
        "later": {"steps": 2},
        "samples": 40,
        "chunk_size": 20,
        "preview": 4,
        "log_every": 1,
    },
    "trainer": {"accelerator": "cpu", "devices": 1},
}


def at(content: Any, key: str | Key) -> tuple[Any, Any]:
    """The section or list that holds ``key``, made if need be, and the last part of the key."""
    *parents, last = [int(p) if str(p).isdigit() else p for p in (key.split(".") if isinstance(key, str) else key)]
    for part in parents:
        content = content.setdefault(part, {}) if isinstance(content, dict) else content[part]
    return content, last


def mutated(base: Config, key: str, value: Any) -> Config:
    """A copy of ``base`` with ``value`` at ``key``."""
    content = copy.deepcopy(base)
    place, last = at(content, key)
    place[last] = value
    return content


def run(path: Path, content: Config, capfd: pytest.CaptureFixture[str], *flags: str) -> tuple[int, str]:
    """The status and the error output of a dry run in an empty directory, which must stay empty."""
    file = path / "bad.yaml"
    file.write_text(yaml.safe_dump({**content, "output": str(path / "runs")}))
    status = train(["--config", str(file), "--dry-run", *flags])
    printed = capfd.readouterr()
    assert os.listdir(path) == ["bad.yaml"]
    return status, printed.err


def assert_refused(status: int, message: str, place: str) -> None:
    """Status 2, and a ``message`` in the form of a complaint that names ``place`` (of which "" asks nothing)."""
    assert status == 2, message
    assert "found:" in message, message
    assert "expected:" in message, message
    assert "Traceback" not in message, message
    assert "should not happen" not in message, message
    first = message.splitlines()[0]
    assert first.startswith("error: "), message
    assert place.rpartition(".")[2] in message, message
    assert place.partition(".")[0] in first or f"add a '{place}' section" in message, message
