"""Stick figures: a strip of poses, and an animated GIF whose camera goes along.

Seen from the person's front right and a little from above, without perspective, so that sizes compare. On the
floor lie dots half a metre apart, the way of the pelvis, and the shadow of each pose, straight below it: a gap
between a foot and its shadow is a person who floats. What is below the floor is drawn hollow and red.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sc_loops.motion.skeleton import FPS, JOINTS, PARENTS

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]
Colour = tuple[int, int, int]
Pixel = tuple[float, float]

# The report's blue and amber, which remain apart for every kind of colour blindness, and its ink.
RIGHT, LEFT, SPINE, BELOW = (47, 102, 144), (208, 140, 60), (31, 41, 51), (188, 75, 81)
PAPER, FLOOR, DOTS, SHADOW, PATH = (255, 255, 255), (240, 243, 245), (182, 191, 201), (204, 211, 218), (140, 158, 176)

AZIMUTH, ELEVATION = math.radians(32), math.radians(14)
RIGHTWARDS = np.array([math.sin(AZIMUTH), 0.0, math.cos(AZIMUTH)])
AWAY = np.array([math.cos(AZIMUTH), 0.0, -math.sin(AZIMUTH)])

TALL, LOWEST = 2.2, -0.34  # metres that a picture is high, and where its lower edge is
DEPTH = 0.65  # metres of floor before and behind the person
TOLERANCE = 0.01  # metres below the floor that are not worth marking
WIDTHS = {
    "hip": 0.085, "knee": 0.095, "ankle": 0.075, "foot": 0.06,
    "collar": 0.06, "shoulder": 0.065, "elbow": 0.065, "wrist": 0.055,
}  # fmt: skip
DOT = 1.4  # pixels, half the width of a dot on the floor
TRUNK, HEAD, THIN = 0.085, 0.105, 0.018  # metres; the radius of the head
FINER = 3  # drawn so many times larger, then averaged


def strip(joints: Floats, *, poses: int = 8, height: int = 120) -> Pixels:
    """Poses evenly spread over a motion, each in its own place.

    Args:
        joints: ``(T, 22, 3)`` metres, y up, at least one frame. What is not finite is drawn at 0.
        poses: how many, the first and the last among them. A motion of fewer frames leaves places empty.
        height: of the picture in pixels.

    Returns:
        ``(height, W, 3)``, W the same for all motions.
    """
    joints = _drawable(joints)
    place = round(0.66 * height)
    canvas = Image.new("RGB", (FINER * place * poses, FINER * height), PAPER)
    view = _View(FINER * place, FINER * height)
    shown = dict.fromkeys(np.linspace(0, len(joints) - 1, poses).round().astype(int).tolist())
    centres = [FINER * place * (i + 0.5) for i in range(len(shown))]
    for centre, t in zip(centres, shown, strict=True):
        view.draw_floor(canvas, centre, joints[t], joints[:, 0], joints[t, 0])
    for centre, t in zip(centres, shown, strict=True):  # after all floors, since arms reach into the next place
        view.draw_body(canvas, centre, joints[t], joints[t, 0])
    return np.asarray(canvas.reduce(FINER))


def gif(*motions: Floats, fps: int = 10, size: int = 160) -> bytes:
    """Motions beside one another as a GIF that repeats for ever, the camera beside each pelvis: some 60 kB for a
    motion of 100 frames.

    Args:
        motions: each ``(T, 22, 3)`` metres, y up, 20 frames a second, at least one frame. One that is over before the
            others stays in its last pose.
        fps: frames a second that are shown, a divisor of 20.
        size: height and width of the picture of a motion in pixels.
    """
    motions = tuple(_drawable(joints) for joints in motions)
    cameras = [_smooth(joints[:, 0]) for joints in motions]
    view, pictures = _View(FINER * size, FINER * size), []
    for now in range(0, max(map(len, motions)), FPS // fps):
        canvas = Image.new("RGB", (FINER * size * len(motions), FINER * size), PAPER)
        for i, (joints, camera) in enumerate(zip(motions, cameras, strict=True)):
            t, centre = min(now, len(joints) - 1), FINER * size * (i + 0.5)
            view.draw_floor(canvas, centre, joints[t], joints[: t + 1, 0], camera[t])
            view.draw_body(canvas, centre, joints[t], camera[t])
        pictures.append(canvas.reduce(FINER).quantize(palette=_palette(), dither=Image.Dither.NONE))
    out = io.BytesIO()
    pictures[0].save(
        out,
        "GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=1000 // fps,
        loop=0,
        disposal=1,
        palette=bytes(pictures[0].getpalette() or ()),
        interlace=0,
        optimize=False,
    )
    return out.getvalue()


@dataclass(frozen=True)
class _View:
    """A picture, or a place in a strip, ``width`` by ``height`` pixels; the unit of arguments below is the metre."""

    width: int
    height: int

    @property
    def scale(self) -> float:
        """Pixels of a metre."""
        return self.height / TALL

    def draw_floor(self, canvas: Image.Image, centre: float, pose: Floats, path: Floats, camera: Floats) -> None:
        """The floor around column ``centre``, with the grid, the way ``path (T, 3)`` and the shadow of ``pose
        (22, 3)``, as seen from beside ``camera (3,)``."""
        deep = round(2 * DEPTH * math.sin(ELEVATION) * self.scale)
        tile = Image.new("RGB", (self.width - FINER, deep), FLOOR)
        draw = ImageDraw.Draw(tile)

        def place(points: Floats) -> list[Pixel]:
            moved = (points - camera) * (1, 0, 1)
            across, up = moved @ RIGHTWARDS, (moved @ AWAY) * math.sin(ELEVATION)
            x, y = tile.width / 2 + across * self.scale, deep / 2 - up * self.scale
            return list(zip(x.tolist(), y.tolist(), strict=True))

        for x, y in place(_grid(camera)):
            draw.ellipse((x - DOT * FINER, y - DOT * FINER / 2, x + DOT * FINER, y + DOT * FINER / 2), DOTS)
        if len(path) > 1:
            draw.line(place(path), PATH, round(1.5 * FINER))
        shadow = place(pose)
        for joint in range(1, len(JOINTS)):
            ends = [shadow[PARENTS[joint]], shadow[joint]]
            draw.line(ends, SHADOW, round(0.6 * _width(joint) * self.scale))
        middle = self.height + LOWEST * self.scale
        canvas.paste(tile, (round(centre - tile.width / 2), round(middle - deep / 2)))

    def draw_body(self, canvas: Image.Image, centre: float, pose: Floats, camera: Floats) -> None:
        """The bones of ``pose (22, 3)``, those in front last."""
        draw = ImageDraw.Draw(canvas)
        places, heights, away = self._place(pose, camera, centre), pose[:, 1].tolist(), (pose @ AWAY).tolist()
        for joint in sorted(range(1, len(JOINTS)), key=lambda joint: -away[joint] - away[PARENTS[joint]]):
            ends = (PARENTS[joint], joint)
            above, below = _at_the_floor([places[end] for end in ends], [heights[end] for end in ends])
            self._limb(draw, above, _width(joint), _colour(joint))
            self._limb(draw, below, _width(joint), BELOW)
            self._limb(draw, below, _width(joint) - 2 * THIN, PAPER)
            if JOINTS[joint] == "head":
                (x, y), r = places[joint], HEAD * self.scale
                draw.ellipse((x - r, y - r, x + r, y + r), SPINE if heights[joint] > -TOLERANCE else BELOW)

    def _place(self, points: Floats, camera: Floats, centre: float) -> list[Pixel]:
        """Pixels of ``points (N, 3)``."""
        moved = points - camera * (1, 0, 1)
        up = points[:, 1] * math.cos(ELEVATION) + (moved @ AWAY) * math.sin(ELEVATION)
        x = centre + moved @ RIGHTWARDS * self.scale
        return list(zip(x.tolist(), (self.height + (LOWEST - up) * self.scale).tolist(), strict=True))

    def _limb(self, draw: ImageDraw.ImageDraw, ends: list[Pixel], width: float, colour: Colour) -> None:
        radius = width * self.scale / 2
        if ends:
            draw.line(ends, colour, round(2 * radius))
        for x, y in ends:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour)


def _at_the_floor(ends: list[Pixel], heights: list[float]) -> tuple[list[Pixel], list[Pixel]]:
    """The ends of the part of a bone above the floor, and of that below; empty where there is none. Without
    perspective a bone is cut in the picture in the same ratio as in the room."""
    if min(heights) >= -TOLERANCE:
        return ends, []
    if max(heights) <= 0:
        return [], ends
    (high, top), (low, bottom) = sorted(zip(heights, ends, strict=True), reverse=True)
    share = high / (high - low)
    cut = (top[0] + share * (bottom[0] - top[0]), top[1] + share * (bottom[1] - top[1]))
    return [top, cut], [cut, bottom]


def _grid(camera: Floats) -> Floats:
    """The crossings ``(N, 3)`` of a grid of half a metre around the camera."""
    near = np.arange(-5, 6) / 2
    x, z = np.meshgrid(near + round(2 * camera[0]) / 2, near + round(2 * camera[2]) / 2)
    return np.stack([x.ravel(), np.zeros(x.size), z.ravel()], axis=1)


def _width(joint: int) -> float:
    """Metres that the bone to ``joint`` is thick."""
    return WIDTHS.get(JOINTS[joint].rpartition("_")[2], TRUNK)


def _colour(joint: int) -> Colour:
    side = JOINTS[joint].partition("_")[0]
    return {"left": LEFT, "right": RIGHT}.get(side, SPINE)


def _drawable(joints: Floats) -> Floats:
    """Finite and within a kilometre, so that there are pixels for it."""
    return np.nan_to_num(np.asarray(joints, dtype=np.float64), posinf=0, neginf=0).clip(-1e3, 1e3)


def _smooth(path: Floats, reach: int = 5) -> Floats:
    """``path (T, 3)`` averaged over half a second: the camera does not shake where the person does."""
    weights = np.ones(2 * reach + 1) / (2 * reach + 1)
    padded = np.pad(path, ((reach, reach), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, weights, mode="valid") for column in padded.T], axis=1)


def _palette() -> Image.Image:
    """The colours of a GIF, the same in all its frames: those drawn with, and their mixtures along edges."""
    plain = [PAPER, FLOOR, DOTS, SHADOW, PATH, RIGHT, LEFT, SPINE, BELOW]
    meeting = [(colour, PAPER) for colour in (RIGHT, LEFT, SPINE, BELOW)]
    meeting += [(RIGHT, LEFT), (RIGHT, SPINE), (LEFT, SPINE)]  # without which their edges would be red
    edges = [tuple((a + b) // 2 for a, b in zip(*pair, strict=True)) for pair in meeting]
    holder = Image.new("P", (1, 1))
    holder.putpalette([channel for colour in (*plain, *edges) for channel in colour])
    return holder
