"""Pictures of motions as a run keeps them: strips of poses with their captions beneath, and films."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sc_loops.data.motions import Motions
from sc_loops.motion.drawing import gif, strip
from sc_loops.motion.representation import decode
from sc_loops.samples import Samples

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]

MOST = 4  # motions that a picture of a generation shows
INK, PAPER, FONT, LINE = (31, 41, 51), (255, 255, 255), 12, 16  # pixels


def joints_of(motions: Motions, samples: Samples, i: int) -> Floats:
    """Joints ``(T, 22, 3)`` of motion ``i`` of ``samples``, T being its own length."""
    x = samples.x[i]
    if samples.condition is not None:
        x = x[: int(motions.lengths[samples.condition[i]])]
    joints: Floats = decode(motions.vectors(x.double())).numpy()
    return joints


def caption_of(motions: Motions, samples: Samples, i: int) -> str:
    """What motion ``i`` of ``samples`` was sampled under; empty for one of an unconditional model."""
    return "" if samples.condition is None else motions.captions[int(samples.condition[i])]


def distinct(motions: Motions, samples: Samples, most: int = MOST) -> list[int]:
    """The first of ``samples`` with captions of ``most`` different clips; without captions simply the first."""
    if samples.condition is None:
        return list(range(min(most, len(samples))))
    first: dict[int, int] = {}
    for i, clip in enumerate(motions.first[samples.condition].tolist()):
        first.setdefault(clip, i)
    return list(first.values())[:most]


def sheet(motions: Motions, samples: Samples, *, most: int = MOST, poses: int = 8) -> Pixels:
    """The first motions of ``samples``, one below the other, each with its caption beneath: ``(H, W, 3)``."""
    parts = []
    for i in distinct(motions, samples, most):
        poses_of_i = strip(joints_of(motions, samples, i), poses=poses)
        parts += [poses_of_i, written(caption_of(motions, samples, i), poses_of_i.shape[1])]
    return np.concatenate(parts)


def film(motions: Motions, samples: Samples, *, most: int = MOST) -> tuple[bytes, str]:
    """The first motions of ``samples`` beside one another as a GIF, and their captions from left to right."""
    shown = distinct(motions, samples, most)
    captions = " | ".join(caption_of(motions, samples, i) for i in shown)
    return gif(*(joints_of(motions, samples, i) for i in shown)), captions.strip(" |")


def written(text: str, width: int) -> Pixels:
    """``text`` on white, in at most two lines: ``(h, width, 3)``."""
    lines = _lines(" ".join(text.split()), width - FONT)
    canvas = Image.new("RGB", (width, LINE * len(lines) + LINE // 2), PAPER)
    draw = ImageDraw.Draw(canvas)
    for i, line in enumerate(lines):
        draw.text((FONT / 2, LINE * i), line, INK, font=_font())
    return np.asarray(canvas)


def small_png(picture: Pixels) -> bytes:
    """``picture`` as a PNG file of 64 colours, a third of the size of one of all."""
    out = io.BytesIO()
    Image.fromarray(picture).quantize(64, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def _lines(text: str, width: int, most: int = 2) -> list[str]:
    """``text`` broken at spaces; what does not fit ends in an ellipsis."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if _font().getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    shown = lines[:most]
    while len(lines) > most and _font().getlength(f"{shown[-1]} …") > width and " " in shown[-1]:
        shown[-1] = shown[-1].rpartition(" ")[0]
    return shown if len(lines) <= most else [*shown[:-1], f"{shown[-1]} …"]


@cache
def _font() -> ImageFont.FreeTypeFont:
    """The one that comes with matplotlib, so that pictures are the same everywhere."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), FONT)
