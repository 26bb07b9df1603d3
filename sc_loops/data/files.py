"""Writing so that a file is either whole or absent, and tensors without pickle."""

from __future__ import annotations

import os
from pathlib import Path

from safetensors.torch import load_file, save
from torch import Tensor

from sc_loops.samples import Samples


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write ``content`` to a temporary name beside ``path``, flush it to the disk and rename it."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file atomically."""
    write_atomically(path, save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file."""
    return load_file(path)


def write_samples(path: Path, samples: Samples) -> None:
    """Write ``x``, ``condition`` (where there is one) and each column as ``columns/<name>``."""
    tensors = {"x": samples.x, **{f"columns/{k}": v for k, v in samples.columns.items()}}
    if samples.condition is not None:
        tensors["condition"] = samples.condition
    write_tensors(path, tensors)


def read_samples(path: Path) -> Samples:
    """Read what ``write_samples`` wrote."""
    tensors = read_tensors(path)
    columns = {k.removeprefix("columns/"): v for k, v in tensors.items() if k.startswith("columns/")}
    return Samples(tensors["x"], tensors.get("condition"), columns)
