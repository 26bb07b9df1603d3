"""The pool: the immutable directory of synthetic samples that one generation leaves behind.

    pools/0003/chunk-00000.safetensors   what came out of the stages (x, condition, columns/<name>)
               raw-00000.safetensors     what the metrics observed of the raw samples of that chunk
               preview.safetensors       a few raw samples from the same noise in every generation
               manifest.json             written last; a pool without one is unfinished

A chunk is the unit of randomness, distribution, memory and resumption: chunk c of generation t is a pure
function of (weights, seed, t, c). Ranks take chunks round robin; a finished chunk is never made twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sc_loops.data.files import (
    count_samples,
    read_samples,
    read_tensors,
    write_atomically,
    write_samples,
    write_tensors,
)
from sc_loops.samples import Observation, Samples


@dataclass(frozen=True)
class Chunk:
    """Chunk ``index`` of a generation: the raw samples ``start`` to ``start + size - 1``."""

    index: int
    start: int
    size: int


class Pool:
    """The pool in directory ``path``, finished or not."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def finished(self) -> bool:
        """Whether the manifest is there."""
        return (self.path / "manifest.json").exists()

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """``generation``, ``raw`` and ``kept`` sample counts, and ``chunks``: the kept count of each."""
        content: dict[str, Any] = json.loads((self.path / "manifest.json").read_text())
        return content

    def __len__(self) -> int:
        return int(self.manifest["kept"])

    # Writing.

    def fill(
        self,
        chunks: list[Chunk],
        make: Callable[[Chunk], tuple[Samples, dict[str, Observation]]],
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> Iterator[Chunk]:
        """Make and write those of ``chunks`` that are this rank's and are not there yet; yields each when
        it is on disk. The raw file goes first, so that a chunk that is there has both."""
        self.path.mkdir(parents=True, exist_ok=True)
        for chunk in chunks[rank::world_size]:
            if not self._chunk_path(chunk.index).exists():
                kept, observed = make(chunk)
                flat = {f"{name}/{key}": v for name, o in observed.items() for key, v in o.items()}
                write_tensors(self.path / f"raw-{chunk.index:05d}.safetensors", flat)
                write_samples(self._chunk_path(chunk.index), kept)
            yield chunk

    def finish(self, generation: int, chunks: list[Chunk]) -> None:
        """Write the manifest. Called by rank 0 when all ranks have filled their chunks."""
        kept = [count_samples(self._chunk_path(c.index)) for c in chunks]
        manifest = {
            "generation": generation,
            "raw": sum(c.size for c in chunks),
            "kept": sum(kept),
            "chunks": kept,
        }
        write_atomically(self.path / "manifest.json", json.dumps(manifest, indent=2) + "\n")

    # Reading.

    def chunk(self, index: int) -> Samples:
        """The samples of one chunk."""
        return read_samples(self._chunk_path(index))

    def samples(self) -> Samples:
        """All samples of the pool, in chunk order. Holds the pool in memory."""
        return Samples.concatenate([self.chunk(i) for i, kept in enumerate(self.manifest["chunks"]) if kept])

    def observations(self, metric: str) -> list[Observation]:
        """What ``metric`` observed of the raw samples, chunk by chunk; empty if it observed nothing."""
        paths = sorted(self.path.glob("raw-*.safetensors"), key=lambda path: int(path.stem.removeprefix("raw-")))
        return [found for path in paths if (found := read_tensors(path, f"{metric}/"))]

    @property
    def preview(self) -> Samples | None:
        """Raw samples drawn from the same noise (and conditions) in every generation, or None."""
        path = self.path / "preview.safetensors"
        return read_samples(path) if path.exists() else None

    def write_preview(self, samples: Samples) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        write_samples(self.path / "preview.safetensors", samples)

    def _chunk_path(self, index: int) -> Path:
        return self.path / f"chunk-{index:05d}.safetensors"
