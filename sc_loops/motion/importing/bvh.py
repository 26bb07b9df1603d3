"""BVH files, as text, to ``Recording``.

A joint's channels may come in any order, also between joints. Its rotations apply as they are written, R = R_1 R_2
R_3 on column vectors; its position channels, where it has any, take the place of its OFFSET (Bandai-Namco gives them
to every joint, most others to the root alone).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from sc_loops.motion.importing.recording import Array, Recording, Unusable, composed

_CHANNEL = re.compile(r"([XYZ])(position|rotation)", re.IGNORECASE)


@dataclass(frozen=True)
class Joint:
    """A joint of the hierarchy: parent -1 for the root; ``channels`` as ("x", "rotation")."""

    name: str
    parent: int
    offset: tuple[float, float, float]
    channels: tuple[tuple[str, str], ...] = ()


def read_bvh(text: str) -> Recording:
    """The joints and ends of a BVH file.

    Raises:
        Unusable: the text is no BVH, or ends in the middle.
    """
    head, found, body = text.partition("MOTION")
    if not found or "HIERARCHY" not in head:
        raise Unusable("not a BVH file", "HIERARCHY or MOTION is missing")
    try:
        joints = _hierarchy(head.split())
        values, fps = _motion(body, sum(len(joint.channels) for joint in joints))
    except (ValueError, IndexError, OverflowError) as error:
        raise Unusable("damaged BVH file", str(error)) from error
    return Recording(tuple(joint.name for joint in joints), _forward(joints, values), fps)


def _hierarchy(words: list[str]) -> list[Joint]:
    """The joints, each after its parent, in the order of their channels."""
    joints: list[Joint] = []
    above: list[int] = []  # the joints that are open
    name = ""
    at = words.index("HIERARCHY") + 1
    while at < len(words):
        word = words[at].upper()
        if word in ("ROOT", "JOINT"):
            name, at = words[at + 1], at + 2
        elif word == "END":
            name, at = f"{joints[above[-1]].name}/end", at + 2
        elif word == "{":
            joint, at = _joint(words, at + 1, name, above[-1] if above else -1)
            above.append(len(joints))
            joints.append(joint)
        elif word == "}":
            above.pop()
            at += 1
        else:
            raise ValueError(f"{words[at]!r} in the hierarchy")
    if above or not joints:
        raise ValueError("the hierarchy does not end")
    return joints


def _joint(words: list[str], at: int, name: str, parent: int) -> tuple[Joint, int]:
    """The joint whose OFFSET is at ``at``, and where the next word is."""
    if words[at].upper() != "OFFSET":
        raise ValueError(f"{name} has no OFFSET")
    x, y, z = (float(word) for word in words[at + 1 : at + 4])
    at += 4
    channels: list[tuple[str, str]] = []
    if words[at].upper() == "CHANNELS":
        count = int(words[at + 1])
        if count < 0:
            raise ValueError(f"{name} has {count} channels")
        for word in words[at + 2 : at + 2 + count]:
            match = _CHANNEL.fullmatch(word)
            if match is None:
                raise ValueError(f"{name} has a channel {word!r}")
            channels.append((match[1].lower(), match[2].lower()))
        at += 2 + count
    return Joint(name, parent, (x, y, z), tuple(channels)), at


def _motion(body: str, width: int) -> tuple[Array, float]:
    """``(F, width)`` numbers, and frames a second."""
    match = re.match(r"\s*Frames:\s*(\d+)\s*Frame\s+Time:\s*(\S+)", body, re.IGNORECASE)
    if match is None:
        raise ValueError("MOTION without Frames and Frame Time")
    frames, seconds = int(match[1]), float(match[2])
    values = np.array(body[match.end() :].split(), dtype=np.float64)
    if len(values) != frames * width:
        raise ValueError(f"{len(values)} numbers for {frames} frames of {width}")
    if not frames or not 0 < seconds < np.inf:
        raise ValueError(f"{frames} frames of {seconds} s")
    fps = 1 / seconds
    # 0.0333333 s are 30 frames a second.
    return values.reshape(frames, width), float(round(fps)) if abs(fps - round(fps)) < 0.01 * fps else fps


def _forward(joints: list[Joint], values: Array) -> Array:
    """``(F, J, 3)``: forward kinematics of all frames at once, joint after joint."""
    positions = np.empty((len(values), len(joints), 3))
    turned: list[Array] = []
    start = 0
    for number, joint in enumerate(joints):
        own = values[:, start : start + len(joint.channels)]
        start += len(joint.channels)
        offset = np.tile(np.array(joint.offset), (len(values), 1))
        for column, (axis, kind) in enumerate(joint.channels):
            if kind == "position":
                offset[:, "xyz".index(axis)] = own[:, column]
        turns = [column for column, (_, kind) in enumerate(joint.channels) if kind == "rotation"]
        local = composed([joint.channels[column][0] for column in turns], own[:, turns])
        if joint.parent < 0:
            positions[:, number] = offset
            turned.append(local)
        else:
            above = turned[joint.parent]
            positions[:, number] = positions[:, joint.parent] + np.einsum("fij,fj->fi", above, offset)
            turned.append(above @ local if turns else above)
    return positions
