"""``Physics``: the corrector that makes motions ones that a body could have made."""

from __future__ import annotations

import importlib
import logging
import math
from functools import cached_property

import torch
from torch import Tensor

from sc_loops.correction.physics.clips import Job, Result, carry_out, lost, standing_toe_height
from sc_loops.correction.physics.outcome import CHANGED, STATUSES, Array, Method
from sc_loops.correction.physics.workers import Workers
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue, blaming, require
from sc_loops.evaluation.distances import evenly
from sc_loops.samples import Samples

_log = logging.getLogger(__name__)

ERRORS = ("error", "penetration", "floating", "skating", "jerk", "self_penetration")
SIMULATION = ("residual_force", "residual_torque", "track_mm")
NUMBERS = (*(f"{name}_{when}" for name in ERRORS for when in ("before", "after")), *SIMULATION)
_LOOKED_AT = 200  # real motions, for how high toes stand


class Physics:
    """Makes motions physically plausible, one by one; the corrector of Gillman et al. 2024 for human motion, with a
    simulation in MuJoCo instead of a trained imitator.

    A motion that is valid already comes back bit by bit. Others are low-passed, put on the floor, freed of drift and
    given feet that stand (``kinematic``, which needs no simulator), then simulated: pulled along by soft constraints
    (``soft``), or executed by a body with bounded residual forces (``physics``). What a method makes counts only if
    it is valid and has no larger physical error than the input; else a simpler method follows, and at last the motion
    is kept as it is. So correcting twice is correcting once. The outcome depends neither on the number of
    processes nor on that of threads.

    What became of each motion goes into columns of the pool: ``status`` (an index of ``STATUSES``); the numbers of
    ``PhysicalErrors`` before and after, as ``error_before`` and ``error_after`` (``error``, PhysDiff's, is the sum of
    penetration, floating and skating); ``residual_force`` (body weights), ``residual_torque`` (N m) and ``track_mm``
    (how far the simulation is from what it was to follow). ``kept`` and ``rejected`` count as failures. A row has
    ``correction/status/<status>``, shares of the motions that were looked at, and the means
    ``correction/error_before`` and ``correction/error_after``.

    Args:
        data: motions, whose lengths and units are used.
        method: ``kinematic``, ``soft`` or ``physics``.
        workers: processes; by default one a core, shared with other ranks and runs of a sweep. With 1 it is done in
            this process.
        policy: your own imitator, as ``module:function``, from joints ``(T, 22, 3)`` in metres, y up, 20 frames a
            second, to the same; it is tried before the method's own simulation.
    """

    reports = {"status": torch.int64} | dict.fromkeys(NUMBERS, torch.float32)

    def __init__(
        self, data: RealData, *, method: Method = "soft", workers: int | None = None, policy: str | None = None
    ) -> None:
        require(data.kind == "motions", "corrector", f"physics for {data.kind}", "data of motions")
        require(workers is None or workers >= 1, "workers", workers, "an integer of at least 1")
        if method != "kinematic":
            from sc_loops.correction.physics.body import simulator

            simulator()
        if policy is not None:
            _require_policy(policy)
        assert data.motions is not None
        self._motions, self._method, self._policy = data.motions, method, policy
        self._told = False  # that the policy does nothing
        self._real = data.train[evenly(torch.arange(len(data.train)), _LOOKED_AT)]
        self._workers = Workers(workers, carry_out)

    def __call__(self, samples: Samples, generator: torch.Generator) -> tuple[Samples, Tensor]:
        results = self._results(self._jobs(samples))
        self._tell_of_policy(results)
        x = samples.x.clone()
        for row, result in zip(x, results, strict=True):
            if result.vectors is not None:
                new = self._motions.normalised(torch.from_numpy(result.vectors))
                row[: len(new)] = new.to(row)
                row[len(new) :] = 0
            if result.status in ("kept", "rejected"):
                _log.debug("a motion is %s: %s", result.status, result.reason)
        status = torch.tensor([STATUSES.index(result.status) for result in results], dtype=torch.int64)
        numbers = torch.tensor([_numbers(result) for result in results], dtype=torch.float32)
        numbers = numbers.reshape(len(results), len(NUMBERS))
        columns = {"status": status, **dict(zip(NUMBERS, numbers.T.contiguous(), strict=True))}
        success = torch.tensor([r.status == "valid" or r.status in CHANGED for r in results], dtype=torch.bool)
        done = Samples(x, samples.condition, {name: c.to(x.device) for name, c in columns.items()})
        return done, success.to(x.device)

    def observe(self, columns: dict[str, Tensor]) -> Tensor:
        """How many there are of each status, how many have an error, and the sums of these before and after."""
        counts = torch.bincount(columns["status"], minlength=len(STATUSES)).double()
        before, after = columns["error_before"].double(), columns["error_after"].double()
        known = before.isfinite() & after.isfinite()
        return torch.cat([counts, torch.stack([known.sum().double(), before[known].sum(), after[known].sum()])])

    def summarise(self, sums: Tensor) -> dict[str, float]:
        counts, (known, before, after) = sums[: len(STATUSES)], sums[len(STATUSES) :].tolist()
        shares = (counts / counts.sum().clamp(min=1)).tolist()
        row = {f"correction/status/{status}": share for status, share in zip(STATUSES, shares, strict=True)}
        if known:
            row |= {"correction/error_before": before / known, "correction/error_after": after / known}
        return row

    def close(self) -> None:
        """End the processes, which else end with this one."""
        self._workers.close()

    def _jobs(self, samples: Samples) -> list[Job]:
        if samples.condition is None:
            raise InvalidValue(
                "corrector", found="samples without condition", expected="motions, with their captions"
            )
        clips = self._clips(samples)
        return [Job(vectors, self._method, self._toe_height, self._policy) for vectors in clips]

    def _clips(self, samples: Samples) -> list[Array]:
        """``(T, 263)`` float64 of each, not normalised, without padding."""
        assert samples.condition is not None
        lengths = self._motions.lengths_of(samples.condition).tolist()
        x = samples.x.detach().cpu().double()
        return [self._motions.vectors(row[:length]).numpy() for row, length in zip(x, lengths, strict=True)]

    @cached_property
    def _toe_height(self) -> float:
        """Where the toes of the real motions stand, so that corrected ones stand as high."""
        return standing_toe_height(self._clips(self._real))

    def _tell_of_policy(self, results: list[Result]) -> None:
        """Say, once, that nothing comes of the user's policy, which else only the shares of the statuses tell."""
        tried = [result for result in results if "policy: " in result.reason]
        helped = any(result.status == "physics" and "policy: " not in result.reason for result in results)
        if tried and not helped and not self._told:
            self._told = True
            _log.warning("the policy did for none of %d motions; the first: %s", len(tried), tried[0].reason)

    def _results(self, jobs: list[Job]) -> list[Result]:
        if self._workers.count == 1 or len(jobs) == 1:
            return [carry_out(job) for job in jobs]
        return self._workers.map(jobs, lost)


def _numbers(result: Result) -> list[float]:
    """The ``NUMBERS`` of one motion, nan where they are not known."""
    errors = [getattr(of, name, math.nan) for name in ERRORS for of in (result.before, result.after)]
    return [*errors, *(getattr(result, name) for name in SIMULATION)]


def _require_policy(policy: str) -> None:
    module, colon, name = policy.partition(":")
    # What this process was started with, its workers do not have.
    given = bool(module and colon and name) and module != "__main__"
    require(given, "policy", policy, "'module:function', of a module that can be imported")
    with blaming("policy", "a module that can be imported, with a function of that name"):
        function = getattr(importlib.import_module(module), name)
    require(callable(function), "policy", policy, "a function")
