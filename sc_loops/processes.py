"""How the processes of one run keep together: meeting without a collective, stopping in good order, naming the lost.

Between collectives each rank works at its own pace: it samples its chunks, or rank 0 evaluates alone. Waiting for one
another then goes through the key-value store that launched the process group, so no NCCL or gloo time-out runs
meanwhile. A thread in every process tells the store once a second that the process lives and how far it is, and
reads how the others are. A rank that is not heard of, or does not get on, ends the run with its name.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic, sleep
from typing import Any, Literal

import torch.distributed as dist
from lightning import Trainer

from sc_loops.errors import RunError, Stopped
from sc_loops.signals import Signals, end_at_once

PULSE = 1.0  # seconds between two signs of life

# A process works by itself; is together with the others in a collective, where one that hangs holds all up; or waits
# for them without one, for as long as they take.
Doing = Literal["working", "together", "waiting"]


class Processes:
    """The processes of a run as one of them sees it; of one that is alone, nobody waits and nobody watches.

    Args:
        rank, world_size, local_rank: of this process.
        timeout: seconds without progress after which a rank counts as hung.
        lost_after: seconds without a sign of life after which a rank counts as lost.
    """

    _watches = 0  # started so far in this process; the same number in all

    def __init__(
        self,
        rank: int = 0,
        world_size: int = 1,
        local_rank: int = 0,
        *,
        timeout: float = 1800.0,
        lost_after: float = 60.0,
    ) -> None:
        self.rank, self.world_size, self.local_rank = rank, world_size, local_rank
        self.timeout, self.lost_after = timeout, lost_after
        self.signals = Signals()
        self.signals.on_second_interrupt = self._end_children
        self.children: Sequence[subprocess.Popen[Any]] = ()  # those that Lightning started from this one
        self._progress, self._meetings = 0, 0
        self._doing: Doing = "working"
        self._store: Any = None
        self._group: Any = None
        self._beat_at = monotonic()
        self._fails = False  # this process ends by itself, and says why
        self._over = threading.Event()

    @classmethod
    def of(cls, trainer: Trainer, *, timeout: float = 1800.0, lost_after: float = 60.0) -> Processes:
        """The processes of ``trainer``, whose process group is there already where there are several."""
        strategy = trainer.strategy
        rank, world_size = trainer.global_rank, trainer.world_size
        processes = cls(rank, world_size, trainer.local_rank, timeout=timeout, lost_after=lost_after)
        launcher = getattr(strategy, "launcher", None)
        processes.children = getattr(launcher, "procs", ())
        if world_size > 1:
            processes._watch_over_all()
        return processes

    # Stopping.

    @property
    def stop_requested(self) -> bool:
        """Whether a signal reached this process, or another one, which told the store."""
        return self.signals.requested is not None

    def stop(self) -> None:
        """Leave in good order, and let those that wait for this process know.

        Raises:
            Stopped: always.
        """
        signum = self.signals.requested or signal.SIGTERM
        if self._store is not None:
            self._store.set("left", str(int(signum)))
            self._store.set(f"left/{self.rank}", "")
            # A launcher that sees one process end may kill those that are still in their chunk.
            everybody, deadline = [f"left/{rank}" for rank in range(self.world_size)], monotonic() + self.timeout
            self.advance("waiting")
            while not self._store.check(everybody) and monotonic() < deadline:
                sleep(0.2)
            self.close()
        raise Stopped(signum)

    def check_stop(self) -> None:
        """Raise ``Stopped`` if a stop was requested. Called where no other process waits in a collective."""
        if self.stop_requested:
            self.stop()

    # Keeping together.

    def advance(self, doing: Doing = "working") -> None:
        """Note that this process got on, by a part of a step or of a chunk, and what it does next."""
        self._progress += 1
        self._doing = doing

    def meet(self) -> None:
        """Wait until all processes are here.

        Raises:
            Stopped: another process left before it came here.
            RunError: another process failed.
        """
        if self._store is None:
            return
        self._meetings += 1
        place = f"meeting/{self._meetings}"
        self._store.set(f"{place}/{self.rank}", "here")
        self._wait_for([f"{place}/{rank}" for rank in range(self.world_size)])

    def decided(self, decide: Callable[[], Any]) -> Any:
        """What ``decide`` returns on rank 0 (plain JSON values), on every rank."""
        if self._store is None:
            return decide()
        self._meetings += 1
        place = f"decision/{self._meetings}"
        if self.rank == 0:
            decision = decide()
            self._store.set(place, json.dumps(decision))
            return decision
        self._wait_for([place])
        return json.loads(self._store.get(place))

    def _wait_for(self, keys: list[str]) -> None:
        self.advance("waiting")
        pause = 0.002
        while not self._store.check(keys):
            if self._store.check(["failed"]):
                self._over.set()
                raise Finding.of(self._store.get("failed")).error()
            if self._store.check(["left"]):
                self.signals.requested = int(self._store.get("left"))
                self.stop()
            sleep(pause)
            pause = min(0.5, pause * 1.5)
        self.advance()

    # Failing.

    def fail(self, error: BaseException) -> None:
        """Tell the others that this process failed. A broken connection is somebody else's failure, whom the watch
        is given time to name (it then ends this process)."""
        if self._store is None or isinstance(error, Stopped) or self._over.is_set():
            return
        if _is_connection(error):
            sleep(self.lost_after + 3 * PULSE)
        text = f"rank {self.rank}: {error}" if str(error) else f"rank {self.rank}: {type(error).__name__}"
        self._fails = True
        with suppress(Exception):  # the store may be gone, and with it whoever might have read it
            self._store.compare_set("failed", "", Finding(self.rank, text).to_json())
            sleep(2 * PULSE)  # until it was read
        self._over.set()

    def close(self) -> None:
        """End the watch: from here on nobody waits for this process, nor it for them. Rank 0, in which the store may
        live, is the last to leave, so that the others can still read what it said."""
        if self.closed and self.signals.released:
            return
        self.signals.released = True
        failed = self.closed
        self._over.set()
        if self._store is None or failed:
            return
        everybody, deadline = [f"gone/{rank}" for rank in range(self.world_size)], monotonic() + self.lost_after
        with suppress(Exception):  # the store went with another process
            self._store.set(f"gone/{self.rank}", "")
            while self.rank == 0 and not self._store.check(everybody) and monotonic() < deadline:
                sleep(0.05)

    @property
    def closed(self) -> bool:
        """Whether the watch has ended."""
        return self._over.is_set()

    @property
    def host_group(self) -> Any:
        """A process group in the machines' own memory, for files: NCCL would take them through that of every GPU.
        Made when it is first asked for, by all processes together."""
        if self._group is None:
            self._group = dist.new_group(backend="gloo")
        return self._group

    def wait_for_children(self) -> None:
        """On the process that started others, wait until these have ended, so that all end together."""
        deadline = monotonic() + self.lost_after
        for child in self.children:
            try:
                child.wait(max(0.1, deadline - monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()

    # The watch.

    def _watch_over_all(self) -> None:
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        Processes._watches += 1  # in one script after another each fit has keys of its own
        prefix = f"sc_loops/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{Processes._watches}"

        def connect() -> Any:
            # Own connections: a blocking call on a shared one would hold up the other's.
            store = dist.TCPStore(host, port, None, False, timedelta(seconds=self.lost_after))
            return dist.PrefixStore(prefix, store)

        self._store = connect()
        for thread in threading.enumerate():
            if thread.name == "child-process-observer":  # Lightning's, which would kill all without a word
                thread._child_processes = []  # type: ignore[attr-defined]
        threading.Thread(target=self._watch, args=(connect(),), name="watch", daemon=True).start()
        threading.Thread(target=self._watch_the_store, name="store watch", daemon=True).start()

    def _watch_the_store(self) -> None:
        """End this process when the store, which may live in rank 0, does not answer: a frozen one holds the watch
        itself up for ever."""
        while not self._over.wait(PULSE):
            if monotonic() - self._beat_at > self.lost_after + 2 * PULSE:
                silent = f"rank 0 was not heard of for {self.lost_after:.0f} s: it was stopped or its machine is gone"
                self._end_with(Finding(0, silent, said_by=1))

    def _watch(self, store: Any) -> None:
        """Rank 0 watches over all, itself included; the others watch over rank 0."""
        seen = {rank: Heard() for rank in (range(self.world_size) if self.rank == 0 else [0])}
        while not self._over.wait(PULSE):
            try:
                self._tell(store)
                if store.check(["failed"]) and not self._fails:
                    self._end_with(Finding.of(store.get("failed")))
                for rank, heard in seen.items():
                    key = f"pulse/{rank}"
                    heard.note(store.get(key).decode() if store.check([key]) else "")
                found = self._lost(seen, store) or (self._hung(seen) if self.rank == 0 else None)
                if found:
                    store.compare_set("failed", "", found.to_json())
            except Exception:
                if not self._over.wait(2 * PULSE):  # else this run is just ending
                    self._end_with(Finding(0, "rank 0, which holds the processes together, is gone", said_by=1))
            self._look_after_children(store)
            self._beat_at = monotonic()

    def _tell(self, store: Any) -> None:
        # The time makes every pulse another one.
        store.set(f"pulse/{self.rank}", f"{monotonic()} {self._progress} {self._doing}")
        if self.signals.requested is not None:
            store.set("stop", str(int(self.signals.requested)))
        elif store.check(["stop"]):
            self.signals.requested = int(store.get("stop"))

    def _lost(self, seen: dict[int, Heard], store: Any) -> Finding | None:
        """The first rank that gives no sign of life, unless it has left in good order."""
        for rank, heard in seen.items():
            silent = monotonic() - heard.at
            if silent > self.lost_after and not store.check([f"left/{rank}"]):
                what = "it was killed, stopped or its machine is gone"
                message = f"rank {rank} was not heard of for {silent:.0f} s: {what}"
                return Finding(rank, message, said_by=1 if rank == 0 else 0)
        return None

    def _hung(self, seen: dict[int, Heard]) -> Finding | None:
        """The ranks that live and do not get on. In a collective all wait for the one that
        does not come; so those that are in one are to blame only if nobody works by himself."""
        stuck = {rank: monotonic() - heard.got_on for rank, heard in seen.items() if heard.doing != "waiting"}
        working = [r for r in stuck if seen[r].doing == "working" and stuck[r] > self.timeout]
        together = [r for r in stuck if stuck[r] > self.timeout + 5 * PULSE]
        ranks = working or together
        if not ranks:
            return None
        minutes = max(stuck[rank] for rank in ranks) / 60
        who = f"rank {ranks[0]} lives" if len(ranks) == 1 else f"ranks {', '.join(map(str, ranks))} live"
        return Finding(ranks[0], f"{who} but made no progress for {minutes:.1f} minutes")

    def _look_after_children(self, store: Any) -> None:
        for number, child in enumerate(self.children, start=1):
            status = child.poll()
            if status not in (None, 0, 130, 143) and not self._over.is_set():
                how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
                found = Finding(self.rank + number, f"rank {self.rank + number} {how}")
                sleep(PULSE)  # it may have said why
                if store.check(["failed"]):
                    found = Finding.of(store.get("failed"))
                self._end_with(found)

    def _end_with(self, found: Finding) -> None:
        """End this process, whatever its main thread does (it may hang in a collective), unless that ends it."""
        sleep(2 * PULSE)  # the store may live in this process: let the others read
        if self._over.is_set():
            return
        if self.rank == found.said_by:
            said = f"error: {found.message}\nWhat was finished is saved; the same command continues from there.\n"
            os.write(2, said.encode())
        self._end_children()
        end_at_once(1)

    def _end_children(self) -> None:
        for child in self.children:
            child.kill()


@dataclass
class Heard:
    """What was last heard of a process, and since when it has not changed."""

    pulse: str = ""
    progress: str = ""
    doing: str = "waiting"  # to start
    at: float = field(default_factory=monotonic)
    got_on: float = field(default_factory=monotonic)

    def note(self, pulse: str) -> None:
        """Take the pulse read just now; the same as before is no sign of life."""
        if pulse == self.pulse:
            return
        self.pulse, self.at = pulse, monotonic()
        _, progress, self.doing = pulse.split()
        if progress != self.progress:
            self.progress, self.got_on = progress, self.at


@dataclass(frozen=True)
class Finding:
    """The rank that ends the run, why, and which rank is to say so: the first, unless it is the one that is lost."""

    rank: int
    message: str
    said_by: int = 0

    @staticmethod
    def of(text: bytes) -> Finding:
        return Finding(**json.loads(text))

    def to_json(self) -> str:
        return json.dumps(vars(self))

    def error(self) -> RunError:
        return RunError(f"rank {self.rank}", found=self.message, expected="all processes to go on")


def _is_connection(error: BaseException) -> bool:
    words = ("gloo", "nccl", "connection", "socket", "peer")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
