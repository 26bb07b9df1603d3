"""Bad configs end with status 2 and a message that names the place, before anything is on disk: overrides and files
of the wrong shape, what is found late in the check, and components of the user's that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from good_configs import MOONS, assert_refused, mutated, run

from sc_loops.cli import train


@pytest.mark.parametrize(
    ("override", "place"),
    [
        (f"seed={'[' * 3000}", "seed"),
        (f"seed=1{'0' * 5000}", "seed"),
        (f"loop.synthetic_ratio=1{'0' * 400}", "loop.synthetic_ratio"),
        ("seed=!!python/object:os.system", "seed"),
        ("seed=${data.nothing}", "seed"),
        ("seed=${seed}", "seed"),
        ("loop.stages.1.choices=2", "loop.stages.1"),
        ("loop.stages.first.choices=2", "loop.stages.first"),
        ("data.name.x=1", "data.name"),
        (".=1", ""),
        ("data={name: two_moons, 1: 2}", "data.1"),
        ("model.betas.7=1", "model.betas.7"),
    ],
    ids=lambda v: v[:20],
)
def test_overrides_of_the_wrong_shape(tmp_path, capfd, override: str, place: str) -> None:
    status, message = run(tmp_path, MOONS, capfd, override)
    assert_refused(status, message, place)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: bad.yaml", "circle"),
        ("extends: [a, b]", "extends"),
        ("extends: absent", "extends"),
        ("seed: " + "[" * 3000, "not YAML"),
        ("seed: &a [*a]", "not YAML"),
        ("{[1]: 2}", "not YAML"),
        ("seed: 1\n\tname: x", "not YAML"),
        ("seed: 0\x00", "not YAML"),
        ("%YAML 3.0", "bad.yaml"),
    ],
)
def test_files_of_the_wrong_shape(tmp_path, capfd, text: str, message: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    status = train(["--config", str(tmp_path / "bad.yaml"), "--dry-run"])
    error = capfd.readouterr().err
    assert_refused(status, error, "")
    assert message in error


@pytest.mark.parametrize(
    ("override", "place", "found"),
    [
        ("data.noise=1e300", "data.train", "100 values that are NaN or infinite"),
        ("trainer.accelerator=tpu", "trainer", "torch_xla"),
        ("trainer={accelerator: cpu, devices: 3}", "batch_size", "a multiple of the 3 processes"),
        ("data=random:Random", "data.name", "Random"),
    ],
)
def test_what_is_found_late_in_the_check(tmp_path, capfd, override: str, place: str, found: str) -> None:
    status, message = run(tmp_path, MOONS, capfd, override)
    assert_refused(status, message, place)
    assert found in message


@pytest.mark.parametrize("output", ["bad.yaml", "bad.yaml/below"])
def test_an_output_that_is_a_file(tmp_path, capfd, monkeypatch, output: str) -> None:
    monkeypatch.chdir(tmp_path)
    status, message = run(tmp_path, MOONS, capfd, f"output={output}")
    assert_refused(status, message, "output")


@pytest.mark.parametrize("content", [None, b"text", {"state_dict": {}}])
def test_a_start_that_is_no_checkpoint(tmp_path, tmp_path_factory, capfd, content: object) -> None:
    checkpoint = tmp_path_factory.mktemp("checkpoints") / "start.ckpt"
    if isinstance(content, bytes):
        checkpoint.write_bytes(content)
    elif content is not None:
        torch.save(content, checkpoint)
    status, message = run(tmp_path, mutated(MOONS, "loop.start", str(checkpoint)), capfd)
    assert_refused(status, message, "")
    assert "loop.start" in message


USER_MODULE = """
from __future__ import annotations
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from somewhere import Something

def hidden(x, *, option: Something = None): return x[:, 0]
def unplain(x, *, options: dict = None): return x[:, 0]
def defaulted(x, *, device=object()): return x[:, 0]
def raising(x): raise IndexError("no such column")
def wrong_shape(x): return x
class Failing:
    def __init__(self, *, size: int = 1): raise OSError("no model file")
class Dividing:
    def __call__(self, x): return x[:, 0] / 0
"""


@pytest.fixture
def beside_own_rewards(tmp_path, monkeypatch) -> Path:
    """An empty directory; the user's module can be imported."""
    modules, empty = tmp_path / "modules", tmp_path / "empty"
    for folder in (modules, empty):
        folder.mkdir()
    (modules / "own_rewards.py").write_text(USER_MODULE)
    monkeypatch.syspath_prepend(str(modules))
    return empty


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ("hidden", "TYPE_CHECKING"),
        ({"name": "unplain", "options": {"a": 1}}, "reward.options"),
        ("raising", "no such column"),
        ("wrong_shape", "found:    shape (8, 2)"),
        ("Failing", "no model file"),
        ({"name": "Failing", "size": "big"}, "reward.size"),
        ("Dividing", "NaN or infinite"),
        ("Faling", "did you mean 'Failing'?"),
    ],
)
def test_components_of_the_user(beside_own_rewards, capfd, reward: Any, message: str) -> None:
    section = {"name": reward} if isinstance(reward, str) else reward
    section = {**section, "name": f"own_rewards:{section['name']}"}
    status, error = run(beside_own_rewards, {**MOONS, "reward": section}, capfd)
    assert_refused(status, error, "")
    assert message in error


def test_a_default_that_yaml_cannot_hold_stays_with_the_component(beside_own_rewards, capfd) -> None:
    config = {**MOONS, "reward": {"name": "own_rewards:defaulted"}}
    assert run(beside_own_rewards, config, capfd) == (0, "")
