"""From clips, each with its vectors and captions, to ``RealData``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sc_loops.data.motions import Motions
from sc_loops.data.real import RealData
from sc_loops.errors import require
from sc_loops.samples import Samples

SIZE = 263
"""Numbers of a frame."""

# Turn rate, horizontal velocity, height, positions, rotations, velocities, contacts: HumanML3D divides all numbers of
# a block by the same deviation, so that within a block the large motions stay larger than the small ones.
BLOCKS = ((0, 1), (1, 3), (3, 4), (4, 67), (67, 193), (193, 259), (259, 263))


@dataclass(frozen=True, eq=False)
class Clip:
    """One motion.

    Attributes:
        name: as its file is called; unique.
        vectors: ``(T, 263)`` in HumanML3D's units, not normalised.
        captions: at least one, each of them true of the whole clip.
        action: its label, an index of the data's ``action_names``.
    """

    name: str
    vectors: Tensor
    captions: list[str]
    action: int | None = None


def motion_set(
    train: Sequence[Clip],
    test: Sequence[Clip],
    *,
    name: str,
    max_frames: int,
    mean: Tensor | None = None,
    std: Tensor | None = None,
    action_names: Sequence[str] = (),
    left_out: Sequence[str] = (),
) -> RealData:
    """The clips as ``(N, T, 263)``, normalised and padded with 0, with one table of captions for both parts.

    A clip is cut down to a multiple of 4 frames, since evaluators take four at a time, and T is the length of the
    longest clip that there is. The table holds ``train``'s clips first, then ``test``'s.

    Args:
        max_frames: no clip is longer.
        mean, std: ``(263,)``, by default ``statistics`` of ``train``.
        action_names: of the clips' labels; needed if they have any. Where a clip has none, none has.
        left_out: what of the source is not among the clips, and why.

    Raises:
        InvalidValue: a clip is shorter than 4 frames or longer than ``max_frames``, or has no caption.
    """
    clips = [*train, *test]
    lengths = [len(clip.vectors) // 4 * 4 for clip in clips]
    for clip, length in zip(clips, lengths, strict=True):
        require(4 <= length <= max_frames, clip.name, f"{len(clip.vectors)} frames", f"from 4 to {max_frames}")
        require(bool(clip.captions), clip.name, "no caption", "at least one")
    if mean is None or std is None:
        mean, std = statistics(clip.vectors for clip in train)
    labels = [clip.action for clip in clips if clip.action is not None]
    labelled = bool(labels) and len(labels) == len(clips)
    motions, rows = Motions.of_clips(
        [clip.name for clip in clips],
        [clip.captions for clip in clips],
        lengths,
        mean,
        std,
        labels if labelled else None,
        tuple(action_names) if labelled else (),
    )
    x = _padded(clips, lengths, motions)
    parts = (Samples(x[: len(train)], rows[: len(train)]), Samples(x[len(train) :], rows[len(train) :]))
    return RealData(*parts, "motions", name=name, motions=motions, left_out=tuple(left_out))


def _padded(clips: Sequence[Clip], lengths: Sequence[int], motions: Motions) -> Tensor:
    """``(N, T, 263)`` float32: the clips' x, then 0."""
    x = torch.zeros(len(clips), max(lengths, default=0), SIZE)
    for row, clip, length in zip(x, clips, lengths, strict=True):
        row[:length] = motions.normalised(clip.vectors[:length].float())
    return x


def statistics(vectors: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """``(263,)`` float32 mean and deviation over all frames of clips ``(T, 263)``; within each block the deviation is
    the mean of that of its numbers, as HumanML3D has it. A block that never changes has 1."""
    total, squares, frames = torch.zeros(SIZE).double(), torch.zeros(SIZE).double(), 0
    for clip in vectors:
        exact = clip.double()
        total += exact.sum(0)
        squares += (exact**2).sum(0)
        frames += len(clip)
    require(frames > 0, "clips", "no frames", "at least one clip to take the mean of")
    mean = total / frames
    # Rounding leaves about 1e-15 of the squares of a number that never changes.
    variance = (squares / frames - mean**2).clamp(min=0)
    deviation = variance.where(variance > 1e-12 * squares / frames, 0).sqrt()
    for start, stop in BLOCKS:
        of_block = deviation[start:stop].mean()
        deviation[start:stop] = of_block if of_block > 0 else 1.0
    return mean.float(), deviation.float()


def left_out_lines(names: Mapping[str, Sequence[str]], shown: int = 3) -> list[str]:
    """A line for each reason, with how many clips it concerns and the first ones: "missing: 2 clips (a, b)"."""
    lines = []
    for reason, clips in names.items():
        first = ", ".join([*clips[:shown], *(["..."] if len(clips) > shown else [])])
        lines.append(f"{reason}: {len(clips)} {'clip' if len(clips) == 1 else 'clips'} ({first})")
    return lines
