"""What a generation trains on: real and synthetic samples in the ratio λ, in an order that is a pure function.

Bertrand et al. 2024 (arXiv 2310.00429) weight real data by 1/(1+λ) and synthetic data by λ/(1+λ). Here these are
exact counts, of which a pass over n real items holds n + floor(λ n), or the weights of the items' losses.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor

from sc_loops.data.pixels import as_float
from sc_loops.errors import require
from sc_loops.randomness import generator_for
from sc_loops.samples import Pairing, Samples

Mixing = Literal["count", "weight"]


@dataclass(frozen=True, kw_only=True)
class Training:
    """How one generation is trained. Exactly one of ``steps`` and ``passes`` is given.

    Args:
        steps: optimizer steps.
        passes: passes over the mixture of real and synthetic items (may be fractional).
        learning_rate: of this generation; by default the model's own.
        warmup_steps: of this generation; by default the model's own.
        decay: have the learning rate fall linearly over the generation, to 0 at its end.
        ema_decay: of this generation; by default the model's own. One whose memory is much longer than the generation
            keeps what is sampled near the generation before.
        horizontal_flips: mirror each image left to right with probability 1/2.
    """

    steps: int | None = None
    passes: float | None = None
    learning_rate: float | None = None
    warmup_steps: int | None = None
    decay: bool = False
    ema_decay: float | None = None
    horizontal_flips: bool = False

    def __post_init__(self) -> None:
        given = f"steps={self.steps}, passes={self.passes}"
        one = (self.steps is None) != (self.passes is None)
        require(one, "steps", given, "one of steps (optimizer steps) and passes (over the mixture)")
        possible = self.steps is None or 0 < self.steps <= 10**12
        require(possible, "steps", self.steps, "an integer > 0, at most 10^12")
        possible = self.passes is None or 0 < self.passes <= 10**9
        require(possible, "passes", self.passes, "a number > 0, at most 10^9")
        rate = self.learning_rate
        require(rate is None or 0 < rate < math.inf, "learning_rate", rate, "a number > 0")
        warmup = self.warmup_steps
        require(warmup is None or warmup >= 0, "warmup_steps", warmup, "an integer >= 0")
        decay = self.ema_decay
        require(decay is None or 0 <= decay < 1, "ema_decay", decay, "a number in [0, 1)")

    def optimizer_steps(self, items: int, batch_size: int) -> int:
        """The number of steps for a mixture of ``items``."""
        if self.steps is not None:
            return self.steps
        assert self.passes is not None
        return math.ceil(self.passes * items / batch_size)


def synthetic_count(real: int, synthetic_ratio: float) -> int:
    """floor(λ n) for a finite λ, exactly as λ is written in decimal (0.29 of 100 is 29)."""
    return math.floor(Fraction(str(synthetic_ratio)) * real)


@dataclass(frozen=True, eq=False)
class Mixture:
    """What one generation trains on.

    Attributes:
        parts: the real items, if there are any, and then synthetic ones, in one part or more.
        real_items, synthetic_items: how many there are of each.
    """

    parts: list[Samples]
    real_items: int
    synthetic_items: int

    def __len__(self) -> int:
        return self.real_items + self.synthetic_items

    @property
    def items(self) -> Samples:
        """Those of all parts, in order."""
        return Samples.concatenate(self.parts)

    def in_one_part(self) -> Mixture:
        """The same, with all items in one place."""
        return Mixture([self.items], self.real_items, self.synthetic_items)


def mix(
    real: Samples,
    pools: Sequence[Samples] = (),
    *,
    synthetic_ratio: float,
    whole_pool: bool = False,
    mixing: Mixing = "count",
    generator: torch.Generator,
) -> Mixture:
    """The mixture of one generation.

    λ = 0 (or no pools) is the real items alone, λ = inf the pools alone. For a finite λ the floor(λ n) synthetic
    items are drawn from the pools without replacement; fewer are repeated evenly. With ``whole_pool`` they are
    taken as they are, which is for memories that grow. So it is with the mixing ``weight``, where items have a column
    ``weight``: see ``loss_weights``.
    """
    if not pools or synthetic_ratio == 0:
        return Mixture([real], len(real), 0)
    synthetic = sum(map(len, pools))
    if synthetic_ratio == math.inf:
        return Mixture(list(pools), 0, synthetic)
    kinds = {pool.x.dtype for pool in pools}
    require(kinds == {real.x.dtype}, "data", f"{real.x.dtype}, with pools of {kinds}", "one type of both")
    if not (whole_pool or mixing == "weight"):
        synthetic, there = synthetic_count(len(real), synthetic_ratio), synthetic
        pools = [Samples.concatenate(pools)[_drawn(there, synthetic, generator)]]
    conditioned = all(s.condition is not None for s in (real, *pools))
    parts = [Samples(s.x, s.condition if conditioned else None) for s in (real, *pools)]
    if mixing == "weight":
        weights = loss_weights(len(real), synthetic, synthetic_ratio).split([len(part) for part in parts])
        parts = [part.with_columns(weight=weight) for part, weight in zip(parts, weights, strict=True)]
    return Mixture(parts, len(real), synthetic)


def loss_weights(real: int, synthetic: int, synthetic_ratio: float) -> Tensor:
    """``(real + synthetic,)`` the weight of each item's loss, real items first.

    Real items weigh 1/(1+λ) in all and synthetic ones λ/(1+λ) (Bertrand et al. 2024, arXiv 2310.00429), here over
    their share of the items, so that the mean weight is 1.

    Args:
        real, synthetic: numbers of items, > 0.
        synthetic_ratio: λ in (0, inf).
    """
    items, each = real + synthetic, 1 / (1 + synthetic_ratio)
    weights = torch.tensor([each * items / real, (1 - each) * items / synthetic])
    return weights.repeat_interleave(torch.tensor([real, synthetic]))


def _drawn(n: int, count: int, generator: torch.Generator) -> Tensor:
    """``count`` of the positions below ``n``, each as often as every other or once more."""
    copies, rest = divmod(count, n)
    order = torch.randperm(n, generator=generator)
    return torch.cat([order.repeat(copies), order[:rest]])


class _Loader(ABC):
    """What a trainer iterates over. It warns of loaders that cannot be resumed unless they have a state; these need
    none, since the loop's own says how many steps were done, and its data module starts the loader there."""

    def state_dict(self) -> dict[str, int]:
        return {}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:  # noqa: B027 (nothing to load)
        pass

    @abstractmethod
    def __len__(self) -> int:
        """The number of batches."""


