"""What a worker does: the vectors of one clip to joints, correct them, and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from sc_loops.correction.physics.contacts import SHORTEST, TOE_HEIGHT, stances
from sc_loops.correction.physics.methods import correct
from sc_loops.correction.physics.outcome import STANCE_JOINTS, Array, Method, Status
from sc_loops.motion.physical_errors import PhysicalErrors
from sc_loops.motion.representation import decode, encode

_HIGHEST_TOE = 0.040  # metres


@dataclass(frozen=True, eq=False)
class Job:
    """A clip to be corrected.

    Attributes:
        vectors: ``(T, 263)`` float64, not normalised.
        method, toe_height, policy: as of ``correct``.
    """

    vectors: Array
    method: Method
    toe_height: float
    policy: str | None = None


@dataclass(frozen=True, eq=False)
class Result:
    """A clip that was looked at.

    Attributes:
        vectors: ``(T, 263)`` float64, or None where the clip stays as it is.
        status: see ``STATUSES``.
        before, after: the physical errors, None where they are not known.
        residual_force, residual_torque, track_mm: as of ``Outcome``.
        reason: why it is kept, or why other methods did not do.
    """

    vectors: Array | None
    status: Status
    before: PhysicalErrors | None = None
    after: PhysicalErrors | None = None
    residual_force: float = float("nan")
    residual_torque: float = float("nan")
    track_mm: float = float("nan")
    reason: str = ""


def lost(job: Job, how: str) -> Result:
    """The result of a clip over which its process died."""
    return Result(None, "kept", reason=how)


def carry_out(job: Job) -> Result:
    """Correct one clip, with one thread. What fails, fails for this clip alone."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _corrected(job)
    except Exception as error:
        return Result(None, "kept", reason=f"{type(error).__name__}: {error}")
    finally:
        torch.set_num_threads(threads)


def standing_toe_height(clips: Iterable[Array]) -> float:
    """Metres above the floor of the toes of who stands, the median over all frames of ``clips``, each
    ``(T, 263)`` float64."""
    heights = [np.empty(0)]
    for vectors in clips:
        if len(vectors) >= SHORTEST:
            joints = decode(torch.from_numpy(vectors)).numpy()
            heights.append(joints[:, STANCE_JOINTS[2:], 1][stances(joints)[:, 2:]])
    found = np.concatenate(heights)
    return float(np.clip(np.median(found), 0.0, _HIGHEST_TOE)) if len(found) else TOE_HEIGHT


def _corrected(job: Job) -> Result:
    if not bool(np.isfinite(job.vectors).all()):
        return Result(None, "rejected", reason="it has numbers that are not finite")
    # With the frame after the last, which the velocities tell, so that as many vectors come back.
    joints = decode(torch.from_numpy(job.vectors), extended=True).numpy()
    outcome = correct(joints, job.method, policy=job.policy, toe_height=job.toe_height)
    vectors = encode(torch.from_numpy(outcome.joints)).numpy() if outcome.changed else None
    return Result(
        vectors,
        outcome.status,
        before=outcome.before,
        after=outcome.after,
        residual_force=outcome.residual_force,
        residual_torque=outcome.residual_torque,
        track_mm=outcome.track_mm,
        reason=outcome.reason,
    )
