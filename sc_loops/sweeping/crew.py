"""``Crew``: hands the runs of a sweep out to its workers, hears how they get on, and replaces a worker that died."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from sc_loops.signals import Signals
from sc_loops.sweeping.messages import Order, Outcome, Progress
from sc_loops.sweeping.plan import Member
from sc_loops.sweeping.worker import ERROR, Place, work

# Called with a run and what was heard of it: it was begun (None), it gets on, or it ended.
Listener = Callable[[Member, Progress | Outcome | None], None]


class Crew:
    """As many workers as there are ``places``, each with one run at a time.

    SIGTERM, SIGUSR1 and Ctrl-C reach all workers, which save and stop; a second Ctrl-C ends all at once.
    """

    def __init__(self, places: Sequence[Place], listener: Listener) -> None:
        self._places, self._listener = places, listener
        self._workers: list[Worker] = []
        self._signals = Signals()
        self._signals.on_second_interrupt = self._kill
        self._passed_on = False

    def carry_out(self, members: Iterable[Member]) -> int | None:
        """Have all runs carried out, in their order; the signal that ended this early, or None."""
        waiting = deque(members)
        _preload()
        self._signals.listen()
        try:
            for place in self._places:
                self._workers.append(Worker(place))
            while self._hand_out(waiting):
                for worker in self._heard(seconds=0.2):
                    self._hear(worker)
                self._pass_on()
        finally:
            for worker in self._workers:
                worker.dismiss()
            self._signals.released = True
        return self._signals.requested

    def _hand_out(self, waiting: deque[Member]) -> bool:
        """Give idle workers something to do; whether any is at work."""
        for worker in self._workers:
            if worker.member is None and waiting and not self._stopping:
                member = waiting.popleft()
                self._listener(member, None)
                worker.begin(member)
        return any(worker.member is not None for worker in self._workers)

    def _heard(self, seconds: float) -> list[Worker]:
        """The workers that have said something, or died; none after so many ``seconds``."""
        ready = wait([worker.pipe for worker in self._workers], seconds)
        return [worker for worker in self._workers if worker.pipe in ready]

    def _hear(self, worker: Worker) -> None:
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            self._replace(worker)
            return
        member = worker.member
        assert member is not None  # only who has a run speaks
        if isinstance(message, Outcome):
            worker.member = None
            if message.how == "stopped" and not self._stopping:  # nobody asked all to stop, so this is to be told
                message = Outcome("failed", "a signal to its process alone stopped it, with everything saved")
        self._listener(member, message)

    def _replace(self, dead: Worker) -> None:
        """A worker has died, or ended because of a signal that reached it too. Another one takes its place."""
        how = dead.how_it_ended()
        if dead.member is not None:
            outcome = Outcome("stopped") if self._stopping else Outcome("failed", how)
            if outcome.how == "failed":
                with suppress(OSError):
                    (dead.member.run.path / ERROR).write_text(how + "\n")
            self._listener(dead.member, outcome)
        self._workers.remove(dead)
        if not self._stopping:
            self._workers.append(Worker(dead.place))

    def _pass_on(self) -> None:
        """Tell the workers, once, that they are to stop."""
        if self._stopping and not self._passed_on:
            self._passed_on = True
            for worker in self._workers:
                if worker.member is not None:
                    worker.signal(signal.SIGTERM)

    @property
    def _stopping(self) -> bool:
        return self._signals.requested is not None

    def _kill(self) -> None:
        for worker in self._workers:
            worker.signal(signal.SIGKILL)


class Worker:
    """A worker as its command sees it. Its process ends when this end of its pipe is closed."""

    def __init__(self, place: Place) -> None:
        context: Any = multiprocessing.get_context(_method())
        self.place = place
        self.member: Member | None = None  # whose run it carries out
        self.pipe: Connection
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs, place), name="worker of a sweep")
        self._process.start()
        theirs.close()

    def begin(self, member: Member) -> None:
        self.member = member
        with suppress(OSError):  # it has died, which is noticed where it is heard
            self.pipe.send(Order(member.name, member.resolved))

    def signal(self, signum: int) -> None:
        with suppress(ProcessLookupError, ValueError):
            if self._process.pid is not None and self._process.is_alive():
                os.kill(self._process.pid, signum)

    def how_it_ended(self) -> str:
        """What is known of the end of its process."""
        self.dismiss()
        status = self._process.exitcode
        if status is not None and status < 0:
            name = signal.Signals(-status).name
            why = ": perhaps memory ran out, so try fewer --jobs" if name == "SIGKILL" else ""
            return f"its process was ended by {name}{why}"
        return f"its process ended with status {status}"

    def dismiss(self) -> None:
        """Let it end, and wait until it has."""
        self.pipe.close()
        self._process.join(30)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _method() -> str:
    """How processes are started: forked from one that has imported everything and done nothing else."""
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def _preload() -> None:
    """Have the process that workers are forked from import what was needed here to check the runs."""
    if _method() == "forkserver":
        names = [name for name in sys.modules if name.startswith("sc_loops.") and name != "sc_loops.__main__"]
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["sc_loops.sweeping.preload", *sorted(names)])
