"""Handwritten digits that need no download."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sc_loops.data.real import RealData
from sc_loops.errors import require
from sc_loops.randomness import seed_for
from sc_loops.samples import Samples


def digits(*, test_fraction: float = 0.2, train_size: int | None = None, seed: int = 0) -> RealData:
    """scikit-learn's 1,797 digits of 8 x 8 pixels: ``(N, 1, 8, 8)`` in [-1, 1], classes "0" to "9".

    The original pixels count 0 to 16; here x = pixel / 8 - 1, so background is -1.

    Args:
        test_fraction: the held-out part, with the same share of each class. At least 0.01, so that every
            digit is in both parts.
        train_size: keep the first so many training images, whose order is random; all by default. With
            ``loop.real=fresh`` generation t has those from ``t train_size`` on.
        seed: of the split; the same in all runs that are to be compared.
    """
    require(0.01 <= test_fraction <= 0.99, "test_fraction", test_fraction, "a number from 0.01 to 0.99")
    pixels, labels = load_digits(return_X_y=True)
    train, test = train_test_split(
        range(len(labels)),
        test_size=test_fraction,
        stratify=labels,
        random_state=seed_for(seed, "digits") % 2**32,
    )
    x = (torch.from_numpy(pixels).float() / 8 - 1).reshape(-1, 1, 8, 8)
    samples = Samples(x, torch.from_numpy(labels).long())
    most = len(train)
    possible = train_size is None or 1 <= train_size <= most
    require(possible, "train_size", train_size, f"an integer from 1 to {most}")
    size, order = train_size or most, torch.tensor(train)

    def fresh(generation: int) -> Samples:
        return samples[order[generation * size : (generation + 1) * size]]

    names, held_out = tuple(str(digit) for digit in range(10)), samples[torch.tensor(test)]
    return RealData(fresh(0), held_out, "images", names, "digits", fresh=fresh, rows=most)
