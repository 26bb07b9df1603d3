"""A metric of the user's: its name, what it is tried on before a run, and what it may not give."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from conftest import Command, first_coordinate, fit, generations, tiny_data, tiny_loop
from torch import Tensor

from sc_loops import Correct, Metric, Run, Samples
from sc_loops.curation.plural import PluralCurate
from sc_loops.data.held_pool import HeldPool
from sc_loops.data.points import gaussian_mixture
from sc_loops.errors import InvalidValue, RunError, UsageError
from sc_loops.evaluation.checked import OWN_FAMILIES, OWN_KEYS, summarised
from sc_loops.evaluation.evaluation import Evaluation
from sc_loops.evaluation.points import PointDistances

DATA = gaussian_mixture(modes=4, size=200, test_size=150)
CPU = torch.device("cpu")


class MeanNorm(Metric):
    """The mean norm of points, and what a test puts in the place of what it gives."""

    def __init__(self, observation: Any = None, numbers: Any = None) -> None:
        self.observation, self.numbers = observation, numbers

    def observe(self, samples: Samples) -> dict[str, Tensor]:
        if self.observation is not None:
            return cast("dict[str, Tensor]", given(self.observation, samples))
        return {"sum": samples.x.norm(dim=1).double().sum(), "count": torch.tensor(len(samples))}

    def summarise(self, observations: Any) -> dict[str, float]:
        if self.numbers is not None:
            return cast("dict[str, float]", given(self.numbers, observations))
        return {"mean_norm": sum(float(o["sum"]) for o in observations) / sum(int(o["count"]) for o in observations)}


def given(what: Any, argument: Any) -> Any:
    return what(argument) if callable(what) else what


def raising(argument: Any) -> None:
    raise ZeroDivisionError("division by zero")


def check(*metrics: Metric, reward: Any = None, conditional: bool = False) -> Evaluation:
    evaluation = Evaluation(DATA, None, reward, metrics=list(metrics))
    evaluation.check_on_samples(reward, conditional=conditional, device=CPU)
    return evaluation


def raw(n: int = 30) -> Samples:
    return Samples(DATA.train.x[:n], None, {"index": torch.arange(n)})


def pool_of(evaluation: Evaluation, samples: Samples) -> HeldPool:
    pool = HeldPool()
    for _ in pool.fill([0], lambda chunk: (samples, evaluation.observe(samples, samples))):  # type: ignore[list-item]
        pass
    return pool


# Names.


class FIDOf2Networks(MeanNorm):
    pass


class Named(MeanNorm):
    name = "given"


class OfNamed(Named):
    pass


class ByInstance(MeanNorm):
    def __init__(self) -> None:
        super().__init__()
        self.name = "mine"


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (MeanNorm(), "mean_norm"),
        (FIDOf2Networks(), "fid_of2_networks"),
        (Named(), "given"),
        (OfNamed(), "given"),
        (ByInstance(), "mine"),
        (PointDistances(DATA), "points"),
    ],
)
def test_a_metric_without_a_name_has_that_of_its_class(metric: Metric, name: str) -> None:
    assert metric.name == name
    assert list(Evaluation(DATA, None, None, metrics=[metric]).observe(raw(), raw())) in ([name], ["points", name])


@pytest.mark.parametrize("name", ["", "loop", "curated_reward", "a/b", "stage 0", 3, None])
def test_names_under_which_nothing_could_be_stored_are_refused(name: Any) -> None:
    metric = MeanNorm()
    metric.name = name
    with pytest.raises(InvalidValue, match="a word without /") as error:
        Evaluation(DATA, None, None, metrics=[Named(), metric])
    assert error.value.where == "metrics.1"


@pytest.mark.parametrize(("thing", "found"), [(MeanNorm, "the class MeanNorm"), (raising, "a function")])
def test_what_is_no_metric_is_refused(thing: Any, found: str) -> None:
    with pytest.raises(InvalidValue) as error:
        Evaluation(DATA, None, None, metrics=[thing])
    assert (error.value.where, error.value.found) == ("metrics.0", found)


# Before a run.

FAULTS = [
    ({"observation": raising}, "observe", "it raised ZeroDivisionError: division by zero"),
    ({"observation": 1.5}, "observe", "a float"),
    ({"observation": {"sum": 1.5}}, "observe", "a float as 'sum'"),
    ({"observation": {"sum": np.ones(2)}}, "observe", "a ndarray as 'sum'"),
    ({"observation": {3: torch.ones(2)}}, "observe", "a Tensor as 3"),
    ({"numbers": raising}, "summarise", "it raised ZeroDivisionError: division by zero"),
    ({"numbers": 1.5}, "summarise", "a float"),
    ({"numbers": {"mean_norm": torch.tensor(1.0)}}, "summarise", "a Tensor as 'mean_norm'"),
    ({"numbers": {"mean_norm": "1.0"}}, "summarise", "a str as 'mean_norm'"),
    ({"numbers": {"mean_norm": True}}, "summarise", "a bool as 'mean_norm'"),
    ({"numbers": {"mean_norm": None}}, "summarise", "a NoneType as 'mean_norm'"),
    ({"numbers": {"Mean": 1.0}}, "summarise", "the key 'Mean'"),
    ({"numbers": {"mean norm": 1.0}}, "summarise", "the key 'mean norm'"),
    ({"numbers": {"/mean": 1.0}}, "summarise", "the key '/mean'"),
    ({"numbers": {"": 1.0}}, "summarise", "the key ''"),
    ({"numbers": {3: 1.0}}, "summarise", "the key 3"),
    ({"numbers": {"generation": 99}}, "summarise", "the key 'generation', which a row has of its own"),
    ({"numbers": {"seconds/mine": 1.0}}, "summarise", "the key 'seconds/mine', which a row has of its own"),
]


@pytest.mark.parametrize(("fault", "method", "found"), FAULTS)
def test_a_metric_that_fails_on_held_out_samples(fault: dict[str, Any], method: str, found: str) -> None:
    with pytest.raises(UsageError) as error:
        check(Named(), MeanNorm(**fault))
    assert error.value.where == f"evaluation.metrics.1, tried on 100 held-out samples, {method}"
    assert error.value.found == found


@pytest.mark.parametrize(("fault", "method", "found"), FAULTS)
def test_the_same_within_a_run_names_the_metric(fault: dict[str, Any], method: str, found: str) -> None:
    evaluation = Evaluation(DATA, None, None, metrics=[MeanNorm(**fault)])
    with pytest.raises(RunError) as error:
        evaluation.summarise(pool_of(evaluation, raw()))
    assert error.value.where == f"the metric mean_norm, {method}"
    assert error.value.found == found


def test_a_key_that_another_metric_gives() -> None:
    other = {"mean_norm": 1.0}
    with pytest.raises(UsageError, match="which the metric given gives"):
        check(Named(), MeanNorm(numbers=other))
    assert check(MeanNorm(numbers=other), Named(numbers={"other": 2})).metrics
    evaluation = check(MeanNorm(numbers={"energy_distance": 7.0}))  # ours are not tried
    with pytest.raises(RunError, match="'energy_distance', which the metric points gives") as error:
        evaluation.summarise(pool_of(evaluation, raw()))
    assert error.value.where == "the metric mean_norm, summarise"


def test_what_may_be_given() -> None:
    possible = {"recall@5/β-1.5": np.float32(0.5), "a": float("nan"), "b": 3, "c/d_e": np.int64(4)}
    found = summarised(MeanNorm(numbers=possible), [], {}, RunError)
    assert found == pytest.approx({"recall@5/β-1.5": 0.5, "a": float("nan"), "b": 3, "c/d_e": 4.0}, nan_ok=True)
    assert {type(value) for value in found.values()} == {float, int}
    evaluation = check(MeanNorm(observation={}, numbers=raising))  # nothing observed, nothing summarised
    assert "mean_norm" not in evaluation.summarise(pool_of(evaluation, raw()))


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("rewarded", [False, True])
def test_it_is_tried_on_samples_as_the_loop_has_them(conditional: bool, rewarded: bool) -> None:
    seen: list[Samples] = []
    metric = MeanNorm(observation=lambda samples: seen.append(samples) or {"x": samples.x})
    metric.numbers = lambda observations: {"n": len(observations[0]["x"]) * len(observations)}
    evaluation = check(metric, reward=(lambda x: -x[:, 0]) if rewarded else None, conditional=conditional)
    (samples,) = seen
    assert torch.equal(samples.x, DATA.test.x[:100])
    assert samples.columns["index"].tolist() == list(range(100))
    assert (samples.condition is not None) == conditional
    assert torch.equal(samples.columns["reward"], -samples.x[:, 0]) if rewarded else len(samples.columns) == 1
    evaluation.check_on_samples(None, conditional=conditional, device=CPU)
    assert len(seen) == 1  # once


def test_a_metric_that_changes_the_samples_is_refused_and_the_real_ones_stay() -> None:
    before = DATA.test.x.clone()
    with pytest.raises(UsageError, match="changed in place"):
        check(MeanNorm(observation=lambda samples: {"x": samples.x.mul_(0)}))
    assert torch.equal(DATA.test.x, before)


def test_what_a_metric_draws_when_it_is_tried_moves_no_generator() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    check(MeanNorm(observation=lambda samples: {"x": samples.x + torch.randn(samples.x.shape)}, numbers={"n": 1}))
    assert torch.equal(torch.rand(2), expected)


def test_ours_are_not_tried() -> None:
    class Unused(PointDistances):
        def observe(self, samples: Samples) -> dict[str, Tensor]:
            raise AssertionError

    Unused.__module__ = PointDistances.__module__
    check(Unused(DATA))


# In a loop.

METRICS = """
from sc_loops import Metric

