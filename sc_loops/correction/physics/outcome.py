"""What the stages of the physics corrector hand to one another, and what it says of a clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sc_loops.motion.physical_errors import PhysicalErrors

Array = NDArray[np.float64]

Method = Literal["kinematic", "soft", "physics"]

Status = Literal["valid", "physics", "physics_high", "soft", "kinematic", "kept", "rejected"]

STATUSES: tuple[Status, ...] = ("valid", "physics", "physics_high", "soft", "kinematic", "kept", "rejected")
"""What became of a clip: it passed the gate and is unchanged; it was simulated under small and under larger residual
forces, simulated under soft constraints, or corrected in its kinematics; it is unchanged because nothing passed the
gate; it is unchanged because it is no motion (NaN)."""

CHANGED: frozenset[Status] = frozenset({"physics", "physics_high", "soft", "kinematic"})
"""The statuses of clips that are no longer what they were."""

STANCE_JOINTS = (7, 8, 10, 11)
"""Left ankle, right ankle, left toe, right toe: the columns of ``stance``."""


@dataclass(frozen=True, eq=False)
class Kinematic:
    """A motion whose feet stand where they should.

    Attributes:
        joints: ``(T, 22, 3)`` metres, y up, 20 frames a second.
        stance: ``(T, 4)`` bool, which of the joints 7, 8, 10, 11 are planted on the floor.
        noise: 0, 1 or 2, how noisy the input was; what it was low-passed with.
    """

    joints: Array
    stance: NDArray[np.bool_]
    noise: int = 0


@dataclass(frozen=True, eq=False)
class Simulated:
    """What a simulation made of a motion.

    Attributes:
        joints: ``(T, 22, 3)`` metres, or the input where it failed.
        ok: it ended in time, finite, and near what it was to follow.
        track_mm: mean distance of the joints from what was to be followed.
        residual_force: mean over the clip of the force that no contact explains, in body weights.
        residual_torque: mean over the clip of the torque that no contact explains, in N m.
        reason: of a failure, for a person.
    """

    joints: Array
    ok: bool
    track_mm: float = float("nan")
    residual_force: float = float("nan")
    residual_torque: float = float("nan")
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one clip.

    Attributes:
        joints: ``(T, 22, 3)`` float64; the input itself where ``changed`` is false.
        status: see ``STATUSES``.
        before, after: the physical errors of the input and of ``joints``; None where it is no motion.
        residual_force, residual_torque, track_mm: as of ``Simulated``, nan where nothing was simulated.
        reason: why the methods before the one that was taken did not do.
    """

    joints: Array
    status: Status
    before: PhysicalErrors | None = None
    after: PhysicalErrors | None = None
    residual_force: float = float("nan")
    residual_torque: float = float("nan")
    track_mm: float = float("nan")
    reason: str = ""

    @property
    def changed(self) -> bool:
        """Whether ``joints`` are not the input."""
        return self.status in CHANGED
