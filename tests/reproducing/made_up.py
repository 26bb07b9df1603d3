"""Finished runs whose rows are written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sc_loops.run import Run
from sc_loops.sweeping.plan import Member


def member(folder: Path, setting: dict[str, str], seed: int, rows: list[dict[str, Any]], last: int) -> Member:
    """A run with ``rows``, whose generations are given or counted, of a sweep to generation ``last``."""
    name = ",".join([*(f"{key}={value}" for key, value in setting.items()), f"seed={seed}"])
    run = Run(folder / name)
    for generation, row in enumerate(rows):
        run.record({"generation": generation, **row})
    return Member(setting, seed, {"name": name, "output": str(folder), "loop": {"generations": last}})
