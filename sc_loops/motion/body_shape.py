"""The shape of a body of the height of HumanML3D's skeleton (about 1.7 m): a capsule around every bone.

The simulator's body and the measure of self-penetration share these capsules, so that what one repairs is what the
other sees.
"""

from __future__ import annotations

from sc_loops.motion.skeleton import JOINTS, PARENTS

_RADII = {
    "hip": 0.085,
    "spine1": 0.095,
    "spine2": 0.100,
    "spine3": 0.105,
    "neck": 0.075,
    "collar": 0.060,
    "shoulder": 0.055,
    "head": 0.060,
    "knee": 0.070,
    "ankle": 0.038,
    "foot": 0.030,
    "elbow": 0.042,
    "wrist": 0.034,
}  # of the bone that ends in such a joint

RADII = (0.0, *(_RADII[name.removeprefix("left_").removeprefix("right_")] for name in JOINTS[1:]))
"""Metres, of the capsule around the bone from a joint's parent to the joint; that of the thigh is at the knee. 0 for
the pelvis, which ends no bone. About half of what the limbs of a lean adult measure across."""

TRUNK = frozenset({0, 3, 6, 9, 13, 14})
"""The bodies of the trunk: pelvis, spine and collars. A body is named by the joint that it turns about."""

UPPER_ARMS, THIGHS = frozenset({16, 17}), frozenset({1, 2})


def _ancestors(joint: int) -> list[int]:
    return [joint, *_ancestors(PARENTS[joint])] if joint >= 0 else []


def _steps(a: int, b: int) -> int:
    """Joints between the bodies ``a`` and ``b``."""
    return len(set(_ancestors(a)) ^ set(_ancestors(b)))


def may_overlap(a: int, b: int) -> bool:
    """Whether the capsules of bodies ``a`` and ``b`` overlap without anything being wrong: neighbours, parts of the
    trunk, an upper arm and the trunk, a thigh and the pelvis or waist."""
    pair = {a, b}
    return (
        _steps(a, b) <= 2
        or pair <= TRUNK
        or bool(pair & UPPER_ARMS and pair & TRUNK)
        or bool(pair & THIGHS and pair & {0, 3})
    )


SELF_PAIRS = tuple((i, j) for i in range(1, 22) for j in range(i + 1, 22) if not may_overlap(PARENTS[i], PARENTS[j]))
"""Pairs of bones, each named by the joint that it ends in, that should not overlap."""
