"""Reads ``claims.yaml``, whose head says how it is written.

Everything that can be wrong with it without running anything is found here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from sc_loops.errors import InvalidValue, UsageError, nearest, require, within
from sc_loops.reproducing.claims import Block, Claim, Claims, Difference, Measure

CLAIMS = Path(__file__).with_name("claims.yaml")
Made = TypeVar("Made")


def read_claims(path: Path = CLAIMS) -> Claims:
    """The claims of ``path``.

    Raises:
        UsageError: the file cannot be read, or something in it cannot be; it names the claim and the key.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        found = " ".join(str(error).split())[:300]
        raise UsageError(str(path), found=found, expected="a YAML file of claims") from error
    if not isinstance(content, dict) or not content:
        raise UsageError(str(path), found=repr(content), expected="blocks of claims, by name")
    blocks = tuple(_block(path, str(name), block) for name, block in content.items())
    claims = Claims(path, blocks)
    names = [claim.name for block in blocks for claim in block.claims]
    for name in names:
        if names.count(name) > 1:
            do = "give one of them another name: ..."
            raise UsageError(f"{path}: {name}", found="two claims of this name", expected="one", do=do)
    for claim in claims.by_name.values():
        for number, difference in enumerate(claim.differences):
            with within(f"{path}: {claim.name}.differences.{number}"):
                _require_there(claim, difference, claims.by_name)
    return claims


def _block(path: Path, name: str, content: Any) -> Block:
    whole = isinstance(content, dict) and content.keys() == {"title", "claims"}
    with within(f"{path}: {name}"):
        require(whole and isinstance(content["claims"], list), "the block", content, "title: ... and claims: a list")
    claims = [_claim(path, name, number, entry) for number, entry in enumerate(content["claims"])]
    return Block(name, str(content["title"]), tuple(claims))


def _claim(path: Path, block: str, number: int, content: Any) -> Claim:
    named = isinstance(content, dict) and isinstance(content.get("recipe"), str)
    with within(f"{path}: {block}.{number}"):
        require(named, "the claim", content, "a mapping with a recipe")
    content = {"name": Path(content["recipe"]).stem, **content}
    where = f"{path}: {content['name']}"
    lists: dict[str, Any] = {}
    kinds: tuple[tuple[str, type], ...] = (("measures", Measure), ("differences", Difference))
    for key, kind in kinds:
        given = content.get(key, [])
        with within(where):
            require(isinstance(given, list), key, given, "a list")
        lists[key] = tuple(_made(kind, _read(kind, entry), f"{where}.{key}.{i}") for i, entry in enumerate(given))
    with within(where):
        more: dict[str, Any] = {key: _texts(content[key], key) for key in ("also", "overrides") if key in content}
        sweep = content.get("sweep", {})
        require(isinstance(sweep, dict), "sweep", sweep, "keys, each with a list of values")
        more["sweep"] = {str(key): _texts(values, f"sweep.{key}") for key, values in sweep.items()}
    return _made(Claim, {**content, **lists, **more, "seeds": str(content.get("seeds", "0"))}, where)


def _read(kind: type, entry: Any) -> Any:
    """What is to become a measure or a difference, with its generations and settings in their own types."""
    if not isinstance(entry, dict):
        return entry
    entry = dict(entry)
    if isinstance(entry.get("at"), list):
        entry["at"] = tuple(entry["at"])
    elif "at" in entry and kind is Measure:
        entry["at"] = (entry["at"],)
    for key in ("setting", "against"):
        if isinstance(entry.get(key), dict):
            entry[key] = {str(k): _text(v) for k, v in entry[key].items()}
    return entry


def _made(kind: type[Made], content: Any, where: str) -> Made:
    """``kind`` of the mapping ``content``, whose keys are its fields."""
    options = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]  # both are dataclasses
    with within(where):
        require(isinstance(content, dict), "what stands there", content, f"a mapping of {', '.join(options)}")
        for key in content:
            require(key in options, str(key), content[key], "a known key", do=nearest(str(key), options))
        for name, option in options.items():
            needed = option.default is MISSING and option.default_factory is MISSING and name not in content
            require(not needed, name, None, f"a key {name}: ...")
        try:
            return kind(**content)
        except UsageError as error:
            if isinstance(error, InvalidValue):
                raise
            raise InvalidValue(error.where, found=error.found, expected=error.expected, do=error.do) from error


def _texts(values: Any, where: str) -> tuple[str, ...]:
    require(isinstance(values, list) and bool(values), where, values, "a list, not empty")
    return tuple(map(_text, values))


def _text(value: Any) -> str:
    """``value`` as it is written on a command line."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return str(value)


def _require_there(claim: Claim, difference: Difference, claims: Mapping[str, Claim]) -> None:
    """Raise ``InvalidValue`` where a difference is of something that is not run."""
    name, setting = difference.base
    runnable = {known for known, other in claims.items() if other.size != "published"}
    require(name is None or name in runnable, "against", name, "a claim that is run", do=nearest(str(name), runnable))
    base = claims[name] if name else claim
    for option, of, wanted in (("setting", claim, difference.setting), ("against", base, setting)):
        if wanted is not None:
            known = " or ".join(str(dict(s)) for s in of.settings[:4])
            require(wanted in of.settings, option, dict(wanted), f"a setting of {of.name}, as {known}")
    if difference.against == "before":
        require(len(claim.settings) > 1, "against", "before", "a claim with a sweep of several settings")
    elif setting is None:
        expected = f"a setting of {base.name}, which has several"
        require(len(base.settings) == 1, "against", difference.against, expected)
