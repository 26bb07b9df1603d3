"""What a worker of a sweep has for itself."""

from __future__ import annotations

import gc
import signal
from contextlib import AbstractContextManager

from sc_loops.correction.physics.workers import CORES, available_cores
from sc_loops.errors import Stopped
from sc_loops.sweeping import worker


class StopsAtOnce:
    """In place of ``Interruption``, of a process that is to go on."""

    def possible(self) -> AbstractContextManager[None]:
        raise Stopped(signal.SIGTERM)


def test_the_processes_of_a_corrector_share_the_cores_of_the_run(monkeypatch) -> None:
    monkeypatch.setattr(worker, "Interruption", StopsAtOnce)
    monkeypatch.setattr(worker, "_listen", lambda pipe, orders: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv(CORES, "7")
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    try:
        worker.work(None, worker.Place(threads=3))
    finally:
        gc.unfreeze()
    assert available_cores() == 3
