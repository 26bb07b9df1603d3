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
    """The commit of sc_loops, with ``+changes`` when the checkout differs from it; None outside git."""
    here = Path(__file__).resolve().parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+changes", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()
