"""The networks of a small motion-text evaluator: motions and captions as points of one unit sphere."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = 259  # of the 263 numbers of a frame; the four contacts follow from the others
PATCH = 4  # frames that are looked at together
UNKNOWN = 1  # the word that stands for all that are not known; 0 is padding


class Residual(nn.Module):
    """x + convolutions of x over time, with what is beyond an item's end held at 0."""

    def __init__(self, width: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """``(N, T, width)`` of ``x`` and ``present (N, T, 1)``, 1 where there is something and else 0."""
        mixed = self.mix((self.norm(x) * present).mT).mT
        return x + self.dropout(self.out(F.gelu(mixed)))


class Sequencer(nn.Module):
    """Sequences ``(N, T, width)`` to points ``(N, features)`` of the unit sphere: three residual blocks that see 15
    items, and the mean and the maximum over time."""

    def __init__(self, width: int, features: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Residual(width, dilation, dropout) for dilation in (1, 2, 4))
        self.head = nn.Sequential(
            nn.LayerNorm(2 * width), nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, features)
        )

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """Of ``x (N, T, width)`` and ``present (N, T)`` bool, with at least one item present in each."""
        there = present[..., None].to(x)
        for block in self.blocks:
            x = block(x, there)
        mean = (x * there).sum(dim=1) / there.sum(dim=1)
        highest = x.masked_fill(~present[..., None], -torch.inf).amax(dim=1)
        return F.normalize(self.head(torch.cat([mean, highest], dim=1)), dim=1)


class MotionTextNetwork(nn.Module):
    """Motions and captions to points of one unit sphere, near one another where they belong together.

    Args:
        words: how many words are known, with padding and unknown ones.
        width: of the layers.
        features: numbers of a point.
        dropout: in the residual blocks.
    """

    def __init__(self, words: int, *, width: int, features: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.width, self.features = width, features
        self.patches = nn.Linear(PATCH * CHANNELS, width)
        self.motion = Sequencer(width, features, dropout)
        self.words = nn.Embedding(words, width, padding_idx=0)
        self.text = Sequencer(width, features, dropout)

    def motions(self, z: Tensor, lengths: Tensor) -> Tensor:
        """``(N, features)`` of normalised motions ``z (N, T, 263)`` of ``lengths (N,)`` frames, each at least 1."""
        frames = -(-z.shape[1] // PATCH) * PATCH
        here = torch.arange(frames, device=z.device) < lengths[:, None]
        z = F.pad(z[..., :CHANNELS], (0, 0, 0, frames - z.shape[1])) * here[..., None]
        return self.motion(self.patches(z.reshape(len(z), -1, PATCH * CHANNELS)), here[:, ::PATCH])

    def texts(self, words: Tensor) -> Tensor:
        """``(N, features)`` of captions as ``words (N, L)`` int64, padded with 0 and of at least one word each."""
        return self.text(self.words(words), words > 0)


def words_of(caption: str) -> list[str]:
    """The words of a caption, in lower case."""
    return re.findall(r"[a-z0-9']+", caption.lower())


class Vocabulary:
    """Numbers of the words that occur in some captions.

    Args:
        words: they, in the order of their numbers.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self._numbers = {word: number for number, word in enumerate(words, start=UNKNOWN + 1)}

    @staticmethod
    def of(captions: Iterable[str]) -> Vocabulary:
        return Vocabulary(sorted({word for caption in captions for word in words_of(caption)}))

    def __len__(self) -> int:
        """The words, with padding and the unknown ones."""
        return len(self.words) + UNKNOWN + 1

    def numbers(self, captions: Sequence[str]) -> Tensor:
        """``(N, L)`` int64, padded with 0; a caption without any word is one unknown word."""
        rows = [[self._numbers.get(word, UNKNOWN) for word in words_of(c)] or [UNKNOWN] for c in captions]
        longest = max(map(len, rows))
        return torch.tensor([row + [0] * (longest - len(row)) for row in rows])
