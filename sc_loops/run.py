"""The run directory: the record of an experiment, from which everything shown can be drawn again.

runs/<name>/
    config.yaml       the resolved config
    env.json          versions, git commit, devices
    metrics.jsonl     one JSON object a line; the row of a generation carries "generation": t
    pools/0000/       see sc_loops/data/pool.py
    checkpoints/      see sc_loops/checkpoints.py
    report.html       one self-contained file
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from sc_loops.checkpoints import Checkpoints
from sc_loops.data.files import write_samples, writing
from sc_loops.data.pool import Pool
from sc_loops.data.real import RealData

Row = dict[str, Any]


class Run:
    """The run in directory ``path``, which need not exist yet."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def config_path(self) -> Path:
        return self.path / "config.yaml"

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def report_path(self) -> Path:
        return self.path / "report.html"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def saved(self) -> Checkpoints:
        return Checkpoints(self.checkpoints)

    def checkpoint(self, generation: int) -> Path:
        """The checkpoint written when the training of ``generation`` ended."""
        return self.saved.generation(generation)

    @property
    def last_checkpoint(self) -> Path:
        """A link to the newest checkpoint."""
        return self.saved.last

    @property
    def initial_weights(self) -> Path:
        """The untrained weights, from which every generation starts when retraining is from scratch."""
        return self.checkpoints / "initial.safetensors"

    def open(self, facts: Row, data: RealData) -> None:
        """Make the directory and record ``facts``, what is known of the data, and some real samples."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        few = 2000 if data.kind == "points" else 64
        write_samples(self.path / "real.safetensors", data.test[slice(few)])
        about_data = {
            "data/kind": data.kind,
            "data/name": data.name,
            "class_names": list(data.class_names),
            "real_items": len(data.train),
        }
        if self.facts() != {**self.facts(), **about_data, **facts}:
            self.record({"fact": True, **about_data, **facts})

    def pool(self, generation: int) -> Pool:
        return Pool(self.path / "pools" / f"{generation:04d}")

    def record(self, row: Row) -> None:
        """Append ``row`` to metrics.jsonl, the row of a generation flushed to the disk itself. Numbers that are not
        finite are written as strings.

        Raises:
            RunError: the disk is full, read-only or broken. A line that was cut short does not count.
        """
        line = (json.dumps({k: _plain(v) for k, v in row.items()}) + "\n").encode()
        with writing(self.metrics_path, len(line)):
            self.path.mkdir(parents=True, exist_ok=True)
            with self.metrics_path.open("a+b") as file:
                torn = file.tell() > 0 and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n"
                file.write(b"\n" * torn + line)
                file.flush()
                if "generation" in row:
                    os.fsync(file.fileno())

    def rows(self) -> list[Row]:
        """The rows of the generations recorded so far, in order; of one recorded twice, the later row."""
        rows = {row["generation"]: row for row in self._all_rows() if "generation" in row}
        return [rows[generation] for generation in sorted(rows)]

    def has_row(self, generation: int, metrics: Row | None = None) -> bool:
        """Whether the row of ``generation`` is recorded, and says ``metrics`` where they are given."""
        rows = [row for row in self.rows() if row["generation"] == generation]
        return bool(rows) and all(rows[-1].get(k) == v or v != v for k, v in (metrics or {}).items())

    def training_rows(self) -> list[Row]:
        """The rows recorded while training: ``step``, ``train/loss``, ``train/learning_rate``."""
        rows = [row for row in self._all_rows() if "train/loss" in row and "generation" not in row]
        return list({row["step"]: row for row in rows}.values())  # a step that was repeated counts once

    def facts(self) -> Row:
        """What is constant over a run and was recorded once, e.g. ``classifier/test_accuracy``."""
        return {k: v for row in self._all_rows() if "fact" in row for k, v in row.items() if k != "fact"}

    @property
    def cut_short(self) -> bool:
        """Whether the last line of metrics.jsonl was not written to its end."""
        return self.metrics_path.exists() and self.metrics_path.read_bytes()[-1:] not in (b"", b"\n")

    def _all_rows(self) -> list[Row]:
        """The lines of metrics.jsonl that can be read."""
        if not self.metrics_path.exists():
            return []
        lines = self.metrics_path.read_text(errors="replace").split("\n")
        return [row for line in lines if (row := _row(line)) is not None]


def _row(line: str) -> Row | None:
    try:
        return {k: _number(v) for k, v in json.loads(line).items()}
    except (ValueError, AttributeError):  # no JSON, or no object
        return None


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: Any) -> Any:
    return float(value) if value in ("inf", "-inf", "nan") else value
