"""``Correct``: the self-correction of Gillman et al. 2024, "Self-Correcting Self-Consuming Loops for Generative Model
Training" (ICML, arXiv 2402.07087)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from sc_loops.correction.corrector import (
    Corrected,
    Corrector,
    PreparedCorrector,
    ReportingCorrector,
    corrected,
    unpicked,
)
from sc_loops.curation.stage import Stage
from sc_loops.errors import Complaint, InvalidValue, RunError, require
from sc_loops.samples import Observation, Samples

FEW = 8  # a corrector may fail on all of so few by chance


class Correct(Stage):
    """Corrects each sample with probability γ / (1 + γ): with the ideal corrector π_γ p = (p + γ p*)/(1 + γ).

    Records ``correction/share``, the share of the samples that were corrected, ``correction/failed_share``, of those
    picked the share on which the corrector failed, and ``correction/distance``, how far in the Euclidean norm the
    corrected ones moved on average, in the units of the samples. A reward that scored the samples before no longer
    holds: with γ > 0 the column is dropped, and a later ``k_choice`` scores anew.

    Args:
        corrector: see ``Corrector``.
        strength: γ in [0, inf]. 0 is the identity, inf corrects all.
        on_failure: a sample on which the corrector fails stays as it was (``keep``), is left out of the pool
            (``drop``) or goes to ``fallback``.
        fallback: another corrector, for ``fallback``; a sample on which that fails too stays as it was.

    A corrector that fails on all of a chunk's picked samples (more than a few) is a ``RunError``, unless it reports
    what it did (``ReportingCorrector``); its columns then go into the pool, and its numbers into the row.
    """

    def __init__(
        self,
        *,
        corrector: Corrector,
        strength: float,
        on_failure: Literal["keep", "drop", "fallback"] = "keep",
        fallback: Corrector | None = None,
    ) -> None:
        require(strength >= 0, "strength", strength, "γ >= 0 (0 is the identity, inf corrects all)")
        given = (on_failure == "fallback") == (fallback is not None)
        require(given, "on_failure", on_failure, "fallback where a fallback corrector is given, and only there")
        self.corrector, self.strength, self.on_failure, self.fallback = corrector, strength, on_failure, fallback
        self.is_identity = strength == 0
        self.varies = on_failure == "drop"

    @property
    def share(self) -> float:
        """γ / (1 + γ), the probability with which a sample is corrected."""
        return 1.0 if self.strength == math.inf else self.strength / (1 + self.strength)

    def load(self, cache: Path) -> None:
        for corrector in (self.corrector, self.fallback):
            if isinstance(corrector, PreparedCorrector):
                corrector.prepare(cache)

    def check(self, real: Samples) -> None:
        for name, corrector in (("corrector", self.corrector), ("fallback", self.fallback)):
            if corrector is not None:
                generator = torch.Generator(real.x.device).manual_seed(0)
                where = f"{name}, tried on {len(real)} real samples"
                success = corrected(corrector, real, generator, where, InvalidValue).success
                _require_some(success, where, InvalidValue)

    def __call__(self, samples: Samples, generator: torch.Generator) -> Samples:
        return self.observed(samples, generator)[0]

    def observed(self, samples: Samples, generator: torch.Generator) -> tuple[Samples, Observation]:
        if self.strength == 0:
            return samples, _counts(len(samples))
        n, device = len(samples), samples.x.device
        picked = torch.rand(n, generator=generator, device=device) < self.share
        before = samples[picked]
        done = self._correct(before, generator)
        after, success = done.x, done.success
        moved = torch.linalg.vector_norm((after - before.x).flatten(1).double(), dim=1)
        note = _counts(n, len(before), int((~success).sum()), float(moved[success].sum()))
        x = samples.x.clone()
        x[picked] = torch.where(success.view(-1, *(1,) * (x.ndim - 1)), after, before.x)
        columns = {name: column for name, column in samples.columns.items() if name != "reward"}
        if self._reporter is not None:
            note["report"] = self._reporter.observe({name: c.cpu() for name, c in done.columns.items()})
            columns |= unpicked(n, self._reporter.reports, device)
            for name, column in done.columns.items():
                columns[name][picked] = column.to(device)
        result = Samples(x, samples.condition, columns)
        if self.on_failure == "drop":
            stays = torch.ones(n, dtype=torch.bool, device=device)
            stays[picked] = success
            result = result[stays]
        return result, note

    def summarise(self, observations: Sequence[Observation]) -> dict[str, float]:
        total, picked, failed, distance = torch.stack([o["counts"] for o in observations]).sum(dim=0).tolist()
        done = picked - failed
        reports = [o["report"] for o in observations if "report" in o]
        told = self._reporter.summarise(torch.stack(reports).sum(dim=0)) if self._reporter and reports else {}
        return {
            **told,
            "correction/share": done / total if total else 0.0,
            "correction/failed_share": failed / picked if picked else 0.0,
            "correction/distance": distance / done if done else 0.0,
        }

    @property
    def _reporter(self) -> ReportingCorrector | None:
        return self.corrector if isinstance(self.corrector, ReportingCorrector) else None

    def _correct(self, samples: Samples, generator: torch.Generator) -> Corrected:
        if not len(samples):
            device = samples.x.device
            columns = unpicked(0, self._reporter.reports, device) if self._reporter is not None else {}
            return Corrected(samples.x, torch.ones(0, dtype=torch.bool, device=device), columns)
        done = corrected(self.corrector, samples, generator, "the corrector", RunError)
        if self.fallback is not None and not bool(done.success.all()):
            failed = ~done.success
            again = corrected(self.fallback, samples[failed], generator, "the fallback corrector", RunError)
            x, success = done.x.clone(), done.success.clone()
            x[failed], success[failed] = again.x, again.success
            done = Corrected(x, success, done.columns)
        if self._reporter is None:
            _require_some(done.success, "the corrector", RunError)
        return done


def _require_some(success: Tensor, where: str, error: type[Complaint]) -> None:
    """Raise ``error`` where nothing succeeded."""
    n = len(success)
    if n >= FEW and not bool(success.any()):
        raise error(
            where,
            found=f"a failure on {n} of {n} samples (100 %)",
            expected="a corrector that succeeds on some of them",
            do="look at what it does with the samples of the pools; see on_failure for single failures",
        )


def _counts(total: int, picked: int = 0, failed: int = 0, distance: float = 0.0) -> Observation:
    """Sums over a chunk: its samples, those picked, those that failed, and how far the others moved together."""
    return {"counts": torch.tensor([total, picked, failed, distance], dtype=torch.float64)}
