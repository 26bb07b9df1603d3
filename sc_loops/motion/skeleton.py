"""The skeleton of HumanML3D (Guo et al. 2022): the first 22 joints of SMPL with the bone lengths of one clip.

Motions are ``(..., T, 22, 3)`` in metres, y up, 20 frames a second. Left and right are the person's own; a person who
faces +z has their left side at +x.
"""

from __future__ import annotations

import torch

FPS = 20

JOINTS = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
)  # fmt: skip

PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19)

# From the pelvis or the chest outwards: right leg, left leg, spine, right arm, left arm, the order of the
# official code.
CHAINS = ((0, 2, 5, 8, 11), (0, 1, 4, 7, 10), (0, 3, 6, 9, 12, 15), (9, 14, 17, 19, 21), (9, 13, 16, 18, 20))

MIRRORED = (0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20)
"""The joint on the other side of the body."""

# Directions of the bones, from the parent, of a person who faces +z; the official code's.
DIRECTIONS = torch.tensor(
    [
        [0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, -1, 0], [0, 1, 0], [0, -1, 0], [0, -1, 0],
        [0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 1, 0], [1, 0, 0], [-1, 0, 0], [0, 0, 1], [0, -1, 0], [0, -1, 0],
        [0, -1, 0], [0, -1, 0], [0, -1, 0], [0, -1, 0],
    ],
    dtype=torch.float32,
)  # fmt: skip

# From the parent, in metres: those of clip 000021 in its first frame, on which HumanML3D puts every clip, as the
# official samples of both releases have them.
BONE_LENGTHS = torch.tensor(
    [
        0.0, 0.103074, 0.109883, 0.131568, 0.393623, 0.390188, 0.143190, 0.432433, 0.425643, 0.057365, 0.143382,
        0.149419, 0.219360, 0.137487, 0.143383, 0.103039, 0.131614, 0.122984, 0.256840, 0.263092, 0.266012, 0.269876,
    ],
)  # fmt: skip

OFFSETS = DIRECTIONS * BONE_LENGTHS[:, None]
"""``(22, 3)``: each joint from its parent, in metres, in the pose in which all rotations are the identity."""
