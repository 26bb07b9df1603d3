"""The page that compares runs: one self-contained file, drawn from their directories alone, and its CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

import sc_loops.reporting
from sc_loops.comparing import tables
from sc_loops.comparing.metrics import Metrics, metrics_of
from sc_loops.comparing.panels import Line, Look, has_open_band, is_wide, looks, markup, panel, points_of
from sc_loops.comparing.record import Record, read
from sc_loops.comparing.settings import Settings, settings_of, spelled
from sc_loops.comparing.strips import strips
from sc_loops.comparing.table import write_table
from sc_loops.data.files import write_atomically
from sc_loops.errors import blaming
from sc_loops.reporting.history import REAL, Array, expected_series
from sc_loops.reporting.stability import ASSUMPTIONS, admissible_region
from sc_loops.reporting.wording import family, in_order, meaning, number, symbol
from sc_loops.run import Run

MOST_NAMED = 4  # runs that a sentence names one by one
MOST_CURATED = 400  # generations for which the recursion of curation is computed: some 20 ms each


@dataclass(frozen=True)
class Panel:
    """The curves of one metric, with what it is called and what it means."""

    title: str
    figure: Markup
    caption: str


def write_comparison(runs: Sequence[Run], out: Path, *, title: str) -> Path:
    """Write ``comparison.html`` and ``comparison.csv`` of ``runs`` into ``out``, each whole or not at all, and return
    the path of the page.

    Raises:
        UsageError: one of ``runs`` is no run or has no finished generation, or they have nothing in common that may
            be compared.
    """
    records = read(runs)
    metrics, settings = metrics_of(records), settings_of(records)
    with blaming(str(out), "a directory that can be made and written to"):
        out.mkdir(parents=True, exist_ok=True)
    write_table(out / "comparison.csv", settings, records)
    path = out / "comparison.html"
    write_atomically(path, _page(records, settings, metrics, title))
    return path


def _page(records: Sequence[Record], settings: Settings, metrics: Metrics, title: str) -> str:
    names = _class_names(records)
    styles = looks(settings)
    generation = tables.common_generation(records)
    return _template().render(
        title=title,
        subtitle=_subtitle(records, settings),
        status=_status(records),
        legend=list(zip(settings.all, map(_dashes, styles), styles, strict=True)),
        settings=settings,
        heads=settings.heads(),
        spelled=spelled,
        refused=_refused(metrics, names),
        generation=generation,
        held_back=_held_back(records),
        final=None if generation is None else tables.final_values(settings.all, metrics, generation, names),
        differences=None if generation is None else tables.differences(settings.all, metrics, generation, names),
        panels=_panels(settings, metrics, styles, names),
        constants=[(symbol(key, names), number(value)) for key, value in metrics.constants.items()],
        strips=strips(settings.all),
        region=_region(settings),
        assumptions=ASSUMPTIONS,
        times=tables.times(settings.all, [key for key in in_order(metrics.times) if family(key) == "seconds"]),
        labels={record.name: setting.label for setting in settings.all for record in setting.records},
        records=records,
    )


def _class_names(records: Sequence[Record]) -> list[str]:
    """Those of all runs; none where runs have other classes, of which one number would have several names."""
    found = [record.facts["class_names"] for record in records if record.facts.get("class_names")]
    return list(found[0]) if found and all(names == found[0] for names in found) else []


@cache
def _template() -> Template:
    reporting = Path(sc_loops.reporting.__file__).parent  # whose style the page has
    environment = Environment(
        loader=FileSystemLoader([Path(__file__).parent, reporting]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("comparison.html.j2")


def _subtitle(records: Sequence[Record], settings: Settings) -> str:
    seeds = {len(setting.records) for setting in settings.all}
    each = str(seeds.pop()) if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
    data = list(dict.fromkeys(str(r.facts["data/name"]) for r in records if "data/name" in r.facts))
    parts = [
        ", ".join(data[:MOST_NAMED]),
        _counted(len(settings.all), "setting"),
        f"{each} seed{'' if each == '1' else 's'} each" if len(settings.all) > 1 else _counted(int(each), "seed"),
    ]
    return " · ".join(part for part in parts if part)


def _status(records: Sequence[Record]) -> tuple[bool, str]:
    """Whether all runs are finished, and how far the others are."""
    behind = [record for record in records if not record.finished]
    if not behind:
        return True, f"{_counted(len(records), 'run')}, generation {_range(r.last for r in records)}"
    parts = [f"{record.name} is at generation {progress(record)}" for record in behind[:MOST_NAMED]]
    more = [f"{len(behind) - MOST_NAMED} more"] if len(behind) > MOST_NAMED else []
    return False, f"{len(records) - len(behind)} of {_counted(len(records), 'run')} finished; " + ", ".join(
        parts + more
    )


def progress(record: Record) -> str:
    """``12 of 50``: how far a run is."""
    return str(record.last) if record.total is None else f"{record.last} of {record.total}"


def _held_back(records: Sequence[Record]) -> str:
    """Why the last common generation is not the last of all; empty where it is."""
    first, last = min(r.last for r in records), max(r.last for r in records)
    behind = [r.name for r in records if r.last == first]
    shown = ", ".join(behind[:MOST_NAMED]) + (
        f" and {len(behind) - MOST_NAMED} more" if len(behind) > MOST_NAMED else ""
    )
    return "" if first == last else f"{shown} {'has' if len(behind) == 1 else 'have'} no later one"


def _refused(metrics: Metrics, names: Sequence[str]) -> str:
    """What may not be compared and for which config keys."""
    if not metrics.refused:
        return ""
    shown = ", ".join(symbol(key, names) for key in metrics.refused if "error" not in key)
    reasons = [f"{key}: {', '.join(map(spelled, values))}" for key, values in metrics.reason.items()]
    more = [f"{len(reasons) - MOST_NAMED} more"] if len(reasons) > MOST_NAMED else []
    reason = "; ".join(reasons[:MOST_NAMED] + more)
    return f"{shown} are not compared, since the runs differ in what these are of, or measured by ({reason})."


def _panels(
    settings: Settings, metrics: Metrics, styles: Sequence[Look], names: Sequence[str]
) -> dict[str, list[Panel]]:
    """Of the metrics, of the class shares, and of amounts, which are shown apart."""
    shares = [key for key in metrics.compared if family(key) == "class_share"]
    groups = {
        "metrics": [key for key in metrics.compared if key not in shares],
        "class_shares": shares,
        "amounts": metrics.amounts,
    }
    points = points_of(len(settings.all) * sum(map(len, groups.values())))
    theory = _theory(settings)
    return {
        group: [_panel(settings, key, styles, names, theory, points) for key in keys]
        for group, keys in groups.items()
    }


def _theory(settings: Settings) -> list[list[dict[str, Array]]]:
    """What theory expects of each run, setting by setting; of curated runs, of as many seeds as there is time for."""
    curated = [[r for r in setting.records if "choices" in r.facts] for setting in settings.all]
    one_seed = sum(max(r.last + 1 for r in records) for records in curated if records)
    seeds = MOST_CURATED // max(1, one_seed)
    return [
        [expected_series(r.run, r.last) for i, r in enumerate(s.records) if i < seeds or "choices" not in r.facts]
        for s in settings.all
    ]


def _panel(
    settings: Settings,
    key: str,
    styles: Sequence[Look],
    names: Sequence[str],
    theory: Sequence[Sequence[dict[str, Array]]],
    points: int,
) -> Panel:
    lines = [
        Line.of(setting, key, [path[key] for path in expected if key in path])
        for setting, expected in zip(settings.all, theory, strict=True)
    ]
    shown = [(line, look) for line, look in zip(lines, styles, strict=True) if len(line.t)]
    lines, styles = [line for line, _ in shown], [look for _, look in shown]
    known = max((sum(key in path for path in expected) for expected in theory), default=0)
    seeds = max(len(setting.records) for setting in settings.all)
    some = f", of {_counted(known, 'seed')}" if known < seeds else ""
    notes = [
        "" if family(key) == "class_share" else meaning(key),  # which is said once for all of them
        _real(settings, key),
        f"dashed: theory{some}" if known else "",
        "logarithmic" if is_wide(lines) else "",
        "a band that reaches 0 is drawn above its mean only" if has_open_band(lines) else "",
    ]
    caption = "; ".join(note for note in notes if note)
    figure = markup(panel(lines, styles, points=points), key)
    return Panel(symbol(key, names), figure, f"{caption[:1].upper()}{caption[1:]}{'.' if caption else ''}")


def _real(settings: Settings, key: str) -> str:
    """The real data's own value of a metric, where it is recorded and the same in all runs."""
    values = (record.values(f"{key}{REAL}") for setting in settings.all for record in setting.records)
    known = {float(value) for column in values for value in column if np.isfinite(value)}
    return f"real data: {number(known.pop())}" if len(known) == 1 else ""


def _region(settings: Settings) -> Markup | None:
    """The admissible region with a dot for each setting that corrects, or does nothing to its samples."""
    first = [setting.records[0] for setting in settings.all]
    found = {
        (float(strength), float(record.facts["synthetic_ratio"]))
        for record in first
        if "synthetic_ratio" in record.facts and (strength := strength_of(record)) is not None
    }
    if not any("strength" in record.facts for record in first) or not found:
        return None
    return markup(admissible_region(sorted(found)), "admissible region")


def strength_of(record: Record) -> float | None:
    """γ of a run that only corrects; 0 of one without stages."""
    return record.facts.get("strength", 0.0 if record.config.get("loop.stages") == () else None)


def _dashes(look: Look) -> str:
    """The dashes of ``look`` as SVG writes them, for a line 2 pixels wide."""
    return "" if look.dashes == "-" else " ".join(f"{2 * length:g}" for length in look.dashes[1])


def _range(values: Any) -> str:
    low, high = min(found := list(values)), max(found)
    return str(low) if low == high else f"{low} to {high}"


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
