"""What can be known of a sweep before any of its runs starts."""

from __future__ import annotations

import os
from collections.abc import Sequence

from sc_loops.disk import free_bytes
from sc_loops.errors import UsageError, require
from sc_loops.experiment import build
from sc_loops.reporting.wording import size
from sc_loops.sweeping.plan import Member, naming_the_sweep


def check_processes(members: Sequence[Member]) -> None:
    """A run of a sweep has one process: what is spread over devices are the runs.

    Raises:
        UsageError: a launcher started several sweeps, or a run asks for several devices.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            "--sweep",
            found=f"{os.environ['WORLD_SIZE']} processes that a launcher started together",
            expected="one process, which starts its workers itself",
            do="give the command without torchrun; --jobs says how many runs go on at a time",
        )
    for member in members:
        trainer = member.resolved["trainer"]
        if trainer["devices"] not in ("auto", "1", 1) or trainer["num_nodes"] != 1:
            found = f"{trainer['devices']} devices on {trainer['num_nodes']} nodes"
            raise UsageError(
                "trainer.devices",
                found=found,
                expected="1 in a sweep, whose runs have one device each and take turns on all that there are",
                do="leave it out; or start runs over several devices one after another, without --sweep",
            )


def check_settings(pending: Sequence[Member]) -> None:
    """Build and check one run of each setting among the ``pending`` runs, and the disk for all of them.

    Raises:
        UsageError: a constructor refuses a value, options do not go together, or the disk is too small.
    """
    expected: dict[tuple[str, ...], int] = {}
    for member in pending:
        setting = tuple(member.setting.values())
        if setting not in expected:
            expected[setting] = _check(member)
    total = sum(expected[tuple(member.setting.values())] for member in pending)
    if pending:
        output, free = pending[0].resolved["output"], free_bytes(pending[0].run.path)
        require(
            total <= free,
            "output",
            output,
            f"a disk with {size(total)} free, about what the {len(pending)} runs take; there are {size(free)}",
            do="bound what is kept, as with loop.keep.last=2, sweep less, or give another output=...",
        )


def _check(member: Member) -> int:
    """Check the run of ``member``; about how many bytes it takes."""
    try:
        experiment = build(member.resolved, member.run)
        experiment.check()
    except UsageError as error:
        raise naming_the_sweep(error, member.setting, member.name) from error
    return int(experiment.loop.facts["disk/expected_bytes"])
