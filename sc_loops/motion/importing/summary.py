"""What an import came to: what ``import.json`` records and what is said at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sc_loops.data.motion_set import left_out_lines
from sc_loops.motion.importing.captions import Labels
from sc_loops.motion.importing.conversion import Converted
from sc_loops.motion.importing.writer import PARTS, RECORD, Entry
from sc_loops.motion.skeleton import FPS
from sc_loops.reporting.wording import duration

NO_CAPTION = "no caption"

LeftOut = dict[str, list[dict[str, str]]]
"""By reason, the clips and the detail of each."""


def left_out(clips: Sequence[Converted], labels: Mapping[str, Labels]) -> LeftOut:
    """The clips that cannot be used. Of one that has no words either, what is wrong with its motion is told."""
    found: LeftOut = {}
    for clip in clips:
        if clip.reason:
            found.setdefault(clip.reason, []).append({"clip": clip.path, "detail": clip.detail})
        elif clip.path not in labels:
            detail = "the index has none, and the file's name is none that is known"
            found.setdefault(NO_CAPTION, []).append({"clip": clip.path, "detail": detail})
    return dict(sorted(found.items()))


def lines(found: LeftOut) -> list[str]:
    """A line for each reason, and the detail of its first clip."""
    counted = left_out_lines({reason: [clip["clip"] for clip in clips] for reason, clips in found.items()})
    details = [clips[0]["detail"] for clips in found.values()]
    return [
        f"{line}" + (f"\n    the first: {detail}" if detail else "")
        for line, detail in zip(counted, details, strict=True)
    ]


def record(
    clips: Sequence[Converted], motions: Sequence[Entry], parts: Mapping[str, str], labels: Mapping[str, Labels]
) -> dict[str, Any]:
    """Counts, conventions and licences, and for each clip where it went and whose it is."""
    sizes = Counter(parts[motion.clip] for motion in motions)
    return {
        "counts": {
            "clips": len(clips),
            "motions": len(motions),
            "minutes": round(sum(len(motion.vectors) for motion in motions) / FPS / 60, 1),
            **{part: sizes[part] for part in PARTS},
            "actions": len({motion.action for motion in motions if motion.action}),
        },
        "conventions": dict(sorted(Counter(clip.convention for clip in clips).items())),
        "licences": dict(sorted(Counter(labels[clip.path].licence or "not stated" for clip in clips).items())),
        "clips": [
            {
                "clip": clip.path,
                "part": parts[clip.path],
                "windows": len(clip.windows),
                "licence": labels[clip.path].licence,
                "source": labels[clip.path].source,
            }
            for clip in clips
        ],
    }


def text(folder: Path, done: Mapping[str, Any], seconds: float) -> str:
    """What is said at the end."""
    counts, out = done["counts"], done["left_out"]
    total = counts["clips"] + sum(map(len, out.values()))
    said = [
        f"{folder}: {counts['motions']} motions of {counts['clips']} clips, {counts['minutes']} min,"
        f" in {duration(seconds)}",
        "  " + ", ".join(f"{part} {counts[part]}" for part in PARTS) + f"; {counts['actions']} actions",
        "  licences: " + ", ".join(f"{name} ({count} clips)" for name, count in done["licences"].items()),
    ]
    if out:
        said.append(
            f"left out: {total - counts['clips']} of {total} clips; all of them with reasons in {folder / RECORD}"
        )
        said += [f"  {line}" for line in lines(out)]
    return "\n".join(said)
