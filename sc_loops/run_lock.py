"""One writer to a run: a lock that goes with its process, so that a crash leaves none behind."""

from __future__ import annotations

import errno
import os
import socket
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from sc_loops.errors import UsageError, blaming

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# What file systems without locks answer.
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}

# The locks of this process, by the resolved path of their run.
_held: dict[Path, RunLock] = {}


class RunLock:
    """The lock on the run ``path``, from ``hold`` until ``release`` or the end of the process."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self._descriptor = path, descriptor

    def release(self) -> None:
        """Let others write to the run. Again, it does nothing."""
        if _held.get(self.path) is self:
            del _held[self.path]
            os.close(self._descriptor)


def hold(run_path: Path) -> RunLock:
    """Become the one process that writes to the run in ``run_path``, which is made if need be.

    A process that holds the lock already gets it again. Where there are no locks, that is said and all goes on.

    Raises:
        UsageError: another process is writing to the run, or the directory cannot be written to.
    """
    path = run_path.resolve()
    if path in _held:
        return _held[path]
    with blaming("output", "a directory that can be written to"):
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock(run_path, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    _held[path] = RunLock(path, descriptor)
    return _held[path]


def _lock(run_path: Path, descriptor: int) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "it does not say which"
        raise UsageError(
            str(run_path),
            found=f"another process is writing to it ({holder})",
            expected="one writer to a run",
            do="wait for it, stop it, or start another run beside it with --fresh",
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        print(f"{run_path}: no locks on this file system; see to it that one process writes there", file=sys.stderr)
        return
    holder = f"pid {os.getpid()} on host {socket.gethostname()} since {datetime.now():%Y-%m-%d %H:%M:%S}"
    with suppress(OSError):  # a full disk; the lock holds without its text
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{holder}\n".encode(), 0)


def _forget() -> None:
    """A forked child, as a loader's worker, drops its copies: it must not hold the lock when its parent is gone."""
    for lock in _held.values():
        os.close(lock._descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
