"""The facts from which a theory is drawn are recorded where it applies, and only there."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from sc_loops import Curate, SelfConsumingLoop, gaussian
from sc_loops.curation.plural import PluralCurate
from sc_loops.data.mixture import Training
from sc_loops.data.module import LoopDataModule
from sc_loops.data.pool import Chunk
from sc_loops.evaluation.evaluation import Evaluation
from sc_loops.evaluation.gaussian import GaussianDistance
from sc_loops.facts import facts_of
from sc_loops.models.gaussian import Gaussian
from sc_loops.reporting.wording import policies
from sc_loops.samples import Samples


def first_coordinate(x: torch.Tensor) -> torch.Tensor:
    return x[:, 0]


def facts(path: Path, stages: Any = (), **options: Any) -> dict[str, Any]:
    data = gaussian()
    if options.pop("images", False):
        x = torch.zeros(8, 1, 2, 1, dtype=torch.uint8)
        data = type(data)(Samples(x), Samples(x), "images", (), "two pixels")
    model, once = Gaussian(data, sampling_bias=options.pop("sampling_bias", 1.0)), Training(passes=1)
    evaluation = Evaluation(data, None, None, metrics=[GaussianDistance(model, data)])
    loop = SelfConsumingLoop(
        path, first_coordinate, evaluation,
        generations=3, stages=stages, first=once, later=once, **{"synthetic_ratio": 0.5, **options},
    )  # fmt: skip
    loop.chunks = [Chunk(0, 0, options["samples"])] if "samples" in options else []
    return facts_of(loop, model, LoopDataModule(data), torch.device("cpu"))


@pytest.mark.parametrize(("memory", "applies"), [("replace", True), ("fading", False)])
def test_the_recursion_of_curation_is_that_of_the_newest_pool(tmp_path: Path, memory: str, applies: bool) -> None:
    found = facts(tmp_path, [Curate(first_coordinate, choices=2)], memory=memory)
    assert ("choices" in found) == applies


def test_of_samples_with_a_bias_that_theory_knows_nothing(tmp_path: Path) -> None:
    found = facts(tmp_path, [Curate(first_coordinate, choices=2)], sampling_bias=0.5)
    assert "choices" not in found
    assert found["sampling_bias"] == 0.5


@pytest.mark.parametrize(
    ("options", "repeats"),
    [
        ({"synthetic_ratio": 4.0, "samples": 50}, 4),  # 200 of pools of 50, by n = 50
        ({"synthetic_ratio": 4.0, "samples": 199}, 2),
        ({"synthetic_ratio": 4.0, "samples": 200}, None),
        ({"synthetic_ratio": 4.0, "samples": 50, "real_items": 10}, None),
        ({"synthetic_ratio": 4.0, "samples": 50, "mixing": "weight"}, None),
        ({"synthetic_ratio": 0.0, "samples": 1}, None),
        ({"synthetic_ratio": math.inf, "samples": 1}, None),
        ({"synthetic_ratio": 1.0, "samples": 50, "stages": [Curate(first_coordinate, choices=2)]}, 2),
    ],
)
def test_it_is_told_how_often_samples_are_repeated(
    tmp_path: Path, options: dict[str, Any], repeats: int | None
) -> None:
    found = facts(tmp_path, **options)
    assert found.get("repeats") == repeats
    said = [word for word in policies(found) if "repeated" in word]
    assert said == ([f"samples repeated up to {repeats} times"] if repeats else [])


def second_coordinate(x: torch.Tensor) -> torch.Tensor:
    return x[:, 1]


@pytest.mark.parametrize(
    ("stage", "recorded"),
    [
        (Curate(first_coordinate, choices=2), {"choices": 2}),
        (Curate(first_coordinate, choices=3, flipped=0.25), {"choices": 3, "flipped": 0.25}),
        (Curate(second_coordinate, choices=2), {}),
        (
            PluralCurate(rewards=[first_coordinate, second_coordinate], shares=[0.3, 0.7], choices=2),
            {"choices": 2, "shares": [0.3, 0.7]},
        ),
    ],
)
def test_the_theory_of_curation_knows_who_chooses(tmp_path: Path, stage: Curate, recorded: dict[str, Any]) -> None:
    found = facts(tmp_path, [stage])
    assert {key: found[key] for key in ("choices", "flipped", "shares") if key in found} == recorded


@pytest.mark.parametrize(
    ("options", "applies"),
    [({}, True), ({"memory": "fading"}, True), ({"start": "weights.ckpt"}, False), ({"images": True}, False)],
)
def test_the_exact_gaussian_loop_starts_from_a_fit_of_real_points(
    tmp_path: Path, options: dict[str, Any], applies: bool
) -> None:
    assert ("gaussian_loop" in facts(tmp_path, **options)) == applies
