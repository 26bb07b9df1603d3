"""The body that is simulated: the skeleton of HumanML3D in flesh, as a MuJoCo model.

17 bodies, each named by the joint that it turns about: a free pelvis and 16 ball joints, so 71 numbers of position
(``qpos``) and 54 of velocity. The joints without a child (toes, head, wrists) are points of their body. The axes are
those of the motions: metres, y up, floor at y = 0.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sc_loops.errors import UsageError
from sc_loops.motion.body_shape import RADII, SELF_PAIRS
from sc_loops.motion.skeleton import BONE_LENGTHS, JOINTS, PARENTS

Array = NDArray[np.float64]

BODIES = (0, 1, 4, 7, 2, 5, 8, 3, 6, 9, 12, 13, 16, 18, 14, 17, 19)
"""The joints about which a body turns, limb by limb as MuJoCo orders them, parents first; the order of ``qpos``:
3 numbers of the pelvis' position, then a quaternion (w, x, y, z) for each body, relative to its parent's."""

BODY_OF = {joint: index for index, joint in enumerate(BODIES)}
"""From a joint to the row of its body."""

GRAVITY = 9.81
HEIGHT = 1.75
MASS = 22.5 * HEIGHT**2
"""Kilograms, of an adult of this height (body mass index 22.5)."""

# Directions of the bones at rest, where all rotations are the identity: a person with arms stretched sideways, so
# that the half-turn at which the smallest rotation is not unique is one that no arm and no leg makes. Hips and
# collars are where they are on average in clips 000000, 000021 and 012314; in each they lie within 6 degrees.
_DIRECTIONS = {
    1: (0.561, -0.762, -0.322), 2: (-0.561, -0.762, -0.322), 3: (0, 1, 0), 4: (0, -1, 0), 5: (0, -1, 0), 6: (0, 1, 0),
    7: (0, -1, 0), 8: (0, -1, 0), 9: (0, 1, 0), 10: (0, -0.31, 0.951), 11: (0, -0.31, 0.951), 12: (0, 1, 0),
    13: (0.529, 0.847, -0.054), 14: (-0.529, 0.847, -0.054), 15: (0, 1, 0), 16: (1, 0, 0), 17: (-1, 0, 0),
    18: (1, 0, 0), 19: (-1, 0, 0), 20: (1, 0, 0), 21: (-1, 0, 0),
}  # fmt: skip


def _rest() -> Array:
    lengths = BONE_LENGTHS.double().numpy()
    units = np.array([_DIRECTIONS.get(joint, (0.0, 0.0, 0.0)) for joint in range(22)], dtype=np.float64)
    return units / np.maximum(np.linalg.norm(units, axis=1, keepdims=True), 1e-12) * lengths[:, None]


REST = _rest()
"""``(22, 3)``: each joint from its parent at rest, metres, in the frame of the parent's body."""

# Fractions of the mass, after de Leva (1996), men and women averaged; the forearm with the hand.
_FRACTIONS = {
    "pelvis": 0.112, "hip": 0.1416, "knee": 0.0433, "ankle": 0.0137, "spine1": 0.08, "spine2": 0.08, "spine3": 0.1194,
    "neck": 0.0694, "collar": 0.02, "shoulder": 0.0271, "elbow": 0.0226,
}  # fmt: skip

SOLE = 0.012
"""Metres that the toe joint is above the floor where the foot stands flat."""

_SPHERE, _HEEL_RAISED = 0.020, 0.010
FOOT_POINTS: dict[int, Array] = {}
"""By ankle: ``(4, 3)`` the lowest points of its two heel and its two ball spheres, in the foot's frame."""
for _ankle, _toe in ((7, 10), (8, 11)):
    _sole = REST[_toe, 1] - SOLE
    FOOT_POINTS[_ankle] = np.array(
        [
            (-0.025, _sole + _HEEL_RAISED, -0.04),
            (0.025, _sole + _HEEL_RAISED, -0.04),
            (-0.03, _sole, REST[_toe, 2]),
            (0.03, _sole, REST[_toe, 2]),
        ]
    )

