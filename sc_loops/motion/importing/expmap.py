"""CMU clips as exponential maps, in one npz: ``parents (38,)``, ``offsets (38, 3)`` and a ``(T, 117)`` for each clip.

A row is the root's translation and 38 rotation vectors. On row vectors, with R_i = rot(r_i) R_parent, joint i is at
x_parent + offset_i R_parent (Fragkiadaki et al. 2015, Jain et al. 2016). The first row is a T-pose.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from sc_loops.motion.importing.recording import CMU_UNIT, Array, Recording, Unusable

# Where each of the 38 rows starts, named as the end of the ASF bone that lies there; "" repeats another joint.
_NAMES = (
    "root", "", "lhipjoint", "lfemur", "ltibia", "lfoot", "ltoes", "", "rhipjoint", "rfemur", "rtibia", "rfoot",
    "rtoes", "", "lowerback", "upperback", "", "lowerneck", "upperneck", "head", "", "lclavicle", "lhumerus",
    "lradius", "", "lhand", "lfingers", "", "lthumb", "", "rclavicle", "rhumerus", "rradius", "", "rhand",
    "rfingers", "", "rthumb",
)  # fmt: skip


def read_expmap(rows: Array, parents: Array, offsets: Array) -> Recording:
    """The joints of a clip ``(T, 117)``, 30 frames a second, without its first row.

    Raises:
        Unusable: the array is not such a clip.
    """
    if rows.ndim != 2 or rows.shape[1] != 3 + 3 * len(_NAMES) or len(rows) < 2 or len(parents) != len(_NAMES):
        raise Unusable("not a clip of exponential maps", f"shape {rows.shape}, expected (T, 117)")
    rows = rows[1:].astype(np.float64)
    # Columns of these matrices are meant for column vectors; times a row, as the data wants it, they turn by -r.
    local = Rotation.from_rotvec(rows[:, 3:].reshape(-1, 3)).as_matrix().reshape(len(rows), -1, 3, 3)
    positions = np.empty((len(rows), len(_NAMES), 3))
    turned: list[Array] = []
    for joint, (parent, offset) in enumerate(zip(parents.astype(int), offsets.astype(np.float64), strict=True)):
        if parent < 0:
            positions[:, joint] = rows[:, :3]
            turned.append(local[:, joint])
        else:
            positions[:, joint] = positions[:, parent] + offset @ turned[parent]
            turned.append(local[:, joint] @ turned[parent])
    kept = [joint for joint, name in enumerate(_NAMES) if name]
    return Recording(tuple(_NAMES[joint] for joint in kept), positions[:, kept], 30.0, CMU_UNIT)
