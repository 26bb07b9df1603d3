"""Where motion capture lies: a folder, an archive or a file, and the clips in it."""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import numpy as np

from sc_loops.errors import InvalidValue, require
from sc_loops.motion.importing.acclaim import read_amc, read_asf
from sc_loops.motion.importing.bvh import read_bvh
from sc_loops.motion.importing.expmap import read_expmap
from sc_loops.motion.importing.recording import Recording, Unusable

_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".zip")
_WANTED = (".bvh", ".amc", ".asf", ".npz")
# RuntimeError is zipfile's of an encrypted archive, or of a method that it does not know.
_NOT_WHOLE = (
    OSError, EOFError, RuntimeError, ValueError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError
)  # fmt: skip
_EXPECTED = f"a folder, a file or an archive ({', '.join(_ARCHIVES)}) with .bvh, or .asf and .amc, or CMU's .npz"


@dataclass(frozen=True)
class Source:
    """A clip: ``path`` within the source, as an index calls it; the ``file`` on disk; the ``key`` in an npz, empty
    where that cannot be opened."""

    path: str
    file: Path
    key: str = ""


def is_licence(name: str) -> bool:
    """Whether a file holds the terms of what lies beside it."""
    return PurePosixPath(name).suffix.lower() in (".txt", ".md", "") and "licen" in PurePosixPath(name).stem.lower()


def licences_in(place: Path) -> dict[str, bytes]:
    """The files with terms in a source that is a folder, by a name that tells their folders too."""
    paths = sorted(path for path in place.rglob("*") if is_licence(path.name)) if place.is_dir() else []
    return {"_".join(path.relative_to(place).parts): path.read_bytes() for path in paths if path.is_file()}


@contextmanager
def opened(place: Path) -> Iterator[Path]:
    """The folder of a source, or the file itself; what an archive holds is unpacked into a temporary folder.

    Raises:
        InvalidValue: there is no such file, or it is no archive.
    """
    require(place.exists(), "SRC", str(place), _EXPECTED)
    if place.is_dir() or place.suffix.lower() in _WANTED:
        yield place
        return
    require(place.name.lower().endswith(_ARCHIVES), "SRC", str(place), _EXPECTED)
    with TemporaryDirectory(prefix="motion-import-") as name:
        try:
            _unpack(place, Path(name))
        except _NOT_WHOLE as error:
            found = f"{str(place)!r}: {type(error).__name__}: {error}"
            raise InvalidValue("SRC", found=found, expected="an archive that is whole") from error
        yield Path(name)


def _unpack(archive: Path, folder: Path) -> None:
    """Motion files and licences alone, each below ``folder`` whatever its name says."""
    if archive.suffix.lower() == ".zip":
        with zipfile.ZipFile(archive) as pack:
            for name in pack.namelist():
                if _is_wanted(name):
                    _put(folder, name, pack.read(name))
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and _is_wanted(member.name) and (content := tar.extractfile(member)) is not None:
                _put(folder, member.name, content.read())


def _is_wanted(name: str) -> bool:
    return name.lower().endswith(_WANTED) or is_licence(name)


def _put(folder: Path, name: str, content: bytes) -> None:
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..", ".")]
    path = folder.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def clips_in(place: Path) -> list[Source]:
    """The clips of a source that is a folder or a file, by name.

    Raises:
        InvalidValue: there are none.
    """
    folder = place if place.is_dir() else place.parent
    files = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
    clips: list[Source] = []
    for file in files:
        # What is no text in a file's name could not be written to a list.
        path = file.relative_to(folder).as_posix().encode("utf-8", "backslashreplace").decode()
        if file.suffix.lower() in (".bvh", ".amc"):
            clips.append(Source(path, file))
        elif file.suffix.lower() == ".npz":
            keys = _keys(file)
            clips += [Source(path, file)] if keys is None else [Source(key, file, key) for key in keys]
    require(bool(clips), "SRC", f"no motion file in {len(files)} files", _EXPECTED)
    return clips


def _keys(file: Path) -> list[str] | None:
    """The clips in an npz of exponential maps; none in any other; None where it cannot be opened."""
    try:
        with np.load(file) as pack:
            names = set(pack.files)
    except Exception:  # whatever a file that is something else leads to
        return None
    return sorted(names - {"parents", "offsets"}) if {"parents", "offsets"} <= names else []


def read(clip: Source) -> Recording:
    """The clip's joints.

    Raises:
        Unusable: its file, or the skeleton that goes with it, is missing or damaged.
    """
    try:
        if clip.file.suffix.lower() == ".npz":
            with np.load(clip.file) as pack:
                return read_expmap(pack[clip.key], pack["parents"], pack["offsets"])
        text = clip.file.read_text(encoding="utf-8", errors="replace")
        if clip.file.suffix.lower() == ".bvh":
            return read_bvh(text)
        return read_amc(text, read_asf(_skeleton_of(clip.file).read_text(encoding="utf-8", errors="replace")))
    except Unusable:
        raise
    except Exception as error:  # whatever a damaged file leads to
        raise Unusable("unreadable file", f"{type(error).__name__}: {error}") from error


def _skeleton_of(amc: Path) -> Path:
    """The ASF file beside ``35_01.amc``: ``35.asf``, or else the only one in its folder or the one above."""
    for folder in (amc.parent, amc.parent.parent):
        skeletons = sorted(path for path in folder.glob("*") if path.suffix.lower() == ".asf")
        own = [path for path in skeletons if path.stem == amc.stem.rpartition("_")[0] or path.stem == amc.stem]
        if own or len(skeletons) == 1:
            return (own or skeletons)[0]
    raise Unusable("AMC file without its skeleton", f"no {amc.stem.rpartition('_')[0]}.asf beside {amc.name}")
