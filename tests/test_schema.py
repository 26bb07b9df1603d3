"""Constructors as schema: what is accepted, what is filled in, and what is said of what is wrong."""

from __future__ import annotations

import math
import sys
from typing import Literal

import pytest
import torch

from sc_loops import schema
from sc_loops.curation.reward import Reward
from sc_loops.curation.stage import StageLike
from sc_loops.data.real import RealData
from sc_loops.errors import UsageError, require
from sc_loops.models.base import GenerativeModel


class Part:
    def __init__(
        self,
        seed: int,
        *,
        size: int,
        rate: float = 0.1,
        mode: Literal["fast", "slow"] = "fast",
        widths: tuple[int, ...] = (1, 2),
        pair: tuple[float, float] = (0.0, 1.0),
        limit: int | None = None,
        either: int | str = "auto",
        flag: bool = False,
    ) -> None:
        require(size > 0, "size", size, "an integer > 0")
        self.__dict__.update(locals())


def test_defaults_are_written_out_and_values_keep_their_types() -> None:
    assert schema.resolve(Part, {"size": 3, "rate": 1, "limit": None}) == {
        "size": 3,
        "rate": 1.0,
        "mode": "fast",
        "widths": [1, 2],
        "pair": [0.0, 1.0],
        "limit": None,
        "either": "auto",
        "flag": False,
    }


@pytest.mark.parametrize("infinity", ["inf", "Inf", math.inf, ".inf"[1:]])
def test_infinity_is_a_number(infinity: object) -> None:
    assert schema.resolve(Part, {"size": 1, "rate": infinity})["rate"] == math.inf


@pytest.mark.parametrize(
    ("section", "where", "message"),
    [
        ({"size": 1, "rat": 2.0}, "part.rat", "did you mean 'rate'?"),
        ({}, "part.size", "add 'size'"),
        ({"size": "3"}, "part.size", "an integer"),
        ({"size": True}, "part.size", "an integer"),
        ({"size": 1.5}, "part.size", "an integer"),
        ({"size": 1, "rate": "x"}, "part.rate", "a number"),
        ({"size": 1, "rate": math.nan}, "part.rate", "a number"),
        ({"size": 1, "mode": "fats"}, "part.mode", "did you mean 'fast'?"),
        ({"size": 1, "widths": 3}, "part.widths", "a list, each an integer"),
        ({"size": 1, "widths": [1, "a"]}, "part.widths.1", "an integer"),
        ({"size": 1, "pair": [1.0]}, "part.pair", "a list of 2 values"),
        ({"size": 1, "limit": "none"}, "part.limit", "an integer or null"),
        ({"size": 1, "either": 1.5}, "part.either", "an integer or a text"),
        ({"size": 1, "flag": 1}, "part.flag", "true or false"),
        ([], "part", "a section with keys"),
    ],
)
def test_wrong_sections_are_refused(section: object, where: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        schema.resolve(Part, section, "part")
    assert caught.value.where == where
    assert message in str(caught.value)


def test_positional_parameters_come_from_the_context() -> None:
    part = schema.build(Part, schema.resolve(Part, {"size": 2}), {"seed": 7})
    assert (part.seed, part.size, part.widths) == (7, 2, (1, 2))


def test_a_positional_parameter_that_nothing_supplies_may_have_been_meant_as_an_option() -> None:
    def reward(x: float, scale: float) -> None: ...

    with pytest.raises(UsageError) as caught:
        schema.build(reward, {}, {"x": 1.0}, "reward")
    assert caught.value.found == "no 'scale' in the config"
    assert "behind a * in the signature" in str(caught.value)


def test_an_impossible_value_names_its_place_in_the_config() -> None:
    with pytest.raises(UsageError) as caught:
        schema.build(Part, schema.resolve(Part, {"size": 0}), {"seed": 7}, "loop.part")
    assert caught.value.where == "loop.part.size"


def holder(*, reward: Reward, stages: list[StageLike] | None = None) -> list[object]:
    return [reward, stages]


def test_a_component_is_found_by_name_and_gets_its_options() -> None:
    resolved = schema.resolve(holder, {"reward": {"name": "clipped_distance", "center": [1, 2]}})
    assert resolved["reward"]["radius"] == 1.0
    reward, _ = schema.build(holder, resolved, {})
    assert reward(torch.tensor([[1.0, 2.0]])).tolist() == [0.0]


def test_a_users_function_and_class_are_found_by_dotted_name(tmp_path, monkeypatch) -> None:
    (tmp_path / "my_rewards.py").write_text(
        "def plain(x):\n    return x[:, 0]\n\n"
        "def scaled(x, *, scale: float = 2.0):\n    return scale * x[:, 0]\n\n"
        "class Shifted:\n"
        "    def __init__(self, *, by: float) -> None:\n        self.by = by\n"
        "    def __call__(self, x):\n        return x[:, 0] + self.by\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    x = torch.tensor([[3.0, 0.0]])
    for section, expected in [
        ("my_rewards:plain", 3.0),
        ({"name": "my_rewards:scaled"}, 6.0),
        ({"name": "my_rewards:scaled", "scale": 3}, 9.0),
        ({"name": "my_rewards:Shifted", "by": 1}, 4.0),
    ]:
        resolved = schema.resolve(holder, {"reward": section})
        reward, _ = schema.build(holder, resolved, {})
        assert reward(x).tolist() == [expected]
    for wrong, message in [
        ({"name": "my_rewards:plian"}, "did you mean 'plain'?"),
        ({"name": "my_reward:plain"}, "importing 'my_reward' failed"),
        ({"name": "my_rewards:scaled", "scael": 3}, "did you mean 'scale'?"),
        ({"name": "my_rewards:Shifted"}, "add 'by'"),
        ({"name": "clipped_distanse"}, "did you mean 'clipped_distance'?"),
        ({"scale": 1}, "a section with a 'name'"),
        (3, "a section with a 'name'"),
    ]:
        with pytest.raises(UsageError) as caught:
            schema.resolve(holder, {"reward": wrong})
        assert message in str(caught.value)
    sys.modules.pop("my_rewards")


def test_what_a_component_needs_and_the_config_lacks_is_named() -> None:
    resolved = schema.resolve(holder, {"reward": {"name": "class_probability", "target": 1}})
    with pytest.raises(UsageError, match="add a 'classifier' section"):
        schema.build(holder, resolved, {})


def model_holder(*, model: GenerativeModel, data: RealData | None = None) -> object:
    return model


def test_a_class_of_another_kind_is_refused() -> None:
    resolved = schema.resolve(model_holder, {"model": {"name": "fractions:Fraction"}})
    with pytest.raises(UsageError, match="which makes a Fraction"):
        schema.build(model_holder, resolved, {})
