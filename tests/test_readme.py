"""The README's library example runs as it stands, in fewer steps."""

import re
from pathlib import Path

import pytest
import torch

from sc_loops import Run, two_moons

README = Path(__file__).parent.parent / "README.md"


def test_the_library_example_runs(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    code = code.replace("steps=1000", "steps=20").replace("passes=10", "passes=1").replace("size=2000", "size=300")
    exec(compile(code, "README.md", "exec"), {})
    run = Run("runs/leftmost")
    made = {path: path.stat().st_mtime_ns for path in run.path.glob("*/**/*.*") if path.name != "last.ckpt"}
    exec(compile(code, "README.md", "exec"), {})  # finds itself finished
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert [row["generation"] for row in run.rows()] == [0, 1, 2, 3]
    assert run.rows()[1]["synthetic_items"] == 300
    assert run.report_path.exists()


def test_the_documented_model_and_reward_run(tmp_path, monkeypatch) -> None:
    """docs/extending.md: its modules, taken from the page, in one run of the command line."""
    from sc_loops.cli import train

    page = (README.parent / "docs" / "extending.md").read_text()
    for name, code in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", page, re.DOTALL):
        (tmp_path / name).write_text(code)
    (tmp_path / "own.yaml").write_text(
        "data: {name: two_moons, size: 300}\n"
        'reward: {name: "my_rewards:leftmost", scale: 2.0}\n'
        'model: {name: "my_models:Gaussian", learning_rate: 0.05}\n'
        "loop: {generations: 2, synthetic_ratio: 1, first: {steps: 20}, later: {passes: 1}, chunk_size: 200,\n"
        "  stages: [{name: k_choice, choices: 2}]}\n"
        "wandb: {mode: disabled}\n"
    )
    monkeypatch.chdir(tmp_path)
    assert train(["--config", "own.yaml"]) == 0
    rows = Run("runs/own").rows()
    assert [row["generation"] for row in rows] == [0, 1, 2]
    assert rows[2]["reward/mean"] > rows[0]["reward/mean"]


def test_the_documented_data_and_stage_run(tmp_path, monkeypatch) -> None:
    """docs/extending.md: the data set, the stage and the reward that asks for the classifier."""
    import numpy as np

    from sc_loops.cli import train

    page = (README.parent / "docs" / "extending.md").read_text()
    for name, code in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", page, re.DOTALL):
        (tmp_path / name).write_text(code)
    np.save(tmp_path / "measurements.npy", np.random.default_rng(0).normal(size=(400, 2)))
    (tmp_path / "own.yaml").write_text(
        'data: {name: "my_data:measurements", path: measurements.npy, held_out: 100}\n'
        'reward: {name: "my_rewards:leftmost"}\n'
        "model: {name: flow_matching, network: {name: mlp, width: 16}}\n"
        "loop: {generations: 1, synthetic_ratio: 1, first: {steps: 20}, later: {passes: 1}, chunk_size: 200,\n"
        '  stages: [{name: "my_stages:jitter", std: 0.02}, {name: k_choice, choices: 4}]}\n'
        "wandb: {mode: disabled}\n"
    )
    monkeypatch.chdir(tmp_path)
    assert train(["--config", "own.yaml"]) == 0
    assert Run("runs/own").rows()[1]["synthetic_items"] == 300


def test_the_documented_corrector_metric_and_improvement_run(tmp_path, monkeypatch) -> None:
    """docs/extending.md: with Neon's own code beside that of the page."""
    from sc_loops.cli import train

    page = (README.parent / "docs" / "extending.md").read_text()
    for name, code in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", page, re.DOTALL):
        (tmp_path / name).write_text(code)
    monkeypatch.chdir(tmp_path)
    for improvement in ("my_improvement:InWeights", "neon"):
        (tmp_path / f"{improvement[:4]}.yaml").write_text(
            "data: {name: two_moons, size: 300}\n"
            "model: {name: flow_matching, network: {name: mlp, width: 16}}\n"
            'evaluation: {metrics: [{name: "my_metrics:MeanNorm"}]}\n'
            "loop: {generations: 1, synthetic_ratio: 1, first: {steps: 20}, later: {passes: 1}, chunk_size: 200,\n"
            '  stages: [{name: correct, strength: 1.0, corrector: {name: "my_correctors:IntoTheUnitBall"}}],\n'
            f'  improvement: {{name: "{improvement}", samples: 200, steps: 10, omega: 1.0}}}}\n'
            "wandb: {mode: disabled}\n"
        )
        assert train(["--config", f"{improvement[:4]}.yaml"]) == 0
    ours, theirs = (Run(f"runs/{name}").rows()[1] for name in ("my_i", "neon"))
    assert 0.1 < ours["correction/pulled"] == pytest.approx(theirs["correction/pulled"], rel=1e-4)
    assert 0.5 < ours["mean_norm"] == pytest.approx(theirs["mean_norm"], rel=1e-4)
    pool = Run("runs/neon").pool(1).samples()
    picked = ~pool.columns["pulled"].isnan()
    assert 0.3 < picked.float().mean() < 0.7
    assert (pool.x[picked].norm(dim=1) <= 1 + 1e-5).all()


def test_the_documented_model_in_closed_form_runs(tmp_path, monkeypatch) -> None:
    from sc_loops.cli import train

    page = (README.parent / "docs" / "extending.md").read_text()
    (code,) = re.findall(r"```python\n# my_quantiles.py\n(.*?)```", page, re.DOTALL)
    (tmp_path / "my_quantiles.py").write_text(code)
    (tmp_path / "own.yaml").write_text(
        "data: {name: two_moons, size: 20000}\n"
        'model: {name: "my_quantiles:Quantiles"}\n'
        "loop: {generations: 1, synthetic_ratio: inf, first: {passes: 1}, later: {passes: 1}}\n"
        "trainer: {accelerator: cpu}\n"
        "wandb: {mode: disabled}\n"
    )
    monkeypatch.chdir(tmp_path)
    assert train(["--config", "own.yaml"]) == 0
    real, made = two_moons(size=20000).train.x, Run("runs/own").pool(1).samples().x
    levels = torch.tensor([0.1, 0.5, 0.9])
    torch.testing.assert_close(torch.quantile(made, levels, 0), torch.quantile(real, levels, 0), rtol=0, atol=0.1)
