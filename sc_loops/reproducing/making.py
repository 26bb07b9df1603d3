"""Has the runs of one claim made, or what is left of them, by the machinery of sweeps, and reads them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from sc_loops import config, run_lock
from sc_loops.errors import Stopped
from sc_loops.reproducing.claims import Claim, Quantity
from sc_loops.reproducing.measures import arms_of, numbers
from sc_loops.reproducing.results import Result
from sc_loops.reproducing.table import command_of
from sc_loops.reproducing.tiny import SEEDS, write_tiny
from sc_loops.sweeping.checks import check_processes, check_settings
from sc_loops.sweeping.command import jobs_of, places_of
from sc_loops.sweeping.crew import Crew
from sc_loops.sweeping.messages import Outcome, Progress
from sc_loops.sweeping.options import seeds_of
from sc_loops.sweeping.plan import Member, Plan, make_plan
from sc_loops.sweeping.progress import SweepProgress


@dataclass(frozen=True, kw_only=True)
class Maker:
    """Makes the runs of claims in directories below ``output`` that are called after them.

    Attributes:
        output: see above.
        jobs: runs at a time; by default one for each GPU, or else for each core.
        roots: where data sets lie, by their names; under "" where all others do.
        tiny: cut every recipe down to seconds.
    """

    output: Path
    jobs: int | None = None
    roots: Mapping[str, Path] = field(default_factory=dict)
    tiny: bool = False

    def plan(self, claim: Claim) -> Plan:
        """The runs of ``claim``.

        Raises:
            UsageError: a key or a value that no run takes, or runs that are there were made with another config.
        """
        recipe, overrides, seeds = claim.recipe, [*claim.overrides, *self._root(claim)], seeds_of(claim.seeds)
        if self.tiny:
            path = self.output / "recipes" / f"{claim.name}.yaml"
            write_tiny(path, recipe, overrides)
            recipe, overrides, seeds = str(path), [], seeds[:SEEDS]
        where = [f"name={claim.name}", f"output={self.output}", "wandb.mode=disabled"]
        return make_plan(recipe, [*overrides, *where], claim.sweep, seeds, fresh=False)

    def check(self, plan: Plan) -> None:
        """Raise ``UsageError`` where something of what is left of ``plan`` cannot be run, as for lack of data."""
        pending = plan.pending()
        check_processes(pending)
        check_settings(pending)

    def make(self, plan: Plan, quantities: Sequence[Quantity], console: Console) -> list[tuple[Member, str]]:
        """Have the runs of ``plan`` made that are not finished; those that failed, and why.

        Raises:
            UsageError: found before any of them was started, as data that is not there; or the first run that is
                finished does not have the ``quantities``.
            Stopped: a signal asked for it; the runs under way were saved.
        """
        pending = plan.pending()
        if not pending:
            return []
        tried = [numbers(m.run, m.generations, quantities, clip=self.tiny) for m in plan.members[:1] if m.finished]
        self.check(plan)
        lock = run_lock.hold(plan.directory)
        # In a log a claim has a line when it begins and one when it ends.
        shown = console if console.is_terminal else Console(file=io.StringIO())
        try:
            with SweepProgress(plan, len(plan.members) - len(pending), shown) as progress:

                def note(member: Member, heard: Progress | Outcome | None) -> None:
                    progress.note(member, heard)
                    if not tried and isinstance(heard, Outcome) and heard.how == "finished":
                        tried.append(numbers(member.run, member.generations, quantities, clip=self.tiny))

                places = places_of(pending, jobs_of(self.jobs, pending))
                signum = Crew(places, note).carry_out(pending)
        finally:
            lock.release()
        if signum is not None:
            raise Stopped(signum)
        return progress.failures

    def read(
        self, claim: Claim, plan: Plan, quantities: Sequence[Quantity], failures: Sequence[tuple[Member, str]]
    ) -> Result | None:
        """What the finished runs of ``plan`` say; None where none is finished.

        Raises:
            UsageError: see ``arms_of``.
        """
        finished = [member for member in plan.members if member.finished]
        if not finished:
            return None
        recorded = _environment(finished[0])
        newest = max(member.run.metrics_path.stat().st_mtime for member in finished)
        seconds = [sum(row.get("seconds/total", 0.0) for row in member.run.rows()) for member in finished]
        result = Result(
            arms=tuple(arms_of(plan.members, quantities, clip=self.tiny)),
            generations=max(member.generations for member in plan.members),
            command=command_of(claim),
            date=f"{datetime.fromtimestamp(newest):%Y-%m-%d}",
            commit=recorded.get("git"),
            version=recorded.get("packages", {}).get("sc-loops"),
            minutes=round(sum(seconds) / len(seconds) / 60, 2),
        )
        if not failures:
            return result
        how_many = f"{len(failures)} of {len(plan.members)} runs failed"
        return replace(result, failed=f"{how_many}: {one_line(failures[0][1])}")

    def _root(self, claim: Claim) -> list[str]:
        """The override that says where the data of ``claim`` lies, if that was given and it asks."""
        if any(override.startswith("data.root=") for override in claim.overrides):
            return []
        data = config.load(claim.recipe, claim.overrides).get("data")
        if not isinstance(data, dict) or "root" not in data:
            return []
        root = self.roots.get(str(data.get("name")), self.roots.get(""))
        return [] if root is None else [f"data.root={json.dumps(str(root))}"]


def one_line(message: str) -> str:
    """``message`` in one line, which ends where it gets long."""
    line = " ".join(message.split())
    return line if len(line) <= 200 else f"{line[:199]}…"


def _environment(member: Member) -> dict[str, Any]:
    """What the run recorded of where it ran; nothing where that cannot be read."""
    try:
        content = json.loads((member.run.path / "env.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
