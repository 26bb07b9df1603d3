"""What ``--sweep`` and ``--seeds`` say, and the names that runs get."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc_loops.errors import UsageError
from sc_loops.sweeping.naming import run_name, short_keys
from sc_loops.sweeping.options import axes_of, seeds_of, split_values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0", ["0"]),
        ("0,0.01, 5", ["0", "0.01", "5"]),
        ("[1,2],[3]", ["[1,2]", "[3]"]),
        ("{name: kmeans, centers: 3},ideal", ["{name: kmeans, centers: 3}", "ideal"]),
        ("[{a: [1,2]},3],4", ["[{a: [1,2]},3]", "4"]),
        ("'a,b',\"c,d\"", ["'a,b'", '"c,d"']),
        ("1,,2", ["1", "", "2"]),
    ],
)
def test_commas_split_outside_brackets_and_quotes(text: str, values: list[str]) -> None:
    assert split_values(text) == values


@given(st.lists(st.lists(st.integers(), max_size=3), min_size=1, max_size=4))
def test_lists_come_back_whole(lists: list[list[int]]) -> None:
    assert split_values(",".join(map(str, lists))) == [str(one) for one in lists]


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0..3", [0, 1, 2, 3]), ("7", [7]), ("3,1", [3, 1]), ("0..1,10", [0, 1, 10]), ("-1..0", [-1, 0])],
)
def test_seeds(text: str, seeds: list[int]) -> None:
    assert seeds_of(text) == seeds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "''"),
        ("a", "'a'"),
        ("3..1", "'3..1'"),
        ("0..", "'0..'"),
        ("0...3", "'0...3'"),
        ("0-3", "'0-3'"),
        ("1.5", "'1.5'"),
        ("1,", "''"),
        ("1,1", "1 twice"),
        ("0..3,2", "2 twice"),
        ("0..99999999999", "100000000000 seeds"),
    ],
)
def test_seeds_that_are_none(text: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        seeds_of(text)
    assert raised.value.where == f"--seeds {text}"
    assert message in raised.value.found


def test_axes_keep_their_order_and_text() -> None:
    assert axes_of(["b.c=1e-3,0.10", "--a=[1,2]"], ["d=3"]) == {"b.c": ["1e-3", "0.10"], "a": ["[1,2]"]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["loop.generations"], "KEY=V1,V2"),
        (["=1,2"], "KEY=V1,V2"),
        (["a=1,,2"], "an empty value"),
        (["a="], "an empty value"),
        (["a=1", "a=2"], "'a' a second time"),
        (["d=1,2"], "'d' a second time"),
        (["name=x,y"], "named after their values"),
        (["output=x,y"], "named after their values"),
        (["seed=1,2"], "--seeds 1,2"),
        (["a=[1,2"], "a YAML value"),
    ],
)
def test_axes_that_are_none(options: list[str], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        axes_of(options, ["d=3"])
    assert raised.value.where == f"--sweep {options[-1]}"
    assert message in str(raised.value)


# Names.


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ({}, "seed=4"),
        ({"loop.stages.0.strength": 0.3}, "strength=0.3,seed=4"),
        ({"loop.stages.0.strength": 1.0}, "strength=1,seed=4"),
        ({"loop.synthetic_ratio": float("inf")}, "synthetic_ratio=inf,seed=4"),
        ({"a.b": None, "c": True, "d": -2, "e": 1e-05}, "b=null,c=true,d=-2,e=1e-05,seed=4"),
        ({"loop.retraining": "from_scratch"}, "retraining=from_scratch,seed=4"),
        ({"loop.first.steps": 3, "loop.later.steps": 5}, "first.steps=3,later.steps=5,seed=4"),
        ({"loop.stages.0": "mine:stage"}, "stages.0=mine-stage-fc1b7c,seed=4"),
        ({"model.seed": 3}, "model.seed=3,seed=4"),
    ],
)
def test_names(setting: dict[str, object], name: str) -> None:
    assert run_name(setting, 4) == name


def test_short_keys_tell_a_key_from_one_that_ends_like_it() -> None:
    assert short_keys(["steps", "loop.first.steps"]) == {"steps": "steps", "loop.first.steps": "first.steps"}


TEXTS = st.text(max_size=60)


@given(TEXTS, TEXTS)
def test_names_are_plain_and_differ_where_values_do(one: str, other: str) -> None:
    """In a shell, and where a file system takes both cases of a letter for the same."""
    names = [run_name({"data.root": text}, 0) for text in (one, other)]
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789._+-=,")
    assert all(set(name) <= allowed and len(name) <= 200 for name in names)
    assert (names[0] == names[1]) == (one == other)


def test_a_long_name_is_cut_and_stays_another_one() -> None:
    keys = [f"section.option_number_{number}" for number in range(20)]
    names = {run_name({**dict.fromkeys(keys, 1), keys[-1]: last}, 0) for last in (1, 2)}
    assert len(names) == 2
    assert all(len(name) < 200 for name in names)
