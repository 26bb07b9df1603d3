"""CIFAR-10 as torchvision lays it out. Every file is held against its published MD5 sum before it is unpickled."""

from __future__ import annotations

import hashlib
import pickle
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import calculate_md5

from sc_loops.data.downloads import fetch, filling, require_sum
from sc_loops.data.files import write_atomically
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue, require
from sc_loops.samples import Samples

_LAYOUT = (
    f"root/{CIFAR10.base_folder}/ with data_batch_1 ... data_batch_5, test_batch and batches.meta; "
    f"or root/{CIFAR10.filename}, which is then unpacked"
)


def cifar10(
    *, root: str = "data", download: bool = True, train_size: int | None = None, test_size: int | None = None
) -> RealData:
    """CIFAR-10 (Krizhevsky 2009): 50,000 and 10,000 colour images, ``(N, 3, 32, 32)`` uint8, ten classes.

    Args:
        root: the folder that holds ``cifar-10-batches-py/``, as for torchvision. What is there is used without the
            network; what is missing comes from ``cifar-10-python.tar.gz`` in ``root`` if that is there.
        download: fetch that archive (170 MB) into ``root`` when it is needed and absent. Processes that start
            together fetch it once.
        train_size: keep the first ``train_size / 10`` training images of each class, in file order; all by default.
            With ``loop.real=fresh`` generation t has, of each class, those from ``t train_size / 10`` on.
        test_size: the same of the held-out images.

    Raises:
        InvalidValue: the data is absent and cannot be fetched, or a file is damaged.
    """
    for option, size, most in (("train_size", train_size, 50_000), ("test_size", test_size, 10_000)):
        possible = size is None or (10 <= size <= most and size % 10 == 0)
        require(possible, option, size, f"a multiple of 10, the number of classes, from 10 to {most}")
    place = Path(root).expanduser()
    _complete(place, download)
    names = tuple(_read(place, CIFAR10.meta["filename"])[CIFAR10.meta["key"]])
    fresh = partial(_part, place, [name for name, _ in CIFAR10.train_list], train_size)
    test = _part(place, [name for name, _ in CIFAR10.test_list], test_size)
    return RealData(fresh(0), test, "images", names, "cifar10", fresh=fresh, rows=50_000)


def _part(root: Path, names: list[str], size: int | None, number: int = 0) -> Samples:
    batches = [_read(root, name) for name in names]
    pixels = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    labels = torch.tensor([label for batch in batches for label in batch["labels"]], dtype=torch.int64)
    samples = Samples(torch.from_numpy(pixels), labels)
    return samples if size is None else samples[_of_each_class(labels, size // 10, number)]


def _of_each_class(labels: Tensor, count: int, number: int) -> Tensor:
    """Positions of the ``count`` items of each class from its item ``number * count`` on, in ascending order."""
    rows = slice(number * count, (number + 1) * count)
    return torch.cat([(labels == k).nonzero()[rows, 0] for k in range(10)]).sort().values


# Files. Their sums are read when they are needed.


def _sums() -> dict[str, str]:
    """The published MD5 sum of each file."""
    return {**dict(CIFAR10.train_list), **dict(CIFAR10.test_list), CIFAR10.meta["filename"]: CIFAR10.meta["md5"]}


def _read(root: Path, name: str) -> dict[str, Any]:
    path = root / CIFAR10.base_folder / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _absent(root, f"{path} cannot be read: {error}") from error
    # What was checked is what is unpickled: another process may be at the file.
    require_sum(path, hashlib.md5(content, usedforsecurity=False).hexdigest(), _sums()[name])
    batch: dict[str, Any] = pickle.loads(content, encoding="latin1")
    return batch


def _missing(root: Path) -> list[str]:
    return [name for name in _sums() if not (root / CIFAR10.base_folder / name).exists()]


def _complete(root: Path, download: bool) -> None:
    """Have all files in place, each of them whole or absent at any time."""
    missing, archive = _missing(root), root / CIFAR10.filename
    if not missing:
        return
    if all((root / name).exists() for name in _sums()):
        do = f"data.root={root.parent}"
        raise InvalidValue("root", found=f"{str(root)!r}, {CIFAR10.base_folder}/ itself", expected=_LAYOUT, do=do)
    if not (download or archive.exists()):
        raise _absent(root, f"{missing[0]} is missing there, and data.download is false")
    with filling(root, "cifar10", missing[0], partial(_absent, root)):
        if missing := _missing(root):  # still, now that others who may have been at it are done
            if not archive.exists():
                fetch([CIFAR10.url], archive, CIFAR10.tgz_md5)
            _unpack(archive, missing)


def _unpack(archive: Path, names: list[str]) -> None:
    """Put the files ``names`` of the archive in place."""
    require_sum(archive, calculate_md5(archive), CIFAR10.tgz_md5)
    folder = archive.parent / CIFAR10.base_folder
    folder.mkdir(exist_ok=True)
    with tarfile.open(archive) as tar:
        for name in names:
            member = tar.extractfile(f"{CIFAR10.base_folder}/{name}")
            assert member is not None  # by the archive's sum
            write_atomically(folder / name, member.read())


def _absent(root: Path, why: str) -> InvalidValue:
    do = f"give data.root=..., copy {CIFAR10.url} into {root}, or use an .npz with data.name=image_archive"
    return InvalidValue("root", found=f"no complete CIFAR-10 in {str(root)!r}: {why}", expected=_LAYOUT, do=do)
