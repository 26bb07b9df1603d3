"""The run directory: the record of an experiment, from which everything shown can be drawn again.

runs/<name>/
    config.yaml       the resolved config
    env.json          versions, git commit, devices
    metrics.jsonl     one JSON object a line; the row of a generation carries "generation": t
    captions.json     of motions, see sc_loops/data/motion_record.py
    pools/0000/       see sc_loops/data/pool.py
    improvements/     see sc_loops/improving; each is written when it is made, and made again where it is not there
    checkpoints/      see sc_loops/checkpoints.py
    report.html       one self-contained file
"""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

from sc_loops.checkpoints import Checkpoints
from sc_loops.data.files import write_samples, writing
from sc_loops.data.motion_record import write_motions
from sc_loops.data.pool import Pool
from sc_loops.data.real import RealData

Row = dict[str, Any]

_TIMES = ("seconds/", "samples_per_second/")
_POOL = re.compile(r"\d{4,}")  # and nothing else: somebody may keep a copy beside it


class Run:
    """The run in directory ``path``, which need not exist yet."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._read = _Read()

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
        if "gaussian_loop" in facts:  # its theory starts from the points that are trained on
            write_samples(self.path / "real_train.safetensors", data.train)
        write_motions(self.path, data)
        about_data: Row = {
            "data/kind": data.kind,
            "data/name": data.name,
            "class_names": list(data.class_names),
            "real_items": len(data.train),
            **({"data/left_out": list(data.left_out)} if data.left_out else {}),
        }
        if self.facts() != {**self.facts(), **about_data, **facts}:
            self.record({"fact": True, **about_data, **facts})

    def pool(self, generation: int) -> Pool:
        return Pool(self.path / "pools" / f"{generation:04d}")

    def improvement(self, generation: int) -> Path:
        """The auxiliary with which the model of ``generation`` is improved."""
        return self.path / "improvements" / f"{generation:04d}.safetensors"

    def pools(self) -> set[int]:
        """The generations of which a pool is on disk, finished or not."""
        return {int(path.name) for path in (self.path / "pools").glob("[0-9]*") if _POOL.fullmatch(path.name)}

    def generations(self) -> list[int]:
        """Those of which a pool or a checkpoint is on disk, in order."""
        return sorted(self.pools() | self.saved.generations())

    def record(self, row: Row, *, durable: bool = True) -> None:
        """Append ``row`` to metrics.jsonl. Numbers that are not finite are written as strings.

        Args:
            durable: wait until the row of a generation is on the disk itself.

        Raises:
            RunError: the disk is full, read-only or broken. A line that was cut short does not count.
        """
        line = (json.dumps({k: _plain(v) for k, v in row.items()}) + "\n").encode()
        with writing(self.metrics_path, len(line)):
            self.path.mkdir(parents=True, exist_ok=True)
            with self.metrics_path.open("a+b") as file:
                end = file.tell()
                known = end == self._read.size  # which ends in a whole line
                torn = not known and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n"
                file.write(b"\n" * torn + line)
                file.flush()
                if known:
                    self._read.add(line)
                if durable and "generation" in row:
                    os.fsync(file.fileno())

    def rows(self) -> list[Row]:
        """The rows of the generations recorded so far, in order; of one recorded twice, the later row."""
        rows = self._recorded().generations
        return [rows[generation] for generation in sorted(rows)]

    def has_row(self, generation: int, row: Row | None = None) -> bool:
        """Whether the row of ``generation`` is recorded, and says what ``row`` does where that is given, but for
        times."""
        recorded = self._recorded().generations.get(generation)
        wanted = {k: v for k, v in (row or {}).items() if not k.startswith(_TIMES)}
        return recorded is not None and all(recorded.get(k) == v or v != v for k, v in wanted.items())

    def training_rows(self) -> list[Row]:
        """The rows recorded while training: ``step``, ``train/loss``, ``train/learning_rate``."""
        return list(self._recorded().steps.values())

    def facts(self) -> Row:
        """What is constant over a run and was recorded once, e.g. ``classifier/test_accuracy``."""
        return dict(self._recorded().facts)

    @property
    def cut_short(self) -> bool:
        """Whether the last line of metrics.jsonl was not written to its end."""
        return self.metrics_path.exists() and self.metrics_path.read_bytes()[-1:] not in (b"", b"\n")

    def _recorded(self) -> _Read:
        """What can be read of metrics.jsonl; only what is new since the last time is read."""
        size = self.metrics_path.stat().st_size if self.metrics_path.exists() else 0
        if size < self._read.size:
            self._read = _Read()
        if size > self._read.size:
            with self.metrics_path.open("rb") as file:
                file.seek(self._read.size)
                self._read.add(file.read(size - self._read.size))
        return self._read


class _Read:
    """The rows of metrics.jsonl up to its byte ``size``, which is the end of a line."""

    def __init__(self) -> None:
        self.size = 0
        self.generations: dict[int, Row] = {}
        self.steps: dict[int, Row] = {}  # a step that was repeated counts once
        self.facts: Row = {}

    def add(self, content: bytes) -> None:
        """Take what follows in the file, but for a last line that is not complete."""
        whole, _, rest = content.rpartition(b"\n")
        self.size += len(content) - len(rest)
        for line in whole.decode(errors="replace").split("\n"):
            row = _row(line)
            if row is None:
                continue
            if "fact" in row:
                self.facts |= {k: v for k, v in row.items() if k != "fact"}
            elif "generation" in row:
                self.generations[row["generation"]] = row
            elif "train/loss" in row:
                self.steps[row["step"]] = row


def _row(line: str) -> Row | None:
    try:
        return {k: _number(v) for k, v in json.loads(line).items()}
    except (ValueError, AttributeError):  # no JSON, or no object
        return None


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: Any) -> Any:
    return float(value) if value in ("inf", "-inf", "nan") else value
