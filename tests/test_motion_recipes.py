"""The recipes of human motion go through two tiny generations, on motions made in code in HumanML3D's layout."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from sc_loops import config
from sc_loops.cli import main, train
from sc_loops.motion.procedural import ACTIONS, procedural_clip
from sc_loops.motion.representation import encode
from sc_loops.run import Run

RECIPES = sorted(path.stem for path in config.RECIPES.glob("motion_*.yaml"))
LIKE_OTHERS = (  # but for a line or two
    *("motion_baseline", "motion_self_consuming", "motion_small_self_consuming", "motion_small_self_correction"),
)
SAMPLES, STEPS = 8, 3
TINY = [
    f"batch_size={SAMPLES}",
    "text={name: latent_semantic, width: 8}",
    "model.network={name: motion_transformer, width: 16, layers: 1, heads: 2, feedforward: 16}",
    "model.steps=3",
    "evaluation.samples=32",
    "loop.generations=1",
    f"loop.first={{steps: {STEPS}}}",
    f"loop.later={{steps: {STEPS}}}",
    f"loop.samples={SAMPLES}",
    f"loop.chunk_size={SAMPLES // 2}",
    "loop.preview=2",
    "trainer.accelerator=cpu",
    "wandb.mode=disabled",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighteen motions of all actions to train on, and nine that are held out."""
    root, generator = tmp_path_factory.mktemp("motions"), torch.Generator().manual_seed(0)
    for name in ("new_joint_vecs", "texts"):
        (root / name).mkdir()
    for part, rounds in (("train", 2), ("test", 1)):
        names = [f"{part}{number}" for number in range(rounds * len(ACTIONS))]
        (root / f"{part}.txt").write_text("\n".join(names))
        for number, name in enumerate(names):
            joints, captions, _ = procedural_clip(ACTIONS[number % len(ACTIONS)], generator, max_frames=48)
            np.save(root / "new_joint_vecs" / f"{name}.npy", encode(joints).float().numpy())
            lines = [f"{caption}#{caption}#0.0#0.0\n" for caption in captions]
            (root / "texts" / f"{name}.txt").write_text("".join(lines))
    (root / "index.csv").write_text(
        "source_path,start_frame,end_frame,new_name\n"
        + "".join(f"BMLmovi/x,0,-1,{part}{i}.npy\n" for part, n in (("train", 18), ("test", 9)) for i in range(n))
    )
    return root


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory for all, so that the evaluator is trained once for each data set."""
    return tmp_path_factory.mktemp("runs")


def run_of(recipe: str, folder: Path, output: Path) -> Run:
    overrides = [*TINY, f"output={output}", f"name={recipe}"]
    if config.load(recipe)["data"]["name"] == "humanml3d":
        overrides += [f"data.root={folder}", "data.train_size=16", "data.max_frames=48"]
        overrides += ["evaluation.metrics.0.epochs=1", "evaluation.metrics.0.trained_on.min_frames=40"]
    else:
        overrides += ["data.size=16", "data.test_size=9", "data.max_frames=48", "evaluation.metrics.0.epochs=1"]
        overrides += ["evaluation.metrics.0.trained_on.size=32"]
    assert train(["--config", recipe, *overrides]) == 0
    return Run(output / recipe)


@pytest.mark.parametrize(
    "recipe", [pytest.param(r, marks=[pytest.mark.slow] if r in LIKE_OTHERS else []) for r in RECIPES]
)
def test_the_recipe_runs(recipe: str, folder: Path, output: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content, run = config.load(recipe), run_of(recipe, folder, output)
    ratio, corrected = content["loop"]["synthetic_ratio"], bool(content["loop"].get("stages"))
    first, last = run.rows()
    assert (last["real_items"], last["synthetic_items"]) == (16, int(ratio * 16))
    assert last["items_seen"] == 2 * STEPS * SAMPLES
    assert first["nfe"] == 3 * (2 if content["model"].get("guidance_scale", 2.5) != 1 else 1)
    for key in ("frechet_distance/motion_text", "diversity/motion_text", "physical/error", "physical/jerk"):
        assert math.isfinite(last[key])
        assert last[f"{key}/real"] == first[f"{key}/real"]
    shares = [value for key, value in last.items() if key.startswith("correction/status/")]
    assert bool(shares) == corrected
    if corrected:
        assert math.isclose(sum(shares), 1)
        assert "status" in run.pool(1).samples().columns
    assert "data:image/gif" in run.report_path.read_text()
    assert "Traceback" not in capfd.readouterr().err


def test_a_generation_is_measured_again(folder: Path, output: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = run_of("motion_small_baseline", folder, output)
    assert main(["motion-evaluate", str(run.path), "--repeats", "2", "--captions", "3", "--motions", "2"]) == 0
    told = capfd.readouterr().out
    assert "physical/error" in told or "error" in told
    assert (run.path / "evaluation-1.json").exists()
