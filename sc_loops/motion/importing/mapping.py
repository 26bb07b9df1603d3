"""From a source's joints to the 22 of HumanML3D, in metres, y up.

Seventeen joints must be in the source; ``CONVENTIONS`` says what they are called. The others are placed: the spine is
the polyline from between the hips over the source's pelvis and spine joints to the neck, on which spine1, spine2 and
spine3 lie at HumanML3D's fractions; a collar lies between spine3, neck and shoulder as SMPL's does. What counts in
the end are directions, since ``representation.canonical`` puts every motion on one skeleton.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from sc_loops.errors import require
from sc_loops.motion.importing.recording import CMU_UNIT, Array, Recording, Unusable
from sc_loops.motion.skeleton import BONE_LENGTHS, JOINTS

_CENTRE = ("pelvis", "neck", "head")
_SIDES = ("hip", "knee", "ankle", "foot", "shoulder", "elbow", "wrist")
NEEDED = (*_CENTRE, *(f"{side}_{joint}" for side in ("left", "right") for joint in _SIDES))
"""Joints that have to be in the source."""


def _names(centre: str, left: str, right: str, spine: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """The source's names of the joints of ``NEEDED``, as normalised by ``_plain``, and its spine from below."""
    words = (*centre.split(), *left.split(), *right.split())
    return dict(zip(NEEDED, words, strict=True)), tuple(spine.split())


