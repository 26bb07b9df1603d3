"""``RealData``: what a data set is to the rest of the project."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from sc_loops.data.motions import Motions
from sc_loops.errors import require
from sc_loops.samples import Samples

RealPolicy = Literal["fixed", "fresh"]


@dataclass(frozen=True)
class RealData:
    """Real samples in memory, split into a part to train on and a held-out part to compare with.

    Attributes:
        train: the n samples that generations train on.
        test: held-out samples; evaluation compares with these and nothing is ever fitted to them.
        kind: ``points`` (N, d) in the data set's own units, ``images`` (N, C, H, W), float32 in [-1, 1] or
            uint8 pixels; synthetic images are then kept as pixels too; or ``motions`` (N, T, 263), see ``Motions``.
            Decides which metrics and pictures are the default.
        class_names: names of the classes 0..C-1 that ``condition`` holds; empty for unlabelled data.
        name: what the data set is called in reports.
        motions: captions, lengths and units of motions, whose ``condition`` is a row of that table.
        left_out: what of the source is not among the samples, and why, a line for each kind of reason.
        fresh: the training set of a generation t >= 0, a pure function of t: as many samples as ``train``, which is
            that of t = 0, and none of them in another generation's. None where there is but one training set.
        rows: how many real samples ``fresh`` has to take disjoint training sets from; None where it draws anew
            without end.
    """

    train: Samples
    test: Samples
    kind: Literal["points", "images", "motions"]
    class_names: tuple[str, ...] = ()
    name: str = "data"
    motions: Motions | None = None
    left_out: tuple[str, ...] = ()
    fresh: Callable[[int], Samples] | None = None
    rows: int | None = None

    def __post_init__(self) -> None:
        require(len(self.train) > 0, "train", len(self.train), "at least one real sample to train on")
        require(len(self.test) > 0, "test", len(self.test), "at least one held-out real sample")
        for part, samples in (("train", self.train), ("test", self.test)):
            bad = sum(int((~torch.isfinite(piece)).sum()) for piece in samples.x.split(1024))  # bounds the memory
            require(not bad, part, f"{bad} values that are NaN or infinite", "finite values")
        types = {samples.x.dtype for samples in (self.train, self.test)}
        described = (self.kind == "motions") == (self.motions is not None)
        require(described, "motions", self.motions, "the table of captions for motions, and for nothing else")
        known = types in ({torch.float32}, {torch.uint8} if self.kind == "images" else {torch.float32})
        require(known, "train", f"{self.kind} of {', '.join(map(str, types))}", "float32, or for images uint8")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(self.train.x.shape[1:])

    @property
    def num_classes(self) -> int:
        """The number of values that ``condition`` takes, 0 for unlabelled data."""
        return len(self.class_names) if self.motions is None else len(self.motions)
