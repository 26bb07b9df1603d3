"""What a run ran on: versions, commit, machine, command. Recorded as env.json."""

from __future__ import annotations

import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("sc-loops", "torch", "lightning", "torchcfm", "torchdiffeq", "numpy", "scipy", "scikit-learn")


def environment() -> dict[str, Any]:
    """Versions, git commit, devices and the command line, as plain values."""
    return {
        "command": " ".join(["python", *sys.argv]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": _versions(),
        "git": _commit(),
        "cpu_threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


# What does not change while a process lives is found once: a sweep has many runs in a process.


@cache
def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in _PACKAGES}


@cache
def _commit() -> str | None:
    return commit_of(Path(__file__).resolve().parent)


def commit_of(package: Path) -> str | None:
    """The commit of the folder ``package``, with ``+changes`` where something in it differs; None outside git. What
    else is in the checkout does not count: ``reproduce`` writes tables into it, and a run's config is recorded."""

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        found = subprocess.run(command, cwd=package, capture_output=True, text=True, check=True, timeout=10)
        return found.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None
