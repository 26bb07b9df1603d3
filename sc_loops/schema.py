"""From plain mappings to objects: a constructor's signature is the schema of its section.

Parameters before the ``*`` are supplied here, by name, from what was built before (``data``, ``classifier``,
``reward``, ``seed``, ...). Keyword-only parameters are the options a config may set, checked against their type
hints. A parameter annotated with one of ``components.FAMILIES`` takes a component: a section whose ``name`` picks
the class and whose other keys are that class's options.
"""

from __future__ import annotations

import functools
import inspect
import math
import types
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from sc_loops.components import FAMILIES, FUNCTIONS, find, one_of
from sc_loops.errors import UsageError, blaming, nearest, within


def resolve(target: Callable[..., Any], section: Any, where: str = "") -> dict[str, Any]:
    """``section`` checked against the options of ``target``, with every default written out.

    Raises:
        UsageError: an unknown key, a missing one or one of the wrong type; the message names the place.
    """
    if not isinstance(section, dict):
        raise UsageError(where, found=repr(section), expected="a section with keys")
    options = _options(target)
    for key in section:
        if key not in options:
            do = nearest(str(key), options) or "remove it: there are no options here"
            raise UsageError(_join(where, key), found=f"unknown key {key!r}", expected="a known key", do=do)
    hints = _hints(target)
    resolved = {}
    for key, parameter in options.items():
        hint, place = hints.get(key, Any), _join(where, key)
        if key in section:
            resolved[key] = _check(hint, section[key], place)
        elif _is_section(hint):
            resolved[key] = resolve(hint, {}, place)
        elif parameter.default is inspect.Parameter.empty:
            raise UsageError(place, found="nothing", expected=_describe(hint), do=f"add {key!r} to the config")
        elif _is_plain(parameter.default):
            resolved[key] = _plain(parameter.default)
    return resolved


def build(target: Callable[..., Any], resolved: dict[str, Any], context: dict[str, Any], where: str = "") -> Any:
    """Call ``target`` with its options from ``resolved`` and its other parameters from ``context``.

    Options are built in the order of the signature, and each joins the context of those after it.

    Raises:
        UsageError: the constructor found a value impossible, or needs something that the config lacks.
    """
    hints = _hints(target)
    options: dict[str, Any] = {}
    for key, value in resolved.items():
        options[key] = _build(hints.get(key, Any), value, {**context, **options}, _join(where, key))
    supplied = _supplied(target, hints, context, where)
    with blaming(where, f"options with which {_named(target)} can be made"), within(where):
        return target(**supplied, **options)


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else str(key)


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    """The type hints of what ``target`` is called with; a parameter without one takes anything."""
    with blaming(_named(target), "type hints of names that exist at run time, not under TYPE_CHECKING alone"):
        return get_type_hints(target.__init__ if inspect.isclass(target) else target)


def _named(target: Callable[..., Any]) -> str:
    """What ``target`` is called in messages; not every callable has a name."""
    return str(getattr(target, "__qualname__", target))


def _parameters(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(target).parameters)
    except ValueError:  # some classes written in C
        return {}


def _options(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return {name: p for name, p in _parameters(target).items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def _supplied(
    target: Callable[..., Any], hints: dict[str, Any], context: dict[str, Any], where: str
) -> dict[str, Any]:
    """The positional parameters of ``target``, taken from ``context``."""
    supplied = {}
    for name, parameter in _parameters(target).items():
        if parameter.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
            continue
        optional = type(None) in get_args(hints.get(name)) or parameter.default is not inspect.Parameter.empty
        value = context.get(name)
        if value is not None:
            supplied[name] = value
        elif not optional:
            do = f"add a {name!r} section; or, if it is to be an option, write it behind a * in the signature"
            raise UsageError(
                where,
                found=f"no {name!r} in the config",
                expected=f"a {name!r} section, which this component needs",
                do=do,
            )
        elif parameter.default is inspect.Parameter.empty:
            supplied[name] = None
    return supplied


# Values. A union tries its members in turn; a component is a mapping with a name.


def _check(hint: Any, value: Any, where: str) -> Any:
    """``value`` as ``hint`` wants it, still plain (what YAML can hold)."""
    if hint is Any:
        return value
    if get_origin(hint) in (Union, types.UnionType):
        return _check_union(hint, value, where)
    if hint in FAMILIES:
        return _check_component(hint, value, where)
    if get_origin(hint) in (list, tuple, Sequence):
        return _check_list(hint, value, where)
    if get_origin(hint) is Literal:
        if value in get_args(hint) and not isinstance(value, bool):
            return value
        do = nearest(str(value), [str(a) for a in get_args(hint)])
        raise UsageError(where, found=repr(value), expected=_describe(hint), do=do)
    if hint in (bool, int, float, str):
        return _check_scalar(hint, value, where)
    if _is_section(hint):
        return resolve(hint, value, where)
    expected = "nothing: the component annotates this option with a type that a config cannot hold"
    raise UsageError(where, found=repr(value), expected=expected, do=f"remove it, or change its type hint {hint}")


def _check_union(hint: Any, value: Any, where: str) -> Any:
    members = [m for m in get_args(hint) if m is not type(None) and get_origin(m) is not Callable]
    if value is None and type(None) in get_args(hint):
        return None
    for member in members[:-1]:
        if _is_scalar(member):
            try:
                return _check(member, value, where)
            except UsageError:
                continue
    try:
        return _check(members[-1], value, where)
    except UsageError as error:
        if all(map(_is_scalar, members)):
            raise UsageError(where, found=repr(value), expected=_describe(hint), do=error.do) from error
        raise


def _is_section(hint: Any) -> bool:
    """Whether ``hint`` is a class of ours that is no component: a section without a name."""
    return inspect.isclass(hint) and hint not in FAMILIES and hint.__module__.startswith("sc_loops.")


def _is_scalar(hint: Any) -> bool:
    return hint in (bool, int, float, str)


def _check_scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, str) and value.strip().lower() in ("inf", "+inf", "infinity"):
        return math.inf
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool) and value == value:
        with suppress(OverflowError):
            return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)  # 1e4
    if type(value) is hint and value == value:
        return value
    raise UsageError(where, found=repr(value), expected=_describe(hint))


