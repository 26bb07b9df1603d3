"""Rewards, models and stages of the user's own: found, and when they fail, a message and a status that say so."""

from __future__ import annotations

import sys

import pytest
from conftest import generations

from sc_loops.errors import UsageError
from sc_loops.run import Run


def test_a_reward_of_the_users_from_the_working_directory(here, tiny) -> None:
    (here / "my_rewards.py").write_text("def plain(x):\n    return -x[:, 1]\n")
    status, _, _ = tiny("reward.name=my_rewards:plain", "reward={name: my_rewards:plain}")
    assert status == 0
    (path,) = (here / "runs").iterdir()
    assert generations(path) == [0, 1]
    samples = Run(path).pool(1).samples()
    assert (samples.columns["reward"] == -samples.x[:, 1]).all()


@pytest.mark.parametrize(
    ("body", "message"),
    [("x", "shape (8, 2)"), ("x[:, 0] / 0 * 0", "NaN"), ("x[:, 7]", "IndexError"), ("1", "a int")],
)
@pytest.mark.parametrize("classifier", ["null", "{name: trained, epochs: 1}"])
def test_a_reward_that_fails_on_real_data(here, tiny, body: str, message: str, classifier: str) -> None:
    """Also where it can only be tried once the classifier is trained: before there is a run."""
    (here / "my_rewards.py").write_text(f"def plain(x):\n    return {body}\n")
    status, _, errors = tiny("reward={name: my_rewards:plain}", f"classifier={classifier}", "name=mine")
    assert status == 2
    where, found, *_ = errors.splitlines()  # what is expected names the shape too
    assert message in found
    assert "reward" in where
    assert not (here / "runs/mine").exists()


def test_a_reward_that_breaks_on_the_way_and_is_repaired(here, tiny) -> None:
    module = here / "my_rewards.py"
    module.write_text(
        "calls = 0\n"
        "def plain(x):\n"
        "    global calls\n"
        "    calls += len(x) > 8\n"
        "    return x[:, 0] * (float('nan') if calls > 3 else 1.0)\n"
    )
    arguments = ("reward={name: my_rewards:plain}", "name=mine")
    status, _, errors = tiny(*arguments)
    assert status == 1
    assert "the reward in generation 1, chunk 1" in errors
    assert "the same command continues" in errors
    assert "Traceback" not in errors
    assert generations("runs/mine") == [0]

    made = {path: path.stat().st_mtime_ns for path in (here / "runs/mine/pools").rglob("chunk-*")}
    assert len(made) == 3  # two of generation 0, one of generation 1
    module.write_text("def plain(x):\n    return x[:, 0] * 1.0\n")
    del sys.modules["my_rewards"]
    status, _, _ = tiny(*arguments)
    assert status == 0
    assert generations("runs/mine") == [0, 1]
    assert made.items() <= {p: p.stat().st_mtime_ns for p in (here / "runs/mine/pools").rglob("chunk-*")}.items()


MODELS = """
import torch
from sc_loops import FlowMatching, GenerativeModel, Network, RealData

class NaN(FlowMatching):
    def __init__(self, data: RealData, *, network: Network) -> None:
        super().__init__(data, network=network)

    def sample(self, generator, n, condition=None):
        return super().sample(generator, n, condition) * (float("nan") if n > 8 else 1.0)

class Raising(NaN):
    def on_train_start(self):
        raise ZeroDivisionError("in a hook")

class Interrupted(NaN):
    def loss(self, batch):
        raise KeyboardInterrupt
"""


def test_a_model_that_samples_nan(here, tiny) -> None:
    (here / "my_models.py").write_text(MODELS)
    status, _, errors = tiny("model.name=my_models:NaN", "model.steps=null", "--dry-run")
    assert (status, "unknown key 'steps'" in errors) == (2, True)
    model = "model={name: my_models:NaN, network: mlp}"
    status, _, errors = tiny(model, "name=mine")
    assert status == 1
    assert "the model's samples in generation 0" in errors
    assert "hold NaN or infinity" in errors
    assert Run("runs/mine").checkpoint(0).exists()


def test_a_stage_that_leaves_nothing(here, tiny) -> None:
    (here / "my_stages.py").write_text(
        "from sc_loops import Stage\n"
        "class none(Stage):\n"
        "    varies = True\n"
        "    def __call__(self, samples, generator):\n"
        "        return samples[:0]\n"
    )
    status, _, errors = tiny("loop.stages=[my_stages:none]", "name=mixed")
    assert status == 1
    assert "error: runs/mixed/pools/0000\n  found:    no samples" in errors
    assert tiny("loop.stages=[my_stages:none]", "name=real", "loop.synthetic_ratio=0")[0] == 0


def test_an_error_that_nobody_foresaw(here, tiny) -> None:
    (here / "my_models.py").write_text(MODELS)
    arguments = ("model={name: my_models:Raising, network: mlp}", "name=mine")
    status, _, errors = tiny(*arguments)
    assert status == 1
    assert "ZeroDivisionError: in a hook" in errors
    assert "--debug" in errors
    assert "Traceback" not in errors
    with pytest.raises(ZeroDivisionError):
        tiny(*arguments, "--debug")


def test_debug_raises_complaints_too(tiny) -> None:
    with pytest.raises(UsageError, match=r"loop\.generations"):
        tiny("loop.generations=-1", "--debug")


def test_ctrl_c_inside_a_step_ends_with_130(here, tiny) -> None:
    (here / "my_models.py").write_text(MODELS)
    status, _, errors = tiny("model={name: my_models:Interrupted, network: mlp}")
    assert status == 130
    assert errors.strip().splitlines()[-1].startswith("interrupted. The same command continues")
    assert "Traceback" not in errors
