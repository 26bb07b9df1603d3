"""Pictures of samples: a grid of images, a scatter of points in one frame for all generations, strips of motions."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from sc_loops.data.motions import Motions
from sc_loops.data.pixels import as_float
from sc_loops.reporting.history import Array, observed, real_samples, recorded_motions, shown_motions
from sc_loops.reporting.motion_pictures import sheet
from sc_loops.run import Run

Pixels = NDArray[np.uint8]
MAX_TILES, MAX_TILE, MAX_POINTS, SIDE = 36, 64, 2000, 360  # tiles, pixels, points, pixels
SAMPLES, REAL, BORDER = (47, 102, 144), (154, 165, 177), 228.0
_NO_FRAME: tuple[Array, float] = (np.zeros(0), 0.0)


@dataclass(frozen=True)
class Camera:
    """Takes the picture of each generation of a run with one frame; ``real`` (N, *shape) or None; ``motions`` what is
    known of motions, where samples are such."""

    run: Run
    real: Array | None
    points: bool
    frame: tuple[Array, float]
    motions: Motions | None = None

    @staticmethod
    def of(run: Run) -> Camera | None:
        """The camera for ``run``, or None when it holds nothing to take a picture of (yet)."""
        if run.facts().get("data/kind") == "motions":
            motions = recorded_motions(run)
            return None if motions is None else Camera(run, None, False, _NO_FRAME, motions)
        kept = real_samples(run)
        real = None if kept is None else as_float(kept.x).double().numpy()
        first = real if real is not None else _preview(run, 0)
        if first is None:
            return None
        points = first.ndim == 2
        return Camera(run, real, points, frame_of(first) if points else _NO_FRAME)

    def take(self, generation: int) -> Pixels | None:
        """The picture of the raw samples of ``generation``, with the real points behind them in grey; of motions, the
        first few."""
        if self.motions is not None:
            preview = self.run.pool(generation).preview
            return None if preview is None else sheet(self.motions, preview)
        x = observed(self.run, generation, "points", "x") if self.points else None
        if x is None:  # points that were observed are more than a preview holds
            x = _preview(self.run, generation)
        if x is None:
            return None
        return scatter(x, self.real, self.frame) if self.points else image_grid(x)

    def take_real(self) -> Pixels | None:
        """The picture of the real data."""
        if self.motions is not None:
            shown = shown_motions(self.run)
            return None if shown is None else sheet(self.motions, shown)
        if self.real is None:
            return None
        return scatter(None, self.real, self.frame) if self.points else image_grid(self.real)


def image_grid(x: Array, columns: int = 6) -> Pixels:
    """The first images of ``x`` (N, C, H, W) in [-1, 1] as one ``(height, width, 3)`` picture."""
    tiles = _tiles(x[:MAX_TILES])
    n, height, width, _ = tiles.shape
    columns = min(columns, n)
    rows, gap = math.ceil(n / columns), max(1, width // 16)
    grid = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        grid[top : top + height, left : left + width] = tile
    return grid


def frame_of(x: Array) -> tuple[Array, float]:
    """Centre (d,) and half the side of a square that holds all but the outermost points of ``x``, with air."""
    low, high = np.quantile(x[:, :2], [0.005, 0.995], axis=0)
    return (low + high) / 2, float(0.65 * (high - low).max()) or 1.0


def scatter(x: Array | None, real: Array | None, frame: tuple[Array, float]) -> Pixels:
    """The first two coordinates of the points ``x`` over those of ``real``; of 1-d points a histogram."""
    picture = np.full((SIDE, SIDE, 3), 255.0)
    picture[[0, -1]] = picture[:, [0, -1]] = BORDER
    for points, colour, alpha in ((real, REAL, 0.4), (x, SAMPLES, 0.55)):
        if points is not None:
            ink = (_bars if points.shape[1] == 1 else _dots)(points[:MAX_POINTS], frame, alpha)[..., None]
            picture = (1 - ink) * picture + ink * np.array(colour)
    return picture.round().astype(np.uint8)


def _dots(points: Array, frame: tuple[Array, float], alpha: float) -> Array:
    """Coverage in [0, 1] of a disc at each point; discs of opacity ``alpha`` that overlap add up."""
    side, radius = 2 * SIDE, 3.5  # drawn at twice the size, then averaged
    place = _pixel(points[:, :2], frame, side)
    place = place[((place >= 5) & (place < side - 5)).all(axis=1)]
    disc = np.argwhere(np.add.outer(np.arange(-4, 5) ** 2, np.arange(-4, 5) ** 2) <= radius**2) - 4
    covered = (place[:, None] + disc).reshape(-1, 2)
    count = np.bincount((side - 1 - covered[:, 1]) * side + covered[:, 0], minlength=side * side)
    alpha = min(0.9, alpha * (MAX_POINTS / max(1, len(points))) ** 0.25)  # few points are drawn stronger
    opacity = 1 - (1 - alpha) ** np.arange(count.max() + 1)
    coverage: Array = opacity[count].reshape(SIDE, 2, SIDE, 2).mean(axis=(1, 3))
    return coverage


def _bars(points: Array, frame: tuple[Array, float], alpha: float) -> Array:
    """Coverage of a histogram of 1-d points that fills three quarters of the picture's height."""
    columns = _pixel(points, frame, SIDE)[:, 0] // 5
    heights = np.bincount(columns[(columns >= 0) & (columns < SIDE // 5)], minlength=SIDE // 5)
    top = SIDE * (1 - 0.75 * heights / max(1, heights.max()))
    return np.where(np.arange(SIDE)[:, None] >= np.repeat(top, 5)[None, :], alpha, 0.0)


def _pixel(points: Array, frame: tuple[Array, float], side: int) -> NDArray[np.int64]:
    centre, half = frame
    return np.floor((points - centre + half) / (2 * half) * side).clip(-1, side).astype(np.int64)


def png(picture: Pixels) -> bytes:
    """``picture`` as a PNG file."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()


def _preview(run: Run, generation: int) -> Array | None:
    preview = run.pool(generation).preview
    return None if preview is None else as_float(preview.x).double().numpy()


def _tiles(x: Array) -> Pixels:
    """Images (N, C, H, W) in [-1, 1] as (N, h, w, 3) in 0..255, shrunk to at most ``MAX_TILE`` pixels a side."""
    images = torch.as_tensor(x).clamp(-1, 1)
    side = max(images.shape[2:])
    if side > MAX_TILE:
        images = F.interpolate(images, scale_factor=MAX_TILE / side, mode="area")
    colours = images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
    return ((colours + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
