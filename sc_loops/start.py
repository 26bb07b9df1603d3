"""``carry_out``: an experiment that was prepared, from the opening of its run directory to the last generation.

``train.py`` does this once; a worker of a sweep does it for one run after the other.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sc_loops import run_lock
from sc_loops.experiment import Experiment, build
from sc_loops.processes import Processes
from sc_loops.reporting.observer import Observer
from sc_loops.run import Run

# What the first process of a machine tells those that Lightning starts from it: the run and its checkpoint.
_JOINED = "SC_LOOPS_JOINED_RUN"


def carry_out(
    experiment: Experiment,
    run: Run,
    resolved: dict[str, Any],
    together: Processes,
    observers: Sequence[Observer] | None = None,
) -> None:
    """Do the run of a prepared ``experiment`` in the directory of ``run``, or what is left of it.

    Args:
        experiment: what ``build`` made of ``resolved``, checked and prepared.
        run: its directory, to which no other process writes meanwhile.
        resolved: is recorded as config.yaml.
        together: the processes that were joined already.
        observers: see ``Experiment.fit``.

    Raises:
        Stopped, KeyboardInterrupt, Complaint: see ``Experiment.open`` and ``Experiment.fit``.
    """
    lock = None
    try:
        if together.rank == 0:
            lock = run_lock.hold(run.path)
        checkpoint = experiment.open(run, together)
        if together.rank == 0:
            experiment.write_record(resolved)
        os.environ[_JOINED] = json.dumps([str(run.path), checkpoint and str(checkpoint)])
        experiment.fit(checkpoint, together if together.world_size > 1 else None, observers)
    finally:
        os.environ.pop(_JOINED, None)
        if lock is not None:
            lock.release()


def is_joining() -> bool:
    """Whether Lightning started this process, with the same command, to join the run of the first one."""
    return _JOINED in os.environ


def join_run(resolved: dict[str, Any]) -> None:
    """Take part in the run of the process that Lightning started this one from."""
    path, checkpoint = json.loads(os.environ[_JOINED])
    experiment = build(resolved, Run(path))
    experiment.prepare(Processes())
    experiment.fit(checkpoint and Path(checkpoint))


def quieten() -> None:
    """Silence what libraries say to developers, not to users."""
    for message in (".*litlogger.*", ".*isinstance.*LeafSpec.*", ".*torchdyn.*", ".*TF32.*", ".*with no optimizer.*"):
        warnings.filterwarnings("ignore", message=message)
