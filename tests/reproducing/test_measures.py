"""Numbers read off rows that are written by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from made_up import member

from sc_loops.errors import UsageError
from sc_loops.reproducing import measures
from sc_loops.reproducing.claims import Quantity
from sc_loops.reproducing.measures import arms_of, numbers

ROWS = [
    {"fd": 4.0, "class_share/0": 0.25, "class_share/1": 0.75, "seconds/total": 1.0},
    {"fd": math.nan, "class_share/0": 0.5, "class_share/1": 0.5, "late": 1},
    {"fd": 1.0, "class_share/0": 0.875, "class_share/1": 0.125, "late": 2},
]


def quantity(key: str, at, of="value", across=None) -> Quantity:
    return Quantity(key, at, of, across)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (quantity("fd", 0), 4.0),
        (quantity("fd", "last"), 1.0),
        (quantity("fd", 1), math.nan),
        (quantity("fd", "largest"), 4.0),
        (quantity("fd", "smallest"), 1.0),
        (quantity("late", "largest"), 2.0),
        (quantity("class_share/*", "last", across="smallest"), 0.125),
        (quantity("class_share/*", 0, across="largest"), 0.75),
        (quantity("class_share/*", 0, across="sum"), 1.0),
        (quantity("class_share/*", 0, across="mean"), 0.5),
        (quantity("class_share/*", "smallest", across="largest"), 0.5),
        (quantity("fd", "last", of="theory"), 1.25),
        (quantity("fd", "last", of="gap"), 0.25),
        (quantity("fd", "largest", of="gap"), 1.0),
    ],
    ids=lambda value: value.id if isinstance(value, Quantity) else "",
)
def test_a_number(tmp_path, monkeypatch, asked, expected) -> None:
    monkeypatch.setattr(measures, "expected_series", lambda run, last: {"fd": np.array([5.0, 2.0, 1.25])})
    run = member(tmp_path, {}, 0, ROWS, 2).run
    assert numbers(run, 2, [asked])[asked.id] == pytest.approx(expected, nan_ok=True)


def test_ids_tell_quantities_apart() -> None:
    asked = [
        quantity("a/*", at, of, across) for at in (0, "last") for of in ("value", "gap") for across in ("sum", "mean")
    ]
    assert len({each.id for each in asked}) == len(asked)


@pytest.mark.parametrize(
    ("asked", "found", "said"),
    [
        (quantity("df", 0), "'df'", "a key of the row of generation 0"),
        (quantity("late", 0), "'late'", "a key of the row of generation 0"),
        (quantity("class_shares/*", "largest", across="sum"), "'class_shares/*'", "a key of the rows"),
        (quantity("fd", 3), "generation 3", "one of 0 to 2"),
        (quantity("fd", 0, of="gap"), "'fd'", "a key of which theory has an expectation"),
    ],
    ids=lambda value: value.id if isinstance(value, Quantity) else "",
)
def test_what_is_not_there_is_an_error(tmp_path, asked, found, said) -> None:
    run = member(tmp_path, {}, 0, ROWS, 2).run
    with pytest.raises(UsageError) as caught:
        numbers(run, 2, [asked])
    assert (caught.value.where, caught.value.found) == (asked.id, found)
    assert caught.value.expected.startswith(said)


def test_cut_recipes_have_fewer_generations(tmp_path) -> None:
    run = member(tmp_path, {}, 0, ROWS, 2).run
    assert numbers(run, 2, [quantity("fd", 30)], clip=True) == {"fd@30": 1.0}


def test_arms_are_settings_with_their_finished_seeds(tmp_path) -> None:
    settings = [{"a": "2"}, {"a": "1"}]
    members = [
        member(tmp_path, setting, seed, [{"x": 10.0 * seed}, {"x": 10.0 * seed + int(setting["a"])}], 1)
        for seed in (0, 1)
        for setting in settings
    ]
    unfinished = member(tmp_path, {"a": "1"}, 2, [{"x": 0.0}], 1)
    none_finished = member(tmp_path, {"a": "3"}, 0, [], 1)
    arms = arms_of([*members, unfinished, none_finished], [quantity("x", "last")])
    assert [(arm.setting, arm.seeds, arm.numbers) for arm in arms] == [
        ({"a": "2"}, (0, 1), {"x@last": (2.0, 12.0)}),
        ({"a": "1"}, (0, 1), {"x@last": (1.0, 11.0)}),
    ]
