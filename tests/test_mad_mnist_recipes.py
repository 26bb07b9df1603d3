"""The recipes of MAD on MNIST: what a generation is made of, at toy size; and a bias that is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from sc_loops import config
from sc_loops.cli import train
from sc_loops.data.mnist import mnist
from sc_loops.data.pixels import as_float
from sc_loops.run import Run

ROOT = Path(__file__).resolve().parents[1]
LOOPS = ("fully_synthetic", "augmentation", "fresh")
RECIPES = [f"mad_{size}_{loop}" for size in ("small", "mnist") for loop in LOOPS]
SLOW = [pytest.param(r, marks=[pytest.mark.slow] if r.startswith("mad_mnist") else []) for r in RECIPES]
REAL, SAMPLES, STEPS = 60, 40, 2

TINY = [
    "data.test_size=50",
    "batch_size=16",
    "classifier.trained_on=null",
    "classifier.epochs=1",
    f"model.steps={STEPS}",
    "evaluation.samples=20",
    "loop.generations=2",
    "loop.first={steps: 2}",
    "loop.later={steps: 2}",
    "loop.chunk_size=20",
    "loop.preview=4",
    "trainer.accelerator=cpu",
    "wandb.mode=disabled",
]
NARROW = [
    "model.network.channels=32",
    "model.network.residual_blocks=1",
    "model.network.channel_multipliers=[1]",
    "model.network.attention_resolutions=[]",
    "model.network.patch_size=4",
]


@pytest.fixture(scope="module")
def root() -> Path:
    found = Path(os.environ.get("SC_LOOPS_DATA", ROOT / "../shared/data")) / "mnist"
    if not found.is_dir():
        pytest.skip(f"no MNIST in {found}; SC_LOOPS_DATA says where it is")
    return found


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    """One for all recipes, which share a classifier."""
    return tmp_path_factory.mktemp("runs")


@pytest.mark.parametrize("recipe", SLOW)
def test_generations_are_made_of_what_the_paper_makes_them(recipe, root, output, capfd) -> None:
    content = config.load(recipe)
    loop, model = content["loop"], content["model"]
    fully, fresh = loop["synthetic_ratio"] == "inf", loop.get("real") == "fresh"
    initial = REAL + 10 if "real_items" in loop else REAL
    overrides = [*TINY, f"data.root={root}", f"data.train_size={initial}"]
    overrides += NARROW if model["network"]["name"] == "unet" else ["model.network.width=16"]
    overrides += [f"loop.real_items={REAL}"] * ("real_items" in loop)
    assert train(["--config", recipe, *overrides, f"output={output}", f"name={recipe}"]) == 0, capfd.readouterr().err
    run = Run(output / recipe)
    parts = [(row["real_items"], row["synthetic_items"], row["samples"]) for row in run.rows()]
    samples = initial if fully else REAL
    assert parts == [(initial, 0, samples), *2 * [(0 if fully else REAL, samples, samples)]]
    assert loop["retraining"] == "from_scratch"
    assert fresh == recipe.endswith("fresh")
    assert run.rows()[-1]["nfe"] == STEPS * (2 if model["sampling_bias"] < 1 else 1)
    assert run.rows()[-1]["frechet_distance/mnist_lenet"] > 0


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe.startswith("mad_mnist")])
def test_a_recipe_can_be_given_another_bias(recipe, root, capfd) -> None:
    assert train(["--config", recipe, "--dry-run", f"data.root={root}", "model.sampling_bias=0.66"]) == 0
    assert "sampling_bias: 0.66" in capfd.readouterr().out


def test_fresh_data_are_enough_for_all_generations(root) -> None:
    for recipe in ("mad_small_fresh", "mad_mnist_fresh"):
        content = config.load(recipe)
        size, last = content["data"]["train_size"], content["loop"]["generations"]
        assert size * (last + 1) <= 60000
        data = mnist(root=str(root), train_size=size)
        assert data.fresh is not None
        assert not torch.equal(as_float(data.fresh(last).x), as_float(data.train.x))


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ("model.sampling_bias=0", "(0, 1]"),
        ("model.sampling_bias=1.5", "(0, 1]"),
        ("model.sampling_bias=.nan", "a number"),
        ("model.sampling_bias=0.5 model.guidance_scale=1.5 model.network.class_conditional=true", "guidance_scale"),
        ("model.sampling_bias=0.5 model.condition_dropout=0 model.network.class_conditional=true", "dropout"),
    ],
)
def test_an_impossible_bias_is_refused_at_start(overrides, says, tmp_path, capfd) -> None:
    status = train(["--config", "digits_baseline", *overrides.split(), f"output={tmp_path / 'runs'}"])
    printed = capfd.readouterr().err
    assert status == 2
    assert "model.sampling_bias" in printed
    assert says in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "runs").exists()
