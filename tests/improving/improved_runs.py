"""Small loops of points whose models are improved, and what is compared of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conftest import fit
from tiny_flows import DATA, trained

from sc_loops import Evaluation, Run, SelfConsumingLoop, Training

SMALL = {"samples": 60, "steps": 6, "batch_size": 20}


def looped(path: Path, improvement: Any, **options: Any) -> Run:
    chosen: dict[str, Any] = {
        "generations": 2,
        "synthetic_ratio": 1.0,
        "first": Training(steps=6),
        "later": Training(steps=4),
        "samples": 70,
        "chunk_size": 40,
        "preview": 4,
        "evaluation": Evaluation(DATA, None, None, samples=50),
        **options,
    }
    fit(SelfConsumingLoop(Run(path), improvement=improvement, **chosen), trained(), data=DATA)
    return Run(path)


def rows(run: Run) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if "second" not in k} for row in run.rows()]


def pools(run: Run) -> dict[str, bytes]:
    return {str(p.relative_to(run.path)): p.read_bytes() for p in run.path.glob("pools/*/chunk-*")}
