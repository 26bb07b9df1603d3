"""The dashboard: a mirror of the run directory on Weights & Biases, offline unless told otherwise."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from typing import Any, Literal

import yaml

from sc_loops.reporting.history import rewards
from sc_loops.reporting.observer import Observer
from sc_loops.reporting.pictures import Camera
from sc_loops.run import Row, Run


class WandbDashboard(Observer):
    """Mirrors a run on Weights & Biases. A failure of it is said once; the run goes on without a dashboard.

    The metrics of generations have the generation as their axis, those of training (``train/...``) the
    optimizer step. The wandb run is named after the run directory and identified by its path, so that
    continuing the run continues the dashboard.

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
        self._log(lambda: keyed)

    def generation_finished(self, run: Run, row: Row) -> None:
        def content() -> Row:
            metrics = {**on_generation_axis(row), **_media(run, int(row["generation"]))}
            # One by one: a catch-all pattern would claim the training metrics too.
            for key in metrics.keys() - self._defined:
                self._wandb_run.define_metric(key, step_metric="generation")
                self._defined.add(key)
            return metrics

        self._log(content)

    def run_finished(self, run: Run) -> None:
        if run.report_path.exists():
            self._log(lambda: {"report": _wandb().Html(run.report_path.read_text(encoding="utf-8"), inject=False)})

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
            id=hashlib.sha256(str(run.path.resolve()).encode()).hexdigest()[:16],
            name=run.name,
            config={**config, "facts": run.facts()},
            # An offline run cannot look up whether it exists, and would complain about being asked to.
            resume="allow" if self.mode == "online" else None,
            settings=wandb.Settings(console="off", silent=True),
        )
        self._wandb_run.define_metric("generation")
        self._wandb_run.define_metric("train/step")
        self._wandb_run.define_metric("train/*", step_metric="train/step")
        self._defined = {"generation"}

    def _log(self, content: Callable[[], Row]) -> None:
        if self._wandb_run is not None:
            self._careful(lambda: self._wandb_run.log(content()))

    def _careful(self, action: Callable[[], None]) -> None:
        """Do ``action``; if it fails, say so in one line and never try anything again."""
        try:
            action()
        except Exception as error:
            self._wandb_run = None
            reason = " ".join(str(error).split())
            print(f"dashboard: off from here on ({type(error).__name__}: {reason})", file=sys.stderr)


def on_generation_axis(row: Row) -> Row:
    """The metrics of a generation under names of their own: ``train/...`` belongs to the optimizer steps."""
    return {f"mean_{key.removeprefix('train/')}" if key.startswith("train/") else key: v for key, v in row.items()}


def _media(run: Run, generation: int) -> Row:
    """The samples' picture and the histogram of their rewards."""
    wandb, media = _wandb(), {}
    camera = Camera.of(run)
    picture = None if camera is None else camera.take(generation)
    if picture is not None:
        zoom = max(1, 400 // picture.shape[1])  # small images would be shown blurred
        large = picture.repeat(zoom, axis=0).repeat(zoom, axis=1)
        media["samples"] = wandb.Image(large, caption=f"generation {generation}")
    values = rewards(run, generation)
    if values is not None and len(values):
        media["reward/histogram"] = wandb.Histogram(values)
    return media


def _wandb() -> Any:
    """The library, imported when first needed: it takes a second, and a broken one must not end a run."""
    import wandb

    return wandb
