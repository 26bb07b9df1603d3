"""What was measured so far, claim by claim: papers.json beside the table, one line each.

The table can be written from it at any time, and a claim that is not run again keeps its numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sc_loops.data.files import write_atomically
from sc_loops.errors import UsageError
from sc_loops.reproducing.measures import Arm


@dataclass(frozen=True)
class Result:
    """What was read of the runs of a claim.

    Attributes:
        arms: by setting, in the order of the sweep.
        generations: the last generation T.
        command: by which the runs are made.
        date: on which it was read, as 2026-11-25.
        commit, version: of sc_loops, as the first run recorded them; None where it did not.
        minutes: a run took in its generations, on average.
        failed: how many of how many runs failed, and why one did; empty where none did.
    """

    arms: tuple[Arm, ...]
    generations: int
    command: str
    date: str
    commit: str | None
    version: str | None
    minutes: float
    failed: str = ""

    def arm(self, setting: Mapping[str, str] | None) -> Arm | None:
        """That of ``setting``, or the only one where it is None; None where there is no such arm."""
        fitting = [arm for arm in self.arms if setting is None or arm.setting == setting]
        return fitting[0] if len(fitting) == 1 else None


def read_results(path: Path) -> dict[str, Result]:
    """The results in ``path``, none where there is no such file.

    Raises:
        UsageError: it is there and holds something else.
    """
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): _result(entry) for name, entry in content.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            str(path),
            found=" ".join(f"{type(error).__name__}: {error}".split())[:300],
            expected="the results that reproduce wrote beside its table",
            do="restore the file, or remove it: finished runs are read again",
        ) from error


def write_results(path: Path, results: Mapping[str, Result], order: Sequence[str]) -> None:
    """Write ``results`` atomically, those that ``order`` names first.

    Raises:
        RunError: the disk is full, read-only or broken.
    """
    names = [*(name for name in order if name in results), *(name for name in results if name not in order)]
    lines = [f"{json.dumps(name)}: {json.dumps(_plain(asdict(results[name])))}" for name in names]
    write_atomically(path, "{\n" + ",\n".join(lines) + "\n}\n")


def _result(entry: dict[str, Any]) -> Result:
    arms = [
        Arm(
            dict(arm["setting"]),
            tuple(map(int, arm["seeds"])),
            {str(key): tuple(float(value) for value in values) for key, values in arm["numbers"].items()},
        )
        for arm in entry["arms"]
    ]
    for arm in arms:
        if any(len(values) != len(arm.seeds) for values in arm.numbers.values()):
            raise ValueError(f"not one number for each seed of {arm.setting}")
    return Result(**{**entry, "arms": tuple(arms)})


def _plain(value: Any) -> Any:
    """``value`` with numbers in seven digits, and those that are not finite as strings."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else str(value)
    return value
