"""``comparison.csv``: every number of every run, a line for each generation."""

from __future__ import annotations

import csv
import io
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sc_loops.comparing.record import Record
from sc_loops.comparing.settings import MISSING, Settings
from sc_loops.data.files import writing


def write_table(path: Path, settings: Settings, records: Sequence[Record]) -> None:
    """Write one line for each run and generation: ``run, seed, <config keys>, generation, <metrics>``.

    Config keys are those in which settings differ. The cell of a key that a config does not have, and of a metric
    that a run did not record, is empty. Numbers are written with all their digits, so that they read back as they
    were recorded. Run by run, since a sweep of hundreds of runs has a hundred thousand lines; ``path`` is written
    whole or not at all.

    Raises:
        RunError: the directory cannot be written to, or the disk is full.
    """
    metrics = list(dict.fromkeys(metric for record in records for metric in record.columns))
    header = _cells(["run", "seed", *settings.keys, "generation", *metrics]) + "\n"
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with writing(path, len(header)):  # at least
        try:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                file.write(header)
                for record in records:
                    text = "".join(_lines(record, settings.keys, metrics))
                    with writing(path, len(text)):
                        file.write(text)
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def _lines(record: Record, keys: Sequence[str], metrics: Sequence[str]) -> Iterator[str]:
    """What repeats on many lines is spelled once."""
    start = _cells([record.name, record.seed, *(_plain(record.config.get(key, MISSING)) for key in keys)])
    nothing = [None] * len(record.generations)
    columns = [record.columns.get(metric, nothing) for metric in metrics]
    for generation, *values in zip(record.generations, *columns, strict=True):
        yield f"{start},{generation},{','.join(map(_number, values))}\n"


def _number(value: Any) -> str:
    if value is None:
        return ""
    return repr(value) if type(value) in (int, float) else _cells([value])


def _cells(values: Sequence[Any]) -> str:
    """``values`` as a line of a CSV file, without its end."""
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(values)
    return out.getvalue()


def _plain(value: Any) -> Any:
    return "" if value == MISSING else "none" if value in (None, ()) else value
