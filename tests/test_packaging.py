"""What an installed package holds."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_every_file_that_is_no_module_is_packaged() -> None:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packaged = {
        path
        for package, patterns in settings["package-data"].items()
        for pattern in patterns
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    there = {path for path in (ROOT / "sc_loops").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert there == packaged
    assert ROOT / "sc_loops" / "py.typed" in there  # its types are for those who use it too
