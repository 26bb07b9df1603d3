"""Disk space: which generations stay, what a run is going to take, and what it takes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sc_loops.errors import require

if TYPE_CHECKING:
    from sc_loops.run import Run

# A checkpoint holds the weights, their average and the two moments of Adam, each as large as the model.
_MODELS_IN_A_CHECKPOINT = 4
# Inside a generation the newest checkpoint and the one before it, its fallback, stand beside those that are kept.
_STEP_CHECKPOINTS = 2


@dataclass(frozen=True, kw_only=True)
class Keep:
    """Which generations keep their samples and their checkpoint. With neither of the first two options, all do.

    Args:
        last: the newest so many generations.
        every: the generations that are multiples of this, and the newest.
        hold_seconds: for models in closed form, whose generations take milliseconds: what would be deleted soon after
            is not even written, as long as the last generation that was written is not older than this, or than ten
            times what writing its checkpoint took, so that a large memory is not written all the time. A kill or an
            error then loses at most so many seconds, which the same command computes again; a signal to stop loses
            nothing.
    """

    last: int | None = None
    every: int | None = None
    hold_seconds: float | None = None

    def __post_init__(self) -> None:
        require(self.last is None or self.last >= 1, "last", self.last, "an integer >= 1, or null")
        require(self.every is None or self.every >= 1, "every", self.every, "an integer >= 1, or null")
        hold, bounded = self.hold_seconds, self.last is not None or self.every is not None
        require(hold is None or hold > 0, "hold_seconds", hold, "a number > 0, or null")
        require(hold is None or bounded, "hold_seconds", hold, "null, or also last or every: all is kept without")

    def keeps(self, generation: int, newest: int) -> bool:
        """Whether ``generation`` stays when ``newest`` is the last one that is complete."""
        if generation >= newest or (self.last is None and self.every is None):
            return True
        is_recent = self.last is not None and generation > newest - self.last
        return is_recent or (self.every is not None and generation % self.every == 0)


def prune(run: Run, keep: Keep, newest: int, needs: Callable[[int], bool] = lambda generation: False) -> None:
    """Delete samples, checkpoint and improvement of the generations before ``newest`` that ``keep`` does not keep.

    What reports are drawn from stays, and the samples of pools that the loop's memory still ``needs``. A prune that
    was cut short is completed by the next one.
    """
    for generation in run.generations():
        if generation < newest and not keep.keeps(generation, newest):
            pool = run.pool(generation)
            if pool.finished and not needs(generation):
                pool.remove_samples()
            run.saved.remove(generation)
            run.improvement(generation).unlink(missing_ok=True)


def expected_bytes(
    *,
    model_bytes: int,
    sample_bytes: int,
    pool_items: int,
    observed_bytes: int = 0,
    generations: int,
    keep: Keep,
    older: Literal["nowhere", "pools", "checkpoints"] = "nowhere",
    improved: bool = False,
) -> int:
    """About the most that a run takes: its generations 0 to ``generations``, and one more pool in the making.

    Args:
        model_bytes: of the weights.
        sample_bytes: of one sample in a pool, with its columns.
        pool_items: samples in a pool.
        observed_bytes: what metrics and stages observe of one generation, which always stays.
        generations: the last generation.
        keep: which of them are kept.
        older: where the loop's memory has the samples of older pools: in those, which then all stay, or in each
            checkpoint those of all generations before it.
        improved: whether each generation has an auxiliary, which is as large as the model.
    """
    kept = [generation for generation in range(generations + 1) if keep.keeps(generation, generations)]
    pools = generations + 1 if older == "pools" else len(kept)
    pools += sum(kept) if older == "checkpoints" else 0
    checkpoint, pool = _MODELS_IN_A_CHECKPOINT * model_bytes, sample_bytes * pool_items
    checkpoints = (len(kept) + _STEP_CHECKPOINTS) * checkpoint
    auxiliaries = (len(kept) + 1) * model_bytes if improved else 0
    return checkpoints + auxiliaries + (pools + 1) * pool + (generations + 1) * observed_bytes


def free_bytes(path: Path) -> int:
    """The space left where ``path`` is, or would be made."""
    existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    return shutil.disk_usage(existing).free


def used_bytes(run: Run) -> int:
    """The size of all files of a run."""
    total = 0
    for path in run.path.rglob("*"):
        try:
            total += path.lstat().st_size if path.is_file() and not path.is_symlink() else 0
        except FileNotFoundError:
            continue  # a temporary file that has got its name meanwhile
    return total
