"""The project's claims, and what is said of a file in which something is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from sc_loops import config
from sc_loops.errors import UsageError
from sc_loops.reproducing.claims import Claim, Claims
from sc_loops.reproducing.claims_file import CLAIMS, read_claims
from sc_loops.reproducing.making import Maker
from sc_loops.reproducing.reproduction import PROJECT_TABLE
from sc_loops.reproducing.table import Table, command_of
from sc_loops.sweeping.options import seeds_of

ROOT = Path(__file__).resolve().parents[2]
NO_CLAIM = {"motion_first_try"}  # it shows that all works, and claims nothing

BLOCK = """
made_up:
  title: Made up
  claims:
    - recipe: moons_curated
      published: "it collapses [paper]"
      minutes: 1
      sweep: {loop.synthetic_ratio: [0.5, .inf]}
      measures: [{label: share, key: class_share/0}]
    - name: other
      recipe: moons_curated
      published: "it does not [paper]"
      minutes: 1
      measures: [{label: share, key: class_share/0, at: [0, last]}]
      differences:
        - {label: less, key: class_share/0, against: {claim: moons_curated, loop.synthetic_ratio: 0.5}}
    - name: large
      recipe: cifar_curated
      published: "as above [paper]"
      size: published
      recorded: "not measured: for a GPU"
