"""Runs as a sweep leaves them behind, made up in a moment: a config, a record, and pictures where wanted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from sc_loops.data.files import write_samples
from sc_loops.run import Run
from sc_loops.samples import Samples

Metrics = Callable[[int, np.random.Generator], Mapping[str, Any]]


def config(*, seed: int = 0, strength: float | None = 0.3, ratio: float = 0.5, **more: Any) -> dict[str, Any]:
    """A resolved config; without ``strength`` it has no stage. ``more`` replaces whole sections."""
    stage = {"name": "correct", "corrector": {"name": "ideal"}, "strength": strength, "on_failure": "keep"}
    return {
        "seed": seed,
        "output": "runs",
        "name": None,
        "data": {"name": "gaussian", "size": 50, "test_size": 50, "seed": seed},
        "model": {"name": "gaussian"},
        "loop": {
            "generations": 500,
            "synthetic_ratio": ratio,
            "stages": [] if strength is None else [stage],
            "memory": "fading",
        },
        "wandb": {"project": "sc_loops", "group": None, "tags": []},
        **more,
    }


def noisy(t: int, generator: np.random.Generator) -> dict[str, Any]:
    """Metrics that differ from seed to seed and from generation to generation."""
    return {"wasserstein_2/gaussian": 0.3 + abs(generator.normal()) / 10, "reward/mean": 1.0 + generator.normal() + t}


def run_of(
    path: Path,
    resolved: dict[str, Any] | None,
    metrics: Metrics = noisy,
    *,
    last: int = 3,
    total: int | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Run:
    """A run of ``resolved`` with generations 0 to ``last`` of ``total`` (by default ``last``)."""
    path.mkdir(parents=True)
    run = Run(path)
    if resolved is not None:
        run.config_path.write_text(yaml.safe_dump(resolved, sort_keys=False), encoding="utf-8")
    generator = np.random.default_rng(0 if resolved is None else resolved["seed"])
    known = {"data/kind": "points", "data/name": "made up", "generations": last if total is None else total}
    lines = [{"fact": True, **known, **(facts or {})}]
    lines += [{"generation": t, **metrics(t, generator)} for t in range(last + 1)]
    run.metrics_path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return run


def with_images(run: Run, generations: int, colour: int) -> Run:
    """Previews of ``generations`` generations, images of one grey each: ``colour`` + 10 t in 0..255."""
    for t in range(generations):
        x = torch.full((8, 1, 8, 8), colour + 10 * t, dtype=torch.uint8)
        run.pool(t).path.mkdir(parents=True)
        write_samples(run.pool(t).path / "preview.safetensors", Samples(x))
    return run
