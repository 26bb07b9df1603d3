"""``python -m sc_loops motion-evaluate RUN [--generation t] [--repeats R] [--samples N]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

_EVALUATE = """\
Sample a generation of a motion run under held-out captions, several times, and measure it with confidence intervals.

examples:
  python -m sc_loops motion-evaluate runs/motion_small_baseline
  python -m sc_loops motion-evaluate runs/motion_small_baseline --generation 0 --repeats 5 --samples 200
  python -m sc_loops motion-evaluate runs/motion_baseline model.guidance_scale=2.5

The metrics are those of the run's config. Writes evaluation-<t>.json in the run directory, after every repeat; with
options changed, evaluation-<t>-<digest>.json. The same command again continues from there.

The published protocol (T2M, MDM): 20 repeats of 1000 samples, multimodality of 100 captions with 30 motions each.
"""


def motion_evaluate(arguments: Sequence[str]) -> int:
    """``python -m sc_loops motion-evaluate ...``; returns the exit status."""
    from sc_loops.cli import _guarded  # here, since the command line imports this module

    parser = argparse.ArgumentParser(
        prog="sc-loops motion-evaluate",
        description=_EVALUATE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run", metavar="RUN", help="a run directory, as runs/motion_small_baseline")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="options of the config to change for this")
    parser.add_argument("--generation", type=int, metavar="t", help="by default the last one with a checkpoint")
    parser.add_argument("--repeats", type=int, default=20, metavar="R", help="how often; 20 by default")
    parser.add_argument(
        "--samples", type=int, metavar="N", help="of each repeat; by default one for each held-out clip"
    )
    parser.add_argument(
        "--captions", type=int, default=100, metavar="C", help="captions for the multimodality; 0 leaves it out"
    )
    parser.add_argument(
        "--motions", type=int, default=30, metavar="M", help="motions of each of these; 30 by default"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    known, others = parser.parse_known_args(arguments)
    for other in others:
        if "=" not in other:
            parser.error(f"unrecognized argument {other!r}; overrides have the form key=value")
    overrides = [*known.overrides, *others]
    return _guarded(lambda: _evaluate(known, overrides), debug=known.debug)


def _evaluate(known: argparse.Namespace, overrides: Sequence[str]) -> int:
    # Imported here so that --help and typing errors answer at once.
    from sc_loops.evaluating.evaluation import Amounts, evaluate
    from sc_loops.evaluating.opened import opened
    from sc_loops.evaluating.table import table
    from sc_loops.start import quieten

    sys.path.insert(0, str(Path.cwd()))  # a user's own components are found from where they stand
    quieten()
    amounts = Amounts(repeats=known.repeats, samples=known.samples, captions=known.captions, motions=known.motions)
    generation = opened(Path(known.run), known.generation, overrides)
    path, record = evaluate(generation, amounts)
    print(table(record))
    print(path)
    return 0
