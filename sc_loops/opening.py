"""Opening a run directory: one writer, and everything on disk whole, or put away so that it is made again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sc_loops.data.files import checksum
from sc_loops.errors import RunError, UsageError
from sc_loops.run import Run


def _say(line: str) -> None:
    print(f"found: {line}", file=sys.stderr)


def damaged_pools(run: Run) -> dict[int, list[str]]:
    """The pools with files that are missing or were changed since they were written, and which files these are."""
    return {t: names for t in sorted(run.pools()) if (names := run.pool(t).damaged())}


def mend(run: Run, say: Callable[[str], None] = _say) -> Path | None:
    """The checkpoint from which the run continues, or None, when all that it needs is whole or can be made again.

    What is damaged is said, one line each. Damaged files of a pool whose weights exist, or are trained again, are
    deleted, and the loop makes exactly them again.

    Raises:
        UsageError: the pool that the next generation trains on is damaged, and its weights are gone.
    """
    checkpoint = run.saved.newest(say)
    trained = -1 if checkpoint is None else run.saved.trained(checkpoint)
    for generation, names in damaged_pools(run).items():
        pool, listed = run.pool(generation), ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        where = f"{pool.path}: missing or damaged: {listed}"
        if generation > trained or run.saved.intact(run.checkpoint(generation)):
            say(f"{where}; made again")
            pool.discard(names)
        elif generation < trained:
            say(f"{where}; the checkpoint to make it from is gone too. It is not needed to go on")
        else:
            raise UsageError(
                str(pool.path),
                found=f"missing or damaged: {listed}",
                expected=f"whole files, or {run.checkpoint(generation).name} to make them again from",
                do="restore either from a backup, or start over beside this run with --fresh",
            )
    if run.cut_short:
        say(f"{run.metrics_path}: its last line was cut short; it is recorded again")
    return checkpoint


def unfinished(run: Run, trained: int) -> list[int]:
    """The generations, up to the last that was ``trained``, that lack a part of their pool, or their row, and can be
    finished."""
    found = []
    for generation in range(trained + 1):
        pool = run.pool(generation)
        lacks = not (pool.finished and run.has_row(generation))
        needed = generation == trained
        if lacks and (needed or (pool.path.exists() and run.saved.intact(run.checkpoint(generation)))):
            found.append(generation)
    return found


def checkpoint_of(run: Run, generation: int) -> dict[str, Any]:
    """The content of the checkpoint that the training of ``generation`` left.

    Raises:
        RunError: it is gone or damaged.
    """
    path = run.checkpoint(generation)
    if not run.saved.intact(path):
        raise RunError(
            str(run.pool(generation).path),
            found=f"a pool that is not whole, and no checkpoint of generation {generation} to make it from",
            expected=f"the pool, or {path.name}",
            do="restore one of them from a backup, or start over beside this run with --fresh",
        )
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


def contents(run: Run) -> dict[str, str]:
    """The files, by name, from which any node could continue the run, with their checksums."""
    paths = [*run.checkpoints.glob("generation-*.ckpt"), *run.checkpoints.glob("generation-*.sha256")]
    paths += [*run.checkpoints.glob("initial.safetensors"), *run.path.glob("pools/*/*.safetensors")]
    paths += [*run.path.glob("pools/*/manifest.json")]
    return {str(path.relative_to(run.path)): checksum(path) for path in paths}


def lacking(run: Run, contents: dict[str, str]) -> list[str]:
    """Those of the files of another node that are not the same here."""
    return [n for n, digest in contents.items() if not (run.path / n).exists() or checksum(run.path / n) != digest]
