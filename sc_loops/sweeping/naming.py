"""Directory names of a sweep: ``strength=0.3,seed=4``, plain in every shell and file system."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_PLAIN = re.compile(r"[^a-z0-9._+-]+")
_LONGEST = 40  # characters of one value
_LONGEST_NAME = 180  # bytes; file systems take 255


def run_name(setting: Mapping[str, Any], seed: int) -> str:
    """The name of the run with the values of ``setting``, by key, and ``seed``."""
    words = short_keys(list(setting))
    name = ",".join([*(f"{words[key]}={_value(value)}" for key, value in setting.items()), f"seed={seed}"])
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}-{digest(name)}"


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Each key's last parts, as many as tell it from the others: ``loop.first.steps`` is ``steps``, but beside
    ``loop.later.steps`` it is ``first.steps``."""
    taken = [*keys, "seed"]
    short = {}
    for key in keys:
        parts = key.split(".")
        count = 2 if parts[-1].isdigit() else 1  # a position alone says nothing
        while count < len(parts) and any(other != key and _ends(other, parts[-count:]) for other in taken):
            count += 1
        short[key] = _plain(".".join(parts[-count:]))
    return short


def _ends(key: str, parts: list[str]) -> bool:
    return key.split(".")[-len(parts) :] == parts


def _value(value: Any) -> str:
    """A value as a part of a name, another one for another value."""
    if isinstance(value, float):
        return re.sub(r"\.0$", "", repr(value))
    return _plain(value if isinstance(value, str) else json.dumps(value))


def _plain(text: str) -> str:
    """``text`` where it is plain; else what is plain of it, with a digest. Letters of both cases are not: some file
    systems take them for the same."""
    if text and not _PLAIN.search(text) and len(text) <= _LONGEST:
        return text
    plain = _PLAIN.sub("-", text.lower())[:_LONGEST].strip("-.")
    return f"{plain}-{digest(text)}" if plain else digest(text)


def digest(content: Any) -> str:
    """Six hexadecimal digits of the SHA-256 of ``content`` in JSON."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:6]
