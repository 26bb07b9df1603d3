"""From a source's frame rate to 20 frames a second."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline

from sc_loops.motion.importing.recording import Array, Unusable
from sc_loops.motion.skeleton import FPS


def at_20_fps(joints: Array, fps: float) -> Array:
    """``(F, 22, 3)`` at ``fps`` to 20: every k-th frame where fps = 20 k, as HumanML3D takes them, or else a cubic
    spline through the positions.

    A straight line would do worse: between frames of 30 fps it is off by up to a / 7200 for an acceleration a, in
    every second frame alone, which reads as trembling. There is no low-pass in front of it, as there is none in
    HumanML3D; a person has next to nothing above 10 Hz.

    Raises:
        Unusable: under 20 frames a second.
    """
    if fps < FPS * 0.99:
        raise Unusable(f"under {FPS} frames a second", f"{fps:g}")
    stride = fps / FPS
    if abs(stride - round(stride)) < 0.01:
        return joints[:: round(stride)]
    if len(joints) < 2:
        return joints
    times = np.arange(0, len(joints) - 1 + 1e-9, stride)
    values: Array = CubicSpline(np.arange(len(joints)), joints, axis=0)(times)
    return values