calls = 0

class MeanNorm(Metric):
    def __init__(self, *, key: str = "mean_norm"):
        self.key = key

    def prepare(self, cache):
        self.prepared = True

    def observe(self, samples):
        assert self.prepared and samples.condition is None and "reward" in samples.columns
        return {"x": samples.x.norm(dim=1).mean()}

    def summarise(self, observations):
        global calls
        calls += 1
        return {self.key: 1 / (calls < LAST)}
"""


def test_the_command_refuses_before_there_is_a_run(here: Path, tiny: Command) -> None:
    (here / "my_metrics.py").write_text(METRICS.replace("LAST", "9"))
    status, _, errors = tiny("evaluation.metrics=[{name: my_metrics:MeanNorm, key: Mean}]", "name=mine")
    assert status == 2
    assert "error: evaluation.metrics.0, tried on 40 held-out samples, summarise" in errors
    assert "the key 'Mean'" in errors
    assert "correct summarise of MeanNorm" in errors
    assert not (here / "runs/mine").exists()


def test_the_command_names_what_fails_later_and_goes_on_when_it_is_repaired(here: Path, tiny: Command) -> None:
    module, arguments = here / "my_metrics.py", ("evaluation.metrics=[my_metrics:MeanNorm]", "name=mine")
    module.write_text(METRICS.replace("LAST", "3"))  # once before the run, once for generation 0
    status, _, errors = tiny(*arguments)
    assert status == 1
    assert "the metric mean_norm, summarise" in errors
    assert "ZeroDivisionError" in errors
    assert "the same command continues" in errors
    assert generations("runs/mine") == [0]
    module.write_text(METRICS.replace("LAST", "9"))
    del sys.modules["my_metrics"]
    assert tiny(*arguments)[0] == 0
    assert [row["mean_norm"] for row in Run("runs/mine").rows()] == [1.0, 1.0]


def test_a_loop_without_a_config_refuses_too(tmp_path: Path) -> None:
    evaluation = Evaluation(tiny_data(), None, None, metrics=[MeanNorm(numbers={"Mean": 1.0})])
    loop = tiny_loop(tmp_path / "run", evaluation=evaluation)
    with pytest.raises(UsageError, match="tried on 50 held-out samples, summarise"):
        fit(loop)
    assert not (tmp_path / "run/checkpoints").exists()


def test_no_metric_can_take_a_key_that_a_row_has_of_its_own(tmp_path: Path) -> None:
    evaluation = Evaluation(tiny_data(), None, None, samples=50, metrics=[MeanNorm()])
    stages = [
        Correct(corrector=lambda samples, generator: samples.x, strength=1.0),
        PluralCurate(rewards=[first_coordinate], choices=2, shares=[1.0]),
    ]
    fit(tiny_loop(tmp_path, evaluation=evaluation, stages=stages, generations=1, nonfinite="skip"))
    row = Run(tmp_path).rows()[-1]
    measured = {"mean_norm", "energy_distance", "wasserstein_2"}
    free = {k for k in row if k not in OWN_KEYS and k.split("/")[0] not in OWN_FAMILIES}
    assert free - measured == {k for k in row if k.startswith("curated/")}  # a metric's, too
    assert {"generation", "skipped_steps", "nash_welfare", "correction/share", "seconds/total"} <= row.keys() - free
