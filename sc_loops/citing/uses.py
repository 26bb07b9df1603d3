"""What a run used, read off its resolved config."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sc_loops.citing.sources import COMPONENTS, DEFAULT_METRICS, FRAMEWORK, KINDS, LOOP, RULES, Keys, Options
from sc_loops.errors import UsageError

# libyaml, where PyYAML was built with it, reads a config in milliseconds.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# The family of what stands under a key, wherever in a config it is.
FAMILY_OF = {
    "data": "data set",
    "trained_on": "data set",
    "text": "text encoder",
    "classifier": "classifier",
    "reward": "reward",
    "rewards": "reward",
    "model": "model",
    "network": "network",
    "stages": "stage",
    "corrector": "corrector",
    "fallback": "corrector",
    "target": "target",
    "improvement": "improvement",
    "metrics": "metric",
}


@dataclass(frozen=True)
class Use:
    """A part of a run and what it stands for.

    Args:
        what: in words, on one line.
        keys: of entries in references.bib.
        why: why there is no key.
    """

    what: str
    keys: Keys = ()
    why: str = ""


def config_of(run: Path) -> Options:
    """The resolved config of the run in directory ``run``.

    Raises:
        UsageError: there is no run, or its config is damaged.
    """
    path = run / "config.yaml"
    if not os.path.isfile(path):  # unlike Path.is_file, no error for a name that is too long
        found = "a file" if os.path.isfile(run) else "nothing"
        raise UsageError(
            str(run),
            found="a directory without config.yaml" if os.path.isdir(run) else found,
            expected="the directory of a run, with the config.yaml that the run wrote, or that of a sweep",
            do="give a directory such as runs/digits_curated",
        )
    expected, do = "the resolved config of a run", "start the run's command again, which writes it anew"
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _LOADER)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        found = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UsageError(str(path), found=found, expected=expected, do=do) from error
    found = _damage(content)
    if found:
        raise UsageError(str(path), found=found, expected=expected, do=do)
    return content


def _damage(content: Any) -> str:
    """What is wrong with the sections that are asked for by name, or ''."""
    if not isinstance(content, dict):
        return "no mapping of keys to values"
    missing = [key for key in ("data", "model") if _name(content.get(key)) is None]
    missing += [] if isinstance(content.get("loop"), dict) else ["loop"]
    if missing:
        return f"nothing that could be used under {', '.join(missing)}"
    evaluation = content.get("evaluation") or {}
    if not isinstance(evaluation, dict) or not isinstance(evaluation.get("metrics") or [], list):
        return "no section under evaluation, or no list under evaluation.metrics"
    return ""


def uses_of(config: Options) -> list[Use]:
    """Everything that the run of ``config``, which need not be resolved, used: the loop, its parts, the framework."""
    loop = config["loop"]
    own = [Use("loop: training by generations on real and synthetic data, λ", LOOP), *_ruled("loop", "loop", loop)]
    return [*own, *_within(config), *_default_metrics(config), Use("framework", FRAMEWORK)]


def _within(section: Options, family: str = "") -> Iterator[Use]:
    """What the components below ``section``, a component of ``family`` or none, stand for."""
    for key, value in section.items():
        # A reward has a target too, the class that it rewards.
        inner = FAMILY_OF.get(key, "") if key != "target" or family == "corrector" else ""
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                yield from _component(item, inner) if _name(item) is not None else _within(item, inner)
            elif isinstance(item, str) and (item in COMPONENTS.get(inner, ()) or (inner and ":" in item)):
                yield from _component({"name": item}, inner)


def _component(options: Options, family: str) -> Iterator[Use]:
    name = options["name"]
    family = family or _family_with(name)
    what = f"{family} {name}".strip()
    source = COMPONENTS.get(family, {}).get(name)
    if ":" in name:
        yield Use(what, why="your own; no reference is known")
    elif source is None:
        yield Use(what, why="not known to this version of sc_loops")
    else:
        yield Use(what, why=source) if isinstance(source, str) else Use(what, source)
        yield from _ruled(family, what, options)
    policy = options.get("policy")
    if isinstance(policy, str):
        yield Use(f"{what}: policy {policy}", why="your own; no reference is known")
    yield from _within(options, family)


def _family_with(name: str) -> str:
    """The only family with a component ``name``, for an option that FAMILY_OF does not know; else ''."""
    families = [family for family, names in COMPONENTS.items() if name in names]
    return families[0] if len(families) == 1 else ""


def _ruled(family: str, what: str, options: Options) -> Iterator[Use]:
    for rule in RULES:
        if rule.family == family and rule.holds(options):
            yield Use(f"{what}: {rule.what}", rule.keys)


def _default_metrics(config: Options) -> Iterator[Use]:
    """What ``sc_loops.evaluation.evaluation.Evaluation`` measures without being asked."""
    name = _name(config["data"])
    evaluation = config.get("evaluation") or {}
    asked = {_name(metric) for metric in evaluation.get("metrics") or []}
    if name not in KINDS:
        yield Use(f"metrics that suit data set {name}", why="they depend on its kind, which the config does not tell")
        return
    kind = KINDS[name]
    if kind == "points" and "gaussian_distance" in asked:  # it takes the place of the empirical distances
        return
    if kind == "images" and not config.get("classifier"):
        return
    what, keys = DEFAULT_METRICS[kind]
    yield Use(f"evaluation of {kind}: {what}", keys)


def _name(component: Any) -> str | None:
    """The name of a component, which may be written as its name alone."""
    name = component.get("name") if isinstance(component, dict) else component
    return name if isinstance(name, str) else None
