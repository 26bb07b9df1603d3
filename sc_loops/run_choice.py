"""Which directory a command runs in, and whether it may continue the run that is there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from sc_loops.errors import UsageError, blaming, require
from sc_loops.run import Run

# A run may continue with other values of these: none changes what was computed so far.
_FREE = (
    "name",
    "output",
    "wandb",
    "model.network_batch",
    "model.network.compile",
    *(f"trainer.{key}" for key in ("accelerator", "devices", "strategy", "num_nodes")),
    *(f"trainer.{key}" for key in ("timeout_minutes", "lost_after_seconds")),
    *(f"loop.{key}" for key in ("generations", "log_every", "keep", "nonfinite")),
    *(f"loop.{key}" for key in ("checkpoint_steps", "checkpoint_minutes")),
)
# Options of a section, wherever it stands, that has them both: what can be downloaded is the same wherever it lies.
_WHEREABOUTS = {"root", "download"}

Completion = Callable[[dict[str, Any]], dict[str, Any]]


def choose_run(
    resolved: dict[str, Any],
    recipe: dict[str, Any],
    stem: str,
    *,
    fresh: bool,
    claim: bool = False,
    complete: Completion = dict,
) -> Run:
    """The run directory of a resolved config.

    It is called after the config (``stem``), with a digest where overrides make it differ from the ``recipe`` in
    something that matters. If there is such a run already the last one is continued, unless ``fresh``: then the new
    one is called ``<name>-2``, and so on. A directory of that name may also be another config's, ``<name>-2.yaml``.
    With ``claim`` a fresh directory is made at once, so that of two commands that start together each gets its own.
    ``complete`` gives a record of an older version the defaults of newer options.

    Raises:
        UsageError: the run that is there was started with another config, or its config cannot be read.
    """
    name = resolved["name"] or stem
    output = Path(resolved["output"])
    require_directory(output, name)
    if resolved["name"] is None and significant(resolved) != significant(recipe):
        name += f"-{_digest(resolved, recipe)}"
    number = newest(output, name)
    if fresh:
        number += (output / numbered(name, number)).exists()
        return claimed(output, name, number) if claim else Run(output / numbered(name, number))
    first, *later = (Run(output / numbered(name, n)) for n in range(1, number + 1))
    runs = [*(run for run in reversed(later) if _is_later(run, first)), first]
    continued = next((run for run in runs if run.path.exists() and not _changed(run, resolved, complete)), None)
    if continued is None and first.path.exists():
        require_same(runs[0], resolved, complete)
    return continued or first


def require_directory(output: Path, name: str) -> None:
    """Raise ``UsageError`` where ``output / name`` could not be made."""
    plain = Path(name).name == name and name not in (".", "..") and len(name.encode()) <= 200
    require(plain, "name", name, "a plain directory name, at most 200 bytes; what holds it is 'output'")
    with blaming("output", "a directory that exists or can be made"):
        existing = next(path for path in (output / name, output, *output.parents) if path.exists())
        if not existing.is_dir():
            raise NotADirectoryError(f"{existing} is a file")


def newest(output: Path, name: str) -> int:
    """The number of the last directory that was made under ``name``, 1 if there is none."""
    number = 1
    while (output / numbered(name, number + 1)).exists():
        number += 1
    return number


def _is_later(run: Run, first: Run) -> bool:
    """Whether ``run``, whose name is that of ``first`` and a number, may have been started afresh beside it, and was
    not given that very name."""
    return _recorded(run).get("name") in (None, first.name) if run.config_path.exists() else first.path.exists()


def numbered(name: str, number: int) -> str:
    """``name``, ``name-2``, ``name-3``, ...: what ``--fresh`` calls one directory after another."""
    return name if number == 1 else f"{name}-{number}"


def claimed(output: Path, name: str, number: int) -> Run:
    """The run in the first directory from ``number`` on that nobody else has made."""
    with blaming("output", "a directory that can be written to"):
        while True:
            path = output / numbered(name, number)
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                number += 1
            else:
                return Run(path)


def is_free(key: str, resolved: dict[str, Any]) -> bool:
    """Whether a run of the config ``resolved`` may continue with another value of its ``key``."""
    return not any(f"{name}.".startswith(f"{key}.") for name in significant(resolved))


def require_same(run: Run, resolved: dict[str, Any], complete: Completion) -> None:
    """Refuse to continue a run with a config under which it would have gone otherwise."""
    changed = _changed(run, resolved, complete)
    if changed:
        shown = "; ".join(f"{key}: {then} then, {now} now" for key, (then, now) in sorted(changed.items())[:5])
        raise UsageError(
            str(run.path),
            found=f"a run of another config ({shown})",
            expected="the config it was started with",
            do="start over beside it with --fresh, or give another name=...",
        )


def _changed(run: Run, resolved: dict[str, Any], complete: Completion) -> dict[str, tuple[str | None, str | None]]:
    """The keys that matter and are not what they were when the run was started, with their values then and now. Of a
    run that recorded nothing yet there are none."""
    if not run.config_path.exists():
        return {}
    recorded = _recorded(run)
    with suppress(UsageError):  # an option that is gone: the difference is shown
        recorded = complete(recorded)  # an older version did not know all options
    before, now = significant(recorded), significant(resolved)
    both = {key: (before.get(key), now.get(key)) for key in before.keys() | now.keys()}
    return {key: values for key, values in both.items() if values[0] != values[1]}


def _recorded(run: Run) -> dict[str, Any]:
    """The config that a run was started with."""
    try:
        recorded = OmegaConf.to_container(OmegaConf.load(run.config_path))
        if not isinstance(recorded, dict) or not recorded:
            raise ValueError("no settings")
    except Exception as error:  # OmegaConf and YAML raise many kinds
        raise UsageError(
            str(run.config_path),
            found=" ".join(f"{type(error).__name__}: {error}".split())[:400],
            expected="the config that the run was started with",
            do="restore the file, or start over beside the run with --fresh",
        ) from error
    return {str(key): value for key, value in recorded.items()}


def significant(resolved: Any) -> dict[str, str]:
    """The values that matter, flattened: ``loop.synthetic_ratio`` to its JSON."""
    flat: dict[str, str] = {}

    def walk(value: Any, key: str) -> None:
        if key in _FREE:
            return
        if isinstance(value, (dict, list)) and value:
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            whereabouts = _WHEREABOUTS if isinstance(value, dict) and value.keys() >= _WHEREABOUTS else ()
            for part, member in pairs:
                if part not in whereabouts:
                    walk(member, f"{key}.{part}" if key else str(part))
        else:
            flat[key] = json.dumps(value)

    walk(resolved, "")
    return flat


def _digest(resolved: dict[str, Any], recipe: dict[str, Any]) -> str:
    """Of what differs from the recipe, which further options of a later version leave as it is."""
    ours, theirs = significant(resolved), significant(recipe)
    keys = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    return hashlib.sha256(json.dumps([(key, ours.get(key)) for key in keys]).encode()).hexdigest()[:6]
