"""The pool: the immutable directory of synthetic samples that one generation leaves behind.

    pools/0003/chunk-00000.safetensors   what came out of the stages (x, condition, columns/<name>)
               raw-00000.safetensors     what the metrics observed of the raw samples of that chunk
               preview.safetensors       a few raw samples from the same noise in every generation
               manifest.json             written last; a pool without one, or with a damaged one, is unfinished

A chunk is the unit of randomness, distribution, memory and resumption: chunk c of generation t is a pure
function of (weights, seed, t, c). Ranks take chunks round robin; a chunk that is there, whole and of the
same weights, is never made twice. The chunks of an old generation may be removed; what reports are drawn from stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sc_loops.data.files import (
    count_samples,
    damage,
    read_json,
    read_metadata,
    read_samples,
    read_tensors,
    write_json,
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
        """Whether the manifest is there and whole."""
        try:
            return self._manifest_path.exists() and bool(self.manifest)
        except (OSError, ValueError):
            return False

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """``generation``, ``raw`` and ``kept`` sample counts, ``chunks``: the kept count of each, ``weights``: the
        digest of those that made them, and whether ``samples_removed``.

        Raises:
            ValueError: it is damaged.
        """
        return {"weights": "", "samples_removed": False, **read_json(self._manifest_path)}

    @property
    def has_samples(self) -> bool:
        """Whether the pool is finished and its samples were not removed."""
        return self.finished and not self.manifest["samples_removed"]

    def __len__(self) -> int:
        return int(self.manifest["kept"])

    # Writing.

    def fill(
        self,
        chunks: list[Chunk],
        make: Callable[[Chunk], tuple[Samples, dict[str, Observation]]],
        *,
        weights: str = "",
        rank: int = 0,
        world_size: int = 1,
        keep_going: Callable[[], None] = lambda: None,
    ) -> Iterator[Chunk]:
        """Make and write those of ``chunks`` that are this rank's and are not there yet; yields each when
        it is on disk.

        Args:
            chunks: of all ranks.
            make: makes the kept samples of a chunk, and what was observed of the raw ones.
            weights: the digest of the weights that ``make`` samples from; chunks of others are made again.
            rank: of this process.
            world_size: processes that share the work.
            keep_going: called before each chunk that is to be made; it may raise.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        for chunk in chunks[rank::world_size]:
            if not self.is_there(chunk, weights):
                keep_going()
                kept, observed = make(chunk)
                flat = {f"{name}/{key}": v for name, o in observed.items() for key, v in o.items()}
                write_tensors(self._raw_path(chunk.index), flat, weights=weights)
                write_samples(self._chunk_path(chunk.index), kept, weights=weights)
            yield chunk

    def is_of(self, weights: str) -> bool:
        """Whether the pool is finished, and made from ``weights``. If it is finished and of others, which only a
        checkpoint lost and trained again can bring about, it becomes unfinished."""
        if not self.finished:
            return False
        if self.manifest["weights"] in ("", weights):  # older versions did not write it down
            return True
        self.discard([])
        return False

    def names(self, chunk: Chunk) -> list[str]:
        """The files of ``chunk``, in the order in which they are written."""
        return [self._raw_path(chunk.index).name, self._chunk_path(chunk.index).name]

    def is_there(self, chunk: Chunk, weights: str) -> bool:
        """Whether both files of ``chunk`` are there, whole, and made from ``weights``."""
        paths = (self._raw_path(chunk.index), self._chunk_path(chunk.index))
        return all(damage(path) is None and read_metadata(path).get("weights", "") == weights for path in paths)

    def finish(self, generation: int, chunks: list[Chunk], *, weights: str = "") -> None:
        """Write the manifest, and delete what killed writers left. Called by rank 0, on each node, when all ranks
        have filled their chunks."""
        kept = [count_samples(self._chunk_path(c.index)) for c in chunks]
        for kind in ("raw", "chunk", "preview"):  # not the manifest's, which another node may be writing here
            for leftover in self.path.glob(f".{kind}*.tmp"):
                leftover.unlink(missing_ok=True)
        self._write_manifest(
            {
                "generation": generation,
                "raw": sum(c.size for c in chunks),
                "kept": sum(kept),
                "chunks": kept,
                "weights": weights,
                "samples_removed": False,
            }
        )

    def remove_samples(self) -> None:
        """Delete the chunks of a finished pool; the observations and the preview stay. When that was cut short,
        do the rest."""
        if self.has_samples:
            # First it is said, so that chunks which are gone are never missed.
            self._write_manifest({**self.manifest, "samples_removed": True})
        for path in self.path.glob("chunk-*.safetensors"):
            path.unlink(missing_ok=True)

    # Damage.

    def damaged(self) -> list[str]:
        """The names of the files that are damaged or, in a finished pool, missing."""
        if self.finished:
            indices = range(len(self.manifest["chunks"]))
            paths = [self._raw_path(i) for i in indices]
            paths += [self._chunk_path(i) for i in indices if self.has_samples]
        else:
            paths = [path for kind in ("raw", "chunk") for path in sorted(self.path.glob(f"{kind}-*.safetensors"))]
        if self._preview_path.exists():
            paths.append(self._preview_path)
        names = [path.name for path in paths if damage(path) is not None]
        lost = self._manifest_path.exists() and not self.finished
        return [self._manifest_path.name] * lost + names

    def discard(self, names: list[str]) -> None:
        """Delete the files ``names``, with the other file of a chunk, and what crashed writers left; the pool is then
        unfinished, and they are made again."""
        # The manifest goes first: a finished pool misses nothing.
        self._manifest_path.unlink(missing_ok=True)
        self.__dict__.pop("manifest", None)
        for name in names:
            kind, _, rest = name.partition("-")
            both = [f"raw-{rest}", f"chunk-{rest}"] if kind in ("raw", "chunk") else [name]
            for each in both:
                (self.path / each).unlink(missing_ok=True)
        for leftover in self.path.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)

    # Reading.

    def chunk(self, index: int) -> Samples:
        """The samples of one chunk."""
        return read_samples(self._chunk_path(index))

    def samples(self) -> Samples:
        """All samples of the pool, in chunk order. Holds the pool in memory."""
        return Samples.concatenate([self.chunk(i) for i, kept in enumerate(self.manifest["chunks"]) if kept])

    def observations(self, metric: str) -> list[Observation]:
        """What ``metric`` observed of the raw samples, chunk by chunk; empty if it observed nothing."""
        if self.finished:
            paths = [self._raw_path(index) for index in range(len(self.manifest["chunks"]))]
        else:
            found_paths = self.path.glob("raw-*.safetensors")
            paths = sorted(found_paths, key=lambda path: int(path.stem.removeprefix("raw-")))
        return [found for path in paths if (found := read_tensors(path, f"{metric}/"))]

    @property
    def preview(self) -> Samples | None:
        """Raw samples drawn from the same noise (and conditions) in every generation, or None."""
        return read_samples(self._preview_path) if self._preview_path.exists() else None

    def has_preview(self, weights: str) -> bool:
        """Whether the preview is there, whole, and of ``weights``."""
        return damage(self._preview_path) is None and read_metadata(self._preview_path).get("weights", "") == weights

    def write_preview(self, samples: Samples, weights: str = "") -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        write_samples(self._preview_path, samples, weights=weights)

    def _write_manifest(self, manifest: dict[str, Any]) -> None:
        write_json(self._manifest_path, manifest)
        self.manifest = manifest

    @property
    def _manifest_path(self) -> Path:
        return self.path / "manifest.json"

    @property
    def _preview_path(self) -> Path:
        return self.path / "preview.safetensors"

    def _raw_path(self, index: int) -> Path:
        return self.path / f"raw-{index:05d}.safetensors"

    def _chunk_path(self, index: int) -> Path:
        return self.path / f"chunk-{index:05d}.safetensors"
