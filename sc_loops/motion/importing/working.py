"""All clips of a source, on one core or several, with how far it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sc_loops.motion.importing.captions import Labels
from sc_loops.motion.importing.conversion import Conversion, Converted, convert, up_axis
from sc_loops.motion.importing.mapping import majority
from sc_loops.motion.importing.sources import Source

_SHARE = 400
"""Clips that are worth another process, which takes seconds to start."""

_VOTES = 20
"""Clips that are asked which axis is up."""


def converted(
    clips: Sequence[Source], labels: Mapping[str, Labels], options: Conversion, jobs: int | None
) -> tuple[list[Converted], str]:
    """All clips in their order, and the vertical axis. The number of processes changes nothing in them."""
    up: str = options.up
    if up == "auto":
        votes = [up_axis(clip) for clip in clips[:: max(1, len(clips) // _VOTES)]]
        up = majority([vote for vote in votes if vote is not None])
    rates = [labels[clip.path].fps if clip.path in labels else None for clip in clips]
    done: list[Converted] = []
    with _progress(len(clips)) as show, _mapping(jobs or _jobs(len(clips))) as mapping:
        for clip in mapping(convert, clips, [options] * len(clips), [up] * len(clips), rates):
            done.append(clip)
            show(sum(not one.windows for one in done))
    return done, up


def _jobs(clips: int) -> int:
    return max(1, min(os.cpu_count() or 1, clips // _SHARE))


@contextmanager
def _mapping(jobs: int) -> Iterator[Callable[..., Iterator[Converted]]]:
    """``map`` over ``jobs`` processes."""
    if jobs == 1:
        yield map
        return
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,))
    with pool:
        yield lambda function, *columns: pool.map(function, *columns, chunksize=16)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A line on a terminal, nothing in a log. What it yields is told, after each clip, how many are left out."""
    console = Console(stderr=True, highlight=False)
    columns = (
        BarColumn(28),
        MofNCompleteColumn(),
        TextColumn("clips, {task.fields[out]} left out"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("", total=total, out=0)
        yield lambda out: bars.update(task, advance=1, out=out)
