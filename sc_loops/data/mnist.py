"""MNIST as torchvision lays it out, packed or not. Every file is checked before it is used."""

from __future__ import annotations

import gzip
import hashlib
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import MNIST

from sc_loops.data.downloads import fetch, filling, require_sum
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue, require
from sc_loops.samples import Samples

_SIZES = {"train": 60_000, "t10k": 10_000}
_HEADERS = {"images": 16, "labels": 8}  # bytes
_NAMES = tuple(f"{part}-{what}-idx{n}-ubyte" for part in _SIZES for what, n in (("images", 3), ("labels", 1)))
# Of the unpacked files: torchvision knows those of the packed ones.
_UNPACKED_SUMS = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
_LAYOUT = f"{', '.join(_NAMES)}, each as it is or as .gz, in root/MNIST/raw/ or in root itself"


def mnist(
    *, root: str = "data", download: bool = True, train_size: int | None = None, test_size: int | None = None
) -> RealData:
    """MNIST (LeCun et al. 1998): 60,000 and 10,000 grey digits, ``(N, 1, 28, 28)`` uint8, classes "0" to "9".

    Args:
        root: the folder that holds ``MNIST/raw/``, as for torchvision, or the four files themselves. What is there
            is used without the network.
        download: fetch what is absent (12 MB in all) into ``root/MNIST/raw/``. Processes that start together fetch
            it once.
        train_size: keep the first so many rows of the training file, whatever their classes; all by default. The
            published experiment on self-correction (Gillman et al. 2024) trains on the first 12,000. With
            ``loop.real=fresh`` generation t has the rows from ``t train_size`` on.
        test_size: the same of the held-out images.

    Raises:
        InvalidValue: the data is absent and cannot be fetched, or a file is damaged.
    """
    for option, size, most in (("train_size", train_size, 60_000), ("test_size", test_size, 10_000)):
        require(size is None or 1 <= size <= most, option, size, f"an integer from 1 to {most}")
    place = Path(root).expanduser()
    _complete(place, download)
    fresh = partial(_part, place, "train", train_size or 60_000)
    train, test, names = fresh(0), _part(place, "t10k", test_size or 10_000), tuple(map(str, range(10)))
    return RealData(train, test, "images", names, "mnist", fresh=fresh, rows=60_000)


def _part(root: Path, part: str, size: int, number: int = 0) -> Samples:
    """The ``size`` rows from ``number * size`` on."""
    rows = slice(number * size, (number + 1) * size)
    pixels = _read(root, f"{part}-images-idx3-ubyte").reshape(-1, 1, 28, 28)[rows]
    labels = _read(root, f"{part}-labels-idx1-ubyte")[rows]
    return Samples(torch.from_numpy(pixels.copy()), torch.from_numpy(labels.astype(np.int64)))


# Files.


def _found(root: Path, name: str) -> Path | None:
    """Where the file ``name`` lies. Packed ones first, since their sums are the published ones."""
    places = [folder / (name + end) for folder in (root / "MNIST" / "raw", root) for end in (".gz", "")]
    return next((path for path in places if path.is_file()), None)


def _missing(root: Path) -> list[str]:
    return [name for name in _NAMES if _found(root, name) is None]


def _complete(root: Path, download: bool) -> None:
    """Have all files in place, each of them whole or absent at any time."""
    missing, folder = _missing(root), root / "MNIST" / "raw"
    if not missing:
        return
    if not download:
        raise _absent(root, f"{missing[0]} is missing there, and data.download is false")
    with filling(folder, "mnist", missing[0], partial(_absent, root)):
        for name in _missing(root):  # still, now that others who may have been at it are done
            packed = f"{name}.gz"
            fetch([mirror + packed for mirror in MNIST.mirrors], folder / packed, dict(MNIST.resources)[packed])


def _read(root: Path, name: str) -> np.ndarray:
    """The bytes after the header of a file that was found whole."""
    path = _found(root, name)
    try:
        content = (path or root / name).read_bytes()
    except OSError as error:
        raise _absent(root, f"{name} cannot be read: {error}") from error
    # What was checked is what is used: another process may be at the file.
    if path is not None and path.suffix == ".gz":
        require_sum(path, _sum(content), dict(MNIST.resources)[path.name])
        content = gzip.decompress(content)
    else:
        _require_unpacked(path or root / name, content)
    return np.frombuffer(content, np.uint8, offset=_HEADERS[name.split("-")[1]])


def _require_unpacked(path: Path, content: bytes) -> None:
    """Raise ``InvalidValue`` where ``content`` is not that of the unpacked file ``path``."""
    fault = _fault(path.name, content)
    if fault:
        expected, do = "an idx file as LeCun et al. published it", "delete it, or put the published .gz in its place"
        raise InvalidValue("root", found=f"{path}: {fault}", expected=expected, do=do)
    require_sum(path, _sum(content), _UNPACKED_SUMS[path.name])


def _fault(name: str, content: bytes) -> str:
    """What shows that ``content`` is not the idx file ``name``, empty where nothing does.

    An idx header is a magic number, whose last byte is the number of axes, and then the length of each axis; all
    are big-endian integers of 4 bytes (LeCun et al. 1998).
    """
    part, what, *_ = name.split("-")
    header = [2051, _SIZES[part], 28, 28] if what == "images" else [2049, _SIZES[part]]
    size = _HEADERS[what] + int(np.prod(header[1:]))
    found = np.frombuffer(content[: _HEADERS[what]].ljust(16, b"\0"), ">i4")[: len(header)].tolist()
    if found[0] != header[0]:
        return f"the magic number {found[0]} where {what} have {header[0]}"
    if found != header:
        return f"{what} of {' x '.join(map(str, found[1:]))} instead of {' x '.join(map(str, header[1:]))}"
    if len(content) != size:
        return f"{len(content)} bytes instead of {size}"
    most = max(content[_HEADERS[what] :]) if what == "labels" else 0
    return f"the label {most}, of digits 0 to 9" if most > 9 else ""


def _sum(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _absent(root: Path, why: str) -> InvalidValue:
    do = f"give data.root=..., copy the four .gz files of {MNIST.mirrors[0]} into {root}, or try data.name=digits"
    return InvalidValue("root", found=f"no complete MNIST in {str(root)!r}: {why}", expected=_LAYOUT, do=do)
