"""``comparison.csv``: every number of every run, in long format."""

from __future__ import annotations

import csv
import io
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sc_loops.comparing.record import Record
from sc_loops.comparing.settings import MISSING, Settings
from sc_loops.data.files import writing


def write_table(path: Path, settings: Settings, records: Sequence[Record]) -> None:
    """Write one line for each run, generation and metric: ``run, seed, <config keys>, generation, metric, value``.

    Config keys are those in which settings differ; the cell of a key that a config does not have is empty. Numbers
    are written with all their digits, so that they read back as they were recorded. Run by run, since a sweep of
    hundreds of runs has millions of lines; ``path`` is written whole or not at all.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            file.write(_cells(["run", "seed", *settings.keys, "generation", "metric", "value"]) + "\n")
            for record in records:
                text = "".join(_lines(record, settings.keys))
                with writing(path, len(text)):
                    file.write(text)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _lines(record: Record, keys: Sequence[str]) -> Iterator[str]:
    """What repeats on many lines is spelled once: this is most of the time that a comparison of many runs takes."""
    start = _cells([record.name, record.seed, *(_plain(record.config.get(key, MISSING)) for key in keys)])
    columns = [(_cells([metric]), values) for metric, values in record.columns.items()]
    for i, generation in enumerate(record.generations):
        for metric, values in columns:
            value = values[i]
            if value is not None:
                text = repr(value) if type(value) in (int, float) else _cells([value])
                yield f"{start},{generation},{metric},{text}\n"


def _cells(values: Sequence[Any]) -> str:
    """``values`` as a line of a CSV file, without its end."""
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(values)
    return out.getvalue()


def _plain(value: Any) -> Any:
    return "" if value == MISSING else "none" if value in (None, ()) else value
