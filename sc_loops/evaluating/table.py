"""What a repeated evaluation found, as a table for the terminal."""

from __future__ import annotations

import math

import numpy as np

from sc_loops.evaluating.evaluation import Record
from sc_loops.reporting.wording import in_order, number, symbol

QUANTILE = 1.96  # of the normal distribution: 95 % within


def interval(values: list[float]) -> tuple[float, float]:
    """The mean of R repeats and the half width of its 95 % confidence interval, 1.96 sd / sqrt(R), nan for R = 1."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan  # statistics.stdev raises on nan
    return float(np.mean(values)), QUANTILE * spread / math.sqrt(len(values))


def table(record: Record) -> str:
    """A line for each metric: its mean over repeats, a 95 % interval and the real data's own value.

    The multimodality is that of one sampling with many motions of each caption; its interval is over captions.
    """
    repeats = record["repeats"]
    rows: dict[str, tuple[str, str, str]] = {}
    for key in repeats[0]:
        if key.endswith("/real") or key.startswith("frechet_distance_error/"):
            continue
        mean, half = interval([_number(repeat[key]) for repeat in repeats])
        rows[key] = (number(mean), number(half), _real(repeats[0], key))
    for space, (mean, error, _) in record["multimodality"].items():
        key = f"multimodality/{space}"
        rows[key] = (number(_number(mean)), number(QUANTILE * _number(error)), _real(repeats[0], key))
    lines = [("", "mean", "± 95 %", "real"), *((symbol(key), *rows[key]) for key in in_order(list(rows)))]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    title = f"generation {record['generation']}: {len(repeats)} x {record['samples']} motions of held-out captions"
    return "\n".join([title, *(_line(line, widths) for line in lines)])


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    name, *numbers = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    right = (cell.strip().rjust(len(cell)) for cell in numbers)
    return "  ".join([name, *right]).rstrip()


def _real(repeat: dict[str, float], key: str) -> str:
    found = repeat.get(f"{key}/real")
    return "" if found is None else number(_number(found))


def _number(value: float | str) -> float:
    """A number as JSON has it: what is not finite as a text."""
    return float(value)
