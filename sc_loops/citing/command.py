"""``python -m sc_loops cite RUN... [--keys]``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

_CITE = """\
Print the BibTeX of everything that runs used: the loop, data, models, samplers, stages, metrics, libraries.

examples:
  python -m sc_loops cite runs/digits_curated > references.bib
  python -m sc_loops cite runs/digits_curated --keys          \\cite{...}, for the text
  python -m sc_loops cite runs/moons_curated runs/mog_curated  each entry once

Each entry follows a comment that says what of the run it stands for. What has no reference, as your own components,
is named at the end. A directory that holds runs, as a sweep's, stands for all of them.
"""


def cite(arguments: Sequence[str]) -> int:
    """``python -m sc_loops cite ...``; returns the exit status."""
    from sc_loops.cli import _guarded  # here, since the command line imports this module

    parser = argparse.ArgumentParser(
        prog="sc-loops cite", description=_CITE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run directory, as runs/digits_curated")
    parser.add_argument("--keys", action="store_true", help="print one line for LaTeX, \\cite{...}, and no entries")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    known = parser.parse_args(arguments)
    return _guarded(lambda: _cite([Path(run) for run in known.runs], keys_alone=known.keys), debug=known.debug)


def _cite(paths: Sequence[Path], *, keys_alone: bool) -> int:
    from sc_loops.citing.bibliography import bibtex, keys_of
    from sc_loops.citing.uses import config_of, uses_of

    uses = [use for path in paths for run in _runs_at(path) for use in uses_of(config_of(run))]
    sys.stdout.write(f"\\cite{{{','.join(keys_of(uses))}}}\n" if keys_alone else bibtex(uses))
    return 0


def _runs_at(path: Path) -> list[Path]:
    """``path``, or the runs in it where it holds some and is none itself."""
    if os.path.isfile(path / "config.yaml") or not os.path.isdir(path):
        return [path]
    return sorted(config.parent for config in path.glob("*/config.yaml")) or [path]
