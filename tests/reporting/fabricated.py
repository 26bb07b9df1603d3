"""Run directories as a loop would leave them behind, made up in a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sc_loops.data.files import write_samples
from sc_loops.data.pool import Chunk
from sc_loops.run import Run
from sc_loops.samples import Samples


def rewards_of(generation: int, n: int = 400) -> Tensor:
    """Rewards on a grid, shifted up by each generation: mean 0.25 t."""
    return torch.linspace(-1, 1, n, dtype=torch.float64) + 0.25 * generation


def row(generation: int, **more: Any) -> dict[str, Any]:
    """A generation's row as the loop records it, with numbers that can be told from one another."""
    t, r = generation, rewards_of(generation)
    return {
        "generation": t,
        "real_items": 2000,
        "synthetic_items": 0 if t == 0 else 2000,
        "items_seen": 310_000 * (t + 1),
        "train/loss": 0.512 - 0.1 * t,
        "samples": 8000,
        "pool_items": 2000,
        "nfe": 16.0,
        "reward/mean": float(r.mean()),
        "reward/var": float(r.var()),
        "exp_reward/mean": float(r.exp().mean()),
        "exp_reward/var": float(r.exp().var()),
        "wasserstein_2": 0.217 + 0.02 * t,
        "seconds/training": 7.0,
        "seconds/sampling": 4.1,
        "seconds/total": 12.3,
        **more,
    }


def fabricate(path: Path, *, generations: int, kind: str = "points", facts: dict[str, Any] | None = None) -> Run:
    """A run with generations 0 to ``generations``; facts replace or, with None, remove the usual ones."""
    run, generator = Run(path), torch.Generator().manual_seed(0)

    def draw(n: int) -> Tensor:
        shape = (n, 2) if kind == "points" else (n, 1, 8, 8)
        return torch.randn(shape, generator=generator).clamp(-1, 1)

    usual = {"data/kind": kind, "data/name": "made up", "generations": generations, "synthetic_ratio": 1.0}
    recorded = {**usual, "choices": 4, "class_names": [], "samples_per_generation": 400, **(facts or {})}
    run.record({"fact": True, **{k: v for k, v in recorded.items() if v is not None}})
    write_samples(run.path / "real.safetensors", Samples(draw(40)))
    for t in range(generations + 1):
        run.record({"step": 10 * t + 5, "train/loss": 0.9 - 0.1 * t, "train/learning_rate": 1e-3})
        run.record({"step": 10 * t + 10, "train/loss": 0.8 - 0.1 * t, "train/learning_rate": 1e-3})
        chunks = [Chunk(0, 0, 200), Chunk(1, 200, 200)]

        def make(chunk: Chunk, t: int = t) -> tuple[Samples, dict[str, dict[str, Tensor]]]:
            values = rewards_of(t)[chunk.start : chunk.start + chunk.size].float()
            observed = {"reward": {"values": values}}
            if kind == "points":
                observed["points"] = {"x": draw(50)}
            return Samples(draw(50)), observed

        for _ in run.pool(t).fill(chunks, make):
            pass
        run.pool(t).finish(t, chunks)
        run.pool(t).write_preview(Samples(draw(40)))
        run.record(row(t))
    return run
