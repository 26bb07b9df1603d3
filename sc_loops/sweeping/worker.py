"""A worker of a sweep: a process that carries out one run after another, so that only the first pays for imports.

A signal lets the present run save and stop. When the command that started it is gone, a worker ends at once.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from time import monotonic
from typing import Any

import torch

from sc_loops.correction.physics.workers import CORES
from sc_loops.errors import Stopped
from sc_loops.experiment import build
from sc_loops.processes import Processes
from sc_loops.reporting.observer import Observer
from sc_loops.reporting.report import HtmlReport
from sc_loops.run import Row, Run
from sc_loops.signals import end_at_once
from sc_loops.start import carry_out, quieten
from sc_loops.sweeping.messages import Order, Outcome, Progress, told

ERROR, OUTPUT = "error.txt", "output.txt"  # in the directory of a run
_LONG = 60.0  # seconds; a run that took less gets its report when somebody asks for it


@dataclass(frozen=True)
class Place:
    """What a worker has for itself: so many ``threads``, and the name of a ``gpu`` where there are any."""

    threads: int
    gpu: str | None = None


def work(pipe: Connection, place: Place) -> None:
    """Carry out the orders that come through ``pipe``, and say how each run gets on and ends, until a signal comes or
    the other end is gone."""
    interruption = Interruption()
    quieten()
    if place.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = place.gpu
    os.environ[CORES] = str(place.threads)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(place.threads)
    gc.freeze()  # what was imported stays, and need not be looked through after each run
    orders: SimpleQueue[Order] = SimpleQueue()
    Thread(target=_listen, args=(pipe, orders), daemon=True).start()
    with suppress(Stopped):
        while True:
            with interruption.possible():
                order = orders.get()
            _send(pipe, _outcome(order, pipe, interruption))
            gc.collect()


def _listen(pipe: Connection, orders: SimpleQueue[Order]) -> None:
    """Take what comes through ``pipe``. When its other end is gone, so is all interest in this process; what is on
    the disk is safe at any moment."""
    while True:
        try:
            orders.put(pipe.recv())
        except (EOFError, OSError):
            end_at_once(1)


def _send(pipe: Connection, message: Progress | Outcome) -> None:
    with suppress(OSError):  # the listener ends this process
        pipe.send(message)


class Interruption:
    """What SIGTERM, SIGUSR1 and Ctrl-C do while no loop listens to them: raise ``Stopped`` once, in the places where
    that is ``possible``. A second Ctrl-C ends the process at once."""

    def __init__(self) -> None:
        self._possible = False
        self._signum: int | None = None
        self.listen()

    def listen(self) -> None:
        """(Re)install the handlers, which a run replaces."""
        for signum in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            signal.signal(signum, self._received)

    @contextmanager
    def possible(self) -> Iterator[None]:
        """Where ``Stopped`` may be raised, also for a signal that came before."""
        self._possible = True
        try:
            if self._signum is not None:
                raise Stopped(self._signum)
            yield
        finally:
            self._possible = False

    def _received(self, signum: int, frame: object) -> None:
        if self._signum is not None:
            if signum == signal.SIGINT:
                end_at_once(130)
            return
        self._signum = signum
        if self._possible:
            raise Stopped(signum)


def _outcome(order: Order, pipe: Connection, interruption: Interruption) -> Outcome:
    """Carry out ``order``; what became of it."""
    run = Run(Path(order.resolved["output"]) / order.name)
    error_path = run.path / ERROR
    try:
        with _output_in(run.path / OUTPUT):
            try:
                with interruption.possible():
                    error_path.unlink(missing_ok=True)
                    _carry_out(order.resolved, run, pipe)
                return Outcome("finished")
            except (Stopped, KeyboardInterrupt) as stop:
                return Outcome("stopped", told(stop))
            except (Exception, SystemExit) as error:
                with suppress(OSError):
                    error_path.write_text(traceback.format_exc(), encoding="utf-8")
                return Outcome("failed", told(error))
            finally:
                interruption.listen()
    except OSError as error:  # there is no place for the output
        return Outcome("failed", told(error))


def _carry_out(resolved: dict[str, Any], run: Run, pipe: Connection) -> None:
    experiment = build(resolved, run)
    experiment.check()
    together = Processes()
    experiment.prepare(together)
    observers: list[Observer] = [Messenger(pipe), LateReport()]
    if experiment.wandb.mode != "disabled":
        observers.append(experiment.wandb)
    carry_out(experiment, run, resolved, together, observers)


@contextmanager
def _output_in(path: Path) -> Iterator[None]:
    """Have all that this process prints in the file ``path``, which goes again if that is nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _flush()
    kept = [(number, os.dup(number)) for number in (1, 2)]
    try:
        with path.open("ab") as file:
            for number, _ in kept:
                os.dup2(file.fileno(), number)
        yield
    finally:
        _flush()
        for number, copy in kept:
            os.dup2(copy, number)
            os.close(copy)
        with suppress(OSError):
            if path.stat().st_size == 0:
                path.unlink()


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


class Messenger(Observer):
    """Tells the command of the sweep how far the run is, a few times a second."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._generations, self._quiet_until = pipe, 0, 0.0

    def run_started(self, run: Run, generations: int, start: int) -> None:
        self._generations = generations
        self._say(min(start, generations), 0.0)

    def progress(self, generation: int, phase: str, done: int, total: int, unit: str) -> None:
        # What comes after training is not counted: a guess would be no better than none.
        self._say(generation, done / total if phase == "training" and total else 0.0)

    def generation_finished(self, run: Run, row: Row) -> None:
        self._say(min(int(row["generation"]) + 1, self._generations), 0.0)

    def _say(self, generation: int, within: float) -> None:
        now = monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + 0.2
            _send(self._pipe, Progress(generation, (generation + within / 2) / (self._generations + 1)))


class LateReport(HtmlReport):
    """The report of a run, drawn once at its end, and only if the run took so long that drawing costs little."""

    def run_started(self, run: Run, generations: int, start: int) -> None:
        self._began = monotonic()

    def generation_finished(self, run: Run, row: Row) -> None:
        """Nothing yet."""

    def run_finished(self, run: Run) -> None:
        if monotonic() - self._began >= _LONG:
            super().generation_finished(run, {})
