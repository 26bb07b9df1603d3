"""Rewards, stages, correctors, metrics and models of the user's own in a chunk: what they draw is the chunk's, what
they change in place stays theirs, and what they return is kept in the type of real samples or refused."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TinyModel, fit, tiny_data, tiny_loop
from torch import Tensor

from sc_loops import Correct, Curate, Metric, RealData, Run, Samples
from sc_loops.data.pool import Chunk
from sc_loops.errors import RunError
from sc_loops.evaluation.evaluation import Evaluation
from sc_loops.randomness import generator_for
from sc_loops.synthesis import Stopwatch, Synthesis

Draw = Callable[[int], Tensor]
Made = tuple[Samples, dict[str, Any]]


def by_numpy(n: int) -> Tensor:
    return torch.from_numpy(np.random.randn(n)).float()


def by_python(n: int) -> Tensor:
    return torch.tensor([random.gauss(0, 1) for _ in range(n)])


class Own(TinyModel):
    """Samples what ``drawn`` returns of how many are wanted."""

    def __init__(self, drawn: Callable[[int], Any]) -> None:
        super().__init__()
        self.drawn = drawn

    def sample(self, generator: torch.Generator, n: int, condition: Any = None) -> Any:
        return self.drawn(n)


class Noise(Metric):
    """Draws when it observes and when it summarises."""

    name = "noise"

    def __init__(self, draw: Draw) -> None:
        self.draw = draw

    def observe(self, samples: Samples) -> dict[str, Tensor]:
        return {"drawn": self.draw(3)}

    def summarise(self, observations: Sequence[dict[str, Tensor]]) -> dict[str, float]:
        return {"noise": float(self.draw(1))}


def synthesis(reward: Any = None, stages: Sequence[Any] = (), metrics: Sequence[Metric] = ()) -> Synthesis:
    data = tiny_data()
    evaluation = Evaluation(data, None, reward, metrics=list(metrics))
    return Synthesis(data, reward, stages, evaluation, conditions="real", seed=3)


def tiny_model() -> TinyModel:
    torch.manual_seed(0)
    return TinyModel()


def make(how: Synthesis, model: TinyModel | None = None, *, chunk: int = 1) -> Made:
    model = model or tiny_model()
    with model.averaged():
        return how.make(model, 2, Chunk(chunk, 20 * chunk, 20), Stopwatch())


def foreign(draw: Draw) -> tuple[Synthesis, TinyModel]:
    """A chunk in which everything draws from global generators."""

    def reward(x: Tensor) -> Tensor:
        return x[:, 0] + draw(len(x))

    def shaken(samples: Samples, generator: torch.Generator) -> Samples:
        return Samples(samples.x + draw(2 * len(samples)).view(-1, 2), samples.condition, samples.columns)

    return synthesis(reward, [shaken, shaken], [Noise(draw)]), Own(lambda n: draw(2 * n).view(n, 2))


@pytest.mark.parametrize("draw", [torch.randn, by_numpy, by_python])
def test_global_draws_are_a_function_of_the_chunk(draw: Draw) -> None:
    how, model = foreign(draw)
    kept, observed = make(how, model)
    with model.averaged():
        preview = how.preview(model, 0, 4).x
        others = [how.make(model, 2, Chunk(c, 20 * c, 20), Stopwatch())[0].x for c in (0, 2)]
        assert torch.equal(how.preview(model, 1, 4).x, preview)
    again, seen = make(how, model)  # by others in between, the generators are somewhere else
    assert torch.equal(again.x, kept.x)
    assert torch.equal(again.columns["reward"], kept.columns["reward"])
    assert torch.equal(seen["noise"]["drawn"], observed["noise"]["drawn"])
    assert not any(torch.equal(other, kept.x) for other in others)


def test_no_two_parts_of_a_chunk_draw_the_same() -> None:
    drawn: list[Tensor] = []

    def draw(n: int) -> Tensor:
        drawn.append(torch.randn(n))
        return drawn[-1]

    make(*foreign(draw))
    first = [float(each[0]) for each in drawn]
    assert len(first) == len(set(first)) == 5  # the model, the reward, two stages, a metric
    given = make(synthesis(), Own(lambda n: torch.randn(n, 2)))[0].x
    own = torch.randn(20, 2, generator=generator_for(3, "sample", 2, 1))
    assert not torch.equal(given, own)  # nor as the generator that it was given


def test_a_run_whose_reward_is_random_is_the_same_when_it_goes_on(tmp_path) -> None:
    def noisy(x: Tensor) -> Tensor:
        return x[:, 0] + by_python(len(x)) + torch.randn(len(x))

    for name, stops in (("whole", ()), ("resumed", (0,))):
        for generations in (*stops, 1):
            random.seed(generations)
            own: dict[str, Any] = {"reward": noisy, "stages": [Curate(noisy, choices=2)], "generations": generations}
            own["evaluation"] = Evaluation(tiny_data(), None, noisy, metrics=[Noise(by_python)])
            fit(tiny_loop(tmp_path / name, **own))
    one, other = (Run(tmp_path / name) for name in ("whole", "resumed"))
    whole, resumed = (run.pool(1).samples() for run in (one, other))
    assert torch.equal(whole.x, resumed.x)
    assert torch.equal(whole.columns["reward"], resumed.columns["reward"])
    assert one.rows()[-1]["noise"] == other.rows()[-1]["noise"]


class Careless(Metric):
    """Changes what it sees in place, around numpy's back door too."""

    name = "careless"

    def observe(self, samples: Samples) -> dict[str, Tensor]:
        samples.x.numpy()[:] = 7
        samples.columns["index"].zero_()
        return {"x": samples.x[:1].clone()}

    def summarise(self, observations: Sequence[dict[str, Tensor]]) -> dict[str, float]:
        return {}


