"""How plausible motions are as movements of a body, beside the real ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from sc_loops.data.motions import Motions
from sc_loops.data.real import RealData
from sc_loops.errors import require
from sc_loops.evaluation.distances import evenly
from sc_loops.evaluation.metric import Metric
from sc_loops.motion.physical_errors import PhysicalErrors, physical_errors
from sc_loops.motion.representation import decode
from sc_loops.samples import Observation, Samples

NUMBERS = ("penetration", "floating", "skating", "error", "jerk", "self_penetration")
_SHORTEST = 4  # frames, of which the third derivative is known


class PhysicalErrorsOfMotions(Metric):
    """``physical/penetration``, ``floating``, ``skating`` and their sum ``error`` (mm), ``jerk`` (m/s³) and
    ``self_penetration`` (mm) of the first samples, see ``PhysicalErrors``; and each of the held-out real motions with
    ``/real`` behind its name. It is these that are the aim, not 0: real toes are inside feet, and people jump.

    Motions with numbers that are not finite, or of fewer than 4 frames, are left out.

    Args:
        data: motions; its ``test`` part is the real ones.
        limit: the samples that are looked at are those with a number below this, and as many real ones.
    """

    name = "physical"

    def __init__(self, data: RealData, *, limit: int = 2000) -> None:
        require(data.kind == "motions", "metrics", f"physical for {data.kind}", "data of motions")
        require(limit >= 1, "limit", limit, "an integer of at least 1")
        assert data.motions is not None
        self._motions, self._limit = data.motions, limit
        self._test = data.test

    def observe(self, samples: Samples) -> Observation:
        first = samples[samples.columns["index"] < self._limit]
        return {"sums": errors_of(first, self._motions).sum(dim=0)}

    def summarise(self, observations: Sequence[Observation]) -> dict[str, float]:
        *sums, count = torch.stack([o["sums"] for o in observations]).sum(dim=0).tolist()
        own = {f"physical/{name}": total / count for name, total in zip(NUMBERS, sums, strict=True) if count}
        return own | {f"physical/{name}/real": value for name, value in self._real.items()}

    @cached_property
    def _real(self) -> dict[str, float]:
        rows = evenly(torch.arange(len(self._test)), self._limit)
        *sums, count = errors_of(self._test[rows], self._motions).sum(dim=0).tolist()
        return {name: total / count for name, total in zip(NUMBERS, sums, strict=True) if count}


def errors_of(samples: Samples, motions: Motions) -> Tensor:
    """``(N, 7)`` float64: the ``NUMBERS`` of each motion and 1, or 0 throughout where they are not known."""
    table = torch.zeros(len(samples), len(NUMBERS) + 1, dtype=torch.float64)
    if not len(samples):
        return table
    require(samples.condition is not None, "samples", "no condition", "motions with captions")
    assert samples.condition is not None
    lengths = motions.lengths_of(samples.condition).tolist()
    # One by one: two thousand at once would take gigabytes.
    for row, x, length in zip(table, samples.x, lengths, strict=True):
        joints = decode(motions.vectors(x[:length].detach().cpu().double()))
        if length >= _SHORTEST and bool(joints.isfinite().all()):
            row[:] = _numbers(physical_errors(joints.numpy()))
    return table


def _numbers(errors: PhysicalErrors) -> Tensor:
    return torch.tensor([*(getattr(errors, name) for name in NUMBERS), 1.0], dtype=torch.float64)
