"""``LoopDataModule``: real data, and from generation 1 on the last pool beside them, as a LightningDataModule."""

from __future__ import annotations

from lightning import LightningDataModule, Trainer

from sc_loops.data.mixture import MixtureLoader, Training, mix
from sc_loops.data.pool import Pool
from sc_loops.data.real import RealData
from sc_loops.errors import RunError, UsageError, require
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
        self.begin_generation(0, pool=None, synthetic_ratio=0.0, training=Training(passes=1), seed=seed)

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
        pool: Pool | None,
        synthetic_ratio: float,
        training: Training,
        seed: int,
        pairing: Pairing | None = None,
        start: int = 0,
    ) -> None:
        """Mix what ``generation`` trains on. The next ``train_dataloader()`` serves it, from batch ``start`` on,
        paired with noise by ``pairing`` if there is one.

        Raises:
            RunError: the pool is empty.
        """
        if pool is not None and not len(pool):
            do = "have the stages keep more, or draw more samples with loop.samples"
            raise RunError(str(pool.path), found="no samples", expected="samples to train on", do=do)
        self._seed, self._generation, self._start = seed, generation, start
        self._pairing = pairing
        self.items, self.real_items, self.synthetic_items = mix(
            self.data.train,
            None if pool is None else pool.samples(),
            synthetic_ratio=synthetic_ratio,
            generator=generator_for(seed, "mixture", generation),
        )
        self.steps = training.optimizer_steps(len(self.items), self.batch_size)
        self._flips = training.horizontal_flips
        images = len(self.data.shape) == 3
        require(images or not self._flips, "horizontal_flips", True, "false: these are no images")

    def train_dataloader(self) -> MixtureLoader:
        trainer = self.trainer
        return MixtureLoader(
            Samples(self.items.x, self.items.condition),
            batch_size=self.batch_size,
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
