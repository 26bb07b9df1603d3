"""What a row says of numbers that are given, worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
from scipy import stats

from sc_loops.reproducing.claims import Claim, Difference, Measure, Setting
from sc_loops.reproducing.measures import Arm
from sc_loops.reproducing.results import Result
from sc_loops.reproducing.saying import measured

GAMMA = "loop.stages.0.strength"


def result(*arms: tuple[Setting, dict[str, list[float]]], last: int = 10, failed: str = "") -> Result:
    made = tuple(
        Arm(setting, tuple(range(len(next(iter(numbers.values()))))), {k: tuple(v) for k, v in numbers.items()})
        for setting, numbers in arms
    )
    return Result(made, last, "python train.py", "2026-11-25", None, "0.1.0", 1.0, failed)


def claim(*measures: Measure, name: str = "a", **options: Any) -> Claim:
    chosen = {"recipe": "moons_curated", "published": "it collapses", "minutes": 1, "measures": measures, **options}
    return Claim(name=name, **chosen)


def measure(label: str = "FD", key: str = "fd", **options: Any) -> Measure:
    return Measure(label=label, key=key, **options)


# Means.


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.137], "0.137"),
        ([201.4], "201"),
        ([1.0, 3.0], "2.0 ± 1.0"),  # standard deviation √2, over √2
        ([180.0, 204.0, 216.0], "200 ± 11"),  # squares 400 + 16 + 256, so √(672 / 2 / 3) = 10.6
        ([0.1, 0.3, 0.8], "0.40 ± 0.21"),
        ([1.0, 1.4], "1.20 ± 0.20"),
        ([1.0, 1.08], "1.04 ± 0.04"),
        ([2.5, 2.5, 2.5], "2.5"),
        ([0.0, 0.0], "0"),
        ([100.477182] * 3, "100.48"),  # what theory expects of every seed
        ([2.00001e-5] * 3, "2e-05"),
        ([1.0, math.nan, 3.0], "2.0 ± 1.0 (1 of 3 not finite)"),
        ([math.nan, math.nan], "not finite"),
        ([1e9, 3e9], "2.00e+09 ± 1.00e+09"),
        ([-1.0, 1.0], "0.0 ± 1.0"),
    ],
)
def test_a_mean_and_its_error(values, said) -> None:
    seeds = "One run" if len(values) == 1 else f"{len(values)} seeds"
    results = {"a": result(({}, {"fd@last": values}))}
    assert measured(claim(measure(at=("last",))), results) == f"FD in generation 10: {said}. {seeds}"


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ((0, "last"), "FD in generations 0, 10: 1.00, 2.00. One run"),
        ((8, 9, "last"), "FD in generations 8 to 10: 1.00, 2.00, 3.00. One run"),
        ((0, 9, "last"), "FD in generations 0, 9, 10: 1.00, 2.00, 3.00. One run"),
        (("largest",), "largest FD: 1.00. One run"),
    ],
)
def test_generations_are_named(at, said) -> None:
    numbers = {f"fd@{moment}": [i + 1.0] for i, moment in enumerate(at)}
    assert measured(claim(measure(at=at)), {"a": result(({}, numbers))}) == said


def test_shares_are_in_per_cent() -> None:
    results = {"a": result(({}, {"top@0": [0.1, 0.14], "top@last": [0.97, 0.99]}))}
    told = measured(claim(measure("share", "top", percent=True)), results)
    assert told == "share in generations 0, 10: 12.0 ± 2.0, 98.0 ± 1.0 %. 2 seeds"


def test_a_sweep_lists_its_values() -> None:
    arms = [({GAMMA: value}, {"fd@0": [4.0], "fd@last": [number]}) for value, number in (("0", 3.0), ("inf", 1.0))]
    swept = {"sweep": {GAMMA: ("0", "inf")}}
    results = {"a": result(*arms)}
    assert measured(claim(measure(at=("last",)), **swept), results) == (
        "FD in generation 10, γ = 0, ∞: 3.00, 1.00. One run"
    )
    assert measured(claim(measure(), **swept), results) == (
        "FD in generations 0, 10, by γ: (0) 4.00, 3.00 · (∞) 4.00, 1.00. One run"
    )


def test_two_swept_keys_are_named_apart() -> None:
    keys = ("loop.synthetic_ratio", "model.sampling_bias")
    arms = [(dict(zip(keys, values, strict=True)), {"fd@last": [1.0]}) for values in (("1", "0.5"), ("1", "1"))]
    swept = claim(measure(at=("last",)), sweep={keys[0]: ("1",), keys[1]: ("0.5", "1")})
    said = "(1, 0.5) 1.00 · (1, 1) 1.00"
    assert measured(swept, {"a": result(*arms)}) == f"FD in generation 10, by λ and sampling_bias: {said}. One run"


# Paired differences.


def test_a_difference_is_that_of_a_paired_t_test() -> None:
    base, other = [1.0, 2.0, 4.0, 8.0], [1.5, 2.25, 5.0, 8.5]
    found = stats.ttest_rel(other, base)
    low, high = found.confidence_interval()
    results = {"a": result(({}, {"fd@last": other})), "b": result(({}, {"fd@last": base}))}
    told = measured(
        claim(measure(at=("last",)), differences=(Difference(label="a minus b", key="fd", against="b"),)), results
    )
    assert told.endswith(f"; paired, a minus b: +0.6 [+{low:.1f}, +{high:.1f}]. 4 seeds")


def test_seeds_are_paired_by_number_and_not_by_place() -> None:
    of = Arm({}, (3, 1), {"fd@last": (30.0, 10.0)})
    base = Arm({}, (1, 2, 3), {"fd@last": (9.0, 100.0, 29.0)})
    results = {name: Result((arm,), 5, "", "", None, None, 1.0) for name, arm in (("a", of), ("b", base))}
    told = measured(
        claim(measure(at=("last",)), differences=(Difference(label="d", key="fd", against="b"),)), results
    )
    assert "paired, d: +1.00 [+1.00, +1.00]" in told


DIFFERENCES = [
    ({"against": "before"}, "paired, d, γ = 1, 2: -1.00 (one seed), -3.00 (one seed)"),
    ({"against": {GAMMA: "1"}}, "paired, d, γ = 0, 2: +1.00 (one seed), -3.00 (one seed)"),
    ({"against": {GAMMA: "0"}, "setting": {GAMMA: "2"}}, "paired, d: -4.00 (one seed)"),
    ({"against": "b", "setting": {GAMMA: "2"}}, "paired, d: -9.00 (one seed)"),
    ({"against": {"claim": "c", GAMMA: "1"}, "setting": {GAMMA: "2"}}, "paired, d: not measured yet"),
    ({"against": "b", "at": 3, "setting": {GAMMA: "1"}}, "paired, d: not measured yet"),
]


@pytest.mark.parametrize(("options", "said"), DIFFERENCES)
def test_which_settings_are_subtracted(options, said) -> None:
    arms = [({GAMMA: value}, {"fd@last": [number]}) for value, number in (("0", 5.0), ("1", 4.0), ("2", 1.0))]
    results = {"a": result(*arms), "b": result(({}, {"fd@last": [10.0]}))}
    difference = Difference(label="d", key="fd", **options)
    made = claim(measure(at=("last",)), sweep={GAMMA: ("0", "1", "2")}, differences=(difference,))
    assert measured(made, results).split("; ")[1] == f"{said}. One run"


# What else a row says.


def test_without_a_result_it_is_what_was_recorded() -> None:
    assert measured(claim(measure(), recorded="by hand"), {}) == "by hand"
    assert measured(claim(measure()), {}) == "not measured yet"


def test_note_seeds_and_failures_follow() -> None:
    results = {"a": result(({}, {"fd@last": [1.0]}), failed="1 of 2 runs failed: NaN")}
    made = claim(measure(at=("last",)), measure("new", "new"), note="It is small.", recorded="by hand")
    assert measured(made, results) == (
        "FD in generation 10: 1.00; new: not measured yet. It is small. One run. 1 of 2 runs failed: NaN"
    )
