"""A figure in code, as BVH in any units, with any axis up and its joints under any names."""

from __future__ import annotations

from pathlib import Path

import numpy as np

# A figure with LaFAN1's names that faces +z with its left side at +x: parent and offset in centimetres.
FIGURE = {
    "Hips": ("", (0, 0, 0)),
    "LeftUpLeg": ("Hips", (9, -2, 0)), "LeftLeg": ("LeftUpLeg", (0, -42, 0)), "LeftFoot": ("LeftLeg", (0, -41, 0)),
    "LeftToe": ("LeftFoot", (0, -6, 13)),
    "RightUpLeg": ("Hips", (-9, -2, 0)), "RightLeg": ("RightUpLeg", (0, -42, 0)),
    "RightFoot": ("RightLeg", (0, -41, 0)), "RightToe": ("RightFoot", (0, -6, 13)),
    "Spine": ("Hips", (0, 12, 0)), "Spine1": ("Spine", (0, 12, 0)), "Spine2": ("Spine1", (0, 12, 0)),
    "Neck": ("Spine2", (0, 16, 0)), "Head": ("Neck", (0, 10, 3)),
    "LeftShoulder": ("Spine2", (4, 10, 0)), "LeftArm": ("LeftShoulder", (13, 2, 0)),
    "LeftForeArm": ("LeftArm", (1, -28, 0)), "LeftHand": ("LeftForeArm", (0, -26, 4)),
    "RightShoulder": ("Spine2", (-4, 10, 0)), "RightArm": ("RightShoulder", (-13, 2, 0)),
    "RightForeArm": ("RightArm", (-1, -28, 0)), "RightHand": ("RightForeArm", (0, -26, 4)),
}  # fmt: skip


def figure(
    *, frames: int = 90, fps: int = 30, scale: float = 1.0, turn: np.ndarray | None = None, without: str = "",
    names: dict[str, str] | None = None,
) -> str:  # fmt: skip
    """A BVH of the figure, which glides along +z at 1.2 m/s, bows a little and raises its left arm sideways."""
    turn = np.eye(3) if turn is None else turn
    names = names or {}
    children: dict[str, list[str]] = {name: [] for name in FIGURE}
    for name, (parent, _) in FIGURE.items():
        if parent and name != without:
            children[parent].append(name)
    order: list[str] = []

    def block(name: str) -> str:
        order.append(name)
        x, y, z = turn @ np.array(FIGURE[name][1]) * scale
        head = f"{'JOINT' if FIGURE[name][0] else 'ROOT'} {names.get(name, name)}\n{{\nOFFSET {x} {y} {z}\n"
        channels = "6 Xposition Yposition Zposition" if name == "Hips" else "3"
        body = "".join(map(block, children[name])) or "End Site\n{\nOFFSET 0 0 0\n}\n"
        return f"{head}CHANNELS {channels} Zrotation Xrotation Yrotation\n{body}}}\n"

    hierarchy = block("Hips")
    rows = []
    for frame in range(frames):
        second = frame / fps
        row = [*(turn @ np.array([0, 95, 120 * second]) * scale)]
        for name in order:
            # About the figure's own sideways and forward axes, which the turn carries along.
            bow = 20 * np.sin(second) if name == "Spine" else 0.0
            raised = 60 * np.sin(second) if name == "LeftArm" else 0.0
            row += [raised, bow, 0.0] if turn[1, 1] else [0.0, bow, -raised]
        rows.append(" ".join(map(str, row)))
    motion = "\n".join(rows)
    return f"HIERARCHY\n{hierarchy}MOTION\nFrames: {frames}\nFrame Time: {1 / fps}\n{motion}\n"


def written(folder: Path, **texts: str) -> Path:
    """``folder``, with a BVH file of each of the texts under its name."""
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.bvh").write_text(text)
    return folder
