"""A recipe cut down until a run takes seconds: every part of it is gone through, and no number means anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sc_loops import config
from sc_loops.data.files import write_atomically
from sc_loops.experiment import resolved_config

GENERATIONS = 1
MOST_RATIO = 2.0  # λ for which the samples below are enough
SEEDS = 2

# By the last part of a key: what is larger is cut to this.
_MOST: dict[str, float] = {
    "generations": GENERATIONS,
    "batch_size": 16,
    "steps": 3,
    "passes": 1.0,
    "warmup_steps": 1,
    "epochs": 1,
    "size": 100,
    "real_items": 50,
    "train_size": 200,
    "test_size": 100,
    "max_frames": 48,
    "dimensions": 8,
    "replicas": 4,
    "samples": 100,
    "search_samples": 50,
    "chunk_size": 50,
    "kept": 50,
    "preview": 4,
    "clusters": 2,
    "channels": 32,
    "head_channels": 32,
    "residual_blocks": 1,
    "timesteps": 50,
    "network_batch": 50,
}
_ALL = {"train_size": 200, "test_size": 100}  # where null stands for all that there are
_NARROW = {"channel_multipliers": [1], "attention_resolutions": []}
_FEW = ("omegas",)  # lists of what is tried one after the other


def write_tiny(path: Path, recipe: str, overrides: Sequence[str]) -> None:
    """Write ``recipe`` with ``overrides`` into ``path``, cut down.

    Raises:
        UsageError: see ``config.load`` and ``schema.resolve``.
    """
    content = cut(resolved_config(recipe, overrides))
    loop = content["loop"]
    # Of fewer than λ n samples a pool is repeated, of which theory knows nothing.
    many = MOST_RATIO < loop["synthetic_ratio"] < math.inf
    loop["samples"] = loop.get("samples") or (None if many else _MOST["samples"])
    content |= {"name": None, "output": "runs", "wandb": {"mode": "disabled"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, config.to_yaml(content))


def cut(value: Any, key: str = "") -> Any:
    """``value`` with every size in it no larger than a run of seconds can have."""
    if isinstance(value, dict):
        return {name: cut(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return _NARROW.get(key, value[:2] if key in _FEW else [cut(each) for each in value])
    if value is None:
        return _ALL.get(key)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value)(min(value, _MOST[key])) if number and key in _MOST else value
