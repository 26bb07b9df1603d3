"""references.bib: its entries, and those of some uses as text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from sc_loops.citing.uses import Use

_ENTRY = re.compile(r"^@\w+\{([^,\s]+),\n.*?^\}\n", re.MULTILINE | re.DOTALL)


@cache
def entries() -> dict[str, str]:
    """Every entry by its key, in the order of the file, which goes by subject."""
    text = Path(__file__).with_name("references.bib").read_text(encoding="utf-8")
    return {match[1]: match[0] for match in _ENTRY.finditer(text)}


def keys_of(uses: Iterable[Use]) -> list[str]:
    """The keys of ``uses``, each once, in the order of the file: the order of the uses does not matter."""
    wanted = {key for use in uses for key in use.keys}
    return [key for key in entries() if key in wanted]


def bibtex(uses: Iterable[Use]) -> str:
    """The entries of ``uses``, each after a comment that says what it stands for; then what has none."""
    uses = list(uses)
    blocks = []
    for key in keys_of(uses):
        blocks.append(_comment("; ".join(sorted({use.what for use in uses if key in use.keys}))) + entries()[key])
    without = sorted({(use.what, use.why) for use in uses if not use.keys})
    if without:
        blocks.append("".join(_comment(f"no reference: {what} ({why})") for what, why in without))
    return "\n".join(blocks)


def _comment(text: str) -> str:
    """BibTeX skips what is outside of entries, of which each begins with an @."""
    return f"% {' '.join(text.replace('@', '(at)').split())}\n"