def careless_reward(x: Tensor) -> Tensor:
    x.add_(1).div_(2)
    return x[:, 0]


def careful_reward(x: Tensor) -> Tensor:
    return (x[:, 0] + 1) / 2


def careless_stage(samples: Samples, generator: torch.Generator) -> Samples:
    samples.x.mul_(3)
    samples.columns["index"].add_(0)
    return samples


def careful_stage(samples: Samples, generator: torch.Generator) -> Samples:
    return Samples(samples.x * 3, samples.condition, samples.columns)


def test_what_is_changed_in_place_is_not_what_is_kept() -> None:
    expected, saw = make(synthesis(careful_reward, [careful_stage]))
    kept, observed = make(synthesis(careless_reward, [careless_stage], [Careless()]))
    assert torch.equal(kept.x, expected.x)
    assert torch.equal(kept.columns["reward"], expected.columns["reward"])
    assert kept.columns["index"].tolist() == list(range(20, 40))
    assert all(torch.equal(observed["reward"][name], tensor) for name, tensor in saw["reward"].items())
    raw, _ = make(synthesis(None, [], [Careless()]))
    assert not (raw.x == 7).any()
    curated, _ = make(synthesis(None, [Curate(careless_reward, choices=2)]))
    assert torch.equal(curated.x, make(synthesis(None, [Curate(careful_reward, choices=2)]))[0].x)


def test_conditions_that_a_model_changes_in_place_are_kept_as_they_were_drawn() -> None:
    class Dropping(TinyModel):
        conditional = True

        def sample(self, generator: torch.Generator, n: int, condition: Any = None) -> Tensor:
            condition.fill_(7)  # the null class
            return super().sample(generator, n, condition)

    kept, _ = make(synthesis(), Dropping())
    assert kept.condition is not None
    assert set(kept.condition.tolist()) == {0, 1}


def halved(samples: Samples, generator: torch.Generator) -> Tensor:
    samples.x.mul_(0.5)
    return samples.x


def test_a_corrector_in_place_has_the_distance_of_one_that_is_not() -> None:
    found = []
    for corrector in (halved, lambda samples, generator: 0.5 * samples.x):
        stage = Correct(corrector=corrector, strength=1.0)
        kept, observed = make(synthesis(None, [stage]))
        found.append((kept.x, stage.summarise([observed["stage 0"]])["correction/distance"]))
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1] > 0


