"""Which of a model's samples to fine-tune an auxiliary on, so that SIMS shifts the shares of the classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from sc_loops.errors import RunError
from sc_loops.run import Row
from sc_loops.samples import Samples


def composition(base: Tensor, wanted: Tensor, omega: float) -> tuple[Tensor, float]:
    """The shares a ``(C,)`` of the classes in D_s that give SIMS' samples the ``wanted`` shares w, for a base whose
    samples have the shares ``base`` b: a = b - (w - b) / ω, the opposite bias, 1/ω times as large.

    Derivation. At a noise level t the base's density is p = sum_k b_k p_k over the noised classes, and that of the
    auxiliary, trained on samples that are chosen by class alone, is q = sum_k a_k p_k. SIMS' prediction is that of
    the score of p^(1+ω) / q^ω = p (1 + (q - p) / p)^(-ω), which to first order in a - b is

        p - ω (q - p) = sum_k (b_k - ω (a_k - b_k)) p_k.

    So it is at every t: the sampler sees the scores of one distribution, in which the classes are as they were and
    have the shares b - ω (a - b). These are w for the a above, however the classes overlap. Two classes with exact
    scores moved by 0.2 as wanted, to 0.01, with ω from 1 to 16.

    Fine-tuning the base takes the auxiliary only part of the way from b to a, and the shift is about that part of the
    wanted one. No share can be negative: where a small ω would need that, D_s is made for as much of the shift as
    there can be. A class that the base never samples stays away, and the others share in what was wanted of it.

    Args:
        base: ``(C,)``, >= 0, adding up to 1.
        wanted: ``(C,)``, >= 0, adding up to 1.
        omega: ω > 0.

    Returns:
        a, and for which part of the shift in [0, 1] it is made.
    """
    present = torch.where(base > 0, wanted, 0.0)
    if not present.any():
        return base, 0.0
    shift = present / present.sum() - base
    most = torch.where(shift > 0, omega * base / shift, torch.inf).min()
    part = min(1.0, float(most))
    return (base - part * shift / omega).clamp(min=0), part


def counts(shares: Tensor, n: int) -> Tensor:
    """``(C,)`` int64 adding up to ``n``, each within 1 of n times its share: what rounding down leaves goes to the
    largest remainders."""
    exact = n * shares.double()
    whole = exact.floor().long()
    whole[(exact - whole).argsort(descending=True, stable=True)[: n - int(whole.sum())]] += 1
    return whole


def chosen(
    chunks: Iterator[Samples],
    classes: Callable[[Samples], Tensor],
    n: int,
    wanted: Tensor,
    omega: float,
) -> tuple[Samples, Row]:
    """``n`` of the samples that ``chunks`` gives, the first of each class, in the composition for ``wanted``; and
    what to record: ``improvement/base_share/<k>``, by the first n or a few more, ``improvement/chosen_share/<k>`` and
    ``improvement/shift``, the part that can be had of the wanted shift. No more chunks are made than are needed.

    Raises:
        RunError: ``chunks`` ends before there are enough of a class.
    """
    kept, labels = Samples(torch.empty(0)), torch.empty(0, dtype=torch.int64)
    base = needed = torch.zeros(len(wanted))
    for chunk in chunks:
        kept = Samples.concatenate([kept, chunk]) if len(kept) else chunk
        labels = torch.cat([labels, classes(chunk).cpu()])
        if len(kept) < n and not needed.any():
            continue
        if not needed.any():
            base = labels.bincount(minlength=len(wanted)).double() / len(labels)
            shares, part = composition(base, wanted.double(), omega)
            needed = counts(shares, n)
        # Of a class of which there is enough no more is kept.
        take = torch.cat([(labels == k).nonzero()[:m, 0] for k, m in enumerate(needed.tolist())]).sort().values
        kept, labels = kept[take], labels[take]
        if len(kept) == n:
            return kept, {**_named("base", base), **_named("chosen", needed / n), "improvement/shift": part}
    raise RunError(
        "the improvement's shares",
        found=f"{labels.bincount(minlength=len(wanted)).tolist()} samples of the classes",
        expected=f"{needed.tolist()}, to fine-tune on",
        do="raise omega, or want shares nearer to the model's own",
    )


def shifted(row: Row, labels: Tensor, wanted: Tensor) -> Row:
    """What is recorded of samples that have the classes ``labels (n,)``: ``improvement/improved_share/<k>``, and
    ``improvement/total_variation/<which>`` to the ``wanted`` shares ``(C,)`` of these and of the base, whose shares
    are in ``row``."""
    improved = labels.bincount(minlength=len(wanted)).double() / len(labels)
    base = torch.tensor([row[f"improvement/base_share/{k}"] for k in range(len(wanted))], dtype=torch.float64)
    return {
        **_named("improved", improved),
        "improvement/total_variation/base": total_variation(base, wanted.double()),
        "improvement/total_variation/improved": total_variation(improved, wanted.double()),
    }


def total_variation(p: Tensor, q: Tensor) -> float:
    """Half of Σ |p - q| of two distributions ``(C,)``, in [0, 1]."""
    return float((p - q).abs().sum()) / 2


def _named(which: str, shares: Tensor) -> Row:
    return {f"improvement/{which}_share/{k}": share for k, share in enumerate(shares.tolist())}
