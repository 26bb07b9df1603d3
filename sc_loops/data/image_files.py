"""A user's own images, from an ``.npz`` archive or a folder of files."""

from __future__ import annotations

import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue, require
from sc_loops.randomness import generator_for
from sc_loops.samples import Samples

# Keys of images and labels: ours and Keras', MedMNIST's; then those of archives without a held-out part, the last as
# guided-diffusion writes its samples.
_TRAIN_KEYS = (("x_train", "y_train"), ("train_images", "train_labels"))
_TEST_KEYS = (("x_test", "y_test"), ("test_images", "test_labels"))
_PLAIN_KEYS = (("x", "y"), ("images", "labels"), ("arr_0", "arr_1"))


def image_archive(*, path: str, test_path: str | None = None, test_fraction: float = 0.1, seed: int = 0) -> RealData:
    """Images of an ``.npz`` archive, as ``(N, C, H, W)`` uint8.

    The archive holds images, uint8 ``(N, H, W)``, ``(N, H, W, C)`` or ``(N, C, H, W)`` with C = 1 or 3 (taken as
    ``(N, H, W, C)`` where it might be either), and, unless they are unlabelled, integer labels 0..C-1, ``(N,)``
    or ``(N, 1)``. Their keys are the first that are there of ``x_train, y_train``; ``train_images, train_labels``;
    ``x, y``; ``images, labels``; ``arr_0, arr_1``. Held-out images are under ``x_test, y_test`` or
    ``test_images, test_labels``; without them a part of the images is held out. ``classes`` names the classes in
    the order of their numbers; by default they are called "0", "1", ... Nothing in the archive is unpickled.

    Args:
        path: the archive.
        test_path: another archive with the held-out images, under ``x_test``, ``test_images``, ``x``, ``images`` or
            ``arr_0`` and the labels beside them.
        test_fraction: the share of each class to hold out, at least one image of it, where no images are held out
            by the keys or by ``test_path``.
        seed: of that choice; the same in all runs that are to be compared.

    Raises:
        InvalidValue: the archive cannot be read, or holds something else.
    """
    _require_fraction(test_fraction)
    archive = _Archive.load("path", path)
    train = archive.part((*_TRAIN_KEYS, *_PLAIN_KEYS))
    names = _class_names(archive, train)
    if test_path is not None:
        apart = _Archive.load("test_path", test_path)
        test = apart.part((*_TEST_KEYS, *_PLAIN_KEYS))
        _require_alike(apart, test, train, names)
    elif any(images in archive.arrays for images, _ in _TEST_KEYS):
        test = archive.part(_TEST_KEYS)
        _require_alike(archive, test, train, names)
    else:
        train, test = _split(train, test_fraction, seed, "path", path)
    return RealData(train, test, "images", names, Path(path).stem)


def image_folder(*, root: str, size: int | None = None, test_fraction: float = 0.1, seed: int = 0) -> RealData:
    """Image files of one size, as ``(N, C, H, W)`` uint8.

    The sub-folders of ``root`` are the classes, in the order of their sorted names, as for torchvision's
    ``ImageFolder``; files in folders below them belong to them, too. Files directly in ``root`` are unlabelled.
    Where ``root`` has the sub-folders ``train`` and ``test`` (or ``val``) and no other, each of the two is such a
    folder, and ``test`` is held out. Names that begin with a dot are ignored; everything else has to be an image
    that PIL can read, of 8 bits a channel.

    Images are turned upright as their EXIF data says, and transparency is dropped. C is 1 where all images are
    grey; where some are in colour, the grey ones become RGB.

    Args:
        root: the folder.
        size: crop each image to the largest square in its middle and scale that to ``size`` x ``size`` pixels
            (Lanczos, which smooths when it makes smaller). By default images are taken as they are.
        test_fraction: the share of each class to hold out, at least one image of it, where there is no ``test``.
        seed: of that choice; the same in all runs that are to be compared.

    Raises:
        InvalidValue: the folder is absent, or holds something else or images of several sizes.
    """
    _require_fraction(test_fraction)
    require(size is None or 1 <= size <= 4096, "size", size, "pixels, an integer from 1 to 4096, or null")
    place = Path(root).expanduser()
    require(place.is_dir(), "root", root, "a folder of images that exists")
    parts = [_Folder.of(path) for path in _parts(place)]
    names = parts[0].class_names
    for part in parts:
        _require_classes(part, names, parts[0].path)
    pixels = _decode([file for part in parts for file in part.files], size)
    pieces = pixels.split([len(part.files) for part in parts])
    samples = [
        Samples(x, torch.tensor(part.labels) if names else None) for x, part in zip(pieces, parts, strict=True)
    ]
    train, test = samples if len(samples) == 2 else _split(samples[0], test_fraction, seed, "root", root)
    return RealData(train, test, "images", names, place.resolve().name)


