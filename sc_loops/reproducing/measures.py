"""From the rows of finished runs to numbers, one for each quantity, setting and seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import groupby
from statistics import fmean
from typing import get_args

from sc_loops.errors import UsageError, nearest
from sc_loops.reporting.history import Array, expected_series, generation_rows
from sc_loops.reproducing.claims import Across, Extreme, Quantity, Setting
from sc_loops.run import Run
from sc_loops.sweeping.plan import Member

_ACROSS: dict[Across, Callable[[Sequence[float]], float]] = {
    "smallest": min,
    "largest": max,
    "mean": fmean,
    "sum": math.fsum,
}


@dataclass(frozen=True)
class Arm:
    """What was read of the runs of one setting.

    Attributes:
        setting: the swept keys and their values.
        seeds: of the runs, in order.
        numbers: by the id of a quantity, one number for each of ``seeds``; nan where it was not finite.
    """

    setting: Setting
    seeds: tuple[int, ...]
    numbers: Mapping[str, tuple[float, ...]]


def arms_of(members: Sequence[Member], quantities: Sequence[Quantity], *, clip: bool = False) -> list[Arm]:
    """The ``quantities`` of the finished runs among ``members``, setting by setting in the order of the sweep.

    Args:
        members: the runs of a plan.
        quantities: what is read of each.
        clip: take the last generation where a later one is asked for, as of recipes that were cut.

    Raises:
        UsageError: the rows have no such key, or no such generation; or theory knows nothing of the key.
    """
    settings = list(dict.fromkeys(tuple(member.setting.items()) for member in members))
    finished = [member for member in members if member.finished]
    finished.sort(key=lambda member: settings.index(tuple(member.setting.items())))
    arms = []
    for setting, group in groupby(finished, key=lambda member: member.setting):
        runs = list(group)
        read = [numbers(member.run, member.generations, quantities, clip=clip) for member in runs]
        by_id = {quantity.id: tuple(row[quantity.id] for row in read) for quantity in quantities}
        arms.append(Arm(dict(setting), tuple(member.seed for member in runs), by_id))
    return arms


def numbers(run: Run, last: int, quantities: Sequence[Quantity], *, clip: bool = False) -> dict[str, float]:
    """Each of ``quantities`` by its id, in the ``run`` whose last generation is ``last``; nan where it is not finite.

    Raises:
        UsageError: see ``arms_of``.
    """
    reader = _Reader(run, last)
    return {quantity.id: reader.number(quantity, clip=clip) for quantity in quantities}


class _Reader:
    """Reads quantities off one run, its record and its theory once."""

    def __init__(self, run: Run, last: int) -> None:
        self._run, self._last = run, last
        self._rows = {int(row["generation"]): row for row in generation_rows(run)}

    @cached_property
    def _theory(self) -> Mapping[str, Array]:
        return expected_series(self._run, self._last)

    def number(self, quantity: Quantity, *, clip: bool) -> float:
        if quantity.at in get_args(Extreme):
            series = [self._value(quantity, t) for t in self._rows if self._fitting(quantity, t)]
            self._require_some(quantity, bool(series))
            extreme = max if quantity.at == "largest" else min
            return extreme((value for value in series if not math.isnan(value)), default=math.nan)
        generation = self._last if quantity.at == "last" else int(quantity.at)
        if clip:
            generation = min(generation, self._last)
        if generation > self._last:
            expected = f"one of 0 to {self._last}, those of {self._run.path}"
            raise UsageError(quantity.id, found=f"generation {generation}", expected=expected)
        self._require_some(quantity, bool(self._fitting(quantity, generation)), f" of generation {generation}")
        return self._value(quantity, generation)

    def _value(self, quantity: Quantity, generation: int) -> float:
        values = self._fitting(quantity, generation)
        value = _ACROSS[quantity.across](values) if quantity.across else values[0]
        if quantity.of != "value":
            expected = self._expected(quantity, generation)
            value = expected if quantity.of == "theory" else abs(value - expected)
        return value if math.isfinite(value) else math.nan

    def _expected(self, quantity: Quantity, generation: int) -> float:
        if quantity.key not in self._theory:
            known = ", ".join(self._theory) or "nothing"
            expected = f"a key of which theory has an expectation in {self._run.path}: {known}"
            raise UsageError(quantity.id, found=repr(quantity.key), expected=expected)
        return float(self._theory[quantity.key][generation])

    def _fitting(self, quantity: Quantity, generation: int) -> list[float]:
        """The numbers under the key, or under all keys that fit it where it has a ``*``."""
        row, key = self._rows.get(generation, {}), quantity.key
        keys = [name for name in row if fnmatchcase(name, key)] if quantity.across else [key]
        return [float(row[name]) for name in keys if type(row.get(name)) in (int, float)]

    def _require_some(self, quantity: Quantity, some: bool, where: str = "") -> None:
        if not some:
            known = {key for row in self._rows.values() for key, value in row.items() if type(value) is float}
            where = f"a key of the row{where or 's'} of {self._run.path}"
            raise UsageError(quantity.id, found=repr(quantity.key), expected=where, do=nearest(quantity.key, known))
