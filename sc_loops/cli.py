"""The command line: ``python train.py --config NAME`` and ``python -m sc_loops VERB ...``.

Exit status: 0 done, 1 a run ended early with its state saved, 2 bad input and nothing was started, 130 stopped by
Ctrl-C, 143 stopped by SIGTERM or SIGUSR1 (both with everything saved).
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sc_loops import config
from sc_loops.errors import Complaint, RunError, Stopped, UsageError, within
from sc_loops.sweeping.options import SweepOptions

if TYPE_CHECKING:
    from sc_loops.processes import Processes
    from sc_loops.run import Run

_TRAIN = """\
Train a generative model on its own, curated output.

examples:
  python train.py --config digits_curated.yaml              run a recipe of configs/
  python train.py --config digits_curated.yaml              again: continue it, or say that it is finished
  python train.py --config moons_curated.yaml loop.generations=3 loop.synthetic_ratio=0.5
  python train.py --config my/own.yaml --dry-run            print the resolved config and stop
  python train.py --config digits_curated.yaml --fresh      start over, beside the old run
  python train.py --config moons_curated.yaml --sweep loop.synthetic_ratio=0.5,1,inf --seeds 0..4 --jobs 2
                                                            every setting with every seed, two runs at a time

A run leaves everything in runs/<name>/: report.html to look at, metrics.jsonl, pools and checkpoints.
--dry-run prints every option with its default; the docstring of its class says what it means.
"""


# Modules are imported when their verb is given, so that --help and typing errors answer at once.
VERBS = {
    "train": ("sc_loops.cli:train", "run a config; the same as train.py"),
    "report": ("sc_loops.cli:report", "draw a run's report.html again from what is on disk"),
    "compare": (
        "sc_loops.comparing.command:compare",
        "put runs side by side on one page, with a table",
    ),
    "cite": ("sc_loops.citing.command:cite", "print the BibTeX of everything that a run used"),
    "reproduce": ("sc_loops.reproducing.command:reproduce", "rerun the published claims and write their table anew"),
    "motion-import": ("sc_loops.motion.importing.command:motion_import", "make a motion data set of mocap files"),
    "motion-evaluate": (
        "sc_loops.evaluating.command:motion_evaluate",
        "measure a generation of motions again and again, with confidence intervals",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m sc_loops VERB ...``; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments and arguments[0] in VERBS:
        module, function = VERBS[arguments[0]][0].split(":")
        return int(getattr(importlib.import_module(module), function)(arguments[1:]))
    parser = argparse.ArgumentParser(prog="sc-loops", description="Self-consuming generative models.")
    commands = parser.add_subparsers(metavar="VERB", required=True)
    for verb, (_, help_text) in VERBS.items():
        commands.add_parser(verb, help=help_text)
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
        allow_abbrev=False,  # --seed=3 is an override
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
    parser.add_argument(
        "--sweep", action="append", default=[], metavar="KEY=V1,V2", help="run all values; again: all combinations"
    )
    parser.add_argument("--seeds", metavar="A..B", help="run the seeds A to B, or those of a list A,B,C")
    parser.add_argument("--jobs", type=int, metavar="N", help="runs at a time: by default one for each GPU, or core")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    known, others = parser.parse_known_args(arguments)
    for other in others:
        if "=" not in other:
            parser.error(f"unrecognized argument {other!r}; overrides have the form key=value")
    overrides = [*known.overrides, *others]
    options = SweepOptions(sweeps=known.sweep, seeds=known.seeds, jobs=known.jobs)
    command = _sweep if options.given else _train
    return _guarded(lambda: command(known.config, overrides, options, known.dry_run, known.fresh), debug=known.debug)


def report(arguments: Sequence[str] | None = None) -> int:
    """``python -m sc_loops report RUN``; returns the exit status."""
    parser = argparse.ArgumentParser(prog="sc-loops report", description="Draw a run's report.html again.")
    parser.add_argument("run", help="a run directory, as runs/digits_curated")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    known = parser.parse_args(arguments)
    return _guarded(lambda: _report(known.run), debug=known.debug)


def _sweep(name: str, overrides: Sequence[str], options: SweepOptions, dry_run: bool, fresh: bool) -> int:
    # Imported here, as below, so that --help and typing errors answer at once.
    from sc_loops.start import quieten
    from sc_loops.sweeping.command import sweep

    sys.path.insert(0, str(Path.cwd()))  # a user's own components are found from where they stand
    quieten()
    return sweep(name, overrides, options, dry_run=dry_run, fresh=fresh)


def _train(name: str, overrides: Sequence[str], options: SweepOptions, dry_run: bool, fresh: bool) -> int:
    from sc_loops.experiment import resolved_config
    from sc_loops.processes import Processes
    from sc_loops.start import is_joining, join_run, quieten
    from sc_loops.trainer import TrainerOptions, join

    sys.path.insert(0, str(Path.cwd()))
    quieten()
    resolved = resolved_config(name, overrides)
    if is_joining():
        join_run(resolved)
        return 0
    if dry_run:
        return _start(name, resolved, overrides, Processes(), dry_run=True, fresh=fresh)
    with within("trainer"):
        trainer = TrainerOptions(**resolved["trainer"])
    together = join(trainer)
    try:
        return _start(name, resolved, overrides, together, dry_run=False, fresh=fresh)
    except BaseException as error:
        together.fail(error)
        raise
    finally:
        together.close()


def _start(
    name: str, resolved: dict[str, Any], overrides: Sequence[str], together: Processes, *, dry_run: bool, fresh: bool
) -> int:
    """Choose the run, check, open it and go; where several processes were started together, rank 0 decides."""
    from sc_loops import opening
    from sc_loops.experiment import build, completed, resolved_config
    from sc_loops.run import Run
    from sc_loops.run_choice import choose_run
    from sc_loops.start import carry_out

    recipe = resolved_config(name, ()) if overrides else resolved
    stem = config.find(name).stem

    def chosen(claim: bool) -> Run:
        # The name is decided, since on another node ``output`` may be another place.
        def choose() -> str:
            return choose_run(resolved, recipe, stem, fresh=fresh, claim=claim, complete=completed).name

        return Run(Path(resolved["output"]) / together.decided(choose))

    run = chosen(claim=False)
    experiment = build(resolved, run)
    last = experiment.loop.generations

    def finished() -> bool:
        return any(row["generation"] >= last for row in run.rows()) and not opening.damaged_pools(run)

    if not dry_run and together.decided(finished):
        if together.rank == 0:
            _say_finished(run, last)
        return 0
    experiment.check()
    if dry_run:
        print(config.to_yaml(resolved), end="")
        return 0
    experiment.prepare(together)
    carry_out(experiment, chosen(claim=True) if fresh else run, resolved, together)
    return 0


def _say_finished(run: Run, last: int) -> None:
    from sc_loops.reporting.report import write_report

    if not run.report_path.exists() or run.report_path.stat().st_mtime < run.metrics_path.stat().st_mtime:
        write_report(run)
    print(f"{run.path} is finished ({last} generations). Report: {run.report_path}")
    print("Start over beside it with --fresh, or continue it with a higher loop.generations.")


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
    """Run ``command``; an error becomes a message and an exit status instead of a traceback. Of several processes
    the first one speaks."""
    first = int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", os.environ.get("LOCAL_RANK", "0")))) == 0
    out = sys.stderr if first else io.StringIO()
    try:
        return command()
    except Stopped as stop:
        how = signal.Signals(stop.signum).name
        print(f"stopped by {how} with everything saved. The same command continues from here.", file=out)
        return int(stop.code or 0)
    except KeyboardInterrupt:
        print("\ninterrupted. The same command continues from what is on disk.", file=out)
        return 130
    except Exception as error:
        if debug:
            raise
        if isinstance(error, Complaint):
            print(f"error: {error}", file=out)
        else:
            print(f"error: {type(error).__name__}: {error}", file=out)
            print("This should not happen; --debug shows where it did.", file=out)
        if isinstance(error, RunError):
            print("What was finished is saved; the same command continues from there.", file=out)
        return 2 if isinstance(error, UsageError) else 1
