"""The table in docs/papers.md: what stands between ``<!-- reproduce: NAME -->`` and ``<!-- end -->`` is written here;
all else in the file is a person's and stays."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from sc_loops.data.files import write_atomically
from sc_loops.errors import UsageError, nearest
from sc_loops.reproducing.claims import Block, Claim, Claims
from sc_loops.reproducing.results import Result
from sc_loops.reproducing.saying import NOT_YET, measured

END = "<!-- end -->"
_BEGIN = re.compile(r"^<!-- reproduce: (\S+) -->$", re.MULTILINE)
_BLOCK = re.compile(rf"^<!-- reproduce: (\S+) -->\n(.*?)^{END}$", re.MULTILINE | re.DOTALL)
_HEAD = "| recipe | published claim | measured | command |\n|---|---|---|---|\n"


class Table:
    """The file ``path`` with a block for each of the ``claims``; one that is not there is made, with their titles.

    Raises:
        UsageError: it cannot be read, or its blocks are not those of the claims.
    """

    def __init__(self, path: Path, claims: Claims) -> None:
        self.path, self._claims = path, claims
        self._require_blocks(self._read())

    @property
    def results_path(self) -> Path:
        """Where the results are kept that it is written from."""
        return self.path.with_suffix(".json")

    def write(self, results: Mapping[str, Result], failures: Mapping[str, str] | None = None) -> None:
        """Write all blocks anew; nothing where nothing changes.

        Args:
            results: what was measured, by claim.
            failures: why claims without any result could not be run.

        Raises:
            RunError: the disk is full, read-only or broken; the file is as it was.
        """
        blocks = {block.name: block for block in self._claims.blocks}
        before = self._read()

        def written(found: re.Match[str]) -> str:
            rows = _rows(blocks[found[1]], results, failures or {})
            return f"<!-- reproduce: {found[1]} -->\n{rows}{END}"

        after = _BLOCK.sub(written, before)
        if after != before or not self.path.exists():
            write_atomically(self.path, after)

    def _read(self) -> str:
        if not self.path.exists():
            blocks = [f"## {b.title}\n\n<!-- reproduce: {b.name} -->\n{END}\n" for b in self._claims.blocks]
            return "# Papers, claims and what was measured\n\n" + "\n".join(blocks)
        try:
            return self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--table {self.path}", found=str(error), expected="a readable text file") from error

    def _require_blocks(self, text: str) -> None:
        begun, whole = _BEGIN.findall(text), [name for name, _ in _BLOCK.findall(text)]
        names = [block.name for block in self._claims.blocks]
        where = f"--table {self.path}"
        for name in begun:
            if name not in names:
                expected = f"blocks of {self._claims.path}"
                raise UsageError(where, found=f"a block {name!r}", expected=expected, do=nearest(name, names))
        for name in names:
            marks = f"<!-- reproduce: {name} --> and {END}, each in a line of its own, once"
            if begun.count(name) != 1 or whole.count(name) != 1:
                raise UsageError(where, found=f"no whole block {name!r}", expected=marks)


def _rows(block: Block, results: Mapping[str, Result], failures: Mapping[str, str]) -> str:
    lines = []
    for claim in block.claims:
        told = measured(claim, results)
        if told == NOT_YET and claim.name in failures:
            told = failures[claim.name]
        result = results.get(claim.name)
        command = result.command if result else command_of(claim)
        recipes = ", ".join(f"`{Path(name).stem}`" for name in (claim.recipe, *claim.also))
        cells = (recipes, claim.published, told, f"`{command}`")
        lines.append(f"| {' | '.join(_cell(cell) for cell in cells)} |\n")
    return _HEAD + "".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def command_of(claim: Claim) -> str:
    """The command that makes the runs of ``claim``, as one gives it in a shell."""
    recipe = claim.recipe if claim.recipe.endswith((".yaml", ".yml")) else f"{claim.recipe}.yaml"
    words = ["python", "train.py", "--config", recipe, *claim.overrides]
    for key, values in claim.sweep.items():
        words += ["--sweep", f"{key}={','.join(values)}"]
    if claim.seeds != "0":
        words += ["--seeds", claim.seeds]
    return shlex.join(words)
