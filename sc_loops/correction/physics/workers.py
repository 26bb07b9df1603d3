"""Processes that do one job at a time. One that dies is replaced; none outlives the process that has them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.util import Finalize
from queue import SimpleQueue
from threading import Thread
from types import ModuleType
from typing import Any

from tqdm import tqdm

from sc_loops.cores import usable_cores

Work = Callable[[Any], Any]
"""What the workers do with a job: a function at the top of a module, which never raises."""

CORES = "SC_LOOPS_CORES"
"""The environment variable that says how many cores a run has for itself, where several share a machine."""

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_SHOWN_AFTER = 5.0  # seconds, until there is a progress bar
_PRELOADED = ["sc_loops.correction.physics.clips"]


def available_cores() -> int:
    """Cores that this process may use: its share of what the runs of a sweep have, and the processes of a loop."""
    cores = int(os.environ.get(CORES, usable_cores()))
    # torchrun says how many there are on this machine, Lightning how many there are.
    together = os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("WORLD_SIZE") or "1"
    return max(1, cores // int(together))


class Workers:
    """Processes that are started with the first jobs and stay until ``close``, or the end of this process.

    Args:
        count: 1 or more; None for as many as there are cores.
        work: is given each job, in one of the processes.
    """

    def __init__(self, count: int | None, work: Work) -> None:
        self._asked, self._work = count, work
        self._workers: list[_Worker] = []

    @property
    def count(self) -> int:
        """The most there are at a time. Cores are counted anew, since Lightning starts processes in between."""
        return self._asked or available_cores()

    def map(self, jobs: Sequence[Any], lost: Callable[[Any, str], Any]) -> list[Any]:
        """What becomes of ``jobs``, in their order.

        Args:
            lost: what takes the place of a result, given the job and the reason, where two workers died over it.
        """
        if len(self._workers) > self.count:
            self.close()
        results: dict[int, Any] = {}
        waiting, tries = deque(range(len(jobs))), [0] * len(jobs)
        bar = tqdm(total=len(jobs), desc="correcting", unit="clip", delay=_SHOWN_AFTER, leave=False, disable=None)
        try:
            with bar:
                while len(results) < len(jobs):
                    self._hand_out(jobs, waiting, tries)
                    for worker in self._heard():
                        number, result = self._result(worker, jobs, waiting, tries, lost)
                        if result is not None:
                            results[number] = result
                            bar.update()
        except BaseException:  # also Ctrl-C, after which what the workers are at is of no use
            self.close(at_once=True)
            raise
        return [results[number] for number in range(len(jobs))]

    def close(self, *, at_once: bool = False) -> None:
        """End the processes; the next jobs start new ones."""
        for worker in self._workers:
            worker.pipe.close()  # all at once, then each in turn
        for worker in self._workers:
            worker.end(at_once)
        self._workers.clear()

    def _hand_out(self, jobs: Sequence[Any], waiting: deque[int], tries: list[int]) -> None:
        while waiting and len(self._workers) < self.count and all(w.job is not None for w in self._workers):
            self._workers.append(_Worker(self._work))
            self._give(self._workers[-1], jobs, waiting, tries)
        for worker in self._workers:
            if waiting and worker.job is None:
                self._give(worker, jobs, waiting, tries)

    @staticmethod
    def _give(worker: _Worker, jobs: Sequence[Any], waiting: deque[int], tries: list[int]) -> None:
        number = waiting.popleft()
        tries[number] += 1
        worker.begin(number, jobs[number])

    def _heard(self) -> list[_Worker]:
        busy = {worker.pipe: worker for worker in self._workers if worker.job is not None}
        return [busy[pipe] for pipe in wait(list(busy))]  # type: ignore[index]

    def _result(
        self,
        worker: _Worker,
        jobs: Sequence[Any],
        waiting: deque[int],
        tries: list[int],
        lost: Callable[[Any, str], Any],
    ) -> tuple[int, Any]:
        """The number of the job that ``worker`` was at, and its result; None where another one will try."""
        number = worker.job
        assert number is not None  # only who has a job is waited for
        try:
            result = worker.pipe.recv()
        except (EOFError, OSError):
            self._workers.remove(worker)
            how = worker.end()
            if tries[number] > 1:
                return number, lost(jobs[number], how)
            waiting.appendleft(number)
            return number, None
        worker.job = None
        return number, result


class _Worker:
    """A worker as its owner sees it."""

    def __init__(self, work: Work) -> None:
        context: Any = multiprocessing.get_context(_method())
        self.job: int | None = None  # number of what it is at
        self.pipe: Connection
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, work), name="physics", daemon=True)
        with _one_thread(), _not_importing_main(work):
            self._process.start()
        theirs.close()
        # Before multiprocessing joins its children at exit, which would wait for ever.
        self._at_exit = Finalize(self, _end, args=(self.pipe, self._process, True), exitpriority=10)

    def begin(self, number: int, job: Any) -> None:
        self.job = number
        with suppress(OSError):  # it has died, which is noticed where it is heard
            self.pipe.send(job)

    def end(self, at_once: bool = False) -> str:
        """Let it end, and wait until it has; what is known of how."""
        self._at_exit.cancel()
        return _end(self.pipe, self._process, at_once)


def _end(pipe: Connection, process: Any, at_once: bool) -> str:
    if at_once:
        process.kill()
    with suppress(OSError):
        pipe.close()  # upon which it ends
    process.join(5)
    if process.is_alive():
        process.kill()
        process.join()
    status = process.exitcode
    if status is not None and status < 0:
        return f"its process was ended by {signal.Signals(-status).name}"
    return f"its process ended with status {status}"


def _serve(pipe: Connection, work: Work) -> None:
    """A worker's life: do what comes through ``pipe`` until its other end is gone. Signals to the whole group of
    processes are the owner's business."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    jobs: SimpleQueue[Any] = SimpleQueue()
    Thread(target=_listen, args=(pipe, jobs), daemon=True).start()
    while True:
        result = work(jobs.get())
        with suppress(OSError):  # the listener ends this process
            pipe.send(result)


def _listen(pipe: Connection, jobs: SimpleQueue[Any]) -> None:
    while True:
        try:
            jobs.put(pipe.recv())
        except (EOFError, OSError):
            os._exit(0)


def _method() -> str:
    """How processes are started: forked from one that has imported what they need, where that is possible."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return "spawn"
    multiprocessing.get_context("forkserver").set_forkserver_preload(_PRELOADED)
    return "forkserver"


@contextmanager
def _one_thread() -> Iterator[None]:
    """Within it, processes are started whose numeric libraries use one thread."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _not_importing_main(work: Work) -> Iterator[None]:
    """Within it, processes are started that do not import what this one was started with, unless ``work`` is from
    there: a script without ``if __name__ == "__main__"`` would begin anew in each, and standard input is no file."""
    main = sys.modules["__main__"]
    if work.__module__ != "__main__":
        sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
