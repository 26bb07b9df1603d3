"""``Plan``: which runs a sweep has, with which configs, and where they lie.

runs/<recipe>-sweep-<digest of what is the same in all runs>/
    sweep.json                what was asked for
    comparison.html           the runs side by side
    classifiers/ ...          what the runs share
    strength=0.3,seed=4/      a run directory like any other
    ...
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from sc_loops import config, schema
from sc_loops.errors import UsageError, require
from sc_loops.experiment import Experiment, completed
from sc_loops.run import Run
from sc_loops.run_choice import is_free, newest, numbered, require_directory, require_same, significant
from sc_loops.sweeping.naming import digest, run_name
from sc_loops.sweeping.options import MOST_RUNS

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAIL = 2**16  # bytes of a record in which its last generation stands


@dataclass(frozen=True)
class Member:
    """One run of a sweep.

    Attributes:
        setting: the values of the swept keys, as they were written.
        seed: the seed of the run.
        resolved: its whole config.
    """

    setting: Mapping[str, str]
    seed: int
    resolved: dict[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        return str(self.resolved["name"])

    @property
    def run(self) -> Run:
        return Run(Path(self.resolved["output"]) / self.name)

    @property
    def generations(self) -> int:
        """The last generation T."""
        return int(self.resolved["loop"]["generations"])

    @property
    def finished(self) -> bool:
        """Whether the row of the last generation is recorded."""
        return reached(self.run, self.generations)


@dataclass(frozen=True)
class Plan:
    """The runs of a sweep, all settings of the first seed before those of the next, so that what is done at any time
    can be compared."""

    directory: Path
    members: tuple[Member, ...]
    asked: dict[str, Any]  # sweep.json

    def pending(self) -> list[Member]:
        """The runs that are not finished."""
        return [member for member in self.members if not member.finished]


def make_plan(
    name: str, overrides: Sequence[str], axes: Mapping[str, Sequence[str]], seeds: Sequence[int], *, fresh: bool
) -> Plan:
    """The product of ``axes``, from swept key to its values as written, and ``seeds``; the config's seed if there are
    none. The other ``overrides`` are those of all runs.

    Raises:
        UsageError: a key or a value that no run takes, equal runs, or runs that were started with another config.
    """
    count = max(1, len(seeds)) * math.prod(map(len, axes.values()))
    require(count <= MOST_RUNS, "--sweep", f"{count} runs", f"at most {MOST_RUNS}")
    found = list(_resolved(name, overrides, axes, seeds))
    directory = _directory(found[0][1], config.find(name).stem, overrides, axes, fresh=fresh)
    members = tuple(_member(setting, resolved, directory) for setting, resolved in found)
    _require_different(members)
    for member in members:
        _require_same(member)
    asked = {
        "config": name,
        "overrides": list(overrides),
        "sweep": {key: list(values) for key, values in axes.items()},
        "seeds": list(dict.fromkeys(member.seed for member in members)),
        "runs": [member.name for member in members],
    }
    return Plan(directory, members, asked)


def _resolved(
    name: str, overrides: Sequence[str], axes: Mapping[str, Sequence[str]], seeds: Sequence[int]
) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """The setting and the resolved config of each run, in the order of the plan."""
    content = config.read(name)

    def resolve(setting: Mapping[str, str], *seed: int) -> dict[str, Any]:
        more = [f"{key}={value}" for key, value in setting.items()] + [f"seed={number}" for number in seed]
        try:
            return schema.resolve(Experiment, config.settle(content, [*overrides, *more], name))
        except UsageError as error:
            raise naming_the_sweep(error, setting) from error

    settings = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    configs = [_with_seeds(partial(resolve, setting), seeds) for setting in settings]
    for of_one_seed in zip(*configs, strict=True):
        yield from zip(settings, of_one_seed, strict=True)


def _with_seeds(resolve: Callable[..., dict[str, Any]], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """The configs of one setting. Two seeds mostly show what the others are, which saves seconds."""
    if len(seeds) < 3:
        return [resolve(seed) for seed in seeds] or [resolve()]
    one, other = (resolve(seed) for seed in seeds[:2])
    try:
        return [one, other, *(_following(one, other, (seeds[0], seeds[1]), seed) for seed in seeds[2:])]
    except LookupError:
        return [resolve(seed) for seed in seeds]


def _following(one: Any, other: Any, seeds: tuple[int, int], seed: int) -> Any:
    """What is ``one`` with the first of ``seeds`` and ``other`` with the second, with ``seed``.

    Raises:
        LookupError: they differ in something that is not the seed itself.
    """
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return {key: _following(value, other[key], seeds, seed) for key, value in one.items()}
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [_following(a, b, seeds, seed) for a, b in zip(one, other, strict=True)]
    if one == other:
        return one
    if (one, other) == seeds and type(one) is type(other) is int:
        return seed
    raise LookupError


def naming_the_sweep(error: UsageError, setting: Mapping[str, str], run: str = "") -> UsageError:
    """``error`` about a run with ``setting``, with the option that it comes from, or else the name of the ``run``."""
    where = error.where
    for key, value in setting.items():
        if f"{where}.".startswith(f"{key}.") or f"{key}.".startswith(f"{where}."):
            option = f"--sweep {key}={value}"
            where = option if where == key else f"{option}: {where}"
            break
    else:
        where = f"{where} (in the run {run})" if run else where
    return UsageError(where, found=error.found, expected=error.expected, do=error.do)


def _member(setting: Mapping[str, str], resolved: dict[str, Any], directory: Path) -> Member:
    """The run in its place: its directory, and its group on the dashboard."""
    shown = {key: _as_resolved(resolved, key, value) for key, value in setting.items()}
    own = {"name": run_name(shown, resolved["seed"]), "output": str(directory)}
    wandb = {**resolved["wandb"], "group": resolved["wandb"]["group"] or directory.name}
    return Member(setting, resolved["seed"], {**resolved, **own, "wandb": wandb})


def _as_resolved(resolved: Any, key: str, text: str) -> Any:
    """The value of ``key`` as it was resolved, which is the same for ``0.1`` and ``0.10``; what was written where it
    stands for a section."""
    value = resolved
    for part in key.split("."):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return " ".join(text.split()) if isinstance(value, (dict, list)) else value


def _directory(
    resolved: dict[str, Any], stem: str, overrides: Sequence[str], axes: Mapping[str, Sequence[str]], *, fresh: bool
) -> Path:
    """Where the runs lie. The name says what they share and not their values, so that the runs of a wider sweep over
    the same keys are found."""
    set_here = dict(override.removeprefix("--").split("=", 1) for override in overrides)
    common = {key: config.value_of(key, text) for key, text in sorted(set_here.items()) if not is_free(key, resolved)}
    name = resolved["name"] or f"{stem}-sweep-{digest([common, sorted(axes)])}"
    output = Path(resolved["output"])
    require_directory(output, name)
    number = newest(output, name) if (output / name).exists() else 1  # <name>-2 alone was given that very name
    if fresh:
        number += (output / numbered(name, number)).exists()
    return output / numbered(name, number)


def _require_different(members: Sequence[Member]) -> None:
    """Raise ``UsageError`` for two runs that would compute the same."""
    seen: dict[str, Member] = {}
    for member in members:
        matters = json.dumps(sorted(significant(member.resolved).items()))
        first = seen.setdefault(matters, member)
        if first is not member:
            differing = [key for key, value in member.setting.items() if first.setting[key] != value]
            option = " ".join(f"--sweep {key}={first.setting[key]},{member.setting[key]}" for key in differing)
            raise UsageError(
                option or "--sweep",
                found=f"equal runs: {first.name} and {member.name}",
                expected="runs that differ in something that matters to their results",
                do="give each value once, and no key that changes nothing",
            )


def _require_same(member: Member) -> None:
    """Raise ``UsageError`` where the run is there already with another config."""
    path = member.run.config_path
    if not path.exists():
        return
    with suppress(yaml.YAMLError, UnicodeDecodeError, AttributeError):
        recorded = yaml.load(path.read_text(encoding="utf-8"), _LOADER)  # many times faster than OmegaConf
        if significant(recorded) == significant(member.resolved):
            return
    require_same(member.run, member.resolved, completed)


def reached(run: Run, generation: int) -> bool:
    """Whether the row of ``generation`` is recorded. Looks at the end of a long record first."""
    if not run.metrics_path.exists():
        return False
    with run.metrics_path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
        lines = file.read().split(b"\n")
    for line in lines:
        with suppress(ValueError, AttributeError, TypeError):  # cut short, or no row of a generation
            if json.loads(line).get("generation") >= generation:
                return True
    return any(row["generation"] >= generation for row in run.rows())