def as_type(dtype: torch.dtype) -> Callable[[Samples, torch.Generator], Samples]:
    return lambda samples, generator: Samples(samples.x.to(dtype), samples.condition)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_floats_of_another_type_are_kept_in_that_of_real_samples(dtype: torch.dtype) -> None:
    given: list[torch.dtype] = []

    def next_stage(samples: Samples, generator: torch.Generator) -> Samples:
        given.append(samples.x.dtype)
        return samples

    x = torch.linspace(0, 1, 40).view(20, 2)
    kept, _ = make(synthesis(None, [as_type(dtype), next_stage]), Own(lambda n: x[:n].to(dtype)))
    assert (kept.x.dtype, given) == (torch.float32, [torch.float32])
    assert torch.equal(kept.x, x.to(dtype).float())
    assert synthesis().preview(Own(lambda n: x[:n].to(dtype)), 0, 4).x.dtype == torch.float32


def test_a_loop_whose_stage_returns_doubles_goes_on(tmp_path) -> None:
    fit(tiny_loop(tmp_path, stages=[as_type(torch.float64)], generations=2))
    assert Run(tmp_path).pool(2).samples().x.dtype == torch.float32


def ints(samples: Samples, generator: torch.Generator) -> Samples:
    return Samples(samples.x.long(), samples.condition)


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        (as_type(torch.int64), "x of torch.int64"),
        (as_type(torch.uint8), "x of torch.uint8"),
        (lambda samples, generator: Samples(samples.x.double() + 1e300), "NaN or infinity"),
        (lambda samples, generator: Samples(samples.x.numpy()), "x that is a ndarray"),
        (lambda samples, generator: samples[::2], "10 samples of 20"),
        (lambda samples, generator: samples[torch.arange(40) % 20], "40 samples of 20"),
    ],
)
def test_what_a_stage_may_not_return_is_put_down_to_it(stage: Any, says: str) -> None:
    with pytest.raises(RunError, match="stage 1 in generation 2, chunk 1") as caught:
        make(synthesis(None, [careful_stage, stage]))
    assert says in caught.value.found


def test_conditions_of_another_type_are_put_down_to_their_stage() -> None:
    class Conditional(TinyModel):
        conditional = True

    for changed in (lambda c: c.int(), lambda c: c[:, None], lambda c: None):

        def stage(samples: Samples, generator: torch.Generator, changed: Any = changed) -> Samples:
            return Samples(samples.x, changed(samples.condition))

        with pytest.raises(RunError, match="stage 0 in generation 2, chunk 1") as caught:
            make(synthesis(None, [stage]), Conditional())
        assert "condition" in caught.value.found


@pytest.mark.parametrize(
    ("drawn", "says"),
    [
        (lambda n: torch.ones(n, 2, dtype=torch.int64), "torch.int64"),
        (lambda n: torch.ones(n, 2, dtype=torch.uint8), "torch.uint8"),  # which are pixels, and these are points
        (lambda n: np.ones((n, 2)), "a ndarray"),
        (lambda n: torch.ones(n, 3), "shape (20, 3)"),
    ],
)
def test_what_a_model_may_not_sample_is_refused_in_chunks_and_preview(drawn: Any, says: str) -> None:
    with pytest.raises(RunError, match="the model's samples in generation 2, chunk 1") as caught:
        make(synthesis(), Own(drawn))
    assert says in caught.value.found
    with pytest.raises(RunError, match="the model's samples in generation 1, preview"):
        synthesis().preview(Own(drawn), 1, 4)


def test_a_model_may_sample_pixels_of_images_that_are_floats() -> None:
    x = torch.linspace(-1, 1, 8 * 9).view(8, 1, 3, 3)
    data = RealData(Samples(x), Samples(x), "images", name="grey")
    how = Synthesis(data, None, [], Evaluation(data, None, None), conditions="real", seed=3)
    kept, _ = make(how, Own(lambda n: torch.full((n, 1, 3, 3), 255, dtype=torch.uint8)))
    assert torch.equal(kept.x, torch.ones(20, 1, 3, 3))