# Points rather than the thick capsules touch the floor, because HumanML3D puts a clip's lowest joint, and not its
# skin, on the floor.
TOUCHING = {
    0: 0.08, 1: 0.08, 2: 0.08, 3: 0.08, 6: 0.08, 9: 0.08, 12: 0.08, 15: 0.08, 16: 0.05, 17: 0.05,
    4: 0.045, 5: 0.045, 18: 0.04, 19: 0.04, 20: 0.035, 21: 0.035,
}  # fmt: skip
"""What may touch the floor beside the feet: joints, and how many metres above the floor each is when it does."""

_FLOOR, _SELF = 1, 2  # bits of what collides


def simulator() -> Any:
    """The package ``mujoco``, or a ``UsageError`` that says how to install it."""
    try:
        package = importlib.import_module("mujoco")
    except ImportError:
        package = None
    # Version 4 has what is needed and 3 has not: servos of rotations, and an integrator without creep.
    if package is None or not hasattr(package.mjtIntegrator, "mjINT_DISCRETE"):
        raise UsageError(
            "the physics corrector",
            found=f"mujoco {package.__version__}" if package else "mujoco is not installed",
            expected="mujoco 4.0 or newer",
            do='pip install -e ".[motion]"',
        )
    return package


def mass_of(joint: int) -> float:
    """Kilograms of the body of ``joint``."""
    name = JOINTS[joint].removeprefix("left_").removeprefix("right_")
    fractions = sum(_FRACTIONS[JOINTS[j].removeprefix("left_").removeprefix("right_")] for j in BODIES)
    return MASS * _FRACTIONS[name] / fractions


def carried_by(joint: int) -> float:
    """Kilograms that hang on ``joint``: of its body and of all beyond."""
    return mass_of(joint) + sum(carried_by(child) for child in BODIES if PARENTS[child] == joint)


def _add_flesh(body: Any, joint: int) -> None:
    """Give the body of ``joint`` a capsule around each of its bones and points that touch the floor."""
    mj = simulator()
    bones = [child for child in range(22) if PARENTS[child] == joint]
    volumes = [RADII[b] ** 2 * np.linalg.norm(REST[b]) + 4 / 3 * RADII[b] ** 3 for b in bones]
    for bone, volume in zip(bones, volumes, strict=True):
        body.add_geom(
            name=f"bone{bone}",
            type=mj.mjtGeom.mjGEOM_CAPSULE,
            fromto=[0, 0, 0, *REST[bone]],
            size=[RADII[bone], 0, 0],
            mass=mass_of(joint) * float(volume / sum(volumes)),
            contype=_SELF,
            conaffinity=_SELF,
        )
        body.add_site(name=f"joint{bone}", pos=REST[bone])
    points = [(p + np.array((0.0, _SPHERE, 0.0)), _SPHERE) for p in FOOT_POINTS.get(joint, ())]
    points += [(np.zeros(3), TOUCHING[joint])] if joint in TOUCHING else []
    points += [(REST[bone], TOUCHING[bone]) for bone in bones if bone in TOUCHING and bone not in BODY_OF]
    for index, (point, radius) in enumerate(points):
        body.add_geom(
            name=f"touch{joint}_{index}",
            type=mj.mjtGeom.mjGEOM_SPHERE,
            size=[radius, 0, 0],
            pos=point,
            mass=0,
            contype=0,
            conaffinity=_FLOOR,
        )


