"""From a YAML file and overrides to one plain mapping: ``extends``, ``key=value``, interpolation.

What the keys mean is not known here; ``sc_loops/components.py`` holds them against the constructors.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sc_loops.errors import UsageError, nearest

Mapping = dict[str, Any]

# What reading raises; ValueError for an integer of thousands of digits, RecursionError for deep nesting.
_NOT_YAML = (yaml.YAMLError, OmegaConfBaseException, ValueError, RecursionError)
RECIPES = Path(__file__).resolve().parent.parent / "configs"


def load(config: str, overrides: Sequence[str] = ()) -> Mapping:
    """The content of ``config`` (a path, or a bare name from configs/) with ``overrides`` applied.

    Raises:
        UsageError: a file is missing, unreadable, empty or extends itself; an override is malformed.
    """
    return settle(read(config), overrides, config)


def read(config: str) -> Mapping:
    """The content of ``config`` with what it extends, interpolations as they stand.

    Raises:
        UsageError: a file is missing, unreadable, empty or extends itself.
    """
    return _load_file(find(config), ())


def settle(content: Mapping, overrides: Sequence[str], config: str) -> Mapping:
    """``content``, which stays as it is, with ``overrides`` applied and interpolations resolved.

    Raises:
        UsageError: an override is malformed, or an interpolation of ``config`` names no key.
    """
    content = copy.deepcopy(content)
    for override in overrides:
        _apply(content, override)
    try:
        resolved = OmegaConf.to_container(OmegaConf.create(content), resolve=True)
    except OmegaConfBaseException as error:
        raise UsageError(
            error.full_key or config,
            found=str(error).splitlines()[0],
            expected="interpolations ${...} that name existing keys",
        ) from error
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def find(config: str, where: str = "--config") -> Path:
    """The file that ``config`` names: a path, or a recipe of configs/ with or without ``.yaml``."""
    folders = [Path("configs"), RECIPES]
    names = [config, f"{config}.yaml"]
    for path in [Path(config), *(folder / name for folder in folders for name in names)]:
        if os.path.isfile(path):  # unlike Path.is_file, no error for a name that is too long
            return path
    recipes = {path.name for folder in folders for path in folder.glob("*.yaml")}
    raise UsageError(
        where,
        found=f"{config!r}, which is neither a file nor a recipe",
        expected="the path of a YAML file, or the name of a recipe in configs/",
        do=nearest(Path(config).name, recipes),
    )


def to_yaml(content: Mapping) -> str:
    """``content`` as YAML that ``load`` reads back."""
    return OmegaConf.to_yaml(OmegaConf.create(content))


def _load_file(path: Path, children: tuple[Path, ...]) -> Mapping:
    if path.resolve() in children:
        circle = " -> ".join(p.name for p in (*children, path))
        raise UsageError(f"{path}: extends", found=f"a circle: {circle}", expected="a chain that ends")
    content = _read(path)
    parent = content.pop("extends", None)
    if parent is None:
        return content
    beside = path.parent / str(parent)
    found = beside if os.path.isfile(beside) else find(str(parent), f"{path}: extends")
    base = _load_file(found, (*children, path.resolve()))
    return _merge(base, content)


def _read(path: Path) -> Mapping:
    expected = "a YAML mapping of keys to values"
    try:
        text = path.read_text(encoding="utf-8")
        content = OmegaConf.to_container(OmegaConf.create(text)) if text.strip() else None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(str(path), found=str(error), expected="a readable text file") from error
    except _NOT_YAML as error:
        found = " ".join(str(error).split())[:300]
        raise UsageError(str(path), found=f"not YAML: {found}", expected=expected) from error
    # A text without a colon is read as one key without a value.
    if not isinstance(content, dict) or all(value is None for value in content.values()):
        raise UsageError(str(path), found="no settings", expected=expected, do="see configs/ for recipes")
    return {str(key): value for key, value in content.items()}


def _merge(base: Any, over: Any) -> Any:
    """Mappings merge key by key, except that a component of another name replaces the whole of the old one."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    if over.get("name", base.get("name")) != base.get("name") and "name" in base:
        return over
    return {**base, **{key: _merge(base.get(key), value) for key, value in over.items()}}


def _apply(content: Mapping, override: str) -> None:
    """Set ``a.b.0.c=value`` in ``content``. The value is YAML, so ``[1, 2]``, ``null`` and ``1e-3`` work."""
    key, equals, text = override.removeprefix("--").partition("=")
    if not (equals and key):
        raise UsageError(
            "the command line",
            found=repr(override),
            expected="overrides of the form key=value, as in loop.generations=3",
        )
    value = value_of(key, text)
    *parents, last = key.split(".")
    place: Any = content
    for depth, part in enumerate(parents):
        if isinstance(place, dict) and place.get(part) is None:
            place[part] = {}
        place = place[_position(place, part, ".".join(parents[: depth + 1]))]
    place[_position(place, last, key, new=True)] = value


def value_of(key: str, text: str) -> Any:
    """What ``text`` means as the value of ``key``.

    Raises:
        UsageError: it is not YAML.
    """
    try:
        return OmegaConf.to_container(OmegaConf.create(f"value: {text}"))["value"]  # type: ignore[index,call-overload]
    except (*_NOT_YAML, KeyError) as error:
        raise UsageError(key, found=repr(text), expected="a YAML value") from error


def _position(place: Any, part: str, where: str, *, new: bool = False) -> Any:
    """``part`` as what indexes ``place``: a key of a mapping or a position in a list."""
    if isinstance(place, dict):
        return part
    if isinstance(place, list):
        if part.isdigit() and int(part) < len(place):
            return int(part)
        found = f"position {part!r} of a list of {len(place)}"
        expected = f"a position from 0 to {len(place) - 1}" if place else "a list with something in it"
        raise UsageError(where, found=found, expected=expected)
    raise UsageError(where, found=f"{place!r}, which has no keys", expected="a section with keys")
