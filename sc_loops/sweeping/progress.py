"""What a sweep says while it runs: a bar over all runs and a line for each that is under way; in a log, now and then
a line."""

from __future__ import annotations

from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from sc_loops.reporting.wording import duration
from sc_loops.sweeping import messages
from sc_loops.sweeping.messages import Outcome
from sc_loops.sweeping.plan import Member, Plan

PAUSE = 30.0  # seconds between two lines of a log, and at least one for each tenth of the runs


class SweepProgress:
    """Shows how far the ``plan`` is, of which ``finished`` runs were finished before. Use it as a context."""

    def __init__(self, plan: Plan, finished: int, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self.total, self.finished, self.failed = len(plan.members), finished, 0
        self.failures: list[tuple[Member, str]] = []
        self._before, self._began = finished, 0.0  # the time when a run first got on; workers have to start first
        self._share: dict[str, float] = {}  # of each run under way that is behind it
        self._tasks: dict[str, TaskID] = {}
        self._said, self._said_at = finished, monotonic()
        self._bars: Progress | None = None

    def __enter__(self) -> SweepProgress:
        if self._console.is_terminal:
            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(28, style="grey37", complete_style="cyan", finished_style="cyan"),
                TextColumn("{task.fields[detail]}"),
                console=self._console,
                transient=True,
                refresh_per_second=4,
            )
            detail = "starting the workers"
            self._overall = self._bars.add_task("", total=self.total, completed=self.finished, detail=detail)
            self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def note(self, member: Member, heard: messages.Progress | Outcome | None) -> None:
        """Take what was heard of a run: see ``crew.Listener``."""
        if heard is not None and not self._began:
            self._began = monotonic()
        if isinstance(heard, Outcome):
            self._ended(member, heard)
        else:
            self._share[member.name] = heard.done if heard else 0.0
            self._show_run(member, heard)
        self._show_all()

    def left(self) -> float | None:
        """Seconds until the end, if the work still to do goes on at the pace so far."""
        done = self.finished + self.failed - self._before + sum(self._share.values())
        if done <= 0:
            return None
        rest = self.total - self.finished - self.failed - sum(self._share.values())
        return (monotonic() - self._began) * rest / done

    def _ended(self, member: Member, outcome: Outcome) -> None:
        self._share.pop(member.name, None)
        if outcome.how == "finished":
            self.finished += 1
        elif outcome.how == "failed":
            self.failed += 1
            self.failures.append((member, outcome.message))
        if self._bars is not None and member.name in self._tasks:
            self._bars.remove_task(self._tasks.pop(member.name))

    def _show_run(self, member: Member, heard: messages.Progress | None) -> None:
        if self._bars is None:
            return
        detail = f"generation {heard.generation}/{member.generations}" if heard else "preparing"
        if member.name not in self._tasks:
            self._tasks[member.name] = self._bars.add_task(f"  {member.name}", total=1.0, detail=detail)
        done = heard.done if heard else 0.0
        self._bars.update(self._tasks[member.name], completed=done, detail=detail)

    def _show_all(self) -> None:
        ended = self.finished + self.failed
        if self._bars is not None:
            self._bars.update(self._overall, description=self._runs(), completed=ended, detail=self._rest())
            return
        tenths = 10 * ended // self.total > 10 * self._said // self.total
        late = monotonic() - self._said_at >= PAUSE
        if tenths or late:
            self._said, self._said_at = ended, monotonic()
            self._console.print(f"{self._runs()}  {self._rest()}".rstrip(), soft_wrap=True)

    def _runs(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.finished} of {self.total} runs finished{failed}"

    def _rest(self) -> str:
        left = self.left()
        return "" if left is None or self.finished + self.failed == self.total else f"about {duration(left)} left"
