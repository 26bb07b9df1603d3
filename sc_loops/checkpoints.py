"""The checkpoints of a run: which there are, whether they are whole, and which one a run continues from.

checkpoints/generation-0003.ckpt                   the training of generation 3 is complete
            generation-0003-step-0000000500.ckpt   inside it, after 500 optimizer steps
            <name>.sha256                          its checksum; `sha256sum --check` reads it
            <name>.damaged                         set aside, since it was not what its checksum says
            last.ckpt                              a link to the newest
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import torch

from sc_loops.data.files import checksum, flush, write_atomically, writing

_NAME = re.compile(r"generation-(\d{4,})(?:-step-(\d{10,}))?\.ckpt")


class _Age(NamedTuple):
    """What a name says, in an order in which later is greater."""

    generation: int
    complete: bool
    step: int


class Checkpoints:
    """The checkpoints in directory ``path``, which need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def generation(self, generation: int) -> Path:
        """The checkpoint of ``generation`` when its training is complete."""
        return self.path / f"generation-{generation:04d}.ckpt"

    def step(self, generation: int, step: int) -> Path:
        """The checkpoint of ``generation`` inside its training, at ``step``."""
        return self.path / f"generation-{generation:04d}-step-{step:010d}.ckpt"

    @property
    def last(self) -> Path:
        """A link to the newest checkpoint."""
        return self.path / "last.ckpt"

    # Writing.

    @contextmanager
    def writing(self, path: Path, size: int) -> Iterator[Path]:
        """Where to write the ``size`` bytes that ``seal`` then calls ``path``; the same on all ranks. What a failed
        write left there is deleted: it would only take up the disk.

        Raises:
            RunError: for an ``OSError`` inside.
        """
        temporary = path.with_name(f".{path.name}.tmp")
        with writing(path, size):
            try:
                yield temporary
            except BaseException:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise

    def seal(self, temporary: Path, path: Path) -> None:
        """Make what was written to ``temporary`` the checkpoint ``path``, the newest, and delete what it supersedes.

        Raises:
            RunError: the disk is full, read-only or broken; the checkpoints that were there are still there.
        """
        with writing(path, temporary.stat().st_size):
            flush(temporary)
            # The checksum goes first, so that no checkpoint is ever without.
            write_atomically(_sidecar(path), f"{checksum(temporary)}  {path.name}\n")
            os.replace(temporary, path)
            flush(path.parent)
            self._point_last_to(path)
            self._drop_superseded(_age(path))
        for leftover in self.path.glob(".*.tmp"):  # of writers that crashed
            leftover.unlink(missing_ok=True)

    def arrived(self, path: Path) -> None:
        """Note that ``path``, the newest, was fetched from another node, where it was sealed."""
        self._point_last_to(path)
        self._drop_superseded(_age(path))

    def remove(self, generation: int) -> None:
        """Delete all that is there of ``generation``."""
        for pattern in (f"generation-{generation:04d}.ckpt*", f"generation-{generation:04d}-step-*"):
            for path in self.path.glob(pattern):
                path.unlink(missing_ok=True)

    # Reading.

    def generations(self) -> set[int]:
        """Those of which any checkpoint is there."""
        return {_age(path).generation for path in self._all()}

    def newest(self, say: Callable[[str], None] = print) -> Path | None:
        """The newest checkpoint that is whole, to which ``last`` then points, or None.

        One that is damaged is said with ``say``, and set aside.
        """
        paths = self._all()
        while paths:
            path = paths.pop()
            wrong = _wrong(path)
            if wrong is None:
                self._point_last_to(path)
                return path
            instead = "the one before it is used" if paths else "there is none before it"
            say(f"{path}: {wrong}; {instead}")
            os.replace(path, path.with_name(f"{path.name}.damaged"))
            _sidecar(path).unlink(missing_ok=True)
        self.last.unlink(missing_ok=True)
        return None

    def trained(self, path: Path) -> int:
        """The last generation whose training is complete in the checkpoint ``path``; -1 if none is."""
        age = _age(path)
        return age.generation if age.complete else age.generation - 1

    def intact(self, path: Path) -> bool:
        """Whether the checkpoint ``path`` is there and whole."""
        return path.exists() and _wrong(path) is None

    def _all(self) -> list[Path]:
        """Those that are there, the newest last."""
        return sorted((p for p in self.path.glob("*.ckpt") if _NAME.fullmatch(p.name)), key=_age)

    def _point_last_to(self, path: Path) -> None:
        link = self.last.with_name(".last.tmp")
        link.unlink(missing_ok=True)
        link.symlink_to(path.name)
        os.replace(link, self.last)
        flush(self.path)

    def _drop_superseded(self, newest: _Age) -> None:
        """Delete the step checkpoints that ``newest`` makes superfluous."""
        older = [path for path in self._all() if not _age(path).complete and _age(path) < newest]
        same = [path for path in older if _age(path).generation == newest.generation]
        # A complete generation needs none of them; inside one, that before the newest stays as its fallback.
        for path in older if newest.complete else same[:-1]:
            path.unlink(missing_ok=True)
            _sidecar(path).unlink(missing_ok=True)


def _age(path: Path) -> _Age:
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path.name} is not the name of a checkpoint")
    generation, step = match.groups()
    return _Age(int(generation), step is None, int(step or 0))


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _wrong(path: Path) -> str | None:
    """What is wrong with the checkpoint ``path``, or None when it is whole."""
    sidecar = _sidecar(path)
    if sidecar.exists():
        stated = sidecar.read_text(errors="replace").split()[:1]
        return None if stated == [checksum(path)] else "not what its checksum says"
    try:  # an older version wrote it, without a checksum
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        return f"cannot be loaded ({type(error).__name__})"
    return None
