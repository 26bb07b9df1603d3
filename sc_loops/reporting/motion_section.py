"""The report's pictures of motions: for a few captions the real clip, what was generated, and what is in the pool."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from sc_loops.correction.physics.outcome import CHANGED, STATUSES
from sc_loops.data.motions import Motions
from sc_loops.data.pool import Pool
from sc_loops.motion.drawing import gif, strip
from sc_loops.reporting.history import picked, recorded_motions, shown_motions
from sc_loops.reporting.motion_pictures import caption_of, distinct, joints_of, small_png
from sc_loops.reporting.wording import number
from sc_loops.run import Row, Run
from sc_loops.samples import Samples

MOST_STRIPS, MOST_CHUNKS = 7, 8  # generations shown; chunks of a pool that are looked through


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI, with what it is."""

    title: str
    source: str


@dataclass(frozen=True)
class Scene:
    """What was made of one caption: films side by side, and strips of one generation after another."""

    caption: str
    films: list[Picture]
    strips: list[Picture]


def scenes(run: Run, rows: Sequence[Row]) -> list[Scene]:
    """A scene for each of the first few captions of the previews; none where the run is not of motions."""
    motions = recorded_motions(run)
    if motions is None or not rows:
        return []
    generations = picked([int(row["generation"]) for row in rows], MOST_STRIPS)
    previews = {t: preview for t in generations if (preview := run.pool(t).preview) is not None}
    if not previews:
        return []
    last = max(previews)
    shown = distinct(motions, previews[last])
    real, pool = shown_motions(run), _in_pool(run.pool(last), motions, previews[last], shown)
    return [_scene(motions, previews, i, _of_caption(motions, real, previews[last], i), pool.get(i)) for i in shown]


def _scene(
    motions: Motions, previews: Mapping[int, Samples], i: int, real: Samples | None, pool: Samples | None
) -> Scene:
    """Of place ``i`` of the previews by generation; ``real`` and ``pool`` are one motion each."""
    last = max(previews)
    generated = {t: joints_of(motions, preview, i) for t, preview in previews.items() if i < len(preview)}
    clips = [("real", joints_of(motions, real, 0))] if real is not None else []
    films = [*clips, (f"generation {last}, raw", generated[last])]
    if pool is not None:
        films.append((_of_pool(pool, last), joints_of(motions, pool, 0)))
    strips = [*clips, *((f"generation {t}", joints) for t, joints in generated.items())]
    return Scene(
        caption_of(motions, previews[last], i),
        [Picture(title, _uri("gif", gif(joints))) for title, joints in films],
        [Picture(title, _uri("png", small_png(strip(joints)))) for title, joints in strips],
    )


def _of_pool(motion: Samples, generation: int) -> str:
    """``pool of generation 3: kinematic, error 21.0 → 2.3 mm``."""
    title = f"pool of generation {generation}"
    columns = {name: values[0].item() for name, values in motion.columns.items() if values.ndim == 1}
    if "status" in columns:
        status = int(columns["status"])
        title += f": {STATUSES[status]}" if status >= 0 else ": not picked for correction"
    before, after = (columns.get(name, math.nan) for name in ("error_before", "error_after"))
    if math.isfinite(before) and math.isfinite(after):
        title += f", error {number(before)}{'' if after == before else f' → {number(after)}'} mm"
    return title


def _of_caption(motions: Motions, samples: Samples | None, preview: Samples, i: int) -> Samples | None:
    """The first of ``samples`` of the clip whose caption motion ``i`` of ``preview`` has."""
    if samples is None or samples.condition is None or preview.condition is None:
        return None
    same = motions.first[samples.condition] == motions.first[preview.condition[i]]
    return samples[same.nonzero()[:1, 0]] if same.any() else None


def _in_pool(pool: Pool, motions: Motions, preview: Samples, shown: Sequence[int]) -> dict[int, Samples]:
    """By place of ``preview`` a motion of its caption from the pool, a corrected one if there is any. Chunk by chunk,
    since a pool may be larger than the memory."""
    found: dict[int, Samples] = {}
    chunks = pool.manifest["chunks"] if pool.has_samples else []
    for index in [index for index, kept in enumerate(chunks) if kept][:MOST_CHUNKS]:
        if all(i in found for i in shown):
            break
        chunk = pool.chunk(index)
        for i in shown:
            if i not in found and (motion := _of_caption(motions, _corrected_first(chunk), preview, i)) is not None:
                found[i] = motion
    return found


def _corrected_first(samples: Samples) -> Samples:
    if "status" not in samples.columns:
        return samples
    changed = {STATUSES.index(status) for status in CHANGED}
    statuses = samples.columns["status"].tolist()  # -1 of what was not picked
    order = sorted(range(len(samples)), key=lambda i: (statuses[i] not in changed, statuses[i] < 0))
    return samples[torch.tensor(order)]


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