def specification(*, friction: float) -> Any:
    """A new ``MjSpec`` of the body on its floor, to which a controller may add. It has no actuator.

    Sites ``joint0`` to ``joint21`` are the joints; body ``j`` has the name ``body<j>`` and the joint ``turn<j>``.

    Args:
        friction: between the body and the floor, and between parts of the body.
    """
    mj = simulator()
    spec = mj.MjSpec()
    spec.option.gravity = [0, -GRAVITY, 0]
    spec.worldbody.add_geom(
        name="floor",
        type=mj.mjtGeom.mjGEOM_PLANE,
        size=[0, 0, 1],
        quat=[np.sqrt(0.5), -np.sqrt(0.5), 0, 0],  # a plane's normal is z, which this turns to y
        friction=[friction, 0.005, 0.0001],
        contype=_FLOOR,
        conaffinity=0,
    )
    bodies: dict[int, Any] = {}
    for joint in BODIES:
        parent = bodies.get(PARENTS[joint], spec.worldbody)
        bodies[joint] = body = parent.add_body(name=f"body{joint}", pos=REST[joint])
        if joint == 0:
            body.add_freejoint(name="turn0")
            body.add_site(name="joint0")
        else:
            body.add_joint(name=f"turn{joint}", type=mj.mjtJoint.mjJNT_BALL)
        _add_flesh(body, joint)
    for geom in spec.geoms:
        geom.friction = [friction, 0.005, 0.0001]
    colliding = {frozenset((PARENTS[a], PARENTS[b])) for a, b in SELF_PAIRS}
    for i, a in enumerate(BODIES):
        for b in BODIES[i + 1 :]:
            if frozenset((a, b)) not in colliding:
                spec.add_exclude(bodyname1=f"body{a}", bodyname2=f"body{b}")
    return spec


def reshaped(compiled: Any, rest: Array) -> Any:
    """A copy of a compiled body of which each joint is ``rest (22, 3)`` from its parent, in the same order as
    ``REST`` and as long. The masses stay where they are: it is for hips and collars, which differ by centimetres."""
    model = copy(compiled)
    for bone in range(1, 22):
        if bone in BODY_OF:
            model.body(f"body{bone}").pos[:] = rest[bone]
        model.site(f"joint{bone}").pos[:] = rest[bone]
        capsule = model.geom(f"bone{bone}")
        capsule.pos[:] = rest[bone] / 2
        simulator().mju_quatZ2Vec(capsule.quat, rest[bone] / np.linalg.norm(rest[bone]))
    return model


@dataclass(frozen=True)
class Inertia:
    """Masses of the 17 bodies.

    Attributes:
        mass: ``(17,)`` kilograms.
        centre: ``(17, 3)`` centre of mass in the body's frame, metres.
        tensor: ``(17, 3, 3)`` about that centre, in the body's frame, kg m^2.
    """

    mass: Array
    centre: Array
    tensor: Array


@cache
def model() -> Any:
    """The compiled body without a controller, one per process."""
    return specification(friction=0.8).compile()


@cache
def inertia() -> Inertia:
    """Of the compiled body, so that what is computed here agrees with what is simulated."""
    compiled, turns = model(), np.empty((len(BODIES), 9))
    for row, quaternion in zip(turns, compiled.body_iquat[1:], strict=True):
        simulator().mju_quat2Mat(row, quaternion)
    axes = turns.reshape(-1, 3, 3)
    tensor = np.einsum("bij,bj,bkj->bik", axes, compiled.body_inertia[1:], axes)
    return Inertia(compiled.body_mass[1:].copy(), compiled.body_ipos[1:].copy(), tensor)


@contextmanager
def quiet_simulator() -> Iterator[list[str]]:
    """Collect MuJoCo's warnings instead of having them written to MUJOCO_LOG.TXT in the user's directory."""
    mj, warnings = simulator(), []  # type: Any, list[str]

    def collect(message: str) -> None:
        warnings.append(message)
        logging.getLogger(__name__).debug("mujoco: %s", message)

    mj.set_mju_user_warning(collect)
    try:
        yield warnings
    finally:
        mj.set_mju_user_warning(None)
