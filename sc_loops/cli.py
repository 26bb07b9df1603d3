"""The command line: ``python train.py --config NAME`` and ``python -m sc_loops VERB ...``.

Exit status: 0 done, 1 a run ended early with its state saved, 2 bad input and nothing was started, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from sc_loops import config
from sc_loops.errors import Complaint, RunError, UsageError

_TRAIN = """\
Train a generative model on its own, curated output.

examples:
  python train.py --config digits_curated.yaml              run a recipe of configs/
  python train.py --config digits_curated.yaml              again: continue it, or say that it is finished
  python train.py --config moons_curated.yaml loop.generations=3 loop.synthetic_ratio=0.5
  python train.py --config my/own.yaml --dry-run            print the resolved config and stop
  python train.py --config digits_curated.yaml --fresh      start over, beside the old run

A run leaves everything in runs/<name>/: report.html to look at, metrics.jsonl, pools and checkpoints.
--dry-run prints every option with its default; the docstring of its class says what it means.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m sc_loops VERB ...``; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    verbs = {"train": train, "report": report}
    if arguments and arguments[0] in verbs:
        return verbs[arguments[0]](arguments[1:])
    parser = argparse.ArgumentParser(prog="sc-loops", description="Self-consuming generative models.")
    commands = parser.add_subparsers(metavar="VERB", required=True)
    commands.add_parser("train", help="run a config; the same as train.py")
    commands.add_parser("report", help="draw a run's report.html again from what is on disk")
    parser.parse_args(arguments)
    return 0


def console() -> None:
    """The installed command ``sc-loops``."""
    sys.exit(main())


def train(arguments: Sequence[str] | None = None) -> int:
    """``python train.py ...``; returns the exit status."""
    recipes = "\n".join(f"  {path.stem}" for path in sorted(config.RECIPES.glob("*.yaml")))
    parser = argparse.ArgumentParser(
        prog="train.py",
        description=_TRAIN,
        epilog=f"recipes in {config.RECIPES}:\n{recipes}" if recipes else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, metavar="NAME", help="a YAML file, or a recipe of configs/")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="set an option, as in loop.generations=3 (or --key=value)",
    )
    parser.add_argument("--dry-run", action="store_true", help="check everything, print the config, run nothing")
    parser.add_argument("--fresh", action="store_true", help="start over in a new directory beside the old run")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    known, others = parser.parse_known_args(arguments)
    for other in others:
        if "=" not in other:
            parser.error(f"unrecognized argument {other!r}; overrides have the form key=value")
    overrides = [*known.overrides, *others]
    return _guarded(lambda: _train(known.config, overrides, known.dry_run, known.fresh), debug=known.debug)


def report(arguments: Sequence[str] | None = None) -> int:
    """``python -m sc_loops report RUN``; returns the exit status."""
    parser = argparse.ArgumentParser(prog="sc-loops report", description="Draw a run's report.html again.")
    parser.add_argument("run", help="a run directory, as runs/digits_curated")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    known = parser.parse_args(arguments)
    return _guarded(lambda: _report(known.run), debug=known.debug)


def _train(name: str, overrides: Sequence[str], dry_run: bool, fresh: bool) -> int:
    # Imported here so that --help and typing errors answer at once.
    from sc_loops.experiment import build, resolved_config
    from sc_loops.reporting.report import write_report
    from sc_loops.run_choice import choose_run

    sys.path.insert(0, str(Path.cwd()))  # a user's own components are found from where they stand
    _quieten()
    resolved = resolved_config(name, overrides)
    recipe = resolved_config(name, ()) if overrides else resolved
    # Lightning starts the other processes of this machine with the same command; they join the run of the first.
    first = os.environ.get("LOCAL_RANK", "0") == "0"
    run = choose_run(resolved, recipe, config.find(name).stem, fresh=fresh and first)
    experiment = build(resolved, run)
    last = experiment.loop.generations
    if not dry_run and any(row["generation"] >= last for row in run.rows()):
        if not run.report_path.exists() or run.report_path.stat().st_mtime < run.metrics_path.stat().st_mtime:
            write_report(run)
        print(f"{run.path} is finished ({last} generations). Report: {run.report_path}")
        print("Start over beside it with --fresh, or continue it with a higher loop.generations.")
        return 0
    experiment.check()
    if dry_run:
        print(config.to_yaml(resolved), end="")
        return 0
    experiment.prepare()
    if first:
        experiment.write_record(resolved)
    experiment.fit()
    return 0


def _report(path: str) -> int:
    from sc_loops.reporting.report import write_report
    from sc_loops.run import Run

    run = Run(path)
    if not run.rows():
        raise UsageError(
            path,
            found="no metrics.jsonl with a generation" if run.path.exists() else "nothing",
            expected="the directory of a run with at least one finished generation",
        )
    print(write_report(run))
    return 0


def _guarded(command: Callable[[], int], *, debug: bool) -> int:
    """Run ``command``; an error becomes a message and an exit status instead of a traceback."""
    try:
        return command()
    except KeyboardInterrupt:
        print("\ninterrupted. The same command continues after the last finished generation.", file=sys.stderr)
        return 130
    except Exception as error:
        if debug:
            raise
        if isinstance(error, Complaint):
            print(f"error: {error}", file=sys.stderr)
        else:
            print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
            print("This should not happen; --debug shows where it did.", file=sys.stderr)
        if isinstance(error, RunError):
            print("What was finished is saved; the same command continues from there.", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


def _quieten() -> None:
    """Silence what libraries say to developers, not to users."""
    for message in (".*litlogger.*", ".*isinstance.*LeafSpec.*", ".*torchdyn.*", ".*TF32.*"):
        warnings.filterwarnings("ignore", message=message)