def _sided(centre: str, sides: str, left: str, right: str, spine: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """The same, where the names of both sides follow one pattern with ``?`` for the side."""
    return _names(centre, sides.replace("?", left), sides.replace("?", right), spine)


CONVENTIONS = {
    "Bandai-Namco BVH": _sided(
        "hips neck head", "upperleg? lowerleg? foot? toes? upperarm? lowerarm? hand?", "l", "r", "spine chest"
    ),
    "CMU BVH": _sided(
        "hips neck1 head", "?upleg ?leg ?foot ?toebase ?arm ?forearm ?hand", "left", "right", "spine spine1"
    ),
    "LaFAN1 BVH": _sided(
        "hips neck head", "?upleg ?leg ?foot ?toe ?arm ?forearm ?hand", "left", "right", "spine spine1 spine2"
    ),
    "Mixamo BVH": _sided(
        "hips neck head", "?upleg ?leg ?foot ?toebase ?arm ?forearm ?hand", "left", "right", "spine spine1 spine2"
    ),
    # A bone is called by its end.
    "CMU ASF/AMC": _sided(
        "root lowerneck upperneck",
        "?hipjoint ?femur ?tibia ?foot ?clavicle ?humerus ?radius",
        "l",
        "r",
        "lowerback upperback thorax",
    ),
}

UNITS = {"m": 1.0, "cm": 0.01, "inch": 0.0254, "cmu": CMU_UNIT}

# No leg, hip to ankle, is outside of this (in metres), and no leg in another unit is inside.
_LEG = (0.5, 1.1)

# SMPL's pelvis is this far from the line between the hips to the neck, and its collar is this far from the chest's
# axis to the shoulder, at this height between spine3 and neck.
_PELVIS, _COLLAR, _COLLAR_HEIGHT = 0.13, 0.37, 0.41


def on_22_joints(recording: Recording) -> tuple[Array, str]:
    """``(F, 22, 3)`` in the source's units and axes, and the name of the convention.

    Raises:
        Unusable: a needed joint is missing; the detail lists what is needed, and what was found.
    """
    plain = [_plain(name) for name in recording.names]
    name = max(CONVENTIONS, key=lambda name: len(set(CONVENTIONS[name][0].values()) & set(plain)))
    table, spine = CONVENTIONS[name]
    missing = [f"{theirs} ({ours})" for ours, theirs in table.items() if theirs not in plain]
    if missing:
        needed, found = ", ".join(table.values()), ", ".join(recording.names)
        detail = f"{', '.join(missing)}; {name} needs: {needed}; found: {found}"
        raise Unusable("a needed joint is missing", detail)
    at = {ours: recording.positions[:, plain.index(theirs)] for ours, theirs in table.items()}
    column = [recording.positions[:, plain.index(joint)] for joint in spine if joint in plain]
    return _placed(at, column), name


def _plain(name: str) -> str:
    """Lower-case letters and digits of a name, without a prefix as "mixamorig:"."""
    return re.sub(r"[^a-z0-9/]", "", name.split(":")[-1].lower())


def _placed(at: dict[str, Array], spine: Sequence[Array]) -> Array:
    hips = (at["left_hip"] + at["right_hip"]) / 2
    line = [hips, at["pelvis"], *spine, at["neck"]]
    lengths = [float(np.linalg.norm(b - a, axis=-1).mean()) for a, b in pairwise(line)]
    whole = sum(lengths) or 1.0
    bottom = max(_PELVIS, lengths[0] / whole)
    joints = {**at, "pelvis": _along(line, lengths, bottom * whole)}
    bones = [float(BONE_LENGTHS[JOINTS.index(joint)]) for joint in ("spine1", "spine2", "spine3", "neck")]
    for number in (1, 2, 3):
        fraction = bottom + (1 - bottom) * sum(bones[:number]) / sum(bones)
        joints[f"spine{number}"] = _along(line, lengths, fraction * whole)
    base = (1 - _COLLAR_HEIGHT) * joints["spine3"] + _COLLAR_HEIGHT * at["neck"]
    for side in ("left", "right"):
        joints[f"{side}_collar"] = (1 - _COLLAR) * base + _COLLAR * at[f"{side}_shoulder"]
    return np.stack([joints[joint] for joint in JOINTS], axis=1)


def _along(line: Sequence[Array], lengths: Sequence[float], distance: float) -> Array:
    """``(F, 3)``: the point at ``distance`` from the start of a polyline."""
    for start, end, length in zip(line[:-1], line[1:], lengths, strict=True):
        if distance <= length:
            return start + (end - start) * (distance / length if length else 0.0)
        distance -= length
    return line[-1]


# Units and axes.


def unit_of(joints: Array, units: str, stated: float | None) -> float:
    """Metres in a unit. ``auto``: what the file states, or else the unit that makes a leg as long as a person's."""
    if units != "auto":
        return UNITS[units]
    if stated is not None:
        return stated
    hip, knee, ankle = (joints[:, JOINTS.index(f"left_{joint}")] for joint in ("hip", "knee", "ankle"))
    leg = float((np.linalg.norm(knee - hip, axis=-1) + np.linalg.norm(ankle - knee, axis=-1)).mean())
    for unit in UNITS.values():
        if _LEG[0] <= leg * unit <= _LEG[1]:
            return unit
    raise Unusable("unknown units", f"a leg of {leg:.4g} is 0.5 to 1.1 m in none of {', '.join(UNITS)}; give --units")


def up_of(joints: Array) -> str:
    """The axis, "y" or "z", along which the head is above the ankles; "" where neither clearly is."""
    ankles = joints[:, [JOINTS.index("left_ankle"), JOINTS.index("right_ankle")]].mean(1)
    rise = (joints[:, JOINTS.index("head")] - ankles).mean(0)
    size = float(np.linalg.norm(rise))
    clear = [axis for axis, number in (("y", 1), ("z", 2)) if rise[number] > 0.8 * size]
    return clear[0] if clear else ""


def majority(axes: Sequence[str]) -> str:
    """What most clips of a source have for an up axis; people lie on the ground in some. "y" where there are none.

    Raises:
        InvalidValue: no clip tells.
    """
    counts = Counter(axis for axis in axes if axis)
    found = f"{len(axes)} clips, in none of which the head is above the feet along +y or +z"
    require(not axes or bool(counts), "--up", found, "a source with y or z up", "turn it, or give --up")
    return max(sorted(counts), key=lambda axis: counts[axis], default="y")


def upright(joints: Array, up: str) -> Array:
    """The joints with y up, for ``up`` "y" or "z"; both are right-handed."""
    return joints if up == "y" else np.stack([joints[..., 0], joints[..., 2], -joints[..., 1]], axis=-1)


def require_sides(joints: Array) -> None:
    """Refuse a person whose toes point backwards: its axes are left-handed, or its sides are swapped.

    Raises:
        Unusable: that is so.
    """

    def at(name: str) -> Array:
        return joints[:, JOINTS.index(name)]

    across = at("left_hip") - at("right_hip") + at("left_shoulder") - at("right_shoulder")
    up = at("neck") - at("pelvis")
    toes = at("left_foot") - at("left_ankle") + at("right_foot") - at("right_ankle")
    if float((np.cross(across, up) * toes).sum(-1).mean()) <= 0:
        raise Unusable("left and right are swapped", "the toes point backwards: left-handed axes or wrong names")
