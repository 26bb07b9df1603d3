"""``python -m sc_loops motion-import SRC DST``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from sc_loops.errors import InvalidValue, require

if TYPE_CHECKING:
    from sc_loops.motion.importing.captions import Labels
    from sc_loops.motion.importing.conversion import Conversion
    from sc_loops.motion.importing.sources import Source

_IMPORT = """\
Turn motion capture (BVH, ASF/AMC, CMU's exponential maps) into the folder that data.name=humanml3d reads.

examples:
  python -m sc_loops motion-import mocap/bandai-namco.tar.xz data/bandai --index mocap/index.csv
  python -m sc_loops motion-import mocap/lafan1 data/lafan1
  python -m sc_loops motion-import mocap/cmu data/cmu --index cmu-captions.csv --no-mirror

Each clip is put on HumanML3D's 22 joints at 20 frames a second. Captions come from the index (a CSV with the columns
clip, description, content, ...), or from labels in the files' names. A clip that is of no use is left out, and the
list at the end says why; import.json holds the whole list.
"""


def motion_import(arguments: Sequence[str]) -> int:
    """``python -m sc_loops motion-import ...``; returns the exit status."""
    from sc_loops.cli import _guarded  # here, since the command line imports this module

    parser = argparse.ArgumentParser(
        prog="sc-loops motion-import", description=_IMPORT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    known = parser.parse_args(arguments)
    return _guarded(lambda: _import(known), debug=known.debug)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument("source", metavar="SRC", help="a folder, a .tar(.xz, .gz) or .zip archive, or a file")
    parser.add_argument("folder", metavar="DST", help="the folder to make")
    parser.add_argument("--index", metavar="CSV", help="captions and labels: columns clip, description, content, ...")
    parser.add_argument("--units", choices=("auto", "m", "cm", "inch", "cmu"), default="auto", help="of the source")
    parser.add_argument("--up", choices=("auto", "y", "z"), default="auto", help="the source's vertical axis")
    parser.add_argument("--fps", type=float, default=120.0, help="of files that do not say (AMC); default 120")
    parser.add_argument("--no-mirror", action="store_true", help="do not add each motion's mirror image")
    parser.add_argument("--min-seconds", type=float, default=2.0, help="leave out shorter clips; default 2")
    parser.add_argument("--max-frames", type=int, default=196, help="split longer clips; default 196, at 20 fps")
    parser.add_argument(
        "--split", type=float, nargs=3, default=(0.8, 0.05, 0.15), metavar=("TRAIN", "VAL", "TEST"),
        help="shares of the clips; default 0.8 0.05 0.15",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the split; default 0")
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="processes; by default one for every 400 clips and core"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace another import in DST")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _import(known: argparse.Namespace) -> int:
    # Imported here so that --help and typing errors answer at once.
    from sc_loops.motion.importing import sources, summary, writer
    from sc_loops.motion.importing.working import converted

    started = perf_counter()
    options, split = _checked(known)
    place, folder = Path(known.source).expanduser(), Path(known.folder).expanduser()
    index = None if known.index is None else Path(known.index).expanduser()
    identity: dict[str, Any] = {
        "source": place.resolve().name,
        "index": None if index is None else index.name,
        "options": {**asdict(options), "split": list(split), "seed": known.seed},
    }
    writer.require_free(folder, identity, known.overwrite)
    with sources.opened(place) as opened:
        clips = sources.clips_in(opened)
        labels = _labels(clips, index, place.name)
        done, up = converted(clips, labels, options, known.jobs)
        good = [clip for clip in done if clip.windows and clip.path in labels]
        left_out = summary.left_out(done, labels)
        _require_some(good, left_out)
        motions = writer.entries(good, labels)
        parts = writer.parts_of([clip.path for clip in good], split, known.seed)
        record = {**identity, "up": up, **summary.record(good, motions, parts, labels), "left_out": left_out}
        writer.write(folder, motions, parts, record, sources.licences_in(opened))
    print(summary.text(folder, record, perf_counter() - started))
    return 0


def _require_some(good: Sequence[object], left_out: dict[str, list[dict[str, str]]]) -> None:
    from sc_loops.motion.importing.summary import lines

    if not good:
        raise InvalidValue(
            "SRC",
            found="\n".join(["no clip that can be used:", *lines(left_out)]).replace("\n", "\n" + 12 * " "),
            expected="at least one clip with a caption",
            do="give --index for captions; --help names the options for units and axes",
        )


def _checked(known: argparse.Namespace) -> tuple[Conversion, tuple[float, ...]]:
    from sc_loops.motion.importing.conversion import Conversion

    split = tuple(known.split)
    whole = min(split) >= 0 and abs(sum(split) - 1) < 1e-6 and split[0] > 0
    require(whole, "--split", " ".join(map(str, split)), "three shares >= 0 that add up to 1, the first > 0")
    require(known.jobs is None or known.jobs >= 1, "--jobs", known.jobs, "an integer >= 1")
    options = Conversion(
        units=known.units,
        up=known.up,
        mirror=not known.no_mirror,
        min_seconds=known.min_seconds,
        max_frames=known.max_frames,
        fps=known.fps,
    )
    return options, split


def _labels(clips: Sequence[Source], index: Path | None, archive: str) -> dict[str, Labels]:
    """By clip, of those that have a caption: from the index, or else from the file's name."""
    from sc_loops.motion.importing.captions import by_ending, from_file_name, looked_up, read_index

    endings = {} if index is None else by_ending(read_index(index, archive))
    found = {clip.path: looked_up(endings, clip.path) or from_file_name(clip.path) for clip in clips}
    return {path: labels for path, labels in found.items() if labels is not None and labels.captions}
