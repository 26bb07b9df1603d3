"""Writing so that a file is either whole or absent, and tensors without pickle."""

from __future__ import annotations

import os
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save
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


def read_tensors(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a safetensors file whose names start with ``prefix``, under the rest of their names."""
    with safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 (it is no dictionary)
        # Copied, since a tensor as it comes keeps its file mapped into memory.
        return {name.removeprefix(prefix): file.get_tensor(name).clone() for name in names}


def count_samples(path: Path) -> int:
    """How many samples ``write_samples`` wrote, without reading them."""
    with safe_open(path, framework="pt") as file:
        return int(file.get_slice("x").get_shape()[0])


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
