"""``Claim``: a loop's hold on its run directory, in which it alone writes, and begins no run where there is one."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_only

from sc_loops import opening, run_lock
from sc_loops.errors import UsageError
from sc_loops.run import Run


class Claim:
    """From ``resume`` or ``take`` until ``release``.

    Attributes:
        granted: whoever fits next opened the directory, holds its lock, and knows that the run may begin or go on.
    """

    def __init__(self) -> None:
        self.granted = False
        self._begins = False
        self._lock: run_lock.RunLock | None = None

    def resume(self, run: Run) -> Path | None:
        """Become the one writer to ``run``, and ``mend`` it: the checkpoint from which it continues, or None.

        Each of several processes may call it, as a script does that torchrun or Lightning starts in all of them: rank
        0 locks and mends; the others only read, and find the same checkpoint. Nodes must share the directory.

        Raises:
            UsageError: another process writes to the run, or see ``opening.mend``.
        """
        if rank_zero_only.rank:  # type: ignore[attr-defined]
            checkpoint = newest_whole(run)
        else:
            self._lock = run_lock.hold(run.path)
            try:
                checkpoint = opening.mend(run)
            except BaseException:
                self.release()
                raise
        self._begins = checkpoint is None
        return checkpoint

    def take(self, run: Run, trainer: Trainer) -> None:
        """Become the one writer to ``run``, on rank 0, where it was not done before.

        Raises:
            UsageError: another process is writing to the run, or the directory cannot be written to.
        """
        if trainer.is_global_zero and not self.granted:
            self._lock = run_lock.hold(run.path)

    def check(self, run: Run, checkpoint: Path | str | None) -> None:
        """See to it that the fit, from ``checkpoint`` if there is one, goes on with what is in the directory of
        ``run``, or finds nothing there. A pool is known by the weights that made it: one that another reward chose
        would else count as this loop's.

        Raises:
            UsageError: ``run`` was begun before, and neither is ``checkpoint`` one of its own nor was it resumed.
        """
        known, self.granted, self._begins = self.granted or self._begins, False, False  # a further fit is not
        continues = checkpoint is not None and Path(checkpoint).resolve().parent == run.checkpoints.resolve()
        if known or continues or not _begun(run):
            return
        done, foreign = len(run.rows()), f", and ckpt_path={str(checkpoint)!r} is none of its checkpoints"
        raise UsageError(
            str(run.path),
            found=f"a run is there, of {done} generation{'s' * (done != 1)}{foreign * (checkpoint is not None)}",
            expected="a directory without a run, or a fit that continues the one there",
            do="give trainer.fit ckpt_path=loop.resume() to continue it, or the loop another directory",
        )

    def release(self) -> None:
        """Let others write to the run. Again, it does nothing."""
        if self._lock is not None:
            self._lock.release()


def newest_whole(run: Run) -> Path | None:
    """The checkpoint that ``opening.mend`` returns, found without touching anything, also while rank 0 mends."""

    def age(path: Path) -> tuple[int, int, str]:
        # A name with a step, which is longer, comes after the one without.
        return run.saved.trained(path), len(path.name), path.name

    for path in sorted(run.checkpoints.glob("generation-[0-9]*.ckpt"), key=age, reverse=True):
        with suppress(FileNotFoundError):  # rank 0 has just set it aside
            if run.saved.intact(path):
                return path
    return None


def _begun(run: Run) -> bool:
    """Whether training in the directory of ``run`` has left anything behind."""
    pools = any(run.pool(generation).finished for generation in run.generations())
    return bool(pools or run.rows() or run.training_rows() or run.saved.generations())
