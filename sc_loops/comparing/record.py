"""What the comparison reads of a run's directory, each file of it once."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sc_loops.errors import UsageError
from sc_loops.reporting.history import Array
from sc_loops.run import Row, Run
from sc_loops.run_choice import significant

# libyaml, where PyYAML was built with it, reads a config in milliseconds.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ReadRun(Run):
    """A run whose facts are known: drawing from it does not read its record again, nor keep the rows in memory."""

    def __init__(self, path: Path, facts: Row) -> None:
        super().__init__(path)
        self._facts = facts

    def facts(self) -> Row:
        return self._facts


@dataclass(frozen=True)
class Record:
    """One run as far as it is.

    Args:
        run: its directory.
        name: what the comparison calls it: the name of the directory, with as much of the path in front as tells
            it from the others.
        config: the resolved config, flattened: ``loop.synthetic_ratio`` to its value, () for an empty list. Empty
            without config.yaml.
        facts: what is constant over the run.
        generations: those recorded, ascending.
        columns: by metric one value for each of ``generations``, None where it was not recorded.
    """

    run: ReadRun
    name: str
    config: dict[str, Any]
    facts: Row
    generations: list[int]
    columns: dict[str, list[Any]]

    @property
    def seed(self) -> Any:
        return self.config.get("seed")

    @property
    def last(self) -> int:
        """The newest generation."""
        return self.generations[-1]

    @property
    def total(self) -> int | None:
        """The last generation that was asked for, None where nothing says it."""
        return self.facts.get("generations")

    @property
    def finished(self) -> bool:
        return self.total is not None and self.last >= self.total

    @cached_property
    def place(self) -> dict[int, int]:
        """The index of each generation."""
        return {t: i for i, t in enumerate(self.generations)}

    def values(self, key: str) -> Array:
        """``key`` in each generation; nan where it is missing, no number or not finite."""
        column = self.columns.get(key, [None] * len(self.generations))
        found = np.array([v if type(v) in (int, float) else math.nan for v in column], dtype=float)
        return np.where(np.isfinite(found), found, math.nan)

    def at(self, generation: int, key: str) -> float:
        """``key`` in ``generation``; nan where it is missing, no number or not finite."""
        if key not in self.columns or generation not in self.place:
            return math.nan
        value = self.columns[key][self.place[generation]]
        return float(value) if type(value) in (int, float) and math.isfinite(value) else math.nan


def read(runs: Iterable[Run]) -> list[Record]:
    """The record of each of ``runs``; a directory that is named twice is read once.

    Raises:
        UsageError: one is no run, or has no finished generation.
    """
    directories = list({run.path.resolve(): run.path for run in runs}.values())
    return [_read(path, name) for path, name in zip(directories, _names(directories), strict=True)]


def _read(path: Path, name: str) -> Record:
    """The record of the run in ``path``."""
    run = Run(path)
    rows, facts = run.rows(), run.facts()
    if not rows:
        _refuse(path)
    keys = dict.fromkeys(chain.from_iterable(rows))
    columns = {key: [row.get(key) for row in rows] for key in keys if key != "generation"}
    generations = [int(row["generation"]) for row in rows]
    return Record(ReadRun(path, facts), name, _config(path), facts, generations, columns)


def _refuse(path: Path) -> None:
    inside = [p.parent.name for p in sorted(path.glob("*/metrics.jsonl"))[:3]] if path.is_dir() else []
    do = (
        f"name the runs in it, as {path}/{inside[0]}"
        if inside
        else "leave it out, or let it finish a generation first"
    )
    found = "no metrics.jsonl with a generation" if path.is_dir() else "a file" if path.exists() else "nothing"
    raise UsageError(
        str(path),
        found=found + (f", but runs below it: {', '.join(inside)}" if inside else ""),
        expected="the directory of a run with at least one finished generation",
        do=do,
    )


def _config(path: Path) -> dict[str, Any]:
    """The config of the run in ``path``, flattened; of what is free to differ, nothing."""
    file = Run(path).config_path
    if not file.exists():
        return {}
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), Loader=_LOADER)
        if not isinstance(content, dict) or not content:
            raise ValueError("no settings")
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UsageError(
            str(file),
            found=" ".join(f"{type(error).__name__}: {error}".split())[:400],
            expected="the config that the run was started with",
            do="restore the file, or leave the run out",
        ) from error
    flat = {key: json.loads(value) for key, value in significant(content).items()}
    return {key: () if value in ([], {}) else value for key, value in flat.items()}


def _names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of ``paths`` that tell all of them apart."""
    parts = [path.resolve().parts for path in paths]
    length = 1
    while len({p[-length:] for p in parts}) < len(parts):
        length += 1
    return ["/".join(p[-length:]) for p in parts]
