"""``train.py --sweep ... --seeds ... --jobs N``: check all runs, carry them out, and put them side by side."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import torch

from sc_loops import run_lock
from sc_loops.cores import usable_cores
from sc_loops.data.files import write_json
from sc_loops.errors import Stopped, UsageError, blaming
from sc_loops.sweeping.checks import check_processes, check_settings
from sc_loops.sweeping.crew import Crew
from sc_loops.sweeping.options import SweepOptions, axes_of, seeds_of
from sc_loops.sweeping.plan import Member, Plan, make_plan, reached
from sc_loops.sweeping.progress import SweepProgress
from sc_loops.sweeping.worker import ERROR, Place

_SHOWN = 5  # failures that are told in full


def sweep(name: str, overrides: Sequence[str], options: SweepOptions, *, dry_run: bool, fresh: bool) -> int:
    """Carry out what is left of a sweep; the exit status.

    Raises:
        UsageError: bad input, found before any run was started.
        Stopped: a signal asked for it; the runs under way were saved.
    """
    plan = _planned(name, overrides, options, fresh=fresh)
    pending = plan.members if fresh else plan.pending()
    check_processes(pending)
    jobs = jobs_of(options.jobs, pending)
    check_settings(pending)
    if dry_run:
        print(_described(plan, len(pending), jobs))
        return 0
    if fresh:
        with blaming("output", "a directory that can be written to"):
            plan.directory.mkdir(parents=True)
    lock = run_lock.hold(plan.directory)
    try:
        write_json(plan.directory / "sweep.json", plan.asked)
        print(_described(plan, len(pending), jobs), flush=True)
        failures = _carried_out(plan, pending, jobs) if pending else []
        _tell(failures)
        _compare(plan)
    finally:
        lock.release()
    return 1 if failures else 0


def _planned(name: str, overrides: Sequence[str], options: SweepOptions, *, fresh: bool) -> Plan:
    if not options.sweeps and options.seeds is None:
        raise UsageError(
            "--jobs", found="nothing to sweep", expected="--sweep KEY=V1,V2,... or --seeds A..B beside it"
        )
    axes = axes_of(options.sweeps, overrides)
    seeds = [] if options.seeds is None else seeds_of(options.seeds)
    given = [override for override in overrides if override.removeprefix("--").startswith("seed=")]
    if given and options.seeds is not None:
        raise UsageError(f"--seeds {options.seeds}", found=f"{given[0]} beside it", expected="one of the two")
    return make_plan(name, overrides, axes, seeds, fresh=fresh)


def jobs_of(asked: int | None, pending: Sequence[Member]) -> int:
    if asked is not None and asked < 1:
        raise UsageError("--jobs", found=str(asked), expected="an integer >= 1")
    return max(1, min(asked or len(_gpus(pending)) or usable_cores(), len(pending)))


def _gpus(pending: Sequence[Member]) -> list[str]:
    """The names of the GPUs that the runs may use, as CUDA_VISIBLE_DEVICES takes them."""
    if all(member.resolved["trainer"]["accelerator"] == "cpu" for member in pending):
        return []
    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
    return visible.split(",")[:count]


def places_of(pending: Sequence[Member], jobs: int) -> list[Place]:
    """Cores are shared by all workers, and GPUs taken in turn."""
    gpus, threads = _gpus(pending), max(1, usable_cores() // jobs)
    return [Place(threads, gpus[number % len(gpus)] if gpus else None) for number in range(jobs)]


def _described(plan: Plan, pending: int, jobs: int) -> str:
    """The plan in a few lines."""
    total, asked = len(plan.members), plan.asked
    axes = [f"  {key} = {', '.join(values)}" for key, values in asked["sweep"].items()]
    seeds = f"  {len(asked['seeds'])} seeds: {', '.join(map(str, asked['seeds'][:8]))}"
    more = ", ..." if len(asked["seeds"]) > 8 else ""
    finished = f", of which {total - pending} are finished" if pending < total else ""
    runs = f"{total} runs in {plan.directory}{finished}"
    return "\n".join([runs, *axes, seeds + more, f"  {jobs} at a time" if pending else "  nothing left to run"])


def _carried_out(plan: Plan, pending: Sequence[Member], jobs: int) -> list[tuple[Member, str]]:
    """Carry out the ``pending`` runs; those that failed, and why."""
    with SweepProgress(plan, len(plan.members) - len(pending)) as progress:
        signum = Crew(places_of(pending, jobs), progress.note).carry_out(pending)
    if signum is not None:
        _tell(progress.failures)
        print(f"{progress.finished} of {progress.total} runs are finished", file=sys.stderr)
        raise Stopped(signum)
    return progress.failures


def _tell(failures: Sequence[tuple[Member, str]]) -> None:
    """Say which runs failed, and why."""
    for member, message in failures[:_SHOWN]:
        print(f"failed: {member.run.path}: {message}", file=sys.stderr)
    for member, _ in failures[_SHOWN:]:
        print(f"failed: {member.run.path}", file=sys.stderr)
    if failures:
        print(f"{len(failures)} failed; {ERROR} there says where. The same command tries again.", file=sys.stderr)


def _compare(plan: Plan) -> None:
    """Put all runs that have something to show side by side."""
    from sc_loops.comparing.page import write_comparison

    runs = [member.run for member in plan.members if reached(member.run, 0)]
    if runs:
        print(write_comparison(runs, plan.directory, title=plan.directory.name))
