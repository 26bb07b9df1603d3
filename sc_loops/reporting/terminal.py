"""What a run says on the terminal: a banner, live progress, and one line a generation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from sc_loops.disk import free_bytes
from sc_loops.reporting.history import generation_rows, keys_of, measured
from sc_loops.reporting.observer import Observer
from sc_loops.reporting.wording import change, class_name, count, duration, exact, number, policies, size
from sc_loops.run import Row, Run

WIDTH = 140
MOST_LINES = 50  # status lines of a run
MOST_REASONS = 8  # lines of the banner on what was left out of the data
TYPICAL = 5  # generations whose time tells how long the next ones take


class Terminal(Observer):
    """A banner, progress bars while the run works, and a status line for each generation, or for some fifty of many.

    Where the output is not a terminal (a log file) there are no bars: only the banner and the lines.
    """

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._progress: Progress | None = None
        self._overall, self._phase = TaskID(0), TaskID(1)
        self._pace = Pace()
        self._quiet_until = 0.0  # redrawing at every step would cost a fast one a few per cent

    def run_started(self, run: Run, generations: int, start: int) -> None:
        self._generations = generations
        self._rows = generation_rows(run)
        self._shown = self._rows[-1] if self._rows else None
        self._generation_began = monotonic()
        self._print(banner(run, generations, start))
        if self._console.is_terminal and start <= generations:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(28, style="grey37", complete_style="cyan", finished_style="cyan"),
                TextColumn("{task.fields[detail]}"),
                console=self._console,
                transient=True,
                refresh_per_second=8,
            )
            self._overall = self._progress.add_task("generation", total=generations + 1, completed=start, detail="")
            self._phase = self._progress.add_task("", total=None, detail="")
            self._progress.start()

    def progress(self, generation: int, phase: str, done: int, total: int, unit: str) -> None:
        now = monotonic()
        if self._progress is None or now < self._quiet_until:
            return
        self._quiet_until = now + 0.1
        rate = self._pace.rate(generation, done, unit)
        detail = f"{count(done)} of {count(total)} {unit}"
        if rate and done < total:
            detail += f"   {number(rate)} {unit}/s   {duration((total - done) / rate)} left"
        self._progress.update(self._phase, description=f"{phase:<16}", completed=done, total=total, detail=detail)
        name = f"generation {generation}/{self._generations}"
        left = self._left(generation)
        self._progress.update(
            self._overall,
            description=f"{name:<16}",
            completed=generation,
            detail="" if left is None else f"about {duration(left)} left",
        )

    def generation_finished(self, run: Run, row: Row) -> None:
        self._rows.append(row)
        self._generation_began = monotonic()
        generation = int(row["generation"])
        if generation % -(-self._generations // MOST_LINES or 1) and generation != self._generations:
            return
        previous, self._shown = self._shown, row
        names, bars = run.facts().get("class_names", ()), self._progress is not None
        width = min(WIDTH, self._console.width) if self._console.is_terminal else WIDTH
        left = self._left(generation + 1)
        line = status_line(
            row,
            previous,
            generations=self._generations,
            class_names=names,
            width=width if bars else width - len("  59.9 min left"),
        )
        if left and not bars:  # the bars say it already
            line.append(f"  {duration(left):>8} left", "dim")
        self._print(line)

    def run_finished(self, run: Run) -> None:
        self._stop()
        text = Text.assemble("\n", ("done  ", "bold green"), "report  ", (str(run.report_path), "bold"))
        if not run.report_path.exists():
            text = Text.assemble("\n", ("done  ", "bold green"), "run  ", (str(run.path), "bold"))
        self._print(text)

    def closed(self) -> None:
        self._stop()

    def _left(self, generation: int) -> float | None:
        """Seconds until the end of the run, if ``generation`` and those after it take as long as the last few
        did. Generation 0 is often longer than the others, so nothing is promised from it alone."""
        last = self._rows[-TYPICAL:]
        known = [row["seconds/total"] for row in last if row["generation"] > 0 and "seconds/total" in row]
        if not known:
            return None
        whole = sum(known) / len(known) * (self._generations + 1 - generation)
        return max(0.0, whole - (monotonic() - self._generation_began))

    def _print(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class Pace:
    """Items per second since the present kind of work (steps or samples) of a generation began."""

    def __init__(self) -> None:
        self._of: tuple[int, str] | None = None
        self._start = self._last = (0, 0.0)

    def rate(self, generation: int, done: int, unit: str) -> float | None:
        """Note that ``done`` items are behind us; the rate so far, or None as long as nothing was seen to be
        done."""
        if self._of != (generation, unit):
            self._of, self._start, self._last = (generation, unit), (done, monotonic()), (done, 0.0)
        if done > self._last[0]:
            self._last = (done, monotonic())
        items, seconds = self._last[0] - self._start[0], self._last[1] - self._start[1]
        return items / seconds if items > 0 and seconds > 0 else None


def banner(run: Run, generations: int, start: int) -> Text:
    """What runs, where and on what, one aligned line each."""
    facts = run.facts()
    lines: list[tuple[str, list[str]]] = [
        ("run", [str(run.path)]),
        (
            "data",
            [
                str(facts.get("data/name", "")),
                _with_unit(facts, "real_items", "real items"),
                f"{len(facts['class_names'])} classes" if facts.get("class_names") else "",
            ],
        ),
        *(("left out" if i == 0 else "", [line]) for i, line in enumerate(_left_out(facts))),
        (
            "loop",
            [
                f"generations 0 to {generations}",
                f"λ = {exact(facts['synthetic_ratio'])}" if "synthetic_ratio" in facts else "",
                *policies(facts),
                _with_unit(facts, "samples_per_generation", "samples per generation"),
            ],
        ),
        (
            "model",
            [
                _with_unit(facts, "parameters", "parameters"),
                f"batch size {facts['batch_size']}" if "batch_size" in facts else "",
            ],
        ),
        ("device", [str(facts.get("device", ""))]),
        (
            "disk",
            [f"about {size(facts['disk/expected_bytes'])} in all", f"{size(free_bytes(run.path))} free"]
            if "disk/expected_bytes" in facts
            else [],
        ),
        (
            "classifier",
            [f"{100 * facts['classifier/test_accuracy']:.1f} % test accuracy"]
            if "classifier/test_accuracy" in facts
            else [],
        ),
        ("start", [f"generation 0 is {facts['start']}"] if "start" in facts else []),
        ("resuming", [f"at generation {start}", _checkpoint(run)] if _resumes(run, start, generations) else []),
    ]
    text = Text.assemble("\n", ("sc_loops", "bold cyan"), "  ", (run.name, "bold"), "\n")
    for label, parts in lines:
        if any(parts):
            text.append(f"  {label:<12}", "dim").append(" · ".join(p for p in parts if p)).append("\n")
    return text


def _left_out(facts: Row) -> list[str]:
    """A line for each kind of reason for which something of the source is not among the data."""
    lines = [str(line) for line in facts.get("data/left_out", [])]
    more = len(lines) - MOST_REASONS
    return lines if more <= 0 else [*lines[:MOST_REASONS], f"and {more} more, see the report"]


def _resumes(run: Run, start: int, generations: int) -> bool:
    begun = start > 0 and "start" not in run.facts()
    return start <= generations and (begun or run.last_checkpoint.exists())


def _checkpoint(run: Run) -> str:
    """The name of the checkpoint that the run goes on from."""
    return f"from {run.last_checkpoint.resolve().name}" if run.last_checkpoint.exists() else ""


def _with_unit(facts: Row, key: str, unit: str) -> str:
    return f"{count(facts[key])} {unit}" if key in facts else ""


@dataclass(frozen=True)
class Cell:
    """One column of the status line. Where the line gets too long the highest ``rank`` goes first."""

    rank: int
    text: Text


def status_line(
    row: Row,
    previous: Row | None,
    *,
    generations: int,
    class_names: Sequence[str] = (),
    width: int = WIDTH,
) -> Text:
    """A generation in one line of at most ``width`` columns.

    Columns have fixed widths and depend only on which metrics the run has, so lines stand below one another;
    in brackets is the change against ``previous``.
    """
    cells = _cells(row, previous or {}, generations, class_names)
    while sum(len(c.text) + 2 for c in cells) - 2 > width and len(cells) > 1:
        cells.remove(max(cells, key=lambda cell: cell.rank))
    line = Text("  ").join(cell.text for cell in cells)
    line.rstrip()
    return line


def _cells(row: Row, previous: Row, generations: int, class_names: Sequence[str]) -> list[Cell]:
    digits = len(str(generations))
    cells = [Cell(0, Text.assemble(("gen ", "dim"), (f"{row['generation']:>{digits}}/{generations}", "bold")))]
    if "train/loss" in row:
        cells.append(Cell(4, _named("loss", row["train/loss"])))
    if "synthetic_items" in row and "real_items" in row:
        real, synthetic = count(row["real_items"]), count(row["synthetic_items"])
        wide = max(4, len(real), len(synthetic))
        cells.append(Cell(7, Text(f"{real:>{wide}} real + {synthetic:>{wide}} syn")))
    if "items_seen" in row:
        cells.append(Cell(10, Text.assemble(("seen ", "dim"), f"{count(row['items_seen']):>6}")))
    if "samples" in row and "seconds/sampling" in row:
        took = f"{count(row['samples'])} samples in {duration(row['seconds/sampling']):>7}"
        cells.append(Cell(8, Text(took)))
    if row.get("nfe"):  # a model in closed form has no network
        cells.append(Cell(9, Text(f"{row['nfe']:>4.0f} nfe")))
    compared = [(3, "reward", "reward/mean"), (2, "e^r", "exp_reward/mean")]
    cells += [Cell(rank, _compared(name, row, previous, key)) for rank, name, key in compared if key in row]
    cells += [Cell(3, _named("ω", row["improvement/omega"]))] if "improvement/omega" in row else []
    cells += _class_cell(row, class_names)
    distances = [("W2", k) for k in keys_of([row], "wasserstein_2")]
    distances += [("FD", k) for k in keys_of([row], "frechet_distance")]
    distances += [("energy", k) for k in keys_of([row], "energy_distance")]
    distances = [(name, key) for name, key in distances if measured([key])]
    cells += [Cell(2, _compared(name, row, previous, key)) for name, key in distances[:1]]
    cells += _motion_cells(row, previous)
    if recalls := keys_of([row], "recall"):
        cells.append(Cell(11, _compared("recall", row, previous, recalls[0])))
    if "seconds/total" in row:
        cells.append(Cell(1, Text(f"{duration(row['seconds/total']):>8}")))
    return cells


def _motion_cells(row: Row, previous: Row) -> list[Cell]:
    """How physical and how varied motions are, and the most frequent status of correction."""
    cells = []
    if "physical/error" in row:
        cells.append(Cell(3, _compared("error mm", row, previous, "physical/error")))
    if diversities := measured(keys_of([row], "diversity")):
        cells.append(Cell(5, _compared("diversity", row, previous, diversities[0])))
    if shares := {k.rpartition("/")[2]: row[k] for k in measured(keys_of([row], "correction/status"))}:
        top = max(shares, key=lambda status: shares[status])
        cells.append(Cell(6, Text.assemble((f"{top:<12} ", "dim"), f"{100 * shares[top]:>3.0f} %")))
    return cells


def _named(name: str, value: float) -> Text:
    return Text.assemble((f"{name} ", "dim"), f"{number(value, 3):>6}")


def _compared(name: str, row: Row, previous: Row, key: str) -> Text:
    """``W2  0.210 (+0.020)``, the bracket as wide as it gets."""
    difference = change(row[key], previous.get(key), 3)
    return _named(name, row[key]).append(f" {f'({difference})' if difference else '':<8}", "cyan")


def _class_cell(row: Row, class_names: Sequence[str]) -> list[Cell]:
    """The largest class and its share."""
    shares = {k.split("/", 1)[1]: row[k] for k in keys_of([row], "class_share")}
    if not shares:
        return []
    top = max(shares, key=lambda k: shares[k])
    names = {k: class_name(k, class_names).removeprefix("class ") for k in shares}
    longest = min(12, max(map(len, names.values())))
    text = Text.assemble((f"class {names[top][:longest]:<{longest}} ", "dim"), f"{100 * shares[top]:>3.0f} %")
    return [Cell(6, text)]
