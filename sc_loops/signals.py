"""Signals to a run: the first lets it stop in good order, a second Ctrl-C ends it at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any


class Signals:
    """SIGTERM, SIGUSR1 (what SLURM is asked to send before the time is up) and Ctrl-C become ``requested``, which
    the loop looks at after each step and before each chunk. A second Ctrl-C ends the process at once."""

    def __init__(self) -> None:
        self.requested: int | None = None
        self.released = False  # the run is over, and signals are the business of whoever it was before
        self.on_second_interrupt: Callable[[], None] = lambda: None
        self._before: dict[int, Any] = {}

    def listen(self) -> None:
        """(Re)install the handlers: Lightning installs its own, which run a collective inside a handler. When it is
        done, it puts back those it found, which are ours."""
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
                before = signal.signal(signum, self._received)
                self._before.setdefault(signum, before)

    def _received(self, signum: int, frame: object) -> None:
        if self.released and (self.requested is None or signum == signal.SIGINT):
            signal.signal(signum, self._before.get(signum) or signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        elif self.requested is None:
            self.requested = signum
            if signum == signal.SIGINT and os.environ.get("LOCAL_RANK", "0") == "0":
                # Not print(), which a handler may have interrupted half way.
                os.write(2, b"\nstopping after the present step or chunk; Ctrl-C again stops at once\n")
        elif signum == signal.SIGINT:
            self.on_second_interrupt()
            end_at_once(130)


def end_at_once(status: int) -> None:
    """End at once. Safe for what is on disk, since every write is to a temporary name first."""
    if sys.stdout.isatty():
        sys.stdout.write("\x1b[?25h")  # a progress bar hides the cursor
        sys.stdout.flush()
    os._exit(status)