def _check_list(hint: Any, value: Any, where: str) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise UsageError(where, found=repr(value), expected=_describe(hint))
    members = get_args(hint)
    if get_origin(hint) is tuple and members[-1] is not Ellipsis:
        if len(value) != len(members):
            raise UsageError(where, found=f"{len(value)} values", expected=_describe(hint))
        return [_check(m, v, f"{where}.{i}") for i, (m, v) in enumerate(zip(members, value, strict=True))]
    return [_check(members[0], v, f"{where}.{i}") for i, v in enumerate(value)]


def _check_component(family: Any, value: Any, where: str) -> dict[str, Any]:
    section = {"name": value} if isinstance(value, str) else value
    if not isinstance(section, dict) or not isinstance(section.get("name"), str):
        raise UsageError(
            where,
            found=repr(value),
            expected=f"{one_of(family)}: a section with a 'name'",
            do=nearest("", FAMILIES[family]),
        )
    target = find(family, section["name"], _join(where, "name"))
    options = {key: v for key, v in section.items() if key != "name"}
    return {"name": section["name"], **resolve(target, options, where)}


def _build(hint: Any, value: Any, context: dict[str, Any], where: str) -> Any:
    """The object that a checked ``value`` stands for."""
    if value is None:
        return None
    if get_origin(hint) in (Union, types.UnionType):
        structured = [m for m in get_args(hint) if m in FAMILIES or _is_section(m)]
        hint = structured[0] if structured and isinstance(value, dict) else get_args(hint)[0]
    if hint in FAMILIES:
        return _build_component(hint, value, context, where)
    if isinstance(value, list):
        member = next((m for m in get_args(hint) if m is not Ellipsis), Any)
        built = [_build(member, v, context, f"{where}.{i}") for i, v in enumerate(value)]
        return tuple(built) if get_origin(hint) is tuple else built
    if isinstance(value, dict):
        return build(hint, value, context, where)
    return value


def _build_component(family: Any, value: dict[str, Any], context: dict[str, Any], where: str) -> Any:
    target = find(family, value["name"], _join(where, "name"))
    options = {key: v for key, v in value.items() if key != "name"}
    if family in FUNCTIONS and not inspect.isclass(target):
        return functools.partial(target, **options) if options else target
    component = build(target, options, context, where)
    if family in FUNCTIONS and not callable(component):
        raise UsageError(
            _join(where, "name"),
            found=f"{value['name']!r}, which makes a {type(component).__name__}",
            expected=f"{one_of(family)}, something that can be called",
        )
    if inspect.isclass(family) and family not in FUNCTIONS and not isinstance(component, family):
        raise UsageError(
            _join(where, "name"),
            found=f"{value['name']!r}, which makes a {type(component).__name__}",
            expected=f"a {family.__name__}",
        )
    return component


def _describe(hint: Any) -> str:
    """What ``hint`` asks for, in words."""
    words = {bool: "true or false", int: "an integer", float: "a number", str: "a text", type(None): "null"}
    if hint in words:
        return words[hint]
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_describe(m) for m in get_args(hint) if get_origin(m) is not Callable)
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    if hint in FAMILIES:
        return f"{one_of(hint)}: a section with a 'name'"
    if get_args(hint):
        members = [m for m in get_args(hint) if m is not Ellipsis]
        fixed = get_origin(hint) is tuple and len(members) == len(get_args(hint))
        return f"a list of {len(members)} values" if fixed else f"a list, each {_describe(members[0])}"
    return "a section with keys"


def _is_plain(value: Any) -> bool:
    """Whether YAML can hold a default; one that it cannot stays with the constructor."""
    return value is None or isinstance(value, (bool, int, float, str, list, tuple, dict))


def _plain(value: Any) -> Any:
    """A default as YAML writes it."""
    return list(value) if isinstance(value, tuple) else value
