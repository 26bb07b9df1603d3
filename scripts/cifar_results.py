"""``results.md`` of cifar_on_a_gpu.py with its two figures, from what is on disk: a draft for docs/results.md."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sc_loops.data.files import write_atomically
from sc_loops.environment import environment
from sc_loops.reporting.comparison import DPI, curves, film_strip, table
from sc_loops.reporting.history import generation_rows, keys_of
from sc_loops.reporting.sections import PHASES
from sc_loops.reporting.wording import duration, exact
from sc_loops.run import Run

if TYPE_CHECKING:
    from cifar_on_a_gpu import Part, Record

# The share of class 0, airplane, which the first run prefers.
QUANTITIES = ["class_share/0", "reward/mean", "exp_reward/mean", "class_entropy"]
DISTANCES = ["frechet_distance", "fid", "kid", "inception_score", "precision", "recall"]


def write_results(
    output: Path, recipes: Mapping[str, str], planned: Sequence[Part], record: Record, command: str
) -> None:
    """Write ``results.md``, ``curves.png`` and ``film_strip.png`` into ``output``, of the runs that are there."""
    runs = {name: run for name in recipes if generation_rows(run := Run(output / name))}
    labels = {_label(name, run): run for name, run in runs.items()}
    curves(labels, quantities(runs.values()), columns=4).savefig(output / "curves.png", dpi=150)
    film_strip(labels).savefig(output / "film_strip.png", dpi=DPI)
    text = [
        "# CIFAR-10 on a GPU",
        origin(command),
        classifier(next(iter(runs.values()))) if runs else "",
        "![curves](curves.png)\n\nDashed: the exact recursion of K-choice curation, from generation 0's own samples.",
        "![film strip](film_strip.png)\n\nOne row a generation, from the same noise in all of them.",
        *(f"## {label}\n\n{of_run(run)}" for label, run in labels.items()),
        "## Speed\n\n" + speeds(runs),
        "## Time\n\n" + times(planned, record),
        *(printed(part) for part in planned if part.log is not None and part.log.exists()),
    ]
    write_atomically(output / "results.md", "\n\n".join(part.strip() for part in text if part) + "\n")


def quantities(runs: Any) -> list[str]:
    """What tables and curves show, in their order."""
    rows = [row for run in runs for row in generation_rows(run)]
    return QUANTITIES + [key for prefix in DISTANCES for key in keys_of(rows, prefix)]


def origin(command: str) -> str:
    """When, where and how: what a number needs beside it."""
    here = environment()
    devices = ", ".join(here["gpus"]) or f"no GPU, {here['cpu_threads']} CPU threads"
    versions = f"torch {here['packages']['torch']}, Lightning {here['packages']['lightning']}"
    commit = here["git"] or "unknown"
    said = f"{date.today()}, {devices}, {versions}, commit {commit}, one seed:"
    return f"{said}\n\n    {command}"


def classifier(run: Run) -> str:
    """How good the classifier is that rewards, shares and distances come from."""
    facts = run.facts()
    found = {k.removeprefix("classifier/"): v for k, v in facts.items() if k.startswith("classifier/")}
    by_class = [
        f"{name} {found[f'test_accuracy/{k}']:.1%}"
        for k, name in enumerate(facts.get("class_names", []))
        if f"test_accuracy/{k}" in found
    ]
    whole = [
        f"{words} {found[key]:.2%}"
        for key, words in (
            ("test_accuracy", "test accuracy"),
            ("balanced_test_accuracy", "class-balanced"),
            ("train_accuracy", "on the training images"),
        )
        if key in found
    ]
    return f"Classifier: {', '.join(whole)}. By class: {', '.join(by_class)}." if whole else ""


def of_run(run: Run) -> str:
    """The tables of one run."""
    measured = table(run, quantities([run]))
    phases = table(run, [*(f"seconds/{phase}" for phase in PHASES), "seconds/total"])
    return f"{measured}\n{phases}"


def speeds(runs: Mapping[str, Run]) -> str:
    """Markdown: images a second in the loop itself, and the share of the card's bfloat16 peak that this is.

    Medians over the generations from the second on, since compilation is behind them.
    """
    lines = ["| run | training, images/s | of the peak | sampling, images/s | of the peak |", "|---|---|---|---|---|"]
    for name, run in runs.items():
        rows = generation_rows(run)
        trained = [(b["items_seen"] - a["items_seen"]) / b["seconds/training"] for a, b in pairwise(rows[1:])]
        sampled = [row["samples"] / row["seconds/sampling"] for row in rows[2:] if row.get("seconds/sampling")]
        if trained and sampled:
            flop, peak = forward_flops(run), peak_of_this_machine()
            training, sampling = statistics.median(trained), statistics.median(sampled)
            shares = [
                f"{speed * flop * times / peak:.1%}" if peak else "-"
                for speed, times in ((training, 3), (sampling, rows[-1]["nfe"]))
            ]
            lines.append(f"| {name} | {training:.0f} | {shares[0]} | {sampling:.0f} | {shares[1]} |")
    return "\n".join(lines)


def forward_flops(run: Run) -> int:
    """Products and sums of one image's forward pass through the run's network."""
    precision = _precision()
    from sc_loops import UNet

    config = yaml.safe_load(run.config_path.read_text(encoding="utf-8"))
    options = {k: v for k, v in config["model"]["network"].items() if k != "name"}
    counted: int = precision.flops(UNet(precision.images(4, 32), **options), 32)
    return counted


def peak_of_this_machine() -> float | None:
    """Products and sums a second in bfloat16 that the GPU is sold with, or None."""
    gpus = environment()["gpus"]
    return next((peak for name, peak in _precision().PEAKS.items() if gpus and name in gpus[0]), None)


def _precision() -> Any:
    """``benchmarks.precision``, which stands beside this folder and is not installed."""
    root = str(Path(__file__).resolve().parent.parent)
    if root not in sys.path:
        sys.path.append(root)
    from benchmarks import precision

    return precision


def times(planned: Sequence[Part], record: Record) -> str:
    """Markdown: what each part took, beside what was estimated before any was measured."""
    lines = ["| part | estimated | took | |", "|---|---|---|---|"]
    for part in planned:
        known = record.of(part)
        status = known.get("status")
        words = "not run" if status is None else "" if status == 0 else f"failed, exit status {status}"
        guess = "-" if part.estimate is None else duration(part.estimate)
        lines.append(f"| {part.name} | {guess} | {duration(record.seconds(part)) if known else '-'} | {words} |")
    return "\n".join(lines)


def printed(part: Part) -> str:
    """What a benchmark printed, with its command."""
    assert part.log is not None
    command = " ".join(["python", *part.command[1:]])
    return f"## {part.name}\n\n    {command}\n\n```\n{part.log.read_text(encoding='utf-8').strip()}\n```"


def _label(name: str, run: Run) -> str:
    ratio = run.facts().get("synthetic_ratio")
    return name if ratio is None else f"{name}, λ = {exact(float(ratio))}"
