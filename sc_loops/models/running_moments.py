"""``RunningMoments``: of items that come in parts, most of which were there before."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

Moments = tuple[int, Tensor, Tensor]


class RunningMoments:
    """The number N of items, their means ``(R, d)`` and scatter matrices ``(R, d, d)`` about them, in float64.

    Parts that begin as those of the call before cost only what is new, so that memory that accumulates costs a
    generation what its own samples do, as long as the real items, which come first, are fixed. The result is that of
    all parts at once, to the last bit: they are merged one after the other anyway (Chan, Golub and LeVeque 1983).
    """

    def __init__(self) -> None:
        self._parts: list[weakref.ref[Tensor]] = []  # they are known by identity: what has gone is not seen again
        self._moments: Moments | None = None

    def __reduce__(self) -> tuple[type[RunningMoments], tuple[()]]:
        return RunningMoments, ()  # a copy of a model has not seen anything

    def of(self, parts: Sequence[Tensor], each: Callable[[Tensor], Iterable[Tensor]]) -> Moments:
        """Those of all ``parts``.

        Args:
            parts: each ``(N_i, *shape)``, not all empty. One that was seen is not to be changed in place.
            each: splits a part into the ``(N_i, d)`` float64 of each of the R groups.
        """
        parts, known = [x for x in parts if len(x)], len(self._parts)
        if known > len(parts) or any(a() is not b for a, b in zip(self._parts, parts, strict=False)):
            self._parts, self._moments, known = [], None, 0
        for x in parts[known:]:
            new = _moments(each(x))
            self._moments = new if self._moments is None else _merged(self._moments, new)
            self._parts.append(weakref.ref(x))
        assert self._moments is not None
        return self._moments


def _moments(groups: Iterable[Tensor]) -> Moments:
    n, means, scatters = 0, [], []
    for x in groups:
        n = len(x)
        means.append(x.mean(dim=0))
        centred = x - means[-1]
        scatters.append(centred.T @ centred)
    return n, torch.stack(means), torch.stack(scatters)


def _merged(a: Moments, b: Moments) -> Moments:
    (n, mean, scatter), (m, other_mean, other_scatter) = a, b
    apart = other_mean - mean
    between = apart[:, :, None] * apart[:, None, :] * (n * m / (n + m))
    return n + m, mean + apart * (m / (n + m)), scatter + other_scatter + between
