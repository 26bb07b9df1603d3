"""Image configs with something wrong: the message, status 2, and that no work was done before."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torchcfm.models.unet.unet import UNetModelWrapper

from sc_loops.cli import train
from sc_loops.evaluation import inception_features
from sc_loops.networks.classifiers import TrainedClassifier
from sc_loops.run_choice import significant

CONFIG = """
data: {name: image_archive, path: pictures.npz}
batch_size: 4
classifier: {name: trained, architecture: convnet, width: 8, epochs: 1}
model:
  name: flow_matching
  network:
    name: unet
    channels: 32
    residual_blocks: 1
    channel_multipliers: [2]
    attention_resolutions: []
    head_channels: 32
loop: {generations: 1, synthetic_ratio: 0.5, first: {steps: 1}, later: {steps: 1}}
trainer: {accelerator: cpu}
wandb: {mode: disabled}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch) -> Path:
    """A folder with a config and its images, 8 x 8 in two classes, in which nothing may be trained."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savez("pictures.npz", x=rng.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8), y=np.arange(40) % 2)
    Path("pictures.yaml").write_text(CONFIG)

    def forbidden(*_: object) -> None:
        raise AssertionError("work was done before the input was checked")

    monkeypatch.setattr(TrainedClassifier, "_train", forbidden)
    return tmp_path


def refused(capfd, *overrides: str) -> str:
    """What is said about the config with ``overrides``, which is not run."""
    assert train(["--config", "pictures.yaml", *overrides]) == 2
    message = capfd.readouterr().err
    assert "Traceback" not in message
    assert not Path("runs/pictures/metrics.jsonl").exists()
    return message


def test_inception_without_a_file_and_without_a_network(here: Path, monkeypatch, capfd) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(here))
    monkeypatch.setattr(inception_features, "urlopen", unreachable)
    message = refused(capfd, "evaluation.metrics=[{name: inception}]")
    for part in ("evaluation.metrics.0.weights", "no route to host", "evaluation.metrics=[]", "its path given here"):
        assert part in message


def test_inception_weights_that_are_something_else(here: Path, capfd) -> None:
    torch.save({"conv.weight": torch.zeros(3)}, "other.pth")
    message = refused(capfd, "evaluation.metrics=[{name: inception, weights: other.pth}]")
    assert "evaluation.metrics.0.weights" in message
    assert "other.pth" in message


def test_a_start_of_another_architecture(here: Path, capfd) -> None:
    options = {"num_channels": 64, "num_res_blocks": 1, "channel_mult": [2], "attention_resolutions": "2"}
    weights = UNetModelWrapper(dim=(3, 8, 8), num_head_channels=32, **options).state_dict()
    torch.save({"net_model": weights, "ema_model": weights, "step": 3}, "start.pt")
    message = refused(capfd, "loop.start=start.pt", "model.network.time_scale=1")
    assert "start.pt" in message
    for part in ("channels 64", "channels 32", "model.network.channels=64"):
        assert part in message


def test_a_damaged_archive(here: Path, capfd) -> None:
    content = Path("pictures.npz").read_bytes()
    Path("pictures.npz").write_bytes(content[: len(content) // 2])
    message = refused(capfd)
    assert "data.path" in message
    assert "pictures.npz" in message


def test_a_folder_of_mixed_sizes_and_one_with_something_else_in_it(here: Path, capfd) -> None:
    for kind, side in (("cats", 8), ("dogs", 9)):
        Path("folder", kind).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (side, side)).save(Path("folder", kind, f"{number}.png"))
    folder = ("data={name: image_folder, root: folder}",)
    message = refused(capfd, *folder)
    assert "data.root" in message
    assert "data.size" in message
    Path("folder", "cats", "notes.txt").write_text("not an image")
    assert "notes.txt" in refused(capfd, *folder)


def test_another_folder_is_another_run_and_cifar_elsewhere_is_not() -> None:
    for data, more, free in (("image_folder", {}, False), ("cifar10", {"download": True}, True)):
        here, there = ({"data": {"name": data, "root": root, **more}} for root in "ab")
        assert (significant(here) == significant(there)) == free


def test_cifar_that_is_not_there(here: Path, capfd) -> None:
    message = refused(capfd, "data={name: cifar10, root: nowhere, download: false}")
    for part in ("data.root", "cifar-10-batches-py", "data_batch_1", "image_archive"):
        assert part in message
    assert not Path("nowhere").exists()
