"""Disk space: which generations stay, what a run is going to take, and what it takes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from torch import Tensor

from sc_loops.errors import require

if TYPE_CHECKING:
    from sc_loops.data.memory import MemoryPolicy
    from sc_loops.models.base import GenerativeModel
    from sc_loops.run import Run

# A checkpoint holds the trained weights, their average and the two moments of Adam, each as large.
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
        return is_recent or self.keeps_for_good(generation)

    def keeps_for_good(self, generation: int) -> bool:
        """Whether ``generation`` stays whatever comes after it."""
        if self.every is None:
            return self.last is None
        return generation % self.every == 0


class Pruner:
    """Deletes what ``keep`` does not keep of ``run``.

    It looks at all that is there once, and then only at what may still have to go, so that a generation costs the
    same however many there were before it. A prune that was cut short is completed by the next one, of this pruner or
    of another.
    """

    def __init__(self, run: Run, keep: Keep) -> None:
        self._run, self._keep, self._looked = run, keep, False
        self._pools: set[int] = set()  # of which the samples may still have to go
        self._checkpoints: set[int] = set()  # of which the checkpoint and the improvement may

    def prune(self, newest: int, needs: Callable[[int], bool] = lambda generation: False) -> None:
        """Delete samples, checkpoint and improvement of the generations before ``newest``, the one that was written
        last, that are not kept.

        What reports are drawn from stays, and the samples of pools that the loop's memory still ``needs``.
        """
        there = [newest] if self._looked else self._run.generations()
        may_go = {generation for generation in there if not self._keep.keeps_for_good(generation)}
        self._pools |= may_go
        self._checkpoints |= may_go
        self._looked = True
        for generation in self._due(self._pools, newest):
            if not needs(generation):
                pool = self._run.pool(generation)
                if pool.finished:
                    pool.remove_samples()
                self._pools.remove(generation)
        for generation in self._due(self._checkpoints, newest):
            self._run.saved.remove(generation)
            self._run.improvement(generation).unlink(missing_ok=True)
            self._checkpoints.remove(generation)

    def _due(self, generations: set[int], newest: int) -> list[int]:
        """Those of ``generations`` that are not kept, in order."""
        return [t for t in sorted(generations) if t < newest and not self._keep.keeps(t, newest)]


class ModelBytes(NamedTuple):
    """The size of a model.

    Attributes:
        learnt: of the weights that are trained.
        fixed: of all others, and of the buffers, but for those that grow.
        item: of one item in the buffers that grow with the items that are trained on.
    """

    learnt: int
    fixed: int = 0
    item: int = 0

    @staticmethod
    def of(model: GenerativeModel) -> ModelBytes:
        tensors = {name: t for name, t in model.state_dict().items() if isinstance(t, Tensor)}
        growing = [tensors.pop(name) for name in model.growing]
        learnt = sum(p.nbytes for p in model.parameters() if p.requires_grad)
        item = sum(t[0].nbytes for t in growing if len(t))
        return ModelBytes(learnt, sum(t.nbytes for t in tensors.values()) - learnt, item)


def items_of(
    generation: int, memory: MemoryPolicy, *, first: int, real: int, synthetic: int, sees_real: bool = True
) -> int:
    """About how many items ``generation`` trains on.

    Args:
        memory: what becomes of older pools.
        first: items of generation 0.
        real: n, of the later ones.
        synthetic: those that a pool adds.
        sees_real: whether later generations see real items: λ < inf.
    """
    if generation == 0:
        return first
    pools = {"replace": 1.0, "fading": (generation + 1) / 2}.get(memory, generation)
    items = sees_real * real + round(pools * synthetic)
    return min(real, items) if memory == "accumulate_subsample" else items


def expected_bytes(
    *,
    model: ModelBytes,
    items: Callable[[int], int] = lambda generation: 0,
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
        model: its size.
        items: how many items a generation trains on.
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
    pool, fixed = sample_bytes * pool_items, _MODELS_IN_A_CHECKPOINT * model.learnt + model.fixed
    inside = [generations] * _STEP_CHECKPOINTS
    checkpoints = sum(fixed + model.item * items(generation) for generation in kept + inside)
    auxiliaries = (len(kept) + 1) * (model.learnt + model.fixed) if improved else 0
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