class AllAtOnce(_Loader):
    """One batch, of all items: the parts of ``mixture``, as they are.

    Args:
        mixture: what is trained on.
        start: 1 leaves the batch out, since it was trained on before an interruption.
    """

    def __init__(self, mixture: Mixture, start: int = 0) -> None:
        self._batches = [mixture.parts][start:]

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[list[Samples]]:
        return iter(self._batches)


class MixtureLoader(_Loader):
    """Batches of one generation, taken from tensors by index. Any number of iterations gives the same batches.

    The items' order is a fresh permutation for every pass, a pure function of (seed, generation, pass). The
    permutations follow one another without a gap: a batch may span two passes, and the last batch is filled up
    from a pass that is not completed. So every batch is full, and every item of a complete pass is seen once.

    The items are brought to ``device`` once, as they are, and batches are gathered there.

    Args:
        items: the mixture; its columns come along.
        batch_size: items of one optimizer step over all ranks; a multiple of ``world_size``.
        steps: number of batches.
        flips: mirror each image with probability 1/2, a function of (seed, generation, step).
        pairing: pairs the whole batch with noise, which comes as the column ``noise``. It works in a thread, on the
            next batch while this one is trained on. Ranks share the pairing of a batch as they share its items.
        rank, world_size: this process takes every ``world_size``-th item of a batch, from ``rank`` on.
        device: where batches are wanted.
        start: the batches before this one are left out, since they were trained on before an interruption.
    """

    def __init__(
        self,
        items: Samples,
        *,
        batch_size: int,
        steps: int,
        seed: int,
        generation: int,
        flips: bool = False,
        pairing: Pairing | None = None,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
        start: int = 0,
    ) -> None:
        require(
            batch_size % world_size == 0,
            "batch_size",
            batch_size,
            f"a multiple of the {world_size} processes, which share each batch evenly",
        )
        self.items, self.steps, self.batch_size = items, steps, batch_size
        self._seed, self._generation = seed, generation
        self._flips, self._pairing = flips, pairing
        self._rank, self._world_size, self._start = rank, world_size, start
        self._device, self._on_device = device, items.to(device)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Samples]:
        numbered = itertools.islice(enumerate(self._batches()), self._start, None)
        batches = (self._batch(step, index) for step, index in numbered)
        return batches if self._pairing is None else one_ahead(batches)

    def _batches(self) -> Iterator[Tensor]:
        """The positions of each global batch, ``(batch_size,)``."""
        ahead, passes = torch.empty(0, dtype=torch.int64), 0
        for _ in range(self.steps):
            while len(ahead) < self.batch_size:
                generator = generator_for(self._seed, "order", self._generation, passes)
                ahead = torch.cat([ahead, torch.randperm(len(self.items), generator=generator)])
                passes += 1
            yield ahead[: self.batch_size]
            ahead = ahead[self.batch_size :]

    def _batch(self, step: int, index: Tensor) -> Samples:
        """This rank's part of the batch of the items at ``index``."""
        mirrored = torch.zeros(len(index), dtype=torch.bool)
        if self._flips:
            mirrored = torch.rand(len(index), generator=self._generator("flips", step)) < 0.5
        noise = None
        if self._pairing is not None:
            x = as_float(self._gathered(self.items, index, mirrored).x)
            noise, order = self._pairing(x, self._generator("pairing", step))
            index, mirrored = index[order], mirrored[order]
        mine = slice(self._rank, None, self._world_size)
        batch = self._gathered(self._on_device, self._sent(index[mine]), mirrored[mine])
        return batch if noise is None else batch.with_columns(noise=self._sent(noise[mine]))

    def _gathered(self, items: Samples, index: Tensor, mirrored: Tensor) -> Samples:
        # index_select and index_copy_ take a tenth of the time of x[index] and torch.where on pixels.
        x = items.x.index_select(0, index)
        condition = None if items.condition is None else items.condition.index_select(0, index)
        if self._flips:
            rows = mirrored.nonzero()[:, 0]
            rows = self._sent(rows) if items is self._on_device else rows
            x.index_copy_(0, rows, x.index_select(0, rows).flip(-1))
        return Samples(x, condition, {k: v.index_select(0, index) for k, v in items.columns.items()})

    def _sent(self, x: Tensor) -> Tensor:
        """``x`` on the device; a GPU fetches it without anybody waiting."""
        on_gpu = torch.device(self._device).type == "cuda"
        return x.pin_memory().to(self._device, non_blocking=True) if on_gpu else x.to(self._device)

    def _generator(self, purpose: str, step: int) -> torch.Generator:
        return generator_for(self._seed, purpose, self._generation, step)


def one_ahead(batches: Iterator[Samples]) -> Iterator[Samples]:
    """``batches``, each made in a thread while the one before it is used. Ending early waits for
    the one in the making."""
    with ThreadPoolExecutor(1, "batches") as thread:
        coming = thread.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = thread.submit(next, batches, None)
            yield batch
