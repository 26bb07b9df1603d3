"""``RealData``: what a data set is to the rest of the project."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from sc_loops.data.motions import Motions
from sc_loops.errors import InvalidValue
from sc_loops.samples import Samples

RealPolicy = Literal["fixed", "fresh"]
Kind = Literal["points", "images", "motions"]

SHAPES: dict[str, str] = {"points": "(N, d)", "images": "(N, C, H, W)", "motions": "(N, T, 263)"}
OVERSHOOT = 1.25  # |x| of float images that were rounded, or interpolated past an edge; as pixels they are clipped


@dataclass(frozen=True)
class RealData:
    """Real samples in memory, split into a part to train on and a held-out part to compare with.

    Both parts have samples of one shape and type, all finite, and both have conditions or neither has. A data set is
    held against all that is said here when it is made, in one pass over floats and none over pixels.

    Attributes:
        train: the n >= 1 samples that generations train on.
        test: held-out samples, at least one; evaluation compares with these and nothing is ever fitted to them.
        kind: ``points`` (N, d) float32 in the data set's own units; ``images`` (N, C, H, W), float32 in [-1, 1], of
            which up to 1.25 is taken as a rounding or an interpolation, or uint8 pixels 0..255; synthetic images are
            then kept as pixels too; or ``motions`` (N, T, 263) float32, see ``Motions``. Decides which metrics and
            pictures are the default.
        class_names: names of the classes 0..C-1 that ``condition``, (N,) int64, holds; empty for unlabelled data.
        name: what the data set is called in reports.
        motions: captions, lengths and units of motions, whose ``condition`` is a row of that table.
        left_out: what of the source is not among the samples, and why, a line for each kind of reason.
        fresh: the training set of a generation t >= 0, a pure function of t: as many samples as ``train``, which is
            that of t = 0, and none of them in another generation's. None where there is but one training set.
        rows: how many real samples ``fresh`` has to take disjoint training sets from; None where it draws anew
            without end.

    Raises:
        InvalidValue: it is not so.
    """

    train: Samples
    test: Samples
    kind: Kind
    class_names: tuple[str, ...] = ()
    name: str = "data"
    motions: Motions | None = None
    left_out: tuple[str, ...] = ()
    fresh: Callable[[int], Samples] | None = None
    rows: int | None = None

    def __post_init__(self) -> None:
        self._require(self.kind in SHAPES, "kind", f"{self.kind!r}", f"one of {', '.join(get_args(Kind))}")
        described = (self.kind == "motions") == (self.motions is not None)
        table = "a table of captions" if self.motions is not None else "no table of captions"
        self._require(described, "motions", table, "the table of captions for motions, and for nothing else")
        for part, samples in (("train", self.train), ("test", self.test)):
            given = f"a {type(samples).__name__}"
            self._require(isinstance(samples, Samples), part, given, "Samples(x), or with labels Samples(x, labels)")
            self._check_type(part, samples)
            self._check_shape(part, samples)
            self._check_values(part, samples)
            self._check_conditions(part, samples)
        held_out, trained_on = (
            f"{samples.x.dtype} of shape ({', '.join(map(str, ('N', *samples.x.shape[1:])))})"
            for samples in (self.test, self.train)
        )
        found = f"{held_out}, beside {trained_on} to train on"
        self._require(held_out == trained_on, "test", found, "held-out samples of the type and shape of the others")
        labelled = self.train.condition is not None
        found = "labels to train on and none held out" if labelled else "held-out labels and none to train on"
        same = labelled == (self.test.condition is not None)
        self._require(same, "test", found, "labels of both parts, or of neither")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(self.train.x.shape[1:])

    @property
    def num_classes(self) -> int:
        """The number of values that ``condition`` takes, 0 for unlabelled data."""
        return len(self.class_names) if self.motions is None else len(self.motions)

    def _require(self, condition: bool, attribute: str, found: str, expected: str, do: str = "") -> None:
        if not condition:
            raise InvalidValue(attribute, found=f"{found}, in the data set '{self.name}'", expected=expected, do=do)

    def _check_type(self, part: str, samples: Samples) -> None:
        known = samples.x.dtype == torch.float32 or (self.kind == "images" and samples.x.dtype == torch.uint8)
        expected = "float32 in [-1, 1], or uint8 pixels" if self.kind == "images" else "float32"
        self._require(known, part, f"{self.kind} of {samples.x.dtype}", expected, "x.float() makes float32")

    def _check_shape(self, part: str, samples: Samples) -> None:
        shape = tuple(samples.x.shape)
        found, expected = f"{self.kind} of shape {shape}", f"shape {SHAPES[self.kind]}"
        self._require(len(shape) == expected.count(",") + 1, part, found, expected)
        self._require(shape[0] > 0, part, found, "at least one sample")
        self._require(min(shape) > 0, part, found, "samples that hold numbers")
        self._require(self.kind != "motions" or shape[2] == 263, part, found, expected)
        # Nobody has images of many channels, high and 1, 3 or 4 pixels wide.
        last = self.kind == "images" and shape[3] in (1, 3, 4) and min(shape[1:3]) > 4
        self._require(not last, part, found, f"{expected}, the channels first", "x.permute(0, 3, 1, 2)")

    def _check_values(self, part: str, samples: Samples) -> None:
        if samples.x.dtype == torch.uint8:
            return
        least, most = (float(value) for value in torch.aminmax(samples.x))  # nan where a value is
        if not abs(least) + abs(most) < torch.inf:
            bad = sum(int((~piece.isfinite()).sum()) for piece in samples.x.split(1024))  # bounds the memory
            self._require(False, part, f"{bad} values that are NaN or infinite", "finite values", "leave them out")
        fits = self.kind != "images" or max(-least, most) <= OVERSHOOT
        do = "x / 127.5 - 1 for pixels 0..255, x * 2 - 1 for [0, 1]; or give pixels as uint8"
        self._require(fits, part, f"images in [{least:.4g}, {most:.4g}]", "images in [-1, 1]", do)

    def _check_conditions(self, part: str, samples: Samples) -> None:
        labels, most = samples.condition, self.num_classes - 1
        if labels is None:
            return
        given = f"labels of {labels.dtype} and shape {tuple(labels.shape)}"
        whole = labels.dtype == torch.int64 and labels.dim() == 1
        self._require(whole, part, given, "labels (N,) of int64", "labels.long() makes int64")
        low, high = (int(value) for value in torch.aminmax(labels))
        names = "names in class_names" if self.motions is None else "rows in the table of captions"
        found = f"labels from {low} to {high}, with {most + 1} {names}"
        expected = f"labels from 0 to {most}, the numbers of these" if most >= 0 else "a name for every class"
        do = "give class_names=(...) a name for every class, or leave the labels out" if self.motions is None else ""
        self._require(low >= 0 and high <= most, part, found, expected, do)
