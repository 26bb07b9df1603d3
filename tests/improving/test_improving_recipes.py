"""The recipes of SIMS and Neon, tiny: what they search, what they shift, what pollutes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sc_loops.cli import train
from sc_loops.run import Run

TINY = [
    "batch_size=16",
    "loop.first={steps: 3}",
    "loop.later={steps: 3}",
    "loop.samples=60",
    "loop.chunk_size=60",
    "loop.preview=4",
    "loop.improvement.samples=30",
    "loop.improvement.steps=2",
    "loop.improvement.batch_size=16",
    "loop.improvement.search_samples=40",
    "evaluation.samples=40",
    "model.steps=1",
    "trainer.accelerator=cpu",
    "wandb.mode=disabled",
]
DIGITS = ["data.train_size=60", "classifier.epochs=1", "model.network.patch_size=4"]
POINTS = ["data.size=200", "data.test_size=50"]


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


def rows(recipe: str, output: Path, overrides: list[str]) -> list[dict[str, Any]]:
    assert train(["--config", recipe, f"output={output}", f"name={recipe}", *TINY, *overrides]) == 0
    assert Run(output / recipe).report_path.exists()
    return list(Run(output / recipe).rows())


@pytest.mark.parametrize(("recipe", "evaluations"), [("sims_digits", 2), ("neon_digits", 1)])
def test_omega_is_searched_with_precision_and_recall(recipe, evaluations, output) -> None:
    (row,) = rows(recipe, output, DIGITS)
    tried = {key.rsplit("/", 1)[1] for key in row if key.startswith("improvement/search/")}
    assert tried == {"0", "0.5", "1", "1.5", "2", "3"}
    assert {f"improvement/{q}/{omega}" for q in ("precision", "recall") for omega in tried} <= row.keys()
    assert row["nfe"] == 2 * (evaluations if row["improvement/omega"] else 1)  # midpoint takes two a step
    assert row["frechet_distance/digits_convnet"] > 0


def test_earlier_generations_pollute_what_later_ones_train_on(output) -> None:
    found = rows("sims_polluted", output, DIGITS)
    assert [row["synthetic_items"] for row in found] == [60 * t for t in range(4)]
    assert {row["real_items"] for row in found} == {60}
    assert {row["improvement/omega"] for row in found} == {1.0}


def test_the_shift_is_away_from_the_base_and_told(output) -> None:
    (row,) = rows("sims_shift", output, POINTS)
    shares = {of: [row[f"improvement/{of}_share/{k}"] for k in range(4)] for of in ("base", "chosen", "improved")}
    for of, values in shares.items():
        assert sum(values) == pytest.approx(1), of
    for base, chosen in zip(shares["base"], shares["chosen"], strict=True):
        assert (chosen - base) * (base - 0.25) >= -1 / 30  # away from a quarter, to the nearest of 30 samples
    assert 0 <= row["improvement/total_variation/improved"] <= 1
