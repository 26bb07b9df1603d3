"""``Samples``: what travels between data, models, stages and the disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sc_loops.data.pixels import as_float

Pairing = Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]]
"""Of the float items ``(N, *shape)`` of a batch and a generator, both on the CPU: noise ``(N, *shape)``, and ``(N,)``
the position of the item that goes with each."""

# What a metric keeps of a chunk: small tensors by name.
Observation = dict[str, Tensor]


@dataclass(frozen=True)
class Samples:
    """N samples and what is known of each.

    Attributes:
        x: ``(N, *shape)`` float32. Points are in the units of their data set; images are ``(N, C, H, W)``
            in [-1, 1]. Where samples are only kept, in memory or on disk, images may be uint8 pixels 0..255.
        condition: ``(N,)`` int64 class labels that ``x`` was sampled under (or, for real data, carries), or
            None.
        columns: further values by name, each ``(N, ...)``. The loop sets ``index`` (int64, the number of the
            raw sample within its generation) and, when there is a reward, ``reward`` (float32). A stage that
            changes ``x`` drops the columns that no longer hold.
    """

    x: Tensor
    condition: Tensor | None = None
    columns: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        beside = {"condition": self.condition, **self.columns}
        lengths = {name: len(value) for name, value in beside.items() if value is not None}
        if any(length != len(self.x) for length in lengths.values()):
            raise ValueError(f"{len(self.x)} samples with {lengths}: all must have the same length")

    def __len__(self) -> int:
        return self.x.shape[0]

    def __getitem__(self, index: Tensor | slice) -> Samples:
        """The samples at ``index`` (positions, a mask or a slice), with their condition and columns."""
        condition = None if self.condition is None else self.condition[index]
        return Samples(self.x[index], condition, {k: v[index] for k, v in self.columns.items()})

    def with_columns(self, **columns: Tensor) -> Samples:
        """The same samples with ``columns`` added or replaced."""
        return replace(self, columns={**self.columns, **columns})

    def clone(self) -> Samples:
        """The same samples in memory of their own, for who may change them in place."""
        condition = None if self.condition is None else self.condition.clone()
        return Samples(self.x.clone(), condition, {k: v.clone() for k, v in self.columns.items()})

    def as_float(self) -> Samples:
        """The same samples with pixels as float32 in [-1, 1], which is how models, rewards and stages see them."""
        return replace(self, x=as_float(self.x))

    def to(self, device: torch.device | str) -> Samples:
        """The same samples on ``device``."""
        condition = None if self.condition is None else self.condition.to(device)
        return Samples(self.x.to(device), condition, {k: v.to(device) for k, v in self.columns.items()})

    def split(self, size: int) -> list[Samples]:
        """The samples in parts of ``size``, the last of what is left."""
        return [self[start : start + size] for start in range(0, len(self), size)]

    @staticmethod
    def concatenate(parts: Sequence[Samples]) -> Samples:
        """The samples of all ``parts``, in order; of one part, that part itself. All have a condition or none has;
        all have the same columns."""
        first = parts[0]
        if len(parts) == 1:
            return first
        condition = None if first.condition is None else torch.cat([p.condition for p in parts])  # type: ignore[misc]
        columns = {name: torch.cat([p.columns[name] for p in parts]) for name in first.columns}
        return Samples(torch.cat([p.x for p in parts]), condition, columns)
