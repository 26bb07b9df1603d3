"""``TrainingSets``: what each generation trains on, of real data and of the pools before it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from sc_loops.data.memory import Memory, MemoryPolicy, Reader
from sc_loops.data.mixture import Mixing, Training, synthetic_count
from sc_loops.data.module import LoopDataModule
from sc_loops.data.real import RealData, RealPolicy
from sc_loops.errors import InvalidValue, RunError, require
from sc_loops.models.base import GenerativeModel
from sc_loops.models.closed_form import ClosedFormModel
from sc_loops.run import Row

if TYPE_CHECKING:
    from sc_loops.loop import SelfConsumingLoop


class TrainingSets:
    """Real data, fixed or fresh, and what is remembered of older pools, in the ratio λ.

    Args:
        data: the real data.
        read: reads an older pool.
        generations: the last generation T.
        synthetic_ratio: λ.
        real_items, memory, real, mixing: see ``SelfConsumingLoop``.
        seed: the run's.
        saves: keep what is remembered in ``memory``'s state, since older pools may not be on disk.

    Raises:
        InvalidValue: there are no fresh data, or not enough for all generations, or the policies do not go together.
    """

    def __init__(
        self,
        data: RealData,
        read: Reader,
        *,
        generations: int,
        synthetic_ratio: float,
        real_items: int | None,
        memory: MemoryPolicy,
        real: RealPolicy,
        mixing: Mixing,
        seed: int,
        saves: bool,
    ) -> None:
        self._data, self._synthetic_ratio, self._mixing, self._seed = data, synthetic_ratio, mixing, seed
        self._n = later_items(real_items, data)
        least = 1 / self._n  # by which there is one synthetic item
        given = mixing == "count" and 0 < synthetic_ratio < math.inf
        some = not given or synthetic_count(self._n, synthetic_ratio) > 0
        do = "set it to 0, real data alone, or raise it"
        require(some, "synthetic_ratio", synthetic_ratio, f"0, or at least {least:g} for {self._n} real items", do)
        self.memory = Memory.of(memory, read, self._n, synthetic_ratio, saves, mixing=mixing, seed=seed)
        self._newest = 0, data  # a generation, and its real data
        self._fixed = data if self._n == len(data.train) else replace(data, train=data.train[: self._n])
        self._fresh = real == "fresh" and synthetic_ratio < math.inf  # else no later generation sees real data
        if self._fresh:
            require_fresh(data, generations)

    @staticmethod
    def of(loop: SelfConsumingLoop, data: RealData, read: Reader) -> TrainingSets:
        """Those that the options of ``loop`` describe."""
        return TrainingSets(
            data,
            read,
            generations=loop.generations,
            synthetic_ratio=loop.synthetic_ratio,
            real_items=loop.real_items,
            memory=loop.memory,
            real=loop.real,
            mixing=loop.mixing,
            seed=loop.seed,
            saves=loop.keep.hold_seconds is not None,
        )

    def real(self, generation: int) -> RealData:
        """The real data of ``generation``: what is held out is the same in all of them.

        Raises:
            RunError: the fresh data are not as many, or of another shape or type.
        """
        if not generation:
            return self._data
        if not self._fresh:
            return self._fixed
        if self._newest[0] != generation:
            self._newest = generation, self._drawn(generation)
        return self._newest[1]

    def begin(
        self, module: LoopDataModule, generation: int, model: GenerativeModel, training: Training, start: int
    ) -> None:
        """Have the next loader of ``module`` serve what ``generation`` trains on, from batch ``start`` on."""
        real = self.real(generation).train
        consumes = generation > 0 and self._synthetic_ratio > 0
        drawn = self.memory.real(generation) if consumes else None
        module.begin_generation(
            generation,
            real=real if drawn is None else real[drawn],
            pools=self.memory.recall(generation) if consumes else (),
            synthetic_ratio=self._synthetic_ratio,
            whole_pool=self.memory.whole,
            mixing=self._mixing,
            training=training,
            seed=self._seed,
            pairing=model.pairing(),
            start=start,
            at_once=isinstance(model, ClosedFormModel),
        )

    def _drawn(self, generation: int) -> RealData:
        assert self._data.fresh is not None
        found, train = self._data.fresh(generation), self._data.train
        if (found.x.shape, found.x.dtype) != (train.x.shape, train.x.dtype):
            raise RunError(
                f"the fresh real data of generation {generation}",
                found=f"{found.x.dtype} of shape {tuple(found.x.shape)}",
                expected=f"{train.x.dtype} of shape {tuple(train.x.shape)}, as those of generation 0",
                do="correct the function fresh of the data set",
            )
        return replace(self._data, train=found[: self._n])

    @staticmethod
    def nothing() -> Row:
        """Of a generation that was not trained here."""
        amounts = ("real_items", "synthetic_items", "items_seen", "real_items_seen", "synthetic_items_seen")
        return dict.fromkeys(amounts, 0)

    @staticmethod
    def row(module: LoopDataModule, before: Row) -> Row:
        """The composition of the training set of ``module``, and what was seen of it and of those before it, whose
        row is ``before``. How much of it was real is an expectation where the last pass was not completed."""
        items, seen = module.real_items + module.synthetic_items, module.items_seen
        real_seen = round(seen * module.real_items / items)
        amounts = {"items_seen": seen, "real_items_seen": real_seen, "synthetic_items_seen": seen - real_seen}
        # A run of an earlier version did not count apart.
        known = {key: before[key] + amount for key, amount in amounts.items() if key in before}
        return {
            "real_items": module.real_items,
            "synthetic_items": module.synthetic_items,
            **(known if before else amounts),
        }


def later_items(real_items: int | None, data: RealData) -> int:
    """n, how many real items generations 1 to T train on: ``real_items``, or all.

    Raises:
        InvalidValue: there are not as many.
    """
    there = len(data.train)
    require(real_items is None or 1 <= real_items <= there, "real_items", real_items, f"an integer in 1..{there}")
    return there if real_items is None else real_items


def require_fresh(data: RealData, generations: int) -> None:
    """Raise ``InvalidValue`` unless ``data`` have a training set for each of the generations 0 to ``generations``."""
    if data.fresh is None:
        raise InvalidValue(
            "real",
            found=f"fresh, of {data.name}, which has one training set",
            expected="data that are drawn (two_moons, gaussian_mixture, gaussian), or of which each generation can "
            "have a part (mnist, cifar10, digits, with data.train_size)",
            do="set loop.real=fixed, or give other data",
        )
    if data.rows is None:
        return
    size, needed = len(data.train), generations + 1
    parts = data.rows // size
    fewer = [f"data.train_size of at most {data.rows // needed}"] * (data.rows >= needed)
    ways = [*fewer, f"loop.generations of at most {parts - 1}", "loop.real=fixed"]
    require(
        parts >= needed,
        "real",
        "fresh",
        f"{needed} disjoint training sets of {size}, one for each of the generations 0 to {generations}; the "
        f"{data.rows} real items of {data.name} make {parts}",
        do=f"give a {', a '.join(ways[:-1])}, or {ways[-1]}",
    )


def planned_ratio(synthetic_ratio: float, mixing: Mixing) -> float:
    """The ratio by which the number of samples of a generation is planned: where weights keep λ, n samples for n
    real items, so that both sides are known as well."""
    return 1.0 if mixing == "weight" and 0 < synthetic_ratio < math.inf else synthetic_ratio


def check_mixing(mixing: Mixing, model: GenerativeModel) -> None:
    """Raise ``InvalidValue`` where λ is kept by weight and ``model`` does not weight its losses."""
    require(
        mixing == "count" or model.weighted,
        "mixing",
        mixing,
        f"count: {type(model).__name__}, as it is configured, does not weight the losses of its items",
        "use a model with the attribute weighted = True, whose loss is a weighted_mean; flow_matching is one with "
        "any coupling but exact_ot, whose pairs know no weights",
    )
