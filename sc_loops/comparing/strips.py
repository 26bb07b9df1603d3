"""Samples of all settings side by side, a row for each generation."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sc_loops.comparing.settings import Setting
from sc_loops.data.pixels import as_float
from sc_loops.reporting.history import picked
from sc_loops.reporting.pictures import Camera, Pixels, image_grid, png

IMAGES_MOST, POINTS_MOST = (8, 12), (6, 6)  # settings and generations of which pictures are shown


@dataclass(frozen=True)
class Strips:
    """A table of pictures.

    Args:
        points: whether they are scatters of points, otherwise rows of images.
        labels: of the settings, the columns of the table.
        rows: by generation one picture for each setting, as a data URI; None where there is none.
        left_out: how many settings are not shown.
    """

    points: bool
    labels: list[str]
    rows: list[tuple[int, list[str | None]]]
    left_out: int


def strips(settings: Sequence[Setting]) -> Strips | None:
    """The first seed of each setting, of as many as can be told by eye; None where no run holds a picture.

    Images are the first of each generation's preview, which is the same noise in every generation and every run of a
    seed. Points are drawn in one frame, that of the first run's real data.
    """
    found = [(s.label, s.records[0], camera) for s in settings if (camera := Camera.of(s.records[0].run))]
    if not found:
        return None
    points = any(camera.points for _, _, camera in found)
    found = [entry for entry in found if entry[2].points == points]
    most, most_rows = POINTS_MOST if points else IMAGES_MOST
    shown = [found[i] for i in picked(range(len(found)), most)]
    columns, frame = max(4, min(8, 24 // len(shown))), shown[0][2].frame
    generations = sorted({t for _, record, _ in shown for t in record.generations})
    rows: list[tuple[int, list[str | None]]] = []
    for t in picked(generations, most_rows):
        pictures = [
            _taken(replace(camera, frame=frame), t, columns) if t in record.place else None
            for _, record, camera in shown
        ]
        if any(picture is not None for picture in pictures):
            rows.append((t, [None if picture is None else _source(picture) for picture in pictures]))
    return Strips(points, [label for label, _, _ in shown], rows, len(found) - len(shown)) if rows else None


def _taken(camera: Camera, generation: int, columns: int) -> Pixels | None:
    """The scatter of a generation, or the first ``columns`` images of its preview in one row."""
    if camera.points:
        return camera.take(generation)
    preview = camera.run.pool(generation).preview
    return None if preview is None else image_grid(as_float(preview.x[:columns]).double().numpy(), columns)


def _source(picture: Pixels) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(picture)).decode()}"
