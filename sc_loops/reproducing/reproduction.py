"""``Reproduction``: one claim after the other is run, read and written into the table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic

from rich.console import Console
from rich.text import Text

from sc_loops import config, run_lock
from sc_loops.components import FAMILIES
from sc_loops.cores import usable_cores
from sc_loops.data.real import RealData
from sc_loops.errors import Complaint, RunError, UsageError, nearest, require
from sc_loops.reporting.wording import duration
from sc_loops.reproducing.claims import Claim, Claims
from sc_loops.reproducing.making import Maker, one_line
from sc_loops.reproducing.results import Result, write_results
from sc_loops.reproducing.saying import measured
from sc_loops.reproducing.table import Table
from sc_loops.sweeping.messages import told
from sc_loops.sweeping.plan import Member, Plan

PROJECT_TABLE = config.RECIPES.parent / "docs" / "papers.md"


class Reproduction:
    """Runs the ``selected`` ones of ``claims`` by ``maker``, and writes ``table`` and what was measured beside it.

    ``results`` is what was measured before: claims that are not run keep it.
    """

    def __init__(
        self, claims: Claims, selected: Sequence[Claim], maker: Maker, table: Table, results: Mapping[str, Result]
    ) -> None:
        self._claims, self._selected, self._maker, self._table = claims, selected, maker, table
        self._results, self._failures = dict(results), dict[str, str]()
        self._console = Console(highlight=False)
        self._jobs = maker.jobs or usable_cores()
        self._left: dict[str, float] = {}  # minutes that each claim still takes
        self._expected = self._took = 0.0  # minutes of what was run

    def describe(self) -> int:
        """List what would be run, with the minutes that it takes and what is finished; the exit status."""
        for claim in self._selected:
            try:
                plan = self._maker.plan(claim)
                self._maker.check(plan)
            except UsageError as error:
                self._failures[claim.name] = _reason(error)
                self._say(f"{claim.name:<32}  cannot be run: {_reason(error)}")
            else:
                self._say(f"{claim.name:<32}  {self._described(claim, plan)}")
                self._left[claim.name] = self._minutes(claim, plan)
        total = sum(self._left.values())
        jobs = f"{self._jobs} runs at a time" if self._jobs > 1 else "one run at a time"
        self._say(f"\n{len(self._selected)} claims, about {duration(60 * total)} with {jobs}; nothing was run")
        return self._status()

    def carry_out(self) -> int:
        """Run them all; the exit status.

        Raises:
            UsageError: the output or the table cannot be written to, or another process does.
            Stopped: a signal asked for it; what is finished is in the table.
        """
        require(self._maker.jobs is None or self._maker.jobs >= 1, "--jobs", self._maker.jobs, "an integer >= 1")
        lock = run_lock.hold(self._maker.output)
        try:
            try:
                self._table.write(self._results)
            except RunError as error:
                raise UsageError(error.where, found=error.found, expected="a file that can be written") from error
            self._say(
                f"{len(self._selected)} claims; runs in {self._maker.output}, table {self._table.path}", style="bold"
            )
            for claim in self._selected:
                with suppress(UsageError):  # which is told when it is its turn
                    self._left[claim.name] = self._minutes(claim, self._maker.plan(claim))
            for number, claim in enumerate(self._selected, start=1):
                self._one(number, claim)
        finally:
            lock.release()
        self._say("")
        for name, reason in self._failures.items():
            self._say(f"{name}: {reason}")
        whole = len(self._selected) - len(self._failures)
        self._say(f"{whole} of {len(self._selected)} claims are measured. Table: {self._table.path}")
        return self._status()

    def _one(self, number: int, claim: Claim) -> None:
        """Run ``claim``, read its runs and write the table; what goes wrong is told and does not stop the others."""
        place = f"{number:>{len(str(len(self._selected)))}}/{len(self._selected)}"
        began, expected = monotonic(), self._left.pop(claim.name, 0.0)
        described = ""
        try:
            try:
                plan = self._maker.plan(claim)
                described = f"  {self._described(claim, plan)}"
            finally:
                self._say(f"{place}  {claim.name}{described}")
            quantities = claim.quantities(self._claims.by_name)
            failed = self._maker.make(plan, quantities, self._console)
            result = self._maker.read(claim, plan, quantities, failed)
        except Exception as error:  # whatever it is, hours of other claims do not depend on it
            self._failures[claim.name] = f"not run: {_reason(error)}"
            outcome = self._failures[claim.name]
        else:
            self._expected, self._took = self._expected + expected, self._took + (monotonic() - began) / 60
            outcome = self._take(claim, result, failed)
        write_results(self._table.results_path, self._results, list(self._claims.by_name))
        self._table.write(self._results, self._failures)
        self._console.print(Text.assemble(" " * (len(place) + 2), outcome, (self._rest(), "dim")), soft_wrap=True)

    def _take(self, claim: Claim, result: Result | None, failed: Sequence[tuple[Member, str]]) -> str:
        """Keep ``result``, unless it is of fewer runs than what there was; what came out."""
        before = self._results.get(claim.name)
        if result is not None and (not failed or before is None or before.failed):
            self._results[claim.name] = result
        if failed:
            self._failures[claim.name] = result.failed if result else f"not run: {one_line(failed[0][1])}"
        return measured(claim, self._results | {claim.name: result}) if result else self._failures[claim.name]

    def _described(self, claim: Claim, plan: Plan) -> str:
        total, pending = len(plan.members), len(plan.pending())
        finished = f", {total - pending} finished" if pending < total else ""
        time = f", about {duration(60 * self._minutes(claim, plan))}" if pending and not self._maker.tiny else ""
        return f"{total} {'run' if total == 1 else 'runs'}{finished}{time}"

    def _minutes(self, claim: Claim, plan: Plan) -> float:
        """What is left of ``plan`` takes, if one run takes as long as the claim says."""
        return math.ceil(len(plan.pending()) / self._jobs) * claim.minutes

    def _rest(self) -> str:
        """How long the rest takes, at the pace so far."""
        left = sum(self._left.values())
        pace = self._took / self._expected if self._expected > 0 and self._took > 0 else 1.0
        return f"   about {duration(60 * left * pace)} left" if left else ""

    def _say(self, line: str, style: str | None = None) -> None:
        self._console.print(line, style=style, soft_wrap=True, markup=False)

    def _status(self) -> int:
        return 1 if self._failures else 0


def _reason(error: Exception) -> str:
    if not isinstance(error, Complaint):
        return one_line(told(error))
    guess = f"; {error.do}" if error.do.startswith("did you mean") else ""
    return one_line(f"{error.where}: {error.found}{guess}")


def roots_of(options: Sequence[str]) -> dict[str, Path]:
    """The folders that ``--data-root`` names, by the data set; under "" that for all others.

    Raises:
        UsageError: one is no folder, or of no data set.
    """
    roots = {}
    for option in options:
        name, equals, folder = option.rpartition("=")
        path = Path(folder).expanduser()
        if not path.is_dir():
            found = "a file" if path.exists() else "nothing"
            raise UsageError(f"--data-root {option}", found=found, expected="a folder that holds data, as it is")
        known = FAMILIES[RealData]
        if equals and name not in known:
            where, do = f"--data-root {option}", nearest(name, known)
            raise UsageError(where, found=repr(name), expected="the name of a data set", do=do)
        roots[name if equals else ""] = path.resolve()
    return roots


def table_path(given: str | None, output: Path, *, tiny: bool) -> Path:
    """The table to write; by default the project's, but never by runs that measure nothing.

    Raises:
        UsageError: it is the project's nevertheless, or in no folder.
    """
    if given is None:
        return output / "papers.md" if tiny or not PROJECT_TABLE.exists() else PROJECT_TABLE
    path = Path(given)
    if tiny and path.resolve() == PROJECT_TABLE:
        expected = "another table: recipes cut to seconds measure nothing"
        raise UsageError(f"--table {given}", found="the project's table with --tiny", expected=expected)
    if not path.parent.is_dir() or path.is_dir():
        raise UsageError(f"--table {given}", found="no place for a file", expected="a file in a folder that is there")
    return path
