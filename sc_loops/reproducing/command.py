"""``python -m sc_loops reproduce --small``: rerun what repeats published claims, and write docs/papers.md anew."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sc_loops.reproducing.claims import Claim, Claims

_REPRODUCE = """\
Rerun the recipes that repeat published claims, and write what is measured into the tables of docs/papers.md.

examples:
  python -m sc_loops reproduce --small                       all small recipes
  python -m sc_loops reproduce --small                       again: what is finished stays, the rest goes on
  python -m sc_loops reproduce --small --dry-run             list them, with minutes and what is finished
  python -m sc_loops reproduce --only 'mog_*,moons_*'        some; also recipes that take longer
  python -m sc_loops reproduce --small --data-root mnist=DIR where data lies
  python -m sc_loops reproduce --small --tiny                a check in minutes that all of it runs; no numbers
  python -m sc_loops reproduce --table-only                  write the tables from what was measured before

Runs lie in runs/reproduce/<claim>/, numbers in docs/papers.json. The table is written after each claim. A claim that
cannot be run keeps its earlier numbers, is named at the end, and makes the exit status 1.
"""


def reproduce(arguments: Sequence[str]) -> int:
    """``python -m sc_loops reproduce ...``; returns the exit status."""
    from sc_loops.cli import _guarded  # here, since the command line imports this module

    parser = argparse.ArgumentParser(
        prog="sc-loops reproduce", description=_REPRODUCE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="all claims that two cores repeat in minutes")
    parser.add_argument("--only", metavar="NAME,...", help="these claims; * and ? stand for any letters")
    parser.add_argument("--output", metavar="DIR", help="what holds the runs: runs/reproduce, or runs/reproduce-tiny")
    parser.add_argument(
        "--data-root", action="append", default=[], metavar="[NAME=]DIR", help="where data (of this name) lies"
    )
    parser.add_argument("--table", metavar="FILE", help="docs/papers.md; with --tiny papers.md beside the runs")
    parser.add_argument("--claims", metavar="FILE", help="other claims than the project's: see its claims.yaml")
    parser.add_argument("--jobs", type=int, metavar="N", help="runs at a time: by default one for each GPU, or core")
    parser.add_argument("--dry-run", action="store_true", help="list what would run, with minutes, and run nothing")
    parser.add_argument("--tiny", action="store_true", help="cut every recipe to seconds: a check, not a measurement")
    parser.add_argument("--table-only", action="store_true", help="write the tables anew and run nothing")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    known = parser.parse_args(arguments)
    return _guarded(lambda: _reproduce(known), debug=known.debug)


def _reproduce(known: argparse.Namespace) -> int:
    import sys
    from pathlib import Path

    from sc_loops.reproducing.claims_file import CLAIMS, read_claims
    from sc_loops.reproducing.making import Maker
    from sc_loops.reproducing.reproduction import Reproduction, roots_of, table_path
    from sc_loops.reproducing.results import read_results
    from sc_loops.reproducing.table import Table
    from sc_loops.start import quieten

    sys.path.insert(0, str(Path.cwd()))  # a user's own components are found from where they stand
    quieten()
    claims = read_claims(Path(known.claims) if known.claims else CLAIMS)
    output = Path(known.output or ("runs/reproduce-tiny" if known.tiny else "runs/reproduce"))
    table = Table(table_path(known.table, output, tiny=known.tiny), claims)
    results = read_results(table.results_path)
    if known.table_only:
        table.write(results)
        print(table.path)
        return 0
    selected = chosen(claims, small=known.small, only=known.only)
    maker = Maker(output=output, jobs=known.jobs, roots=roots_of(known.data_root), tiny=known.tiny)
    reproduction = Reproduction(claims, selected, maker, table, results)
    return reproduction.describe() if known.dry_run else reproduction.carry_out()


def chosen(claims: Claims, *, small: bool, only: str | None) -> list[Claim]:
    """The claims that ``--small`` and ``--only`` name, in the order of the file.

    Raises:
        UsageError: neither was given, a pattern fits nothing, or it fits only what is not run here.
    """
    from fnmatch import fnmatchcase

    from sc_loops.errors import UsageError, nearest

    known = claims.by_name
    if only is None:
        if not small:
            raise UsageError("reproduce", found="neither --small nor --only", expected="what to run")
        return [claim for claim in known.values() if claim.size == "small"]
    wanted: set[str] = set()
    for pattern in filter(None, (part.strip() for part in only.split(","))):
        fitting = [name for name in known if fnmatchcase(name, pattern)]
        if not fitting:
            expected = f"names of claims in {claims.path}"
            raise UsageError(f"--only {only}", found=repr(pattern), expected=expected, do=nearest(pattern, known))
        runnable = [name for name in fitting if known[name].size != "published"]
        if not runnable:
            found, reason = f"{pattern!r}, of which nothing is run here", known[fitting[0]].recorded
            raise UsageError(f"--only {only}", found=found, expected="claims that are run", do=reason)
        wanted |= set(runnable)
    if not wanted:
        raise UsageError("--only", found=repr(only), expected="names of claims, with commas between them")
    return [claim for claim in known.values() if claim.name in wanted]
