"""Samples of all settings side by side, a row for each generation."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sc_loops.comparing.settings import Setting
from sc_loops.data.pixels import as_float
from sc_loops.reporting.history import Array, picked
from sc_loops.reporting.motion_pictures import sheet, small_png
from sc_loops.reporting.pictures import Camera, Pixels, image_grid, png

Kind = Literal["points", "images", "motions"]

# Settings and generations of which pictures are shown.
MOST: dict[Kind, tuple[int, int]] = {"images": (8, 12), "points": (6, 6), "motions": (4, 6)}
# Least and largest width of a column in rem. The page has 65, in which the least ones of as many settings find room.
WIDTHS: dict[Kind, tuple[float, float]] = {"images": (7, 20), "points": (6, 14), "motions": (14.5, 26)}
MOTIONS, POSES = 3, 5  # of a generation; of a motion


@dataclass(frozen=True)
class Strips:
    """A table of pictures, whose columns are of one width whatever their labels.

    Args:
        kind: scatters of points, rows of images, or strips of motions.
        labels: of the settings, the columns of the table.
        rows: by generation one picture for each setting, as a data URI; None where there is none.
        left_out: how many settings are not shown.
        frames: of points, in how many frames they are drawn.
    """

    kind: Kind
    labels: list[str]
    rows: list[tuple[int, list[str | None]]]
    left_out: int
    frames: int = 1

    @property
    def rem(self) -> tuple[float, float]:
        """The least and the largest width of a column."""
        return WIDTHS[self.kind]


def strips(settings: Sequence[Setting]) -> Strips | None:
    """The first seed of each setting, of as many as can be told by eye; None where no run holds a picture.

    Images are the first of each generation's preview, which is the same noise in every generation and every run of a
    seed, as are motions. Points of one data set are drawn in one frame, that of its first run's real data.
    """
    found = [(s.label, s.records[0], camera) for s in settings if (camera := Camera.of(s.records[0].run))]
    if not found:
        return None
    kinds = {_kind(camera) for _, _, camera in found}
    kind = next(kind for kind in ("points", "motions", "images") if kind in kinds)
    found = [entry for entry in found if _kind(entry[2]) == kind]
    most, most_rows = MOST[kind]
    shown = [found[i] for i in picked(range(len(found)), most)]
    columns = max(4, min(8, 24 // len(shown)))
    frames: dict[Any, tuple[Array, float]] = {}  # by the name of the data
    shown = [
        (label, record, replace(camera, frame=frames.setdefault(record.facts.get("data/name"), camera.frame)))
        for label, record, camera in shown
    ]
    generations = sorted({t for _, record, _ in shown for t in record.generations})
    rows: list[tuple[int, list[str | None]]] = []
    for t in picked(generations, most_rows):
        pictures = [_taken(camera, t, columns) if t in record.place else None for _, record, camera in shown]
        if any(picture is not None for picture in pictures):
            rows.append((t, [None if picture is None else _source(picture, kind) for picture in pictures]))
    labels = [label for label, _, _ in shown]
    return Strips(kind, labels, rows, len(found) - len(shown), len(frames)) if rows else None


def _kind(camera: Camera) -> Kind:
    return "motions" if camera.motions is not None else "points" if camera.points else "images"


def _taken(camera: Camera, generation: int, columns: int) -> Pixels | None:
    """The scatter of a generation, the first ``columns`` images of its preview in one row, or its first motions."""
    if camera.points:
        return camera.take(generation)
    preview = camera.run.pool(generation).preview
    if preview is not None and camera.motions is not None:
        return sheet(camera.motions, preview, most=MOTIONS, poses=POSES)
    return None if preview is None else image_grid(as_float(preview.x[:columns]).double().numpy(), columns)


def _source(picture: Pixels, kind: Kind) -> str:
    file = small_png(picture) if kind == "motions" else png(picture)
    return f"data:image/png;base64,{base64.b64encode(file).decode()}"
