"""One clip, from its file to vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch

from sc_loops.errors import require
from sc_loops.motion import representation
from sc_loops.motion.importing import mapping
from sc_loops.motion.importing.recording import Array, Unusable
from sc_loops.motion.importing.resample import at_20_fps
from sc_loops.motion.importing.sources import Source, read
from sc_loops.motion.skeleton import FPS, JOINTS

FASTEST = 20.0
"""Metres a second. In the 969 clips of Bandai-Namco and CMU a foot that kicks a ball reaches 13; six clips have torn
frames, with 23 to 47."""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """How clips are converted.

    Args:
        units: of the source: ``auto`` is what the file states, or else what makes a leg as long as a person's.
        up: its vertical axis.
        mirror: whether each motion comes a second time, with left and right exchanged.
        min_seconds: shorter clips are left out.
        max_frames: longer clips are split evenly into windows of at most this many vectors.
        fps: of files that do not state their rate (AMC).
    """

    units: Literal["auto", "m", "cm", "inch", "cmu"] = "auto"
    up: Literal["auto", "y", "z"] = "auto"
    mirror: bool = True
    min_seconds: float = 2.0
    max_frames: int = 196
    fps: float = 120.0

    def __post_init__(self) -> None:
        require(0.2 <= self.min_seconds < math.inf, "--min-seconds", self.min_seconds, "a number >= 0.2")
        require(self.max_frames >= 4, "--max-frames", self.max_frames, "an integer >= 4")
        fits = self.min_seconds * FPS <= self.max_frames
        require(fits, "--min-seconds", self.min_seconds, f"at most --max-frames, {self.max_frames / FPS:g} s")
        require(FPS <= self.fps < math.inf, "--fps", self.fps, f"a number >= {FPS}")


@dataclass(frozen=True, eq=False)
class Window:
    """A piece of a clip: ``vectors (T, 263)`` float32, and those of its mirror, or None."""

    vectors: np.ndarray
    mirror: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Converted:
    """A clip: its windows, or why it has none."""

    path: str
    windows: tuple[Window, ...] = ()
    convention: str = ""
    reason: str = ""
    detail: str = ""


def up_axis(clip: Source) -> str | None:
    """The axis that is up, "y" or "z"; "" where the clip does not tell, None where it cannot be read."""
    try:
        return mapping.up_of(mapping.on_22_joints(read(clip))[0])
    except Unusable:
        return None


def convert(clip: Source, options: Conversion, up: str, fps: float | None) -> Converted:
    """The clip's vectors. Never raises for what is wrong with the clip.

    Args:
        up: the source's vertical axis, "y" or "z".
        fps: of this clip, by the index, or None.
    """
    try:
        joints, convention = _joints(clip, options, up, fps)
        return Converted(clip.path, tuple(_windows(joints, options)), convention)
    except Unusable as error:
        return Converted(clip.path, reason=error.reason, detail=error.detail)


def _joints(clip: Source, options: Conversion, up: str, fps: float | None) -> tuple[Array, str]:
    """``(F, 22, 3)`` in metres, y up, 20 frames a second, and the convention."""
    recording = read(clip)
    joints, convention = mapping.on_22_joints(recording)
    if convention == "CMU BVH":
        joints = joints[1:]  # its first frame is a T-pose
    joints = mapping.upright(joints * mapping.unit_of(joints, options.units, recording.unit), up)
    mapping.require_sides(joints)
    rate = recording.fps or fps or options.fps
    _require_steady(joints, rate)
    return at_20_fps(joints, rate), convention


def _require_steady(joints: Array, fps: float) -> None:
    """Refuse a motion in which a joint is faster than a person's can be: it jumped.

    Raises:
        Unusable: that is so.
    """
    speeds = np.linalg.norm(np.diff(joints, axis=0), axis=-1) * fps
    if speeds.size and speeds.max() > FASTEST:
        frame, joint = divmod(int(speeds.argmax()), len(JOINTS))
        detail = f"{JOINTS[joint]}: {speeds.max():.0f} m/s after frame {frame} of {len(joints)}"
        raise Unusable(f"a joint jumps, faster than {FASTEST:g} m/s", detail)


def _windows(joints: Array, options: Conversion) -> list[Window]:
    """The motion's pieces, as long as one another but for a frame. F frames have F - 1 vectors."""
    vectors = len(joints) - 1
    if vectors < options.min_seconds * FPS:
        raise Unusable(f"shorter than {options.min_seconds:g} s", f"{max(vectors, 0) / FPS:g} s")
    pieces = math.ceil(vectors / options.max_frames)
    edges = [round(piece * vectors / pieces) for piece in range(pieces + 1)]
    parts = [torch.from_numpy(joints[a : b + 1].copy()) for a, b in pairwise(edges)]
    mirrored = [representation.mirrored(part) if options.mirror else None for part in parts]
    return [
        Window(_vectors(part), None if mirror is None else _vectors(mirror))
        for part, mirror in zip(parts, mirrored, strict=True)
    ]


def _vectors(joints: torch.Tensor) -> np.ndarray:
    vectors = representation.encode(representation.canonical(joints)).float().numpy()
    if not np.isfinite(vectors).all():
        raise Unusable("numbers that are NaN or infinite", "after the conversion")
    return vectors
