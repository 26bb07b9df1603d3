"""``Motions``: what a data set of human motions knows beside the vectors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Motions:
    """Captions, lengths and units of motions, whose vectors are ``(N, T, 263)`` in ``RealData``, padded with 0.

    A motion's ``condition`` is a row of the table of captions: real ones have that of the first caption of their
    clip. A caption belongs to one clip, so the row tells the length too, also of a synthetic motion, which is as long
    as the clip whose caption it was sampled under.

    Attributes:
        captions: M of them, those of one clip beside one another.
        first: ``(M,)`` int64, for each caption the row of the first one of its clip.
        count: ``(M,)`` int64, how many captions its clip has.
        lengths: ``(M,)`` int64, frames of its clip, at most T.
        names: M names of the clip, as its file is called.
        mean, std: ``(263,)`` float32: x = (vector - mean) / std.
        actions: ``(M,)`` int64 action labels, or None where the data has none.
        action_names: of the labels.
    """

    captions: tuple[str, ...]
    first: Tensor
    count: Tensor
    lengths: Tensor
    names: tuple[str, ...]
    mean: Tensor
    std: Tensor
    actions: Tensor | None = None
    action_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.captions)

    def normalised(self, vectors: Tensor) -> Tensor:
        """x of ``vectors (..., 263)``."""
        return (vectors - self.mean.to(vectors)) / self.std.to(vectors)

    def vectors(self, x: Tensor) -> Tensor:
        """The vectors, in their own units, of x ``(..., 263)``."""
        return x * self.std.to(x) + self.mean.to(x)

    def lengths_of(self, condition: Tensor) -> Tensor:
        """``(N,)``: frames of the motions of rows ``condition (N,)``, on its device."""
        return self.lengths.to(condition.device)[condition]

    def mask(self, condition: Tensor, frames: int) -> Tensor:
        """``(N, frames)`` bool: which frames of motions of rows ``condition`` are there and no padding."""
        return torch.arange(frames, device=condition.device) < self.lengths_of(condition)[:, None]

    def another_caption(self, condition: Tensor) -> Tensor:
        """``(N,)``: rows of captions of the same clips, each as likely, drawn from torch's global generator."""
        first, count = (t.to(condition.device)[condition] for t in (self.first, self.count))
        return first + (torch.rand(len(condition), device=condition.device) * count).long().clamp(max=count - 1)

    @staticmethod
    def of_clips(
        names: list[str],
        captions: list[list[str]],
        lengths: list[int],
        mean: Tensor,
        std: Tensor,
        actions: list[int] | None = None,
        action_names: tuple[str, ...] = (),
    ) -> tuple[Motions, Tensor]:
        """The table of clips that each have at least one caption, and ``(clips,)`` the row of each clip's first."""
        count = torch.tensor([len(own) for own in captions])
        rows = count.cumsum(0) - count
        spread = torch.arange(len(names)).repeat_interleave(count)
        table = Motions(
            captions=tuple(caption for own in captions for caption in own),
            first=rows[spread],
            count=count[spread],
            lengths=torch.tensor(lengths)[spread],
            names=tuple(names[i] for i in spread.tolist()),
            mean=mean.float(),
            std=std.float(),
            actions=None if actions is None else torch.tensor(actions)[spread],
            action_names=action_names,
        )
        return table, rows
