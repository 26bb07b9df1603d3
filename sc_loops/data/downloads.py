"""Files that a data set fetches: once for processes that start together, and checked before they get their name."""

from __future__ import annotations

import http.client
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from torchvision.datasets.utils import download_url

from sc_loops.errors import InvalidValue, RunError

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

TIMEOUT = 20.0  # seconds without an answer; a cluster's firewall may swallow what is sent


class DownloadError(Exception):
    """A file could be had from none of its addresses; the message says why."""


@contextmanager
def filling(folder: Path, name: str, missing: str, absent: Callable[[str], InvalidValue]) -> Iterator[None]:
    """Make ``folder`` and wait until no other process is filling it. What fails inside becomes a message about
    ``root``, and a folder made here that stays empty is removed.

    Args:
        folder: where files are about to be put.
        name: of the data set.
        missing: the file that is told to be missing.
        absent: makes the message, of the reason why the data is not complete.

    Raises:
        InvalidValue: nothing can be downloaded or written.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder, name):
            yield
    except DownloadError as error:
        raise absent(str(error)) from error
    except OSError as error:
        raise absent(f"{missing} is missing and cannot be put there: {error}") from error
    except RunError as error:
        do = "free some space, or give data.root=... on another disk"
        found = f"{error.where}: {error.found}"
        raise InvalidValue("root", found=found, expected=error.expected, do=do) from error
    finally:
        with suppress(OSError):  # it holds something, as it should
            for path in made:
                path.rmdir()


@contextmanager
def alone(folder: Path, name: str) -> Iterator[None]:
    """Wait until no other process is at the files of ``name`` in ``folder``."""
    path = folder / f".{name}.lock"
    with path.open("a") as file:
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks: each fetches for itself, and files stay whole
                fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with suppress(OSError):  # gone with another's, or Windows, where nothing that is open can go
                path.unlink()


def fetch(urls: Sequence[str], path: Path, md5: str) -> None:
    """Fetch a file into a folder of its own, check it and only then give it its name.

    Args:
        urls: addresses of the same file, of which the first that has it is used.
        path: its name here.
        md5: its published sum.

    Raises:
        DownloadError: none of the addresses has it.
    """
    before, failures = socket.getdefaulttimeout(), []
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        socket.setdefaulttimeout(TIMEOUT)
        try:
            for url in urls:
                try:
                    download_url(url, folder, path.name, md5)
                except (OSError, RuntimeError, http.client.HTTPException) as error:
                    failures.append(f"from {url}: {type(error).__name__}: {error}")
                else:
                    (Path(folder) / path.name).replace(path)
                    return
        finally:
            socket.setdefaulttimeout(before)
    raise DownloadError(f"{path.name} could not be downloaded {', nor '.join(failures)}")


def require_sum(path: Path, found: str, expected: str) -> None:
    """Raise ``InvalidValue`` where the MD5 sum ``found`` of the file ``path`` is not the published one."""
    if found != expected:
        raise InvalidValue(
            "root",
            found=f"{path} with the MD5 sum {found}: damaged, or another file",
            expected=f"the published file, whose sum is {expected}",
            do="delete it; the next run downloads it again if data.download is true",
        )
