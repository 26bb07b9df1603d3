"""``LoopDataModule``: real data, and from generation 1 on synthetic ones beside them, as a LightningDataModule."""

from __future__ import annotations

from collections.abc import Sequence

from lightning import LightningDataModule, Trainer

from sc_loops.data.mixture import AllAtOnce, Mixing, MixtureLoader, Training, mix
from sc_loops.data.real import RealData
from sc_loops.errors import UsageError, require
from sc_loops.randomness import generator_for
from sc_loops.samples import Pairing, Samples


class LoopDataModule(LightningDataModule):
    """Serves the batches of one generation at a time. Without a loop it serves passes over the real data.

    Args:
        data: the real data.
        batch_size: items of one optimizer step, over all processes.
        seed: of the order of the items; the loop sets its own.
    """

    def __init__(self, data: RealData, *, batch_size: int = 256, seed: int = 0) -> None:
        super().__init__()
        require(1 <= batch_size <= 10**7, "batch_size", batch_size, "an integer in 1..10000000")
        self.data, self.batch_size = data, batch_size
        self.begin_generation(0, synthetic_ratio=0.0, training=Training(passes=1), seed=seed)

    @staticmethod
    def of(trainer: Trainer) -> LoopDataModule:
        """The data module that ``trainer`` fits on.

        Raises:
            UsageError: it is of another kind, or there is none.
        """
        module = getattr(trainer, "datamodule", None)
        if isinstance(module, LoopDataModule):
            return module
        raise UsageError(
            "the data",
            found=f"trainer.fit with {'no data module' if module is None else type(module).__name__}",
            expected="trainer.fit(model, LoopDataModule(data))",
        )

    def begin_generation(
        self,
        generation: int,
        *,
        pools: Sequence[Samples] = (),
        synthetic_ratio: float,
        training: Training,
        seed: int,
        real: Samples | None = None,
        whole_pool: bool = False,
        mixing: Mixing = "count",
        pairing: Pairing | None = None,
        start: int = 0,
        at_once: bool = False,
    ) -> None:
        """Mix what ``generation`` trains on. The next ``train_dataloader()`` serves it, from batch ``start`` on,
        paired with noise by ``pairing`` if there is one.

        Args:
            pools: the synthetic samples, of which floor(λ n) are drawn, or with ``whole_pool`` all are taken.
            real: the real items of this generation; by default those of ``data``.
            mixing: keep λ by the ``count`` of items, or by the ``weight`` of their losses.
            at_once: all items are one batch, in every process, and there is one step. Unless they are flipped the
                batch is a list of them, in parts.
        """
        self._seed, self._generation, self._start = seed, generation, start
        self._pairing, self._flips = pairing, training.horizontal_flips
        self._at_once, self._in_parts = at_once, at_once and not self._flips
        mixture = mix(
            self.data.train if real is None else real,
            pools,
            synthetic_ratio=synthetic_ratio,
            whole_pool=whole_pool,
            mixing=mixing,
            generator=generator_for(seed, "mixture", generation),
        )
        self._mixture = mixture if self._in_parts else mixture.in_one_part()  # without the parts beside it
        self.real_items, self.synthetic_items = mixture.real_items, mixture.synthetic_items
        batch = len(self._mixture) if at_once else self.batch_size
        self.steps = training.optimizer_steps(len(self._mixture), batch)
        self.items_seen = self.steps * batch
        images = len(self.data.shape) == 3
        require(images or not self._flips, "horizontal_flips", True, "false: these are no images")

    def train_dataloader(self) -> AllAtOnce | MixtureLoader:
        if self._in_parts:
            return AllAtOnce(self._mixture, self._start)
        trainer, items = None if self._at_once else self.trainer, self._mixture.items
        weights = {name: column for name, column in items.columns.items() if name == "weight"}
        return MixtureLoader(
            Samples(items.x, items.condition, weights),
            batch_size=len(items) if self._at_once else self.batch_size,
            steps=self.steps,
            seed=self._seed,
            generation=self._generation,
            flips=self._flips,
            pairing=self._pairing,
            rank=0 if trainer is None else trainer.global_rank,
            world_size=1 if trainer is None else trainer.world_size,
            device="cpu" if trainer is None else trainer.strategy.root_device,
            start=self._start,
        )
