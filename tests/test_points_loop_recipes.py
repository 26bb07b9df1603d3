"""The recipes with networks on points that have no reward: stability, and accumulating against replacing."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from sc_loops import Run
from sc_loops.experiment import build, resolved_config
from sc_loops.processes import Processes
from sc_loops.start import carry_out

REAL, STEPS, BATCH, SAMPLES = 30, 2, 8, 40
TINY = [
    f"data.size={REAL}",
    "data.test_size=20",
    f"batch_size={BATCH}",
    "model.network.width=8",
    "evaluation.samples=20",
    "loop.generations=3",
    f"loop.first.steps={STEPS}",
    f"loop.later.steps={STEPS}",
    "loop.preview=4",
]
STABILITY = ("stability_flow", "stability_ddpm")
MOONS = "accumulate_vs_replace_moons"


def run_recipe(output: Path, recipe: str, *overrides: str) -> Run:
    """Run a tiny form of ``recipe`` as ``train.py`` does, without reports, which would take most of the time."""
    tiny = [*TINY, f"loop.samples={REAL if recipe == MOONS else SAMPLES}"]
    tiny += ["model.steps=2"] * (recipe == "stability_ddpm")
    run = Run(output / "run")
    resolved = resolved_config(recipe, [*tiny, f"output={output}", "name=run", *overrides])
    experiment = build(resolved, run)
    experiment.check()
    experiment.prepare(Processes())
    carry_out(experiment, run, resolved, Processes(), observers=[])
    return run


@pytest.mark.parametrize(
    ("recipe", "ratio"), [("stability_flow", "inf"), ("stability_flow", "0.5"), ("stability_ddpm", "4")]
)
def test_every_ratio_sees_the_same_items(tmp_path: Path, recipe: str, ratio: str) -> None:
    """All real items beside floor(λ n) of the newest pool alone, and as many items seen whatever λ."""
    rows = run_recipe(tmp_path, recipe, f"loop.synthetic_ratio={ratio}").rows()
    synthetic = SAMPLES if ratio == "inf" else int(float(ratio) * REAL)
    assert [row["items_seen"] for row in rows] == [STEPS * BATCH * (t + 1) for t in range(4)]
    assert [row["real_items"] for row in rows[1:]] == [0 if ratio == "inf" else REAL] * 3
    assert [row["synthetic_items"] for row in rows] == [0, synthetic, synthetic, synthetic]
    assert all(math.isfinite(row["energy_distance"]) and row["wasserstein_2"] > 0 for row in rows)


@pytest.mark.parametrize(
    ("memory", "ratio", "real", "synthetic"),
    [
        ("replace", "inf", [0, 0, 0], [REAL, REAL, REAL]),
        ("replace", "1", [REAL] * 3, [REAL] * 3),
        ("accumulate", "1", [REAL] * 3, [REAL, 2 * REAL, 3 * REAL]),
        ("accumulate", "inf", [0, 0, 0], [REAL, 2 * REAL, 3 * REAL]),
    ],
)
def test_the_memories_are_the_published_ones(
    tmp_path: Path, memory: str, ratio: str, real: list[int], synthetic: list[int]
) -> None:
    """λ = inf is the papers' way to replace, λ = 1 their way to accumulate: the real items and n of every pool."""
    rows = run_recipe(tmp_path, MOONS, f"loop.memory={memory}", f"loop.synthetic_ratio={ratio}").rows()[1:]
    assert [row["real_items"] for row in rows] == real
    assert [row["synthetic_items"] for row in rows] == synthetic


@pytest.mark.parametrize("ratio", ["1", "inf"])
def test_a_subsample_stays_as_large_as_the_real_set(tmp_path: Path, ratio: str) -> None:
    memory = "loop.memory=accumulate_subsample"
    rows = run_recipe(tmp_path, MOONS, memory, f"loop.synthetic_ratio={ratio}").rows()[1:]
    assert [row["real_items"] + row["synthetic_items"] for row in rows] == [REAL] * 3
    real = [row["real_items"] for row in rows]
    assert all(0 < count < REAL for count in real) if ratio == "1" else real == [0, 0, 0]


@pytest.mark.parametrize("recipe", [*STABILITY, MOONS])
def test_seeds_differ_in_their_real_points_and_settings_do_not(tmp_path: Path, recipe: str) -> None:
    def real(*overrides: str) -> torch.Tensor:
        resolved = resolved_config(recipe, [*TINY, f"output={tmp_path}", "name=run", *overrides])
        return build(resolved, Run(tmp_path / "run")).data.train.x

    ratio = "loop.synthetic_ratio=inf"
    assert torch.equal(real("seed=1"), real("seed=1", ratio))
    assert not torch.equal(real("seed=1"), real("seed=2"))
