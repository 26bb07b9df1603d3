"""The README's library example runs as it stands, in fewer steps."""

import re
from pathlib import Path

from sc_loops import Run

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