# Both.


def _require_fraction(test_fraction: float) -> None:
    require(0.001 <= test_fraction <= 0.999, "test_fraction", test_fraction, "a number from 0.001 to 0.999")


def _split(samples: Samples, fraction: float, seed: int, option: str, place: str) -> tuple[Samples, Samples]:
    """Hold out ``fraction`` of each class, at random; both parts have all classes and keep the order."""
    labels = samples.condition if samples.condition is not None else torch.zeros(len(samples), dtype=torch.int64)
    held_out = torch.zeros(len(samples), dtype=torch.bool)
    for k in range(int(labels.max()) + 1):
        members = (labels == k).nonzero()[:, 0]
        if len(members) < 2:
            found = f"{place} with one image" + (f" of class {k}" if samples.condition is not None else "")
            raise InvalidValue(option, found=found, expected="at least two, one of which is held out")
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        order = torch.randperm(len(members), generator=generator_for(seed, "held-out images", k))
        held_out[members[order[:count]]] = True
    return samples[~held_out], samples[held_out]


# Archives.


@dataclass(frozen=True)
class _Archive:
    """What an ``.npz`` file holds, and the option that names it.

    Attributes:
        keys: of all its arrays.
        arrays: those whose keys are known here.
    """

    option: str
    path: str
    keys: list[str]
    arrays: dict[str, np.ndarray]

    @staticmethod
    def load(option: str, path: str) -> _Archive:
        place = Path(path).expanduser()
        require(place.is_file(), option, path, "an .npz file that exists")
        do = "write it again with numpy.savez(path, x=images, y=labels)"
        require(
            zipfile.is_zipfile(place), option, path, "an .npz file; this is another kind of file, or cut short", do
        )
        known = {key for pair in (*_TRAIN_KEYS, *_TEST_KEYS, *_PLAIN_KEYS) for key in pair} | {"classes"}
        try:
            with np.load(place, allow_pickle=False) as file:
                return _Archive(option, path, file.files, {key: file[key] for key in file.files if key in known})
        except Exception as error:  # numpy's, zipfile's, zlib's: damaged files fail in many ways
            raise InvalidValue(
                option,
                found=f"{path}, which numpy cannot read: {type(error).__name__}: {error}",
                expected="a whole .npz file of arrays of numbers and texts, without Python objects",
                do=do,
            ) from error

    def require(self, condition: bool, found: str, expected: str, do: str = "") -> None:
        if not condition:
            raise InvalidValue(self.option, found=f"{self.path} with {found}", expected=expected, do=do)

    def part(self, pairs: tuple[tuple[str, str], ...]) -> Samples:
        """The images and labels under the first of ``pairs`` of keys that is there."""
        there = [pair for pair in pairs if pair[0] in self.arrays]
        wanted = "; ".join(f"{images} (labels: {labels})" for images, labels in pairs)
        self.require(bool(there), f"the keys {', '.join(self.keys) or '(none)'}", f"images under one of {wanted}")
        images, labels = there[0]
        x = self._pixels(images)
        return Samples(x, self._labels(labels, len(x)) if labels in self.arrays else None)

    def _pixels(self, key: str) -> Tensor:
        x = self.arrays[key]
        do = "scale to 0..255, round and convert with .astype(numpy.uint8) before saving"
        self.require(x.dtype == np.uint8, f"{key} of {x.dtype}", "uint8 pixels 0..255", do)
        if x.ndim == 3:
            x = x[:, None]
        elif x.ndim == 4 and x.shape[3] in (1, 3):
            x = x.transpose(0, 3, 1, 2)
        proper = x.ndim == 4 and x.shape[1] in (1, 3) and x.size > 0
        shapes = "images (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3"
        self.require(proper, f"{key} of the shape {self.arrays[key].shape}", shapes)
        return torch.from_numpy(np.ascontiguousarray(x))

    def _labels(self, key: str, count: int) -> Tensor:
        y = self.arrays[key]
        found = f"{key} of {y.dtype} of the shape {y.shape} for {count} images"
        proper = y.dtype.kind in "iu" and y.shape in ((count,), (count, 1))
        self.require(proper, found, "one integer label 0..C-1 for each image")
        return torch.from_numpy(y.reshape(-1).astype(np.int64))


