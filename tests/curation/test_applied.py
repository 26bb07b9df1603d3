"""The trial of the stages on real samples: what a run would stop at is refused before it."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from conftest import TinyModel, first_coordinate, fit, tiny_data, tiny_loop
from torch import Tensor

from sc_loops import Correct, Curate, Run, Samples, Stage
from sc_loops.curation.applied import check_stages
from sc_loops.curation.plural import PluralCurate
from sc_loops.curation.rewards import check_reward
from sc_loops.errors import UsageError

DATA = tiny_data()


def tensor(samples: Samples, generator: torch.Generator) -> Tensor:
    return samples.x


def nan(samples: Samples, generator: torch.Generator) -> Samples:
    return Samples(samples.x * math.nan, samples.condition)


def raises(samples: Samples, generator: torch.Generator) -> Samples:
    raise KeyError("k")


def unconditional(samples: Samples, generator: torch.Generator) -> Samples:
    return Samples(samples.x)


def every_second(samples: Samples, generator: torch.Generator) -> Samples:
    return samples[::2]


class Untold(Stage):
    def __call__(self, samples: Samples, generator: torch.Generator) -> Samples:
        return samples[::2]


class Wrong(Untold):
    def outputs(self, inputs: int) -> int:
        return inputs // 4


WRONG: list[tuple[Any, str]] = [
    (tensor, "a Tensor"),
    (nan, "NaN or infinity"),
    (raises, "KeyError: 'k'"),
    (unconditional, "conditions lost"),
    (every_second, "4 samples of 8"),
    (Untold(), "4 samples of 8"),
    (Wrong(), "4 samples of 8"),
]


@pytest.mark.parametrize(("stage", "says"), WRONG)
def test_a_stage_that_cannot_work_is_named_before_the_run(stage: Any, says: str) -> None:
    with pytest.raises(UsageError, match="stage 1, tried on 8 real samples") as caught:
        check_stages([Curate(first_coordinate, choices=1), stage], DATA, first_coordinate, conditional=True)
    assert says in caught.value.found


def test_without_conditions_in_the_run_there_are_none_in_the_trial() -> None:
    check_stages([unconditional], DATA)
    with pytest.raises(UsageError, match="stage 0"):
        check_stages([lambda samples, generator: Samples(samples.x, samples.condition.clone())], DATA)


@pytest.mark.parametrize("body", ["samples.x", "samples[::2]"])
def test_the_command_ends_with_status_2_and_leaves_no_run(here, tiny, body: str) -> None:
    (here / "my_stages.py").write_text(f"def own(samples, generator):\n    return {body}\n")
    status, _, errors = tiny("loop.stages=[my_stages:own]", "name=mine")
    assert (status, errors.splitlines()[0]) == (2, "error: stage 0, tried on 8 real samples")
    assert not (here / "runs/mine").exists()


def test_the_loop_tries_its_stages_before_it_trains(tmp_path) -> None:
    for stage, reward in ((every_second, None), (Curate(lambda x: x, choices=2), first_coordinate)):
        with pytest.raises(UsageError, match="stage 0, tried on 8 real samples"):
            fit(tiny_loop(tmp_path, stages=[stage], reward=reward))
    assert not Run(tmp_path).rows()
    conditional = TinyModel()
    conditional.conditional = True
    with pytest.raises(UsageError, match="stage 0"):
        fit(tiny_loop(tmp_path, stages=[unconditional]), conditional)


class Seen(Stage):
    """Passes on what it gets, and remembers it."""

    def __init__(self, fewest: int = 1) -> None:
        self.fewest = fewest
        self.given: Samples | None = None

    def __call__(self, samples: Samples, generator: torch.Generator) -> Samples:
        self.given = samples
        return samples


class Half(Untold):
    def outputs(self, inputs: int) -> int:
        return inputs // 2

    def inputs(self, outputs: int) -> int:
        return 2 * outputs


def test_stages_are_tried_in_turn_on_as_many_samples_as_they_need() -> None:
    first, last = Seen(), Seen(fewest=10)
    check_stages([first, Half(), Curate(first_coordinate, choices=4), last], DATA, first_coordinate)
    assert first.given is not None
    assert last.given is not None
    assert len(first.given) == 80  # more than there are
    assert torch.equal(first.given.x[:60], DATA.train.x)
    assert first.given.columns["index"].tolist() == list(range(80))
    assert torch.equal(first.given.columns["reward"], first.given.x[:, 0])
    assert len(last.given) == 10
    assert set(last.given.columns["index"].tolist()) <= set(range(0, 80, 2))


class Filter(Stage):
    """Leaves out what is not positive: how many stay, the samples say."""

    varies = True

    def __init__(self, above: float = 0.0) -> None:
        self.above = above

    def __call__(self, samples: Samples, generator: torch.Generator) -> Samples:
        return samples[samples.x[:, 0] > self.above]


def test_a_stage_says_that_its_number_varies(tmp_path) -> None:
    fit(tiny_loop(tmp_path, stages=[Filter()], reward=None, generations=1))
    assert (Run(tmp_path).pool(0).samples().x[:, 0] > 0).all()
    after = Seen()
    check_stages([Filter(above=100), after], DATA)  # nothing stays, so it is tried on what there was
    assert after.given is not None
    assert len(after.given) == 8


def drops(samples: Samples, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return samples.x, samples.x[:, 0] > 0


def test_built_in_stages_that_keep_another_number_than_they_say_do_so(tmp_path) -> None:
    stages = [Correct(corrector=drops, strength=math.inf, on_failure="drop"), Curate(first_coordinate, choices=2)]
    fit(tiny_loop(tmp_path / "drop", stages=stages, generations=0))
    assert len(Run(tmp_path / "drop").pool(0)) < 60
    stages = [Curate(first_coordinate, choices=2, kept=70)]  # of chunks of 15: 10 or 11
    fit(tiny_loop(tmp_path / "kept", stages=stages, generations=0, samples=100, chunk_size=15))
    assert len(Run(tmp_path / "kept").pool(0)) == 70


class Expensive(Stage):
    def __init__(self) -> None:
        self.checked = 0

    def check(self, real: Samples) -> None:
        self.checked = len(real)
        real.x.zero_()

    def __call__(self, samples: Samples, generator: torch.Generator) -> Samples:
        raise AssertionError("not to be tried")


def test_a_stage_that_checks_itself_is_only_asked_that() -> None:
    expensive, after = Expensive(), Seen()
    check_stages([expensive, after], DATA)
    assert expensive.checked == 8
    assert after.given is not None
    assert torch.equal(after.given.x, tiny_data().train.x[:8])


@pytest.mark.parametrize("plural", [False, True])
def test_a_reward_that_is_k_choices_own_is_tried(plural: bool) -> None:
    def broken(x: Tensor) -> Tensor:
        return x[:, :1]

    stage = PluralCurate(rewards=[first_coordinate, broken], choices=2) if plural else Curate(broken, choices=2)
    stage.prepare(None, first_coordinate)
    name = "a reward of plural_choice" if plural else "the reward of k_choice"
    with pytest.raises(UsageError, match=f"{name} of stage 0, tried on 8 real samples") as caught:
        check_stages([stage], DATA, first_coordinate)
    assert "shape (8, 1)" in caught.value.found


def test_the_trial_changes_neither_the_data_nor_the_global_generators() -> None:
    def careless(samples: Samples, generator: torch.Generator) -> Samples:
        samples.x.zero_()
        return Samples(samples.x + torch.randn(1) + random.random(), samples.condition)

    def reward(x: Tensor) -> Tensor:
        x.add_(1)
        return x[:, 0] + torch.randn(len(x))

    data = tiny_data()
    torch.manual_seed(1)
    random.seed(1)
    check_reward(reward, data)
    check_stages([careless, Correct(corrector=lambda s, g: s.x.zero_(), strength=1.0)], data, reward)
    assert torch.equal(data.train.x, DATA.train.x)
    drawn = torch.randn(3), random.random()
    torch.manual_seed(1)
    random.seed(1)
    assert torch.equal(drawn[0], torch.randn(3))
    assert drawn[1] == random.random()
