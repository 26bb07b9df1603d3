"""Writing so that a file is either whole or absent and tells later whether it still is; tensors without pickle.

A safetensors file written here carries a digest of its content in its header, a JSON file one among its keys. Files
of older versions have none; of those only the structure can be checked.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sc_loops.disk import free_bytes
from sc_loops.errors import RunError
from sc_loops.samples import Samples

# The one key of the metadata in a header: several would be written in random order, and bytes are to be reproducible.
_HEADER = "sc_loops"

# What to do about a write that failed, where it is not the hardware.
_NO_SPACE = "free some space or bound what is kept with loop.keep; the same command continues"
_READ_ONLY = "make it writable or give another output=...; the same command continues"
_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), _NO_SPACE),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), _READ_ONLY),
}


# Bytes.


@contextmanager
def writing(path: Path, size: int) -> Iterator[None]:
    """Make a ``RunError`` of an ``OSError`` that is raised inside while ``size`` bytes are written to ``path``."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(
            str(path),
            found=f"{type(error).__name__}: {reason} ({free_bytes(path) / 1e6:.1f} MB free)",
            expected=f"to write {size} bytes",
            do=_REMEDIES.get(error.errno or 0, "see to the disk; the same command continues"),
        ) from error


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write ``content`` to a temporary name beside ``path``, flush it to the disk and rename it.

    Raises:
        RunError: the disk is full, read-only or broken; ``path`` is as it was.
    """
    data = content.encode() if isinstance(content, str) else content
    # Not the pid: on a shared disk another node's process may have the same.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with writing(path, len(data)):
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        flush(path.parent)


def flush(path: Path) -> None:
    """Wait until the file, or the names in the directory, ``path`` are on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no directories
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checksum(path: Path) -> str:
    """The SHA-256 of a file, read piece by piece."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


# JSON.


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` atomically, with a digest of it as the last key, ``sha256``."""
    write_atomically(path, json.dumps({**content, "sha256": _json_digest(content)}, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """What ``write_json`` wrote, or an older version did without a digest.

    Raises:
        ValueError: it is cut short, or was changed since it was written.
    """
    content = json.loads(path.read_text())
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} holds no JSON object")
    key, value = content.popitem()
    whole = value == _json_digest(content)
    if whole and key == "sha256":
        return content
    if whole or "sha256" in (key, *content):  # whole under another key: it is the key that was damaged
        raise ValueError(f"{path} was changed since it was written")
    return {**content, key: value}


def _json_digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# Tensors.


def write_tensors(path: Path, tensors: dict[str, Tensor], **metadata: str) -> None:
    """Write a safetensors file atomically, with ``metadata`` in its header; the same content is the same bytes."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = json.dumps({**metadata, "sha256": _digest(metadata, sorted(plain.items()))}, sort_keys=True)
    write_atomically(path, save(plain, {_HEADER: header}))


def read_tensors(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a safetensors file whose names start with ``prefix``, under the rest of their names."""
    with safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 (it is no dictionary)
        # Copied, since a tensor as it comes keeps its file mapped into memory.
        return {name.removeprefix(prefix): file.get_tensor(name).clone() for name in names}


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata given to ``write_tensors``; empty for files of older versions."""
    header = _header(path)
    return {key: value for key, value in header.items() if key != "sha256"}


def damage(path: Path) -> str | None:
    """What is wrong with a file that ``write_tensors`` wrote, or None when it is whole."""
    if not path.exists():
        return "absent"
    try:
        header = _header(path)
        digest = _digest_of_file(path, header) if header else None
    except (SafetensorError, OSError, RuntimeError):
        return "cut short or not a safetensors file"
    except (ValueError, LookupError, TypeError, AttributeError):
        return "changed since it was written"
    return None if digest == header.get("sha256") else "changed since it was written"


def _header(path: Path) -> dict[str, str]:
    """The metadata and the digest of a safetensors file; empty where an older version wrote it, with no metadata."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    if not metadata:
        return {}
    header: dict[str, str] = json.loads(metadata[_HEADER])
    if "sha256" not in header:
        raise ValueError(f"{path} has lost its digest")
    return header


def _digest_of_file(path: Path, header: dict[str, str]) -> str:
    metadata = {key: value for key, value in header.items() if key != "sha256"}
    with safe_open(path, framework="pt") as file:
        return _digest(metadata, ((name, file.get_tensor(name)) for name in sorted(file.keys())))


def _digest(metadata: dict[str, str], tensors: Iterable[tuple[str, Tensor]]) -> str:
    """The SHA-256 of the metadata and of the name, type, shape and bytes of every contiguous tensor."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in tensors:
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        # One item may have any stride and count as contiguous, but not be viewed as bytes.
        flat = tensor.as_strided((tensor.numel(),), (1,))
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


# Samples.


def count_samples(path: Path) -> int:
    """How many samples ``write_samples`` wrote, without reading them."""
    with safe_open(path, framework="pt") as file:
        return int(file.get_slice("x").get_shape()[0])


def write_samples(path: Path, samples: Samples, **metadata: str) -> None:
    """Write ``x``, ``condition`` (where there is one) and each column as ``columns/<name>``."""
    tensors = {"x": samples.x, **{f"columns/{k}": v for k, v in samples.columns.items()}}
    if samples.condition is not None:
        tensors["condition"] = samples.condition
    write_tensors(path, tensors, **metadata)


def read_samples(path: Path) -> Samples:
    """Read what ``write_samples`` wrote."""
    tensors = read_tensors(path)
    columns = {k.removeprefix("columns/"): v for k, v in tensors.items() if k.startswith("columns/")}
    return Samples(tensors["x"], tensors.get("condition"), columns)
