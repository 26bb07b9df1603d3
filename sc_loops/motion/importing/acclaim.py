"""Acclaim's ASF skeletons and AMC motions, as text, to ``Recording``: CMU's original format.

A bone runs from the end of its parent along ``direction`` for ``length``. Its angles are about its own axes: with C
the rotation that ``axis`` gives and M that of the frame's angles, its world rotation is R = R_parent C M C^-1. Angles
in the order of ``dof`` (or ``axis``) are applied first to last: "rx ry rz" is M = Rz Ry Rx on column vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sc_loops.motion.importing.recording import Array, Recording, Unusable, composed

_POSITIONS, _ROTATIONS = {"tx", "ty", "tz"}, {"rx", "ry", "rz"}


@dataclass
class Bone:
    """A bone: unit ``direction`` in the skeleton's axes, ``length``, C as ``(3, 3)`` and its degrees of freedom."""

    name: str
    direction: Array
    length: float
    frame: Array
    dof: tuple[str, ...] = ()
    parent: str = ""


@dataclass
class Skeleton:
    """An ASF file. ``unit``: metres in a unit of length; ``order``: of the root's six numbers, as ("tx", ...)."""

    unit: float
    root: Array
    root_frame: Array
    order: tuple[str, ...]
    bones: dict[str, Bone] = field(default_factory=dict)
    radians: bool = False

    def sorted(self) -> list[Bone]:
        """The bones, each after its parent; those that no chain joins to the root are left out."""
        done, waiting = {"root"}, list(self.bones.values())
        ordered: list[Bone] = []
        while ready := [bone for bone in waiting if bone.parent in done]:
            ordered += ready
            done |= {bone.name for bone in ready}
            waiting = [bone for bone in waiting if bone.name not in done]
        return ordered


def read_asf(text: str) -> Skeleton:
    """The skeleton of an ASF file.

    Raises:
        Unusable: the text is no ASF, or a part that is needed is missing.
    """
    sections = _sections(text)
    try:
        units = dict(line.split()[:2] for line in sections["units"])
        root = {line.split()[0]: line.split()[1:] for line in sections["root"]}
        radians = units.get("angle", "deg").lower().startswith("rad")
        x, y, z = map(float, root.get("position", ["0", "0", "0"]))
        skeleton = Skeleton(
            unit=0.0254 / float(units["length"]),
            root=np.array([x, y, z]),
            root_frame=_frame([*root.get("orientation", ["0", "0", "0"]), *root.get("axis", ["XYZ"])], radians),
            order=tuple(word.lower() for word in root["order"]),
            radians=radians,
        )
        if not _POSITIONS <= set(skeleton.order) <= _POSITIONS | _ROTATIONS:
            raise ValueError(f"the root's order is {' '.join(skeleton.order)}")
        for block in _blocks(sections["bonedata"]):
            bone = _bone(block, radians)
            skeleton.bones[bone.name] = bone
        for line in sections["hierarchy"]:
            parent, *children = line.split()
            for child in children if parent not in ("begin", "end") else []:
                skeleton.bones[child].parent = parent
    except (LookupError, ValueError, ArithmeticError) as error:
        raise Unusable("damaged ASF file", f"{type(error).__name__}: {error}") from error
    return skeleton


def read_amc(text: str, skeleton: Skeleton) -> Recording:
    """The ends of the bones, and ``root``, of an AMC file. It says nothing about its rate: CMU's have 120 or 60.

    Raises:
        Unusable: the text is no AMC, or does not fit the skeleton.
    """
    angles = _angles(text, skeleton)
    root = angles.pop("root")
    start = skeleton.root + root[:, [skeleton.order.index(axis) for axis in ("tx", "ty", "tz")]]
    turns = [i for i, word in enumerate(skeleton.order) if word.startswith("r")]
    local = _turned([skeleton.order[i] for i in turns], root[:, turns])
    ends = {"root": start}
    rotations = {"root": skeleton.root_frame @ local @ skeleton.root_frame.T}
    for bone in skeleton.sorted():
        rotation = rotations[bone.parent]
        if bone.dof and bone.name in angles:
            rotation = rotation @ bone.frame @ _turned(bone.dof, angles[bone.name]) @ bone.frame.T
        rotations[bone.name] = rotation
        ends[bone.name] = ends[bone.parent] + rotation @ (bone.direction * bone.length)
    return Recording(tuple(ends), np.stack(list(ends.values()), axis=1), None, skeleton.unit)


