"""``HeldPool``: a pool that is kept in memory, since it would be deleted from the disk soon after."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sc_loops.data.pool import Chunk
from sc_loops.samples import Observation, Samples


class HeldPool:
    """What a ``Pool`` is to its maker and its readers, without a preview and without files."""

    def __init__(self) -> None:
        self.manifest: dict[str, Any] = {}
        self._kept: list[Samples] = []
        self._observed: list[dict[str, Observation]] = []

    @property
    def finished(self) -> bool:
        return bool(self.manifest)

    def __len__(self) -> int:
        return int(self.manifest["kept"])

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
        for chunk in chunks:  # to the end: only what is written can stop in between
            kept, observed = make(chunk)
            self._kept.append(kept.to("cpu"))
            self._observed.append({name: {k: v.cpu() for k, v in o.items()} for name, o in observed.items()})
            yield chunk

    def finish(self, generation: int, chunks: list[Chunk], *, weights: str = "") -> None:
        kept = [len(samples) for samples in self._kept]
        raw = sum(chunk.size for chunk in chunks)
        self.manifest = {"generation": generation, "raw": raw, "kept": sum(kept), "chunks": kept, "weights": weights}

    def is_of(self, weights: str) -> bool:
        return self.finished and self.manifest["weights"] == weights

    def has_preview(self, weights: str) -> bool:
        return True  # nobody asks for one

    def samples(self) -> Samples:
        return Samples.concatenate(self._kept)

    def observations(self, metric: str) -> list[Observation]:
        return [o[metric] for o in self._observed if o.get(metric)]
