"""Writing a checkpoint of a fit that is under way, by all of its processes together."""

from __future__ import annotations

from pathlib import Path

from lightning import Trainer

from sc_loops.exchange import fetch
from sc_loops.processes import Processes
from sc_loops.run import Run


def save(trainer: Trainer, run: Run, path: Path, processes: Processes) -> None:
    """Write the checkpoint ``path`` of ``run``; on every node, where each has a file system of its own.

    Raises:
        RunError: the disk is full, read-only or broken; the checkpoints that were there are still there.
    """
    processes.advance("working" if trainer.is_global_zero else "together")
    size = 4 * sum(p.numel() * p.element_size() for p in trainer.lightning_module.parameters())
    with run.saved.writing(path, size) as temporary:
        trainer.save_checkpoint(temporary)
    if trainer.is_global_zero:
        run.saved.seal(temporary, path)
    if trainer.world_size > 1:
        processes.meet()
        lacking = [] if path.exists() else [path.name + ".sha256", path.name]
        fetch(run.checkpoints, lacking, processes)
        if lacking and processes.local_rank == 0:
            run.saved.arrived(path)
