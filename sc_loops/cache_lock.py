"""One process at a time prepares what a cache directory is to hold; those that come after it find the result."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextmanager
def alone(cache: Path) -> Iterator[None]:
    """Wait until no other process is inside with the same ``cache``.

    The lock is on the directory itself and goes with its process. The directory is made, and goes again where nothing
    was put into it. Where there are no locks, or it cannot be made, nobody waits: each process prepares for itself,
    and files stay whole.
    """
    made = [path for path in (cache, *cache.parents) if not path.exists()]
    descriptor = _locked(cache)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)
        with suppress(OSError):  # it holds something, as it should
            for path in made:
                path.rmdir()


def _locked(cache: Path) -> int | None:
    """A descriptor that holds the lock until it is closed."""
    if fcntl is None:
        return None
    descriptor = None
    try:
        cache.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(cache, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        pass
    except BaseException:  # Ctrl-C while it waits
        if descriptor is not None:
            os.close(descriptor)
        raise
    return descriptor
