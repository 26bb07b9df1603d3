"""The gate: which motions are valid as they are. It stands before the correction and behind each of its methods."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from sc_loops.correction.physics.contacts import jerk_of_speed, own_skating
from sc_loops.correction.physics.dynamics import external_force
from sc_loops.correction.physics.outcome import Array
from sc_loops.motion.bones import bone_errors
from sc_loops.motion.physical_errors import PhysicalErrors, physical_errors

MARGIN = 0.02
"""By which part corrected motions have to be better than the limits, so that stored in float32 they stay valid."""


@dataclass(frozen=True)
class Measures:
    """What the gate looks at, and the limits that it sets. The defaults are the limits, set on the training part of
    Bandai-Namco so that real clips pass and motions spoilt as in ``sc_loops.motion.degradations`` do not
    (``benchmarks.motion_correction`` says how many).

    Attributes:
        depth: mm, the deepest that a joint ever is below the floor.
        height: mm, the 30th percentile over the frames of the lowest joint's height.
        skating: mm a frame, of the feet in the motion's own stances.
        jitter: m/s³, jerk beyond what a motion of that speed has.
        self_penetration: mm.
        external_force: body weights, what no contact explains.
        bones: mm, mean over the frames of the largest difference of a bone from its length. The vectors of a model
            hold positions, which stretch limbs; those of a body do not.
    """

    depth: float = 15.0
    height: float = 50.0
    skating: float = 11.5
    jitter: float = 160.0
    self_penetration: float = 10.0
    external_force: float = 0.50
    bones: float = 5.0

    def beyond(self, limits: Measures, margin: float = 0.0) -> str:
        """The names and values that are beyond ``limits``, for a person; empty where the motion is valid."""
        found = ((f.name, getattr(self, f.name), getattr(limits, f.name)) for f in fields(self))
        # What is not a number is beyond all limits.
        return ", ".join(f"{n} {x:.3g} > {most:.3g}" for n, x, most in found if not x <= (1 - margin) * most)


LIMITS = Measures()


def measures(joints: Array, errors: PhysicalErrors | None = None) -> Measures:
    """Of ``joints (T, 22, 3)``, T >= 4; ``errors`` are their physical errors where these are known."""
    errors = errors or physical_errors(joints)
    lowest = joints[..., 1].min(axis=1)
    return Measures(
        depth=1000 * float(max(-lowest.min(), 0.0)),
        height=1000 * float(np.quantile(lowest, 0.3)),
        skating=own_skating(joints),
        jitter=max(errors.jerk - jerk_of_speed(joints), 0.0),
        self_penetration=errors.self_penetration,
        external_force=external_force(joints),
        bones=1000 * float(bone_errors(joints).max(axis=1).mean()),
    )
