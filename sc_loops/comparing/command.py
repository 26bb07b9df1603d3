"""``python -m sc_loops compare RUN... [--out DIR]``."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

_COMPARE = """\
Compare runs: means with confidence bands, paired differences over seeds, samples side by side.

examples:
  python -m sc_loops compare runs/digits_baseline runs/digits_curated
  python -m sc_loops compare runs/sweep/*seed=* --out results

Runs of one config that differ in the seed are one setting. Writes comparison.html and comparison.csv.
"""


FEW = 4  # names that a title holds


def compare(arguments: Sequence[str]) -> int:
    """``python -m sc_loops compare ...``; returns the exit status."""
    from sc_loops.cli import _guarded  # here, since the command line imports this module

    parser = argparse.ArgumentParser(
        prog="sc-loops compare", description=_COMPARE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run directory, as runs/digits_curated")
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="where to write; by default the directory of the runs, or one in it where it holds others too",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    known = parser.parse_args(arguments)
    return _guarded(lambda: _compare([Path(run) for run in known.runs], known.out), debug=known.debug)


def _compare(paths: Sequence[Path], out: str | None) -> int:
    # Imported here so that --help and typing errors answer at once.
    from sc_loops.comparing.page import write_comparison
    from sc_loops.run import Run

    directory = default_directory(paths) if out is None else Path(out)
    print(write_comparison([Run(path) for path in paths], directory, title=title_of(paths)))
    return 0


def default_directory(paths: Sequence[Path]) -> Path:
    """The directory that holds all of ``paths`` and no other runs; or else one named after them in the directory that
    holds them, or in ``runs`` where several do: no comparison takes the place of another's."""
    places = {path.resolve() for path in paths}
    home, parents = Path("runs"), {place.parent for place in places}
    if len(parents) == 1:
        home = paths[0].parent if paths[0].name not in ("", "..") else paths[0].resolve().parent
        if {record.parent.resolve() for record in home.glob("*/metrics.jsonl")} <= places:
            return home
    names = "\n".join(sorted(map(str, places)))
    return home / f"comparison-{hashlib.sha256(names.encode()).hexdigest()[:6]}"


def title_of(paths: Sequence[Path]) -> str:
    """The runs by name where they are few and no two have the same; otherwise how many and in which directories they
    lie, where these are few."""
    places = list({path.resolve(): path for path in paths})
    if len(places) <= FEW and len({place.name for place in places}) == len(places):
        return ", ".join(place.name for place in places)
    parents = list(dict.fromkeys(place.parent.name for place in places))
    return f"{len(places)} runs" + (f" in {', '.join(parents)}" if len(parents) <= FEW else "")