"""


@pytest.fixture
def written(tmp_path) -> Callable[..., Claims]:
    """The claims of ``BLOCK``, in which some text is replaced by another."""

    def read(before: str = "", after: str = "") -> Claims:
        assert before in BLOCK
        path = tmp_path / "claims.yaml"
        path.write_text(BLOCK.replace(before, after, 1) if before else BLOCK, encoding="utf-8")
        return read_claims(path)

    return read


# The project's own.


def test_every_recipe_has_a_row() -> None:
    named = {name for claim in read_claims().by_name.values() for name in (claim.recipe, *claim.also)}
    assert {path.stem for path in config.RECIPES.glob("*.yaml")} - named == NO_CLAIM


def test_every_published_claim_says_where_it_is_from() -> None:
    tags = ("[paper]", "[figures]", "[read off]", "[code]", "[2nd", "none:")
    for claim in read_claims().by_name.values():
        assert any(tag in claim.published for tag in tags) or claim.published.startswith("as "), claim.name


def test_the_small_ones_take_less_than_three_hours_on_two_cores() -> None:
    small = [claim for claim in read_claims().by_name.values() if claim.size == "small"]
    assert 0 < sum(math.ceil(claim.runs / 2) * claim.minutes for claim in small) < 180
    assert max(claim.minutes for claim in small) <= 15


def test_the_table_has_their_blocks() -> None:
    Table(PROJECT_TABLE, read_claims())


def test_the_file_is_installed() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'"sc_loops.reproducing" = ["*{CLAIMS.suffix}"]' in project


@pytest.mark.slow
def test_every_claim_can_be_planned(tmp_path) -> None:
    """Keys and values are known, and every generation that is asked for is there."""
    claims = read_claims()
    for claim in claims.by_name.values():
        if claim.size != "published":
            plan = Maker(output=tmp_path).plan(claim)
            assert len(plan.members) == claim.runs
            for quantity in claim.quantities(claims.by_name):
                if isinstance(quantity.at, int):
                    assert all(quantity.at <= member.generations for member in plan.members), claim.name


# Any.


def test_what_is_read(written) -> None:
    claims = written()
    collapse, other, large = claims.by_name.values()
    assert (collapse.name, collapse.size, collapse.runs, large.size) == ("moons_curated", "small", 2, "published")
    assert collapse.settings == [{"loop.synthetic_ratio": "0.5"}, {"loop.synthetic_ratio": "inf"}]
    assert seeds_of(other.seeds) == [0]
    assert [q.id for q in other.quantities(claims.by_name)] == ["class_share/0@0", "class_share/0@last"]
    assert other.differences[0].base == ("moons_curated", {"loop.synthetic_ratio": "0.5"})


def test_what_another_claim_subtracts_is_read_too(written) -> None:
    claims = written("[0, last]}]\n      differences:", "[0]}]\n      differences:")
    collapse = claims.by_name["moons_curated"]
    assert [q.id for q in collapse.quantities(claims.by_name)] == ["class_share/0@0", "class_share/0@last"]
    claims = written("key: class_share/0, against", "key: class_share/0, at: 3, against")
    assert "class_share/0@3" in [q.id for q in claims.by_name["moons_curated"].quantities(claims.by_name)]


@pytest.mark.parametrize(
    ("options", "command"),
    [
        ({}, "python train.py --config moons_curated.yaml"),
        ({"seeds": "0..2"}, "python train.py --config moons_curated.yaml --seeds 0..2"),
        (
            {"overrides": ("loop.stages=[]",), "sweep": {"loop.memory": ("replace", "fading"), "seed": ("1",)}},
            "python train.py --config moons_curated.yaml 'loop.stages=[]' --sweep loop.memory=replace,fading "
            "--sweep seed=1",
        ),
    ],
)
def test_the_command_of_a_claim(options, command) -> None:
    claim = Claim(name="a", recipe="moons_curated", published="b", size="published", recorded="c", **options)
    assert command_of(claim) == command


@pytest.mark.parametrize(
    ("before", "after", "where", "found"),
    [
        (
            "recipe: moons_curated\n",
            "recipe: moon_curated\n",
            "moon_curated.recipe",
            "'moon_curated', which is neither",
        ),
        ("at: [0, last]", "when: [0, last]", "other.measures.0.when", "[0, 'last']"),
        ("at: [0, last]", "at: [0, first]", "other.measures.0.at", "[0, 'first']"),
        ("at: [0, last]", "at: [largest, last]", "other.measures.0.at", "['largest', 'last']"),
        ("at: [0, last]", "at: []", "other.measures.0.at", "[]"),
        ("at: [0, last]", "at: -1", "other.measures.0.at", "[-1]"),
        ("key: class_share/0, at", "key: class_share/*, at", "other.measures.0.across", "None"),
        ("key: class_share/0, at", "of: theories, key: class_share/0, at", "other.measures.0.of", "'theories'"),
        ("key: class_share/0, at", "at", "other.measures.0.key", "None"),
        ("measures: [{label: share, key: class_share/0}]", "measures: share", "moons_curated.measures", "'share'"),
        ("      measures: [{label: share, key: class_share/0}]\n", "", "moons_curated.measures", "()"),
        ("minutes: 1\n", "minutes: soon\n", "moons_curated.minutes", "'soon'"),
        ("minutes: 1\n", "minuts: 1\n", "moons_curated.minuts", "1"),
        ("[0.5, .inf]", "0.5", "moons_curated.sweep.loop.synthetic_ratio", "0.5"),
        ("claim: moons_curated", "claim: moon", "other.differences.0.against", "'moon'"),
        (
            "synthetic_ratio: 0.5}}",
            "synthetic_ratio: 1}}",
            "other.differences.0.against",
            "{'loop.synthetic_ratio': '1'}",
        ),
        ("against: {claim: moons_curated, loop.synthetic_ratio: 0.5}", "against: moons_curated", "against", "moons"),
        (
            "against: {claim: moons_curated, loop.synthetic_ratio: 0.5}",
            "at: last",
            "differences.0.against",
            "'before'",
        ),
        ("against: {claim: moons_curated, loop.synthetic_ratio: 0.5}", "against: large", "against", "'large'"),
        ("name: other", "name: moons_curated", "moons_curated", "two claims of this name"),
        ('      recorded: "not measured: for a GPU"\n', "", "large.recorded", "''"),
        ("size: published", "size: huge", "large.size", "'huge'"),
        ("    - recipe: moons_curated", "    - name: moons_curated", "made_up.0", "{'name'"),
        ("  title: Made up\n", "", "made_up.the block", "{'claims'"),
        (BLOCK, "- 1", "claims.yaml", "[1]"),
        (BLOCK, "a: [", "claims.yaml", "while parsing"),
    ],
)
def test_what_is_wrong_is_named(written, before, after, where, found) -> None:
    with pytest.raises(UsageError) as caught:
        written(before, after)
    assert where in caught.value.where
    assert found in caught.value.found


def test_a_typo_gets_the_nearest_name(written) -> None:
    with pytest.raises(UsageError, match="did you mean 'label'"):
        written("{label: share, key: class_share/0, at", "{lable: share, key: class_share/0, at")
