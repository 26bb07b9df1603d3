"""The dashboard: a mirror of the run directory on Weights & Biases, offline unless told otherwise."""

from __future__ import annotations

import contextlib
import errno
import io
import secrets
import shutil
import sys
from collections.abc import Callable
from threading import Thread
from typing import Any, Literal

import yaml

from sc_loops.reporting.history import recorded_motions, rewards
from sc_loops.reporting.motion_pictures import film
from sc_loops.reporting.observer import Observer
from sc_loops.reporting.pictures import Camera
from sc_loops.run import Row, Run

_PATIENCE = 60.0  # seconds that wandb may take to answer a call


class WandbDashboard(Observer):
    """Mirrors a run on Weights & Biases. A failure of it is said once; the run goes on without a dashboard.

    The metrics of generations have the generation as their axis, those of training (``train/...``) the
    optimizer step. The wandb run is named after the run directory and identified by a random id that is kept in
    it, so that continuing the run continues the dashboard, also where the directory was moved. wandb's own step
    is the number of lines of metrics.jsonl: it never goes backwards.

    Args:
        project: the W&B project.
        mode: ``offline`` writes below the run directory, for ``wandb sync`` later; ``online`` needs a login.
        entity: user or team; your default if not given.
        group: shown together on the dashboard, e.g. the seeds of one experiment.
        tags: labels to filter by.
    """

    def __init__(
        self,
        *,
        project: str = "sc_loops",
        mode: Literal["offline", "online", "disabled"] = "offline",
        entity: str | None = None,
        group: str | None = None,
        tags: tuple[str, ...] = (),
    ) -> None:
        self.project, self.mode, self.entity, self.group, self.tags = project, mode, entity, group, tags
        self._defined: set[str] = set()
        self._wandb_run: Any = None  # None before the start, after the end and after a failure

    def run_started(self, run: Run, generations: int, start: int) -> None:
        self._careful(lambda: self._open(run))

    def training_row(self, run: Run, row: Row) -> None:
        keyed = {key if key.startswith("train/") else f"train/{key}": value for key, value in row.items()}
        self._log(run, lambda: keyed)

    def generation_finished(self, run: Run, row: Row) -> None:
        def content() -> Row:
            metrics = {**on_generation_axis(row), **_media(run, int(row["generation"]))}
            # One by one: a catch-all pattern would claim the training metrics too.
            for key in metrics.keys() - self._defined:
                self._wandb_run.define_metric(key, step_metric="generation")
                self._defined.add(key)
            return metrics

        self._log(run, content)

    def run_finished(self, run: Run) -> None:
        if run.report_path.exists():
            page = run.report_path.read_text(encoding="utf-8")
            self._log(run, lambda: {"report": _wandb().Html(page, inject=False)})

    def closed(self) -> None:
        if self._wandb_run is not None:
            self._careful(lambda: self._wandb_run.finish())
        self._wandb_run = None

    def _open(self, run: Run) -> None:
        wandb = _wandb()
        config = yaml.safe_load(run.config_path.read_text()) if run.config_path.exists() else {}
        self._wandb_run = wandb.init(
            project=self.project,
            entity=self.entity,
            group=self.group,
            tags=list(self.tags),
            mode=self.mode,
            dir=str(run.path),
            id=_identity(run),
            name=run.name,
            config={**config, "facts": run.facts()},
            # An offline run cannot look up whether it exists, and would complain about being asked to.
            resume="allow" if self.mode == "online" else None,
            settings=wandb.Settings(console="off", silent=True, init_timeout=_PATIENCE - 10),
        )
        self._wandb_run.define_metric("generation")
        self._wandb_run.define_metric("train/step")
        self._wandb_run.define_metric("train/*", step_metric="train/step")
        self._defined = {"generation"}

    def _log(self, run: Run, content: Callable[[], Row]) -> None:
        def log() -> None:
            _require_space(run)
            self._wandb_run.log(content(), step=_lines(run))

        if self._wandb_run is not None:
            self._careful(log)

    def _careful(self, action: Callable[[], None]) -> None:
        """Do ``action``; if it fails or takes too long, say so in one line and never try anything again."""
        try:
            _within(_PATIENCE, action)
        except (Exception, SystemExit) as error:
            self._wandb_run = None
            reason = " ".join(str(error).split())
            print(f"dashboard: off from here on ({type(error).__name__}: {reason})", file=sys.stderr)
            # Or else wandb would, at the exit of the process, complain of a service that is gone or wait for one
            # that hangs.
            with contextlib.suppress(Exception, SystemExit):
                _within(_PATIENCE / 6, lambda: _wandb().teardown())


def _within(seconds: float, action: Callable[[], None]) -> None:
    """Do ``action`` and raise what it raises, or a TimeoutError if it is not done after ``seconds``. It is then left
    to itself, in a thread that does not keep the process alive."""
    raised: list[BaseException] = []

    def act() -> None:
        try:
            action()
        except BaseException as error:
            raised.append(error)

    thread = Thread(target=act, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {seconds:g} s")
    if raised:
        raise raised[0]


def _identity(run: Run) -> str:
    """The id of the wandb run, made at random once."""
    path = run.path / "wandb" / "run-id.txt"
    if path.exists() and (known := path.read_text().strip()):
        return known
    path.parent.mkdir(parents=True, exist_ok=True)
    identity = secrets.token_hex(8)
    path.write_text(identity + "\n")
    return identity


def _require_space(run: Run) -> None:
    """wandb's service writes the files and keeps it to itself when it cannot."""
    if shutil.disk_usage(run.path / "wandb").free < 2**20:
        raise OSError(errno.ENOSPC, "No space left for it", str(run.path / "wandb"))


def _lines(run: Run) -> int:
    """How many rows the record holds: rows are only ever appended, and before observers are told."""
    return run.metrics_path.read_bytes().count(b"\n")


def on_generation_axis(row: Row) -> Row:
    """The metrics of a generation under names of their own: ``train/...`` belongs to the optimizer steps."""
    return {f"mean_{key.removeprefix('train/')}" if key.startswith("train/") else key: v for key, v in row.items()}


def _media(run: Run, generation: int) -> Row:
    """The samples' picture, a film of motions, and the histogram of the samples' rewards."""
    wandb, media = _wandb(), {}
    camera = Camera.of(run)
    picture = None if camera is None else camera.take(generation)
    if picture is not None:
        zoom = max(1, 400 // picture.shape[1])  # small images would be shown blurred
        large = picture.repeat(zoom, axis=0).repeat(zoom, axis=1)
        media["samples"] = wandb.Image(large, caption=f"generation {generation}")
    motions, preview = recorded_motions(run), run.pool(generation).preview
    if motions is not None and preview is not None:
        moving, captions = film(motions, preview)
        media["motions"] = wandb.Video(io.BytesIO(moving), caption=captions or None, format="gif")
    values = rewards(run, generation)
    if values is not None and len(values):
        media["reward/histogram"] = wandb.Histogram(values)
    return media


def _wandb() -> Any:
    """The library, imported when first needed: it takes a second, and a broken one must not end a run."""
    import wandb

    return wandb
