"""How well motions fit their captions, and how varied they are: the numbers of the T2M protocol (Guo et al. 2022,
"Generating Diverse and Natural 3D Human Motions from Text", section 5) from embeddings."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

BATCH = 32  # captions that one retrieval chooses among
RANKS = (1, 2, 3)
PAIRS = 300  # of motions, for the diversity
PAIRS_OF_A_CAPTION = 10  # for the multimodality


def matching_score(motions: Tensor, texts: Tensor) -> float:
    """The mean Euclidean distance between the embeddings ``(N, d)`` of motions and of their captions."""
    return float((motions.double() - texts.double()).norm(dim=1).mean()) if len(motions) else math.nan


def r_precision(
    motions: Tensor, texts: Tensor, captions: Sequence[object] | None = None
) -> tuple[float, float, float]:
    """The shares of captions that have their own motion among the nearest 1, 2 and 3 of 32.

    As in the authors' code it is a caption that looks among the motions of its batch. The samples are dealt to
    batches of exactly 32 in a fixed random order; those that are left over, at most 31, are not looked at. With fewer
    than 32 samples all shares are nan.

    Args:
        motions, texts: ``(N, d)``, embeddings of motions and of the captions they were sampled under.
        captions: N of them; a motion whose caption is equal counts as one's own. None, as published: only the one
            motion does, so that captions that occur twice in a batch can only guess which of their motions is meant.
    """
    if len(motions) < BATCH:
        return math.nan, math.nan, math.nan
    order = _order(len(motions)).to(motions.device)
    names = torch.arange(len(motions)) if captions is None else _numbered(captions)
    found = [_hits(motions[part], texts[part], names.to(part.device)[part]) for part in _batches(order)]
    first, second, third = torch.cat(found).double().mean(dim=0).tolist()
    return first, second, third


def _hits(motions: Tensor, texts: Tensor, names: Tensor) -> Tensor:
    """``(B, 3)`` bool: whether a motion of the same name is among the nearest 1, 2, 3 of each of ``texts (B, d)``."""
    distances = torch.cdist(texts.double(), motions.double(), compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distances.argsort(dim=1, stable=True)[:, : RANKS[-1]]
    return (names[nearest] == names[:, None]).cummax(dim=1).values


def _batches(order: Tensor) -> list[Tensor]:
    return list(order[: len(order) // BATCH * BATCH].split(BATCH))


def diversity(motions: Tensor) -> float:
    """The mean Euclidean distance of 300 random pairs of embeddings ``(N, d)``, or of N/2 where these are fewer.

    No motion is in two pairs. (In the authors' code the two sides are drawn apart from one another, so that a few
    motions are paired with themselves.) The pairs are the same for equally many motions. nan for fewer than two.
    """
    return _mean_of_pairs(motions, PAIRS) if len(motions) > 1 else math.nan


def multimodality(motions: Tensor, captions: Sequence[object]) -> tuple[float, float, int]:
    """The mean Euclidean distance between motions of one caption: how much is left to chance.

    For each caption with at least two motions up to ten pairs, no motion in two of them; the mean over captions of
    the mean over pairs.

    Args:
        motions: ``(N, d)``, embeddings.
        captions: N of them; motions of equal ones are paired.

    Returns:
        The mean (nan where no caption has two motions), its standard error over captions (nan for fewer than two of
        them), and their number.
    """
    groups: dict[object, list[int]] = {}
    for position, caption in enumerate(captions):
        groups.setdefault(caption, []).append(position)
    several = [own for own in groups.values() if len(own) > 1]
    means = torch.tensor([_mean_of_pairs(motions[own], PAIRS_OF_A_CAPTION) for own in several], dtype=torch.float64)
    if len(means) == 0:
        return math.nan, math.nan, 0
    error = float(means.std()) / math.sqrt(len(means)) if len(means) > 1 else math.nan
    return float(means.mean()), error, len(means)


def _mean_of_pairs(motions: Tensor, most: int) -> float:
    """The mean distance of at most ``most`` disjoint pairs of ``motions (n, d)``, n >= 2."""
    pairs = min(most, len(motions) // 2)
    order = _order(len(motions)).to(motions.device)
    one, other = motions[order[:pairs]].double(), motions[order[pairs : 2 * pairs]].double()
    return float((one - other).norm(dim=1).mean())


def _order(n: int) -> Tensor:
    """A random order of n things, always the same."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(0))


def _numbered(captions: Sequence[object]) -> Tensor:
    """``(N,)``: a number for each caption, the same for equal ones."""
    numbers: dict[object, int] = {}
    return torch.tensor([numbers.setdefault(caption, len(numbers)) for caption in captions])
