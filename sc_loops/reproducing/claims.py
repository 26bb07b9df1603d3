"""What is claimed, which runs repeat it, and what is read off them, as ``claims.yaml`` says it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from sc_loops import config
from sc_loops.errors import require
from sc_loops.sweeping.options import seeds_of

Size = Literal["small", "long", "published"]
Source = Literal["value", "theory", "gap"]
Across = Literal["smallest", "largest", "mean", "sum"]
Extreme = Literal["smallest", "largest"]
Moment = int | str  # a generation, "last", or an extreme over all of them
Setting = Mapping[str, str]  # the swept keys and the values that they have, as on a command line


@dataclass(frozen=True)
class Quantity:
    """One number of a run: see ``Measure``."""

    key: str
    at: Moment
    of: Source
    across: Across | None

    @property
    def id(self) -> str:
        """What it is called among the results."""
        how = [word for word in (self.across, self.of if self.of != "value" else None) if word]
        return " ".join([*how, self.key]) + f"@{self.at}"


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """What of a run's rows is read, and how it is said.

    Attributes:
        label: what the number is called in the table.
        key: of the rows; with ``across`` one that ends in ``*``.
        of: the ``value`` in the row, what the ``theory`` expects there (the dashed line of a report), or the ``gap``,
            the absolute difference of both.
        across: what is taken over all keys that fit, as over the ``class_share/*``.
        percent: whether a share is written in per cent.
    """

    label: str
    key: str
    of: Source = "value"
    across: Across | None = None
    percent: bool = False

    def __post_init__(self) -> None:
        for name in ("label", "key"):
            text = getattr(self, name)
            require(isinstance(text, str) and bool(text.strip()), name, text, "a text")
        require(self.of in get_args(Source), "of", self.of, f"one of {', '.join(get_args(Source))}")
        known = f"one of {', '.join(get_args(Across))}, with a key that ends in *, or neither"
        require((self.across in get_args(Across)) == self.key.endswith("*"), "across", self.across, known)
        require(isinstance(self.percent, bool), "percent", self.percent, "true or false")

    def quantity(self, at: Moment) -> Quantity:
        return Quantity(self.key, at, self.of, self.across)


@dataclass(frozen=True, kw_only=True)
class Measure(_Reading):
    """What is told of every setting: the mean over the seeds and its standard error.

    Attributes:
        at: generations, ``last`` among them; or, alone, ``largest`` or ``smallest`` over all of them.
    """

    at: tuple[Moment, ...] = (0, "last")

    def __post_init__(self) -> None:
        super().__post_init__()
        alone = len(self.at) == 1 and self.at[0] in get_args(Extreme)
        times = bool(self.at) and all(_is_time(moment) for moment in self.at)
        expected = "generations from 0 on, last among them, or one of largest and smallest alone"
        require(alone or times, "at", list(self.at), expected)
        require(len(set(self.at)) == len(self.at), "at", list(self.at), "each generation once")

    @property
    def quantities(self) -> list[Quantity]:
        return [self.quantity(moment) for moment in self.at]


@dataclass(frozen=True, kw_only=True)
class Difference(_Reading):
    """The mean of paired differences over the seeds, with its 95 % interval.

    Attributes:
        at: a generation, or ``last`` of either run.
        setting: the swept values of what it is the difference of; by default every setting of the claim but that of
            ``against``.
        against: what is subtracted: another claim, by its name; a setting of this claim, or of another that is named
            under ``claim``; or ``before``, for every setting but the first the one before it.
    """

    at: Moment = "last"
    setting: Setting | None = None
    against: str | Setting = "before"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(_is_time(self.at), "at", self.at, "a generation, or last")
        named = isinstance(self.against, (str, dict)) and bool(self.against)
        require(named, "against", self.against, "the name of a claim, a setting as {key: value}, or before")
        wanted = self.setting is None or (isinstance(self.setting, dict) and bool(self.setting))
        require(wanted, "setting", self.setting, "the swept keys and their values")
        both = not (self.setting and self.against == "before")
        require(both, "setting", self.setting, "none with against: before, which is of all settings")

    @property
    def base(self) -> tuple[str | None, Setting | None]:
        """The claim that is subtracted, None for the same, and its setting, None for its only one."""
        if isinstance(self.against, str):
            return (None if self.against == "before" else self.against), None
        setting = {key: value for key, value in self.against.items() if key != "claim"}
        return self.against.get("claim"), setting or None


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A row of the table: what was published, the runs that repeat it, and what is told of them.

    Attributes:
        name: by which it is chosen, and of the directory of its runs; by default the recipe's.
        recipe: of configs/, or the path of a config.
        also: further recipes that the row names, which are not run.
        published: the claim and where it is from.
        size: ``small`` is run with all others by ``--small``, ``long`` by ``--only``, ``published`` not at all.
        minutes: one run takes on one core.
        overrides, sweep, seeds: as on the command line.
        measures, differences: what is told, in this order.
        note: a sentence that stays.
        recorded: what is told as long as this command has not measured it.
    """

    name: str
    recipe: str
    published: str
    size: Size = "small"
    minutes: float = 0.0
    also: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    sweep: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    seeds: str = "0"
    measures: tuple[Measure, ...] = ()
    differences: tuple[Difference, ...] = ()
    note: str = ""
    recorded: str = ""

    def __post_init__(self) -> None:
        require(self.size in get_args(Size), "size", self.size, f"one of {', '.join(get_args(Size))}")
        for recipe in (self.recipe, *self.also):
            config.find(recipe, "recipe")
        for name in ("published", "note", "recorded", "seeds"):
            require(isinstance(getattr(self, name), str), name, getattr(self, name), "a text")
        seeds_of(self.seeds)
        for override in self.overrides:
            require("=" in override, "overrides", override, "key=value")
        if self.size == "published":
            run = bool(self.measures or self.differences)
            require(not run and bool(self.recorded), "recorded", self.recorded, "why it is not measured, alone")
            return
        timed = isinstance(self.minutes, (int, float)) and 0 < self.minutes < math.inf
        require(timed, "minutes", self.minutes, "minutes that one run takes on one core")
        require(bool(self.measures), "measures", self.measures, "what is told of the runs")

    @property
    def settings(self) -> list[Setting]:
        """Of all arms, in the order of the sweep."""
        return [dict(zip(self.sweep, values, strict=True)) for values in itertools.product(*self.sweep.values())]

    @property
    def runs(self) -> int:
        return len(self.settings) * len(seeds_of(self.seeds))

    def quantities(self, claims: Mapping[str, Claim]) -> list[Quantity]:
        """All that is read off a run: for its own row, and for those that subtract it."""
        own = [quantity for measure in self.measures for quantity in measure.quantities]
        own += [difference.quantity(difference.at) for difference in self.differences]
        for other in claims.values():
            own += [d.quantity(d.at) for d in other.differences if d.base[0] == self.name]
        return list(dict.fromkeys(own))


@dataclass(frozen=True)
class Block:
    """The claims of one paper, or some of it, under a ``title``."""

    name: str
    title: str
    claims: tuple[Claim, ...]


@dataclass(frozen=True)
class Claims:
    """All of the file ``path``."""

    path: Path
    blocks: tuple[Block, ...]

    @property
    def by_name(self) -> dict[str, Claim]:
        return {claim.name: claim for block in self.blocks for claim in block.claims}


def _is_time(moment: Any) -> bool:
    return moment == "last" or (type(moment) is int and moment >= 0)
