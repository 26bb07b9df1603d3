"""The tables of the page: final values, paired differences to the reference, time, the runs themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sc_loops.comparing.metrics import Metrics
from sc_loops.comparing.record import Record
from sc_loops.comparing.settings import Setting
from sc_loops.comparing.statistics import mean_of, paired
from sc_loops.reporting.wording import ROUNDING, decimals, duration, number, symbol

SIGNIFICANT = 0.05  # of a p-value, below which a difference is set off
OWN_ERROR = "*"  # marks a standard error that is the metric's own, within one run


@dataclass(frozen=True)
class Cell:
    """A number of a table, further lines below it, and whether it is set off."""

    text: str
    below: tuple[str, ...] = ()
    strong: bool = False


NOTHING = Cell("–")


@dataclass(frozen=True)
class Head:
    """What a row or a column is: a metric with its key, or a setting by its place, with what it is taken over."""

    text: str
    key: str = ""
    over: str = ""
    setting: int | None = None


@dataclass(frozen=True)
class Table:
    """``cells[i][j]`` stands in the row ``rows[i]`` and the column ``columns[j]``."""

    rows: list[Head]
    columns: list[Head]
    cells: list[list[Cell]]

    @staticmethod
    def of(settings: list[Head], metrics: list[Head], cells: list[list[Cell]]) -> Table:
        """A row for each setting, or for each metric where there are more of these, so that it fits on a page."""
        if len(metrics) <= max(6, len(settings)):
            return Table(settings, metrics, cells)
        return Table(metrics, settings, [list(column) for column in zip(*cells, strict=True)])


def common_generation(records: Sequence[Record]) -> int | None:
    """The last generation that all ``records`` have."""
    common = set.intersection(*(set(record.generations) for record in records))
    return max(common, default=None)


def heads_of(keys: Sequence[str], class_names: Sequence[str]) -> list[Head]:
    return [Head(symbol(key, class_names), key) for key in keys]


def final_values(settings: Sequence[Setting], metrics: Metrics, generation: int, names: Sequence[str]) -> Table:
    """Mean and standard error over seeds of each compared metric in ``generation``. Of one seed the metric's own
    standard error, marked, where it records one."""
    heads = [Head(s.label, over=f"n = {len(s.records)}", setting=i) for i, s in enumerate(settings)]
    cells = [[_final(s, key, metrics.errors.get(key), generation) for key in metrics.compared] for s in settings]
    return Table.of(heads, heads_of(metrics.compared, names), cells)


def _final(setting: Setting, key: str, error_key: str | None, generation: int) -> Cell:
    found = [record.at(generation, key) for record in setting.records]
    mean = mean_of(found)
    fewer = (f"n = {mean.n}",) if 0 < mean.n < len(found) else ()
    if mean.n == 1:
        own = setting.records[int(np.flatnonzero(np.isfinite(found))[0])].at(generation, error_key or "")
        return Cell(with_error(mean.mean, own) + (OWN_ERROR if own > 0 else ""), fewer)
    return Cell(with_error(mean.mean, mean.error), fewer)


def differences(settings: Sequence[Setting], metrics: Metrics, generation: int, names: Sequence[str]) -> Table:
    """Of each setting but the first: the mean of the differences to the first, seed by seed, of the metrics that both
    have. Empty where the first has no seed in common with any other."""
    before, heads, cells, any_pair = settings[0].by_seed, [], [], False
    for i, setting in enumerate(settings[1:], 1):
        after = setting.by_seed
        both = [seed for seed in after if seed in before and seed is not None]
        left_out = len(before) + len(after) - 2 * len(both)
        heads.append(Head(setting.label, over=_pairs(len(both), left_out), setting=i))
        pairs = [(before[seed], after[seed]) for seed in both]
        cells.append([_difference(pairs, key, generation) for key in metrics.compared])
        any_pair |= bool(pairs)
    if not any_pair:
        return Table([], [], [])
    told = [i for i in range(len(metrics.compared)) if any(row[i] != NOTHING for row in cells)]
    keys = [metrics.compared[i] for i in told]
    return Table.of(heads, heads_of(keys, names), [[row[i] for i in told] for row in cells])


def _pairs(pairs: int, left_out: int) -> str:
    """``28 pairs, 2 seeds left out``."""
    more = f", {left_out} seed{'' if left_out == 1 else 's'} left out" if left_out else ""
    return f"{pairs} pair{'' if pairs == 1 else 's'}{more}"


def _difference(pairs: Sequence[tuple[Record, Record]], key: str, generation: int) -> Cell:
    found = paired(*([pair[i].at(generation, key) for pair in pairs] for i in (0, 1)))
    if not found.n:
        return NOTHING
    below = [f"n = {found.n}"] if found.n < len(pairs) else []
    alike = found.n > 1 and math.isnan(found.p)  # every pair differs by the same
    if alike:
        below.append("in every pair")
    elif found.n > 1:
        low, high = (fixed(found.mean + side * found.half, places_of(found.error)) for side in (-1, 1))
        below += [f"[{low}, {high}]", "p < 0.001" if found.p < 1e-3 else f"p = {found.p:.2g}"]
    text = with_error(found.mean, math.nan if alike else found.error, sign="+")
    return Cell(text, tuple(below), strong=found.p < SIGNIFICANT)


def times(settings: Sequence[Setting], keys: Sequence[str]) -> Table:
    """Mean seconds a generation of each key of ``keys``, the total last, then how long a run took so far, over the
    seeds."""
    keys = sorted(keys, key=lambda key: key == "seconds/total")
    heads = [Head(s.label, over=f"n = {len(s.records)}", setting=i) for i, s in enumerate(settings)]
    columns = [*(Head(key.split("/", 1)[-1], key) for key in keys), Head("run", "seconds/total")]
    cells = []
    for setting in settings:
        spent = {key: [float(np.nansum(r.values(key))) for r in setting.records] for key in keys}
        generations = sum(len(record.generations) for record in setting.records)
        run = mean_of(spent.get("seconds/total", [])).mean
        each = [Cell(number(round(sum(found) / generations, 4))) for found in spent.values()]
        cells.append([*each, Cell(duration(run) if math.isfinite(run) else "–")])
    return Table(heads, columns, cells)


def places_of(error: float) -> int | None:
    """Decimals that show two digits of ``error``; None where that would take scientific notation."""
    if not math.isfinite(error) or error <= ROUNDING:
        return None
    places = max(0, 1 - math.floor(math.log10(error)))
    return places if places <= 6 else None


def fixed(value: float, places: int | None, sign: str = "") -> str:
    """``value`` with that many decimals, or three digits where it is None."""
    if places is None or abs(value) >= 1e6:
        text = number(value)
        return f"+{text}" if sign and value > ROUNDING else text
    return f"{value:{sign}.{places}f}"


def with_error(value: float, error: float, sign: str = "") -> str:
    """``0.332 ± 0.025``: two digits of the standard error, and as many decimals of the value. Without an error three
    digits of the value; ``–`` where there is none."""
    if not math.isfinite(value):
        return "–"
    if not math.isfinite(error):
        return fixed(value, decimals(value) if 1e-3 <= abs(value) < 1e6 else None, sign)
    places = places_of(error)
    return f"{fixed(value, places, sign)} ± {fixed(error, places)}"