def _class_names(archive: _Archive, train: Samples) -> tuple[str, ...]:
    """The names of the classes, each of which is in ``train``; none for unlabelled images."""
    given = archive.arrays.get("classes")
    if train.condition is None:
        archive.require(given is None, "names of classes but no labels", "labels, or no key 'classes'")
        return ()
    present = train.condition.unique().tolist()
    do = "leave the labels out: images without them are unlabelled"
    archive.require(len(present) > 1, f"the one label {present[0]}", "at least two classes", do)
    if given is None:
        names = tuple(str(k) for k in range(len(present)))
        do = "number them with y = numpy.unique(y, return_inverse=True)[1]"
    else:
        found = f"classes of {given.dtype} of the shape {given.shape}"
        archive.require(given.ndim == 1 and given.dtype.kind in "US", found, "a list of texts")
        names = tuple(name.decode(errors="replace") if isinstance(name, bytes) else name for name in given.tolist())
        do = "name the classes that there are, in the order of their numbers"
    expected = f"each of the labels 0..{len(names) - 1} for the {len(names)} classes"
    archive.require(present == list(range(len(names))), f"the labels {_few(present)}", expected, do)
    return names


def _few(values: list[int]) -> str:
    return ", ".join(map(str, values[:12])) + (f" ... ({len(values)} in all)" if len(values) > 12 else "")


def _require_alike(archive: _Archive, test: Samples, train: Samples, names: tuple[str, ...]) -> None:
    """The held-out images are of the size and the classes of those to train on."""
    shape, expected = tuple(test.x.shape[1:]), tuple(train.x.shape[1:])
    archive.require(shape == expected, f"held-out images {shape} (C, H, W)", f"{expected}, as those to train on")
    if test.condition is None or train.condition is None:
        both = (test.condition is None) == (train.condition is None)
        archive.require(both, "labels in one part only", "labels of the images to train on and of those held out")
        return
    unknown = [k for k in test.condition.unique().tolist() if not 0 <= k < len(names)]
    archive.require(not unknown, f"held-out labels {_few(unknown)}", f"labels 0..{len(names) - 1}, as in training")


# Folders.


@dataclass(frozen=True)
class _Folder:
    """Image files and their classes; no names where they are unlabelled."""

    path: Path
    class_names: tuple[str, ...]
    files: list[Path]
    labels: list[int]

    @staticmethod
    def of(path: Path) -> _Folder:
        folders, loose = _visible(path)
        if not folders:
            require(bool(loose), "root", str(path), "a folder with images; there is nothing in it")
            return _Folder(path, (), loose, [0] * len(loose))
        if loose:
            _refuse(
                f"{loose[0]} beside the folder {folders[0]}",
                "either one sub-folder for each class, or no sub-folders",
            )
        if len(folders) == 1:
            do = f"give data.root={folders[0]}: images without sub-folders are unlabelled"
            _refuse(f"one sub-folder, {folders[0]}", "a sub-folder for each of at least two classes", do)
        files = [_below(folder) for folder in folders]
        for folder, inside in zip(folders, files, strict=True):
            require(bool(inside), "root", str(folder), "images of this class; there are none", "remove the folder")
        labels = [k for k, inside in enumerate(files) for _ in inside]
        return _Folder(path, tuple(f.name for f in folders), [file for inside in files for file in inside], labels)


