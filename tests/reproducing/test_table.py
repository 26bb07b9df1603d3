"""The table's file: its blocks are written, all else stays."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from sc_loops.errors import UsageError
from sc_loops.reproducing.claims import Block, Claim, Claims, Measure
from sc_loops.reproducing.measures import Arm
from sc_loops.reproducing.results import Result, read_results, write_results
from sc_loops.reproducing.table import Table

CLAIMS = Claims(
    Path("claims.yaml"),
    (
        Block(
            "one",
            "Of one",
            (
                Claim(
                    name="a",
                    recipe="moons_curated",
                    also=("mog_curated",),
                    published="p(x | y)\n falls",
                    minutes=1,
                    measures=(Measure(label="FD", key="fd", at=("last",)),),
                ),
            ),
        ),
        Block(
            "two",
            "Of two",
            (Claim(name="b", recipe="cifar_curated", published="c", size="published", recorded="not measured"),),
        ),
    ),
)
RESULTS = {
    "a": Result((Arm({}, (0,), {"fd@last": (0.25,)}),), 8, "python train.py", "2026-11-25", "abc", "0.1.0", 2.5)
}
PAGE = """# Papers

Before. <!-- end --> stays inside a line.

<!-- reproduce: one -->
| old | row |
<!-- end -->

Between.

<!-- reproduce: two -->
<!-- end -->

After.
"""
ROW = r"| `moons_curated`, `mog_curated` | p(x \| y) falls | FD in generation 8: 0.250. One run | `python train.py` |"


@pytest.fixture
def page(tmp_path) -> Path:
    path = tmp_path / "papers.md"
    path.write_text(PAGE, encoding="utf-8")
    return path


def outside(text: str) -> str:
    return re.sub(r"(?ms)^<!-- reproduce: (\w+) -->\n.*?^<!-- end -->$", r"[\1]", text)


def test_blocks_are_written_and_prose_stays(page) -> None:
    Table(page, CLAIMS).write(RESULTS)
    text = page.read_text(encoding="utf-8")
    assert outside(text) == outside(PAGE)
    assert f"|---|---|---|---|\n{ROW}\n<!-- end -->" in text
    assert "| `cifar_curated` | c | not measured | `python train.py --config cifar_curated.yaml` |" in text
    assert "old" not in text


def test_writing_again_changes_nothing(page) -> None:
    Table(page, CLAIMS).write(RESULTS)
    first, written = page.read_text(encoding="utf-8"), page.stat().st_mtime_ns
    Table(page, CLAIMS).write(RESULTS)
    assert (page.read_text(encoding="utf-8"), page.stat().st_mtime_ns) == (first, written)


def test_backslashes_are_no_groups(page) -> None:
    claim = Claim(name="b", recipe="cifar_curated", published=r"\1 \g<0>", size="published", recorded="no")
    Table(page, Claims(CLAIMS.path, (CLAIMS.blocks[0], Block("two", "", (claim,))))).write({})
    assert r"| \1 \g<0> |" in page.read_text(encoding="utf-8")


def test_a_claim_that_could_not_be_run_says_why_unless_it_was_measured(page) -> None:
    table = Table(page, CLAIMS)
    table.write({}, {"a": "not run: no data"})
    assert "| not run: no data |" in page.read_text(encoding="utf-8")
    table.write(RESULTS, {"a": "not run: no data"})
    assert ROW in page.read_text(encoding="utf-8")


def test_a_new_file_has_the_titles(tmp_path) -> None:
    table = Table(tmp_path / "new.md", CLAIMS)
    table.write(RESULTS)
    lines = table.path.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("#")][1:] == ["## Of one", "## Of two"]
    assert ROW in lines
    Table(table.path, CLAIMS)


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ("<!-- reproduce: two -->\n<!-- end -->\n", "", "no whole block 'two'"),
        ("<!-- reproduce: two -->", "<!-- reproduce: too -->", "a block 'too'"),
        ("| old | row |\n<!-- end -->", "| old | row |", "no whole block 'two'"),
        ("<!-- reproduce: two -->\n<!-- end -->", "<!-- reproduce: two -->", "no whole block 'two'"),
        ("After.", "<!-- reproduce: one -->\n<!-- end -->", "no whole block 'one'"),
    ],
)
def test_other_blocks_are_refused(page, before, after, found) -> None:
    page.write_text(PAGE.replace(before, after), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        Table(page, CLAIMS)
    assert caught.value.found == found


# What it is written from.


def test_results_are_read_as_they_were_written(tmp_path) -> None:
    path = tmp_path / "papers.json"
    numbers = {"fd@0": (1 / 3, math.nan), "fd@last": (1e-12, 2e20)}
    arms = (
        Arm({"loop.synthetic_ratio": "inf"}, (0, 7), numbers),
        Arm({"loop.synthetic_ratio": "1"}, (0, 7), numbers),
    )
    results = {"b": Result(arms, 3, "c", "2026-11-25", None, None, 0.5, "1 of 5 runs failed"), **RESULTS}
    write_results(path, results, ["a", "b"])
    first = path.read_bytes()
    read = read_results(path)
    assert list(read) == ["a", "b"]
    assert read["a"] == RESULTS["a"]
    assert read["b"].arms[1].numbers["fd@0"] == pytest.approx((1 / 3, math.nan), rel=1e-6, nan_ok=True)
    write_results(path, read, ["a", "b"])
    assert path.read_bytes() == first
    assert first.count(b"\n") == 4  # a line for each claim, which can be merged
    assert set(json.loads(first)) == {"a", "b"}


def test_none_are_read_where_there_is_no_file(tmp_path) -> None:
    assert read_results(tmp_path / "papers.json") == {}


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": {}}', '{"a": {"arms": [], "colour": 1}}'])
def test_other_results_are_refused(tmp_path, content) -> None:
    path = tmp_path / "papers.json"
    path.write_text(content)
    with pytest.raises(UsageError, match="the results that reproduce wrote"):
        read_results(path)