def _turned(words: Sequence[str], degrees: Array) -> Array:
    """The rotation of ``degrees (..., k)`` about axes that are applied first to last."""
    return composed([word[-1] for word in reversed(words)], degrees[..., ::-1])


def _sections(text: str) -> dict[str, list[str]]:
    """The lines beneath each ``:keyword``, without comments."""
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        line = line.split("#")[0].strip()
        if line.startswith(":"):
            lines = sections.setdefault(line[1:].split()[0].lower(), [])
        elif line:
            lines.append(line)
    return sections


def _blocks(lines: list[str]) -> list[dict[str, list[str]]]:
    """What stands between each ``begin`` and ``end``, by first word. Limits of the angles are not needed."""
    blocks: list[dict[str, list[str]]] = []
    for line in lines:
        word, *rest = line.split()
        if word == "begin":
            blocks.append({})
        elif blocks:
            blocks[-1][word] = rest
    return blocks


def _bone(block: dict[str, list[str]], radians: bool) -> Bone:
    direction = np.array(block["direction"], dtype=np.float64)
    dof = tuple(word.lower() for word in block.get("dof", []))
    if not set(dof) <= _ROTATIONS:
        raise ValueError(
            f"bone {block['name'][0]} has the degrees of freedom {' '.join(dof)}; only rx, ry, rz are known"
        )
    norm = float(np.linalg.norm(direction))
    return Bone(
        block["name"][0], direction / (norm or 1.0), float(block["length"][0]), _frame(block["axis"], radians), dof
    )


def _frame(words: Sequence[str], radians: bool) -> Array:
    """C of three angles and their order, as ``0 0 20 XYZ``."""
    angles = np.array(words[:3], dtype=np.float64)
    order = words[3].lower() if len(words) > 3 else "xyz"
    return _turned(list(order), np.rad2deg(angles) if radians else angles)


def _angles(text: str, skeleton: Skeleton) -> dict[str, Array]:
    """By bone, ``(F, its degrees of freedom)`` in degrees; the root's three positions are left as they are."""
    values: dict[str, list[list[float]]] = {}
    frames = 0
    try:
        for line in text.splitlines():
            words = line.split()
            if not words or words[0][0] in "#:":
                continue
            if len(words) == 1:
                frames += 1
            else:
                values.setdefault(words[0], []).append([float(word) for word in words[1:]])
        arrays = {name: np.array(rows, dtype=np.float64) for name, rows in values.items()}
    except ValueError as error:
        raise Unusable("damaged AMC file", str(error)) from error
    if not frames or "root" not in arrays:
        raise Unusable("not an AMC file", "no frames with a root")
    for name, array in arrays.items():
        bone = skeleton.bones.get(name)
        width = len(skeleton.order) if name == "root" else len(bone.dof) if bone else -1
        if array.shape != (frames, width):
            raise Unusable("AMC file that does not fit its skeleton", f"{name}: {array.shape} for {frames} x {width}")
    if ":RADIANS" in text.upper() or (skeleton.radians and ":DEGREES" not in text.upper()):
        turns = [i for i, word in enumerate(skeleton.order) if word.startswith("r")]
        arrays = {name: np.rad2deg(array) if name != "root" else array for name, array in arrays.items()}
        arrays["root"][:, turns] = np.rad2deg(arrays["root"][:, turns])
    return arrays
