"""Which runs are one setting with several seeds, what the settings differ in, and what they are called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sc_loops.comparing.record import Record
from sc_loops.reporting.wording import exact

MISSING = "–"  # the value of a key that a config does not have

_KINDS = ("data.name", "reward.name")
# By the end of a key: the symbol of the papers.
_SYMBOLS = ((r"loop\.stages\.\d+\.strength", "γ"), (r"loop\.synthetic_ratio", "λ"), (r".*\bchoices", "K"))


@dataclass(frozen=True)
class Setting:
    """Runs that differ in nothing but the seed.

    Args:
        label: what it is called.
        values: of each key that differs between settings.
        records: one for each seed, by seed.
    """

    label: str
    values: dict[str, Any]
    records: tuple[Record, ...]

    @property
    def by_seed(self) -> dict[Any, Record]:
        return {record.seed: record for record in self.records}


@dataclass(frozen=True)
class Settings:
    """The settings of a comparison, in the order they are shown in; the first is the reference.

    Args:
        keys: every key in which settings differ.
        telling: those of ``keys`` that labels are made of: enough to tell the settings apart.
        all: the settings.
    """

    keys: tuple[str, ...]
    telling: tuple[str, ...]
    all: tuple[Setting, ...]

    @property
    def numeric(self) -> bool:
        """Whether one key with numbers tells all settings apart."""
        return len(self.telling) == 1 and is_numeric([setting.values[self.telling[0]] for setting in self.all])

    def heads(self) -> list[str]:
        """What each of ``keys`` is called."""
        return [short(key, self.keys) for key in self.keys]


def settings_of(records: Sequence[Record]) -> Settings:
    """Sort ``records`` into settings.

    Settings are ordered by value where a key holds numbers, otherwise as they came. Runs of one config and one
    seed are copies, and settings of their own with the run's name. So is every run where one has no config.
    """
    known = all(record.config for record in records)
    keys = differing([record.config for record in records]) if known else []
    replicated = replicates(records)
    keys = [key for key in keys if key not in replicated]
    members: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        values, copy = _values(record, keys), 0
        while any(record.seed == other.seed for other in members.get((copy, *values), [])) or not known:
            copy += 1
            if (copy, *values) not in members:
                break
        members.setdefault((copy, *values), []).append(record)
    groups = [(dict(zip(keys, key[1:], strict=True)), found) for key, found in members.items()]
    telling = _telling(keys, [values for values, _ in groups])
    groups = _ordered(groups, telling)
    labels = [label(values, telling, keys) for values, _ in groups]
    named = [
        _with_name(text, found, copied=not telling or labels.count(text) > 1, alone=len(groups) == 1)
        for text, (_, found) in zip(labels, groups, strict=True)
    ]
    made = [
        Setting(text, values, tuple(sorted(found, key=_seed)))
        for text, (values, found) in zip(named, groups, strict=True)
    ]
    return Settings(tuple(keys), tuple(telling), tuple(made))


def differing(configs: Sequence[dict[str, Any]]) -> list[str]:
    """The keys whose values are not the same in all ``configs``, in order of appearance."""
    keys = dict.fromkeys(key for config in configs for key in config)
    return [key for key in keys if len({config.get(key, MISSING) for config in configs}) > 1]


def replicates(records: Sequence[Record]) -> set[str]:
    """``seed``, and the seeds that follow it: keys named after a seed whose value is the run's seed in each run.

    The name is asked for as well, since choices of 1 and 2 in runs of seeds 1 and 2 are no replicates.
    """
    keys = {key for record in records for key in record.config if "seed" in key.rsplit(".", 1)[-1]}
    return {"seed"} | {k for k in keys if all(r.config.get(k, r.seed) == r.seed for r in records)}


def is_numeric(values: Sequence[Any]) -> bool:
    """Whether ``values`` are numbers, but for missing ones."""
    present = [value for value in values if value != MISSING]
    return bool(present) and all(type(value) in (int, float) for value in present)


def label(values: dict[str, Any], telling: Sequence[str], keys: Sequence[str]) -> str:
    """``γ = 0.3, no K`` from the values of the keys in ``telling``, told apart among all ``keys``."""
    names = {key: short(key, keys) for key in telling}
    return ", ".join(
        f"no {name}" if values[key] == MISSING else f"{name} = {spelled(values[key])}" for key, name in names.items()
    )


def short(key: str, keys: Sequence[str]) -> str:
    """The symbol of ``key``, or the shortest end of it that no other of ``keys`` has."""
    symbol = _symbol(key)
    if symbol and sum(symbol == _symbol(other) for other in keys) <= 1:
        return symbol
    others = {("seed",), *(_trimmed(other) for other in keys)} - {_trimmed(key)}  # ``seed`` is always the run's
    parts = _trimmed(key)
    for length in range(1, len(parts) + 1):
        end = parts[-length:]
        if not end[0].isdigit() and all(other[-length:] != end for other in others):
            return ".".join(end)
    return key


def spelled(value: Any) -> str:
    """A value of the config as a person would write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value in (None, ()) else str(value) if isinstance(value, int) else exact(value)


def _symbol(key: str) -> str | None:
    return next((symbol for pattern, symbol in _SYMBOLS if re.fullmatch(pattern, key)), None)


def _trimmed(key: str) -> tuple[str, ...]:
    """The parts of ``key``; a component is called after where it stands: ``model``, not ``model.name``."""
    parts = tuple(key.split("."))
    return parts[:-1] if parts[-1] == "name" and len(parts) > 1 else parts


def _values(record: Record, keys: Sequence[str]) -> tuple[Any, ...]:
    return tuple(record.config.get(key, MISSING) for key in keys)


def _telling(keys: Sequence[str], values: Sequence[dict[str, Any]]) -> list[str]:
    """Few of ``keys`` that tell as many settings apart as all do: those of ``_KINDS``, for what differs in these is
    another experiment; then again and again the one that adds most, of equal ones that with a symbol, then that which
    names a component, then the first."""

    telling = [key for key in keys if key in _KINDS]

    def kinds(chosen: Sequence[str]) -> int:
        return len({tuple(v[key] for key in chosen) for v in values})

    def rank(key: str) -> tuple[int, bool, bool]:
        return kinds([*telling, key]), _symbol(key) is not None, key.endswith(".name")

    while kinds(telling) < kinds(keys):
        telling.append(max(keys, key=rank))
    return [key for key in keys if key in telling]


def _ordered(
    groups: Sequence[tuple[dict[str, Any], list[Record]]], telling: Sequence[str]
) -> list[tuple[dict[str, Any], list[Record]]]:
    """By the values of ``telling``: missing ones first, then numbers by size, all else as it came."""
    rank: dict[str, dict[Any, int]] = {}
    for key in telling:
        found = list(dict.fromkeys(values[key] for values, _ in groups))
        if is_numeric(found):
            found.sort(key=lambda value: (value != MISSING, 0 if value == MISSING else value))
        rank[key] = {value: i for i, value in enumerate(found)}
    return sorted(groups, key=lambda group: [rank[key][group[0][key]] for key in telling])


def _with_name(text: str, found: Sequence[Record], *, copied: bool, alone: bool) -> str:
    """The label, with the name of the run where the label alone is not enough."""
    if not copied:
        return text
    if alone and len(found) > 1:
        return f"{len(found)} seeds"
    name = found[0].name if len(found) == 1 else f"{found[0].name} and {len(found) - 1} more"
    return f"{text} ({name})" if text else name


def _seed(record: Record) -> tuple[bool, Any]:
    return (record.seed is None, record.seed if record.seed is not None else 0)
