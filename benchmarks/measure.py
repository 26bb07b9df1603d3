"""Two ways of doing one thing, timed in turns, and compared round by round.

The clock of a shared machine drifts by more than the ways differ, so a number of seconds says little. The ratio of
two ways that ran within seconds of each other says much, and the median over some rounds more.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch and numpy are imported

import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning import Callback, Trainer

from sc_loops import GenerativeModel, LoopDataModule, RealData, SelfConsumingLoop


@dataclass
class Cost:
    """Seconds of processor time, of all threads of the process, and seconds on the wall."""

    cpu: float
    wall: float


Name = TypeVar("Name")
Way = Callable[[], Cost]
"""Does the work once. What is not to be timed it does outside of ``timed``."""


class Stopwatch:
    """Started and stopped by hand; ``timed()`` does both."""

    def start(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        self.cost = Cost(time.process_time() - self._cpu, time.perf_counter() - self._wall)


@contextmanager
def timed() -> Iterator[Stopwatch]:
    watch = Stopwatch()
    watch.start()
    yield watch
    watch.stop()


def interleaved(ways: Mapping[Name, Way], rounds: int) -> dict[Name, list[Cost]]:
    """The costs of each way in each of ``rounds``, in which the ways take turns, after a round that is not
    counted. Every second round goes backwards, so that no way always follows the same other."""
    for way in ways.values():
        way()
    costs: dict[Name, list[Cost]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways) if number % 2 else reversed(list(ways)):
            costs[name].append(ways[name]())
    return costs


def cpu_ratio(over: list[Cost], under: list[Cost]) -> float:
    """The median over the rounds of the ratio of processor times."""
    return statistics.median(a.cpu / b.cpu for a, b in zip(over, under, strict=True))


def wall_ratio(over: list[Cost], under: list[Cost]) -> float:
    """The median over the rounds of the ratio of wall times."""
    return statistics.median(a.wall / b.wall for a, b in zip(over, under, strict=True))


def milliseconds(costs: list[Cost]) -> float:
    """The median processor time."""
    return 1e3 * statistics.median(c.cpu for c in costs)


def quiet() -> None:
    """One thread, and none of Lightning's remarks about the machine."""
    torch.set_num_threads(1)
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore")


def fit(
    loop: SelfConsumingLoop,
    model: GenerativeModel,
    data: RealData,
    batch_size: int,
    *,
    checkpoint: Path | None = None,
    callbacks: Sequence[Callback] = (),
    **trainer: Any,
) -> None:
    """Fit as ``sc-loops train`` does, from ``checkpoint`` on if one is given."""
    Trainer(
        accelerator="cpu",
        devices=1,
        callbacks=[loop, *callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **trainer,
    ).fit(model, LoopDataModule(data, batch_size=batch_size), ckpt_path=checkpoint)
