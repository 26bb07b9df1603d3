"""The report: one self-contained page drawn from the run directory alone."""

from __future__ import annotations

import base64
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from sc_loops.data.files import write_atomically
from sc_loops.reporting.history import REAL, generation_rows, measured
from sc_loops.reporting.motion_section import scenes
from sc_loops.reporting.observer import Observer
from sc_loops.reporting.pictures import Camera, png
from sc_loops.reporting.sections import picked_generations, sections
from sc_loops.reporting.wording import change, exact, family, in_order, meaning, number, policies, symbol
from sc_loops.run import Row, Run

KEY_QUANTITIES = (
    "reward/mean", "reward/var", "exp_reward/mean", "exp_reward/var", "class_entropy", "wasserstein_2",
    "energy_distance", "mean_square", "covariance_trace", "frechet_distance", "precision", "recall", "physical/error",
    "r_precision_3", "matching_score", "diversity", "multimodality", "correction", "train/loss",
)  # fmt: skip
SHARE = 19  # the time between two drawings, in units of what one takes


class HtmlReport(Observer):
    """Draws the report again after each generation, in at most a twentieth of the time of a run, and at its end. A
    failure of it is said and does not end the run, since the report can be drawn later from what is on disk."""

    def __init__(self) -> None:
        self._due = 0.0
        self._waiting: Run | None = None  # with generations that the report does not show yet

    def generation_finished(self, run: Run, row: Row) -> None:
        self._waiting = run
        if monotonic() >= self._due:
            self._draw(run)

    def run_finished(self, run: Run) -> None:
        self.closed()

    def closed(self) -> None:
        if self._waiting is not None:
            self._draw(self._waiting)

    def _draw(self, run: Run) -> None:
        began = monotonic()
        self._waiting = None
        try:
            write_report(run)
        except Exception as error:
            reason = " ".join(str(error).split())
            print(f"report: not drawn this time ({type(error).__name__}: {reason})", file=sys.stderr)
        self._due = monotonic() + SHARE * (monotonic() - began)


@dataclass(frozen=True)
class Frame:
    """One picture of the film strip."""

    title: str
    source: str


def write_report(run: Run) -> Path:
    """Draw ``report.html`` of ``run`` from its directory, whole or not at all, and return its path."""
    rows, facts = generation_rows(run), run.facts()
    names = facts.get("class_names", [])
    page = _template().render(
        run=run,
        subtitle=_subtitle(facts),
        status=_status(rows, facts),
        key_numbers=_key_numbers(rows, names),
        frames=[] if facts.get("data/kind") == "motions" else _frames(run, rows),
        scenes=scenes(run, rows),
        points=facts.get("data/kind") == "points",
        sections=sections(run, rows),
        ends=[int(rows[i]["generation"]) for i in (0, -1)] if rows else [],
        table=_table(rows, names),
        facts={k: exact(v) for k, v in facts.items() if not isinstance(v, (list, dict))},
        left_out=facts.get("data/left_out", []),
        config=run.config_path.read_text(encoding="utf-8") if run.config_path.exists() else None,
        environment=_environment(run),
        commands=_commands(run),
    )
    write_atomically(run.report_path, page)
    return run.report_path


@cache
def _template() -> Template:
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.j2")


def _subtitle(facts: Row) -> str:
    parts = [
        str(facts.get("data/name", "")),
        f"synthetic ratio λ = {exact(facts['synthetic_ratio'])}" if "synthetic_ratio" in facts else "",
        *policies(facts),
    ]
    return " · ".join(part for part in parts if part)


def _status(rows: Sequence[Row], facts: Row) -> tuple[bool, str]:
    """Whether the run is finished, and how far it is."""
    last, total = int(rows[-1]["generation"]) if rows else None, facts.get("generations")
    if last is None:
        return False, "no generation finished yet"
    if total is None:
        return False, f"generation {last}"
    return last >= total, f"generation {last} of {total}"


def _key_numbers(rows: Sequence[Row], class_names: Sequence[str]) -> list[dict[str, str]]:
    """The metrics that tell most, in the first and the last generation, and the change."""
    found = []
    for wanted in KEY_QUANTITIES:
        keys = dict.fromkeys(k for row in rows for k in row if k == wanted or k.startswith(f"{wanted}/"))
        for key in measured(key for key in keys if family(key) != "correction/status"):  # which has a panel
            real = rows[-1].get(key + REAL)
            found.append(
                {
                    "symbol": symbol(key, class_names),
                    "meaning": meaning(key) + ("" if real is None else f"; real data: {number(real)}"),
                    "first": number(rows[0].get(key)),
                    "last": number(rows[-1].get(key)),
                    "change": change(rows[-1].get(key), rows[0].get(key)) if len(rows) > 1 else "",
                }
            )
    return found


def _frames(run: Run, rows: Sequence[Row]) -> list[Frame]:
    """Real data, then the same noise turned into samples by one generation after another."""
    camera = Camera.of(run)
    if camera is None:
        return []
    pictures = [("real data", camera.take_real())]
    pictures += [(f"generation {t}", camera.take(t)) for t in picked_generations(rows)]
    return [
        Frame(title, f"data:image/png;base64,{base64.b64encode(png(picture)).decode()}")
        for title, picture in pictures
        if picture is not None
    ]


def _table(rows: Sequence[Row], class_names: Sequence[str]) -> dict[str, Any]:
    keys = in_order(measured(dict.fromkeys(k for row in rows for k in row if k != "generation")))
    return {
        "head": [(symbol(key, class_names), key) for key in keys],
        "rows": [(row["generation"], [number(row.get(key)) for key in keys]) for row in rows],
    }


def _environment(run: Run) -> dict[str, str]:
    """env.json, each value as one line of text."""
    path = run.path / "env.json"
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {key: _line(value) for key, value in content.items()}


def _line(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _commands(run: Run) -> list[str]:
    """The commands that run the experiment again; none for a run that has no config to give them."""
    if not run.config_path.exists():
        return []
    commit, _, changes = _environment(run).get("git", "unknown").partition("+")
    checkout = f"git checkout {commit}{'  # it had uncommitted changes' if changes else ''}"
    train = f"python train.py --config {shlex.quote(str(run.config_path))} --fresh"
    return [train] if commit == "unknown" else [checkout, train]
