"""Every recipe of configs/ says what it reproduces, and goes through two tiny generations."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from sc_loops import config
from sc_loops.cli import train
from sc_loops.run import Run

RECIPES = sorted((Path(__file__).resolve().parent.parent / "configs").glob("*.yaml"))
STEPS, BATCH, SAMPLES, CHUNK = 3, 16, 40, 20

TINY = [
    f"batch_size={BATCH}",
    "loop.generations=1",
    f"loop.first={{steps: {STEPS}}}",
    f"loop.later={{steps: {STEPS}}}",
    f"loop.samples={SAMPLES}",
    f"loop.chunk_size={CHUNK}",
    "loop.preview=4",
    "evaluation.samples=20",
    "trainer.accelerator=cpu",
    "wandb.mode=disabled",
]


# Those of self-correction have no rewards. The Gaussian (tests/test_gaussian_loop.py), motions
# (tests/test_motion_recipes.py), improvements (tests/improving/test_improving_recipes.py, and below), loops on points
# (tests/test_points_loop_recipes.py) and MAD (tests/test_mad_mnist_recipes.py) have tests of their own.
OF_THEIR_OWN = ("gaussian", "motion", "sims", "neon", "stability", "accumulate", "mad")
CORRECTED = [path for path in RECIPES if path.stem.startswith(("mnist", *OF_THEIR_OWN))]
LIKE_OTHERS = (  # but for a line or two
    *("cifar_confidence", "cifar_mixed", "cifar_ddpm_curated", "cifar_small_mixed"),
    *("digits_confidence", "digits_mixed"),
)

# Of the image recipes: a narrow network on patches, and no Inception weights, which a test cannot download.
NARROW = [
    "data.train_size=200",
    "data.test_size=100",
    "model.network.channels=32",
    "model.network.residual_blocks=1",
    "model.network.channel_multipliers=[1,1]",
    "model.network.scale_shift=true",
    "model.network.attention_resolutions=[8]",
    "model.network.head_channels=32",
    "model.network.patch_size=4",
    "model.network_batch=10",
    "model.steps=4",
    "evaluation.metrics=[]",
]


def tiny(content: config.Mapping, cifar: Callable[[], Path]) -> list[str]:
    """Overrides that make the recipe ``content`` small; which ones apply depends on its components."""
    overrides = list(TINY)
    if content["data"]["name"] == "cifar10":
        overrides += [*NARROW, f"data.root={cifar()}"]
    elif content["data"]["name"] != "digits":
        overrides += ["data.size=200", "data.test_size=40"]
    if isinstance(content.get("classifier"), dict) and content["classifier"]["name"] in ("trained", "vgg11_bn"):
        overrides.append("classifier.epochs=1")
    for number, stage in enumerate(content["loop"].get("stages", [])):
        if "kept" in stage:
            overrides.append(f"loop.stages.{number}.kept={SAMPLES // 2}")
    return overrides


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    """One directory for all, so that recipes with the same classifier train it once."""
    return tmp_path_factory.mktemp("runs")


def test_there_are_recipes() -> None:
    assert {"moons_curated.yaml", "digits_curated.yaml"} <= {path.name for path in RECIPES}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_the_first_line_names_the_paper(recipe: Path) -> None:
    first = recipe.read_text().splitlines()[0]
    assert re.match(r"# .*\b[A-Z]\w+ (et al\. |and [A-Z]\w+ )?\(?(19|20)\d\d\b", first), first


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(path, marks=[pytest.mark.slow] if path.stem in LIKE_OTHERS else [])
        for path in RECIPES
        if path not in CORRECTED
    ],
    ids=lambda path: path.stem,
)
def test_the_recipe_runs(recipe: Path, output: Path, capfd, request: pytest.FixtureRequest) -> None:
    content = config.load(str(recipe))
    cifar = partial(request.getfixturevalue, "cifar_root")
    overrides = [*tiny(content, cifar), f"output={output}", f"name={recipe.stem}"]
    status = train(["--config", recipe.stem, *overrides])
    assert status == 0, capfd.readouterr().err

    run = Run(output / recipe.stem)
    rows = run.rows()
    assert [row["generation"] for row in rows] == [0, 1]
    assert [row["items_seen"] for row in rows] == [STEPS * BATCH, 2 * STEPS * BATCH]
    assert [row["samples"] for row in rows] == [SAMPLES, SAMPLES]
    real, ratio = run.facts()["real_items"], content["loop"]["synthetic_ratio"]
    fully = ratio == "inf"
    synthetic = rows[0]["pool_items"] if fully else math.floor(ratio * real)
    assert (rows[0]["real_items"], rows[0]["synthetic_items"]) == (real, 0)
    assert (rows[1]["real_items"], rows[1]["synthetic_items"]) == (0 if fully else real, synthetic)
    for row in rows:
        for value in (f"{score}/{moment}" for score in ("reward", "exp_reward") for moment in ("mean", "var")):
            assert math.isfinite(row[value])
        assert row["exp_reward/mean"] >= math.exp(row["reward/mean"]) * (1 - 1e-6)  # Jensen
        assert row["nfe"] >= 1
        assert math.isclose(sum(v for k, v in row.items() if k.startswith("class_share/")), 1)
        assert {f"class_share/{k}" for k in range(len(run.facts()["class_names"]))} <= row.keys()
        for phase in ("training", "sampling", "scoring", "curating", "evaluating", "writing", "total"):
            assert row[f"seconds/{phase}"] >= 0
    assert run.report_path.exists()


def mnist_root() -> Path:
    default = Path(__file__).resolve().parents[1] / "../shared/data"
    root = Path(os.environ.get("SC_LOOPS_DATA", default)) / "mnist"
    if not root.is_dir():
        pytest.skip(f"no MNIST in {root}; SC_LOOPS_DATA says where it is")
    return root


@pytest.mark.parametrize("recipe", [p for p in CORRECTED if p.stem.startswith("mnist")], ids=lambda path: path.stem)
def test_the_mnist_recipe_runs(recipe: Path, output: Path, capfd) -> None:
    content = config.load(str(recipe))
    overrides = [o for o in (*TINY, *NARROW) if not o.startswith(("evaluation.metrics", "model.network.attention"))]
    overrides += ["model.network.channel_multipliers=[1]", "model.network.attention_resolutions=[]"]
    overrides += [f"data.root={mnist_root()}", "classifier.trained_on=null", "classifier.epochs=1"]
    corrected = bool(content["loop"].get("stages"))
    overrides += ["loop.stages.0.corrector.clusters=2"] * corrected
    status = train(["--config", recipe.stem, *overrides, f"output={output}", f"name={recipe.stem}"])
    assert status == 0, capfd.readouterr().err
    run = Run(output / recipe.stem)
    last = run.rows()[-1]
    assert last["synthetic_items"] == content["loop"]["synthetic_ratio"] * 200
    assert last["frechet_distance/mnist_lenet"] > 0 < last["frechet_distance_error/mnist_lenet"]
    assert last.get("correction/share") == (1.0 if corrected else None)
    if corrected:
        images = run.pool(1).samples()
        different = {(int(k), bytes(x.numpy().tobytes())) for x, k in zip(images.x, images.condition, strict=True)}
        assert len(different) <= 2 * 10


# The full-size recipes of SIMS, Neon and stability, which lend one another generation 0; here on digits, for speed.
# Of the improvements: how many images the auxiliary sees, as a share of those that the base saw.
LARGE = {"sims_cifar": 0.2, "neon_cifar": 0.0175, "neon_cifar_flow": 0.032}
ON_DIGITS = [
    *(o for o in TINY if not o.startswith("loop.generations")),
    "data={name: digits, train_size: 60}",
    "classifier={name: trained, architecture: convnet, epochs: 1}",
    "evaluation.metrics=[]",
    "model.network.channels=32",
    "model.network.residual_blocks=1",
    "model.network.channel_multipliers=[1]",
    "model.network.scale_shift=true",
    "model.network.attention_resolutions=[]",
    "model.network.head_channels=32",
    "model.network.patch_size=4",
    "model.network_batch=10",
]
IMPROVED = [f"loop.improvement.{o}" for o in ("samples=20", "steps=2", "batch_size=16", "search_samples=20")]


def on_digits(recipe: str, output: Path, *overrides: str) -> Run:
    overrides = (*ON_DIGITS, *(IMPROVED if recipe in LARGE else ["loop.generations=1"]), *overrides)
    assert train(["--config", recipe, *overrides, f"output={output}", f"name={recipe}"]) == 0
    return Run(output / recipe)


@pytest.fixture(scope="module")
def sims_cifar(output: Path) -> Run:
    return on_digits("sims_cifar", output, "model.steps=2")


def require_searched(run: Run, evaluations: int) -> None:
    (row,) = run.rows()
    tried = {float(key.rsplit("/", 1)[1]) for key in row if key.startswith("improvement/search/")}
    assert tried == {number / 4 for number in range(9)}
    assert row["nfe"] == evaluations * (2 if row["improvement/omega"] and run.name == "sims_cifar" else 1)


def test_sims_cifar_runs(sims_cifar: Run) -> None:
    require_searched(sims_cifar, 3)  # Heun's two steps


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["neon_cifar", "neon_cifar_flow"])
def test_neon_on_cifar_runs(recipe: str, output: Path, sims_cifar: Run) -> None:
    lent = f"loop.start={sims_cifar.checkpoint(0)}"
    run = on_digits(recipe, output, "model.steps=2", *([lent] if recipe == "neon_cifar" else []))
    require_searched(run, 2 if recipe == "neon_cifar_flow" else 3)
    assert run.rows()[0]["items_seen"] == (0 if recipe == "neon_cifar" else STEPS * BATCH)


@pytest.mark.parametrize(
    ("recipe", "overrides", "evaluations"),
    [
        ("stability_cifar", ["model.tolerance=0.1"], None),
        pytest.param("stability_cifar_ddpm", ["model.steps=2"], 2, marks=pytest.mark.slow),
        pytest.param("stability_cifar_edm", ["model.steps=2"], 3, marks=pytest.mark.slow),
    ],
)
def test_stability_on_cifar_runs(recipe, overrides, evaluations, output: Path, sims_cifar: Run) -> None:
    lent = recipe == "stability_cifar_edm"
    run = on_digits(recipe, output, *overrides, *([f"loop.start={sims_cifar.checkpoint(0)}"] if lent else []))
    first, second = run.rows()
    assert (first["real_items"], first["synthetic_items"]) == (0 if lent else 60, 0)
    assert (second["real_items"], second["synthetic_items"]) == (60, 60)
    assert second["items_seen"] - first["items_seen"] == STEPS * BATCH
    assert "improvement/omega" not in second
    assert second["nfe"] == evaluations if evaluations else second["nfe"] > 2


@pytest.mark.parametrize("recipe", LARGE)
def test_an_auxiliary_has_its_share_of_the_base_s_images(recipe: str) -> None:
    content = config.load(recipe)
    own, improvement = content["loop"]["first"]["steps"] * content["batch_size"], content["loop"]["improvement"]
    assert improvement["steps"] * improvement["batch_size"] / own == pytest.approx(LARGE[recipe], rel=0.001)


@pytest.mark.parametrize("recipe", ["stability_cifar", "stability_cifar_ddpm", "stability_cifar_edm"])
def test_a_retraining_sees_a_million_images(recipe: str) -> None:
    content = config.load(recipe)
    assert content["loop"]["later"]["steps"] == 10**6 // content["batch_size"]
    assert content["loop"]["generations"] == 20
