"""A run whose samples are biased cites the paper that the bias is from, and guidance where it is guidance."""

from __future__ import annotations

import pytest

from sc_loops.citing.bibliography import keys_of
from sc_loops.citing.uses import uses_of
from sc_loops.experiment import resolved_config

MAD, GUIDANCE = "alemohammad2024mad", "ho2022classifier"


def cited(recipe: str, *overrides: str) -> set[str]:
    return set(keys_of(uses_of(resolved_config(recipe, overrides))))


@pytest.mark.parametrize(
    ("recipe", "conditional"),
    [("digits_baseline", True), ("digits_baseline", False), ("moons_curated", False)],
)
def test_a_bias_is_cited(recipe: str, conditional: bool) -> None:
    plain = ["loop.synthetic_ratio=0.5", "model.guidance_scale=1", f"model.network.class_conditional={conditional}"]
    assert not {MAD, GUIDANCE} & cited(recipe, *plain, "model.sampling_bias=1")
    found = cited(recipe, *plain, "model.sampling_bias=0.5")
    assert MAD in found
    assert (GUIDANCE in found) == conditional


@pytest.mark.parametrize("model", ["edm", "gaussian", {"name": "ddpm", "network": "mlp"}])
def test_a_model_given_by_its_name_has_no_bias(model: object) -> None:
    assert MAD not in keys_of(uses_of({"data": "digits", "loop": {}, "model": model}))


def test_the_bias_of_a_gaussian_is_cited_too() -> None:
    assert MAD in keys_of(
        uses_of({"data": "gaussian", "loop": {}, "model": {"name": "gaussian", "sampling_bias": 0.9}})
    )