def _refuse(found: str, expected: str, do: str = "") -> None:
    raise InvalidValue("root", found=found, expected=expected, do=do)


def _visible(path: Path) -> tuple[list[Path], list[Path]]:
    """The sub-folders and the files of a folder, sorted by name."""
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    return [entry for entry in entries if entry.is_dir()], [entry for entry in entries if not entry.is_dir()]


def _below(path: Path) -> list[Path]:
    """The files of a folder and of those below it."""
    folders, files = _visible(path)
    return files + [file for folder in folders for file in _below(folder)]


def _parts(root: Path) -> list[Path]:
    """The folders to train on and to hold out, or ``root`` alone."""
    folders, loose = _visible(root)
    names = {folder.name for folder in folders}
    if loose or "train" not in names or not {"train"} < names <= {"train", "test", "val"}:
        return [root]
    return [root / "train", root / ("test" if "test" in names else "val")]


def _require_classes(part: _Folder, names: tuple[str, ...], model: Path) -> None:
    odd = sorted(set(part.class_names) ^ set(names))
    if odd:
        has = model if odd[0] in names else part.path
        _refuse(f"the class {odd[0]} in {has} alone", f"the same classes in {model} and {part.path}")


def _decode(files: list[Path], size: int | None) -> Tensor:
    """All images, ``(N, C, H, W)`` uint8."""
    first = _read(files[0], size)

    def read(file: Path) -> np.ndarray:
        image = _read(file, size)
        if image.shape[:2] != first.shape[:2]:
            (h, w), (height, width) = image.shape[:2], first.shape[:2]
            found = f"{files[0]} of {width} x {height} pixels and {file} of {w} x {h}"
            _refuse(found, "images of one size", "data.size=N crops all to squares and scales them to N x N")
        return image

    # PIL decodes without the GIL; with small files most of the time is Python's own, and threads only wait.
    threads = min(8, os.cpu_count() or 1) if files[0].stat().st_size >= 16_384 else 1
    with ThreadPoolExecutor(threads) as pool:
        images = list(pool.map(read, files))
    channels = 3 if any(image.ndim == 3 for image in images) else 1
    pixels = np.empty((len(images), channels, *first.shape[:2]), np.uint8)
    for place, image in zip(pixels, images, strict=True):
        place[:] = image.transpose(2, 0, 1) if image.ndim == 3 else image
    return torch.from_numpy(pixels)


def _read(file: Path, size: int | None) -> np.ndarray:
    """One image, ``(H, W)`` if it is grey and else ``(H, W, 3)``."""
    try:
        with Image.open(file) as opened:
            deep = opened.mode[0] in "IF"  # integers or floats of 16 or 32 bits
            image = ImageOps.exif_transpose(opened).convert("L" if opened.mode in ("1", "L", "LA") else "RGB")
        if size is not None and image.size != (size, size):
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            box = (left, top, left + side, top + side)
            image = image.crop(box).resize((size, size), Image.Resampling.LANCZOS)
    except Exception as error:  # PIL's decoders fail in many ways
        found = f"{file}, which PIL cannot read: {type(error).__name__}: {error}"
        do = "repair it, or move it away; names that begin with a dot are ignored"
        raise InvalidValue("root", found=found, expected="image files and nothing else", do=do) from error
    if deep:
        _refuse(f"{file} of more than 8 bits a channel", "images of 8 bits a channel", "convert it to 8 bits")
    return np.asarray(image)
