"""What is recorded of where a run ran."""

from __future__ import annotations

import subprocess
from pathlib import Path

from sc_loops.environment import commit_of


def test_the_commit_tells_of_changes_to_the_package_alone(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        found = subprocess.run(["git", *who, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
        return found.stdout.strip()

    package, table = tmp_path / "package", tmp_path / "docs" / "table.md"
    for file in (package / "code.py", table):
        file.parent.mkdir()
        file.write_text("1\n")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    commit = git("rev-parse", "HEAD")[:12]
    table.write_text("2\n")
    assert commit_of(package) == commit
    (package / "code.py").write_text("2\n")
    assert commit_of(package) == f"{commit}+changes"


def test_there_is_no_commit_outside_of_git(tmp_path: Path) -> None:
    assert commit_of(tmp_path) is None
