"""What ``--sweep KEY=V1,V2`` and ``--seeds A..B`` say, as keys, values and seeds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sc_loops import config
from sc_loops.errors import UsageError

_SEEDS = re.compile(r"(-?\d{1,18})(?:\.\.(-?\d{1,18}))?")
MOST_RUNS = 10_000
# What decides where the runs lie is not a setting of them.
_PLACES = ("name", "output")


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """What the command line says of a sweep.

    Attributes:
        sweeps: each ``KEY=V1,V2,...``.
        seeds: ``A..B`` or ``A,B,C``.
        jobs: runs at a time; by default one for each GPU, or else for each core.
    """

    sweeps: Sequence[str] = ()
    seeds: str | None = None
    jobs: int | None = None

    @property
    def given(self) -> bool:
        """Whether this is a sweep at all."""
        return bool(self.sweeps) or self.seeds is not None or self.jobs is not None


def axes_of(options: Sequence[str], overrides: Sequence[str]) -> dict[str, list[str]]:
    """The swept keys and their values, as they were written, in the order of the command line.

    Raises:
        UsageError: an option is malformed, or a key is given twice, also as an override.
    """
    taken = {override.removeprefix("--").partition("=")[0] for override in overrides}
    axes: dict[str, list[str]] = {}
    for option in options:
        key, equals, text = option.removeprefix("--").partition("=")
        where = f"--sweep {option}"
        if not (key and equals):
            expected = "KEY=V1,V2,..., as in loop.synthetic_ratio=0,0.5,inf"
            raise UsageError(where, found=repr(option), expected=expected)
        if key in _PLACES:
            do = f"the runs are named after their values; give the sweep's own as {key}=..."
            raise UsageError(where, found=repr(key), expected="a key that changes what a run computes", do=do)
        if key == "seed":
            raise UsageError(where, found="a sweep of the seed", expected="--seeds", do=f"give --seeds {text}")
        if key in axes or key in taken:
            do = "give all its values in one --sweep"
            raise UsageError(where, found=f"{key!r} a second time", expected="a key once", do=do)
        values = split_values(text)
        if not all(values):
            raise UsageError(where, found=f"{text!r}, with an empty value", expected="values between the commas")
        for value in values:
            config.value_of(where, value)
        axes[key] = values
    return axes


def split_values(text: str) -> list[str]:
    """``text`` at its commas, but for those inside brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "[{(":
            depth += 1
        elif letter in "]})":
            depth -= 1
        elif letter == "," and depth <= 0:
            parts.append("")
            continue
        parts[-1] += letter
    return [part.strip() for part in parts]


def seeds_of(text: str) -> list[int]:
    """``0..29``, both ends included, or ``1,2,5``, or both mixed.

    Raises:
        UsageError: it is none of these, or a seed comes twice.
    """
    seeds: list[int] = []
    for part in text.split(","):
        matched = _SEEDS.fullmatch(part.strip())
        first = int(matched[1]) if matched else 0
        last = int(matched[2] or first) if matched else -1
        if last < first:
            raise _bad_seeds(text, f"{part!r}", "0..29, both ends included, or 0,1,2")
        if last - first >= MOST_RUNS:
            raise _bad_seeds(text, f"{last - first + 1} seeds", f"at most {MOST_RUNS}")
        seeds += range(first, last + 1)
    if len(set(seeds)) < len(seeds):
        twice = next(seed for seed in seeds if seeds.count(seed) > 1)
        raise _bad_seeds(text, f"{twice} twice", "each seed once")
    return seeds


def _bad_seeds(text: str, found: str, expected: str) -> UsageError:
    return UsageError(f"--seeds {text}", found=found, expected=expected)
