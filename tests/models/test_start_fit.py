"""Weights of another network are refused, in the words of the config."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torchcfm_script import SMALL_UNET, flow, images, published, refused, saved

from sc_loops import FlowMatching, TimeMLP, UNet
from sc_loops.models.starts import read_start


@pytest.mark.parametrize(
    ("options", "found", "expected", "do"),
    [
        ({"channels": 64}, "channels 32", "channels 64", "model.network.channels=32"),
        (
            {"channel_multipliers": (1, 1, 2), "residual_blocks": 2},
            "residual_blocks 1, channel_multipliers [1,2]",
            "residual_blocks 2, channel_multipliers [1,1,2]",
            "model.network.residual_blocks=1 model.network.channel_multipliers=[1,2]",
        ),
        (
            {"attention_resolutions": (8, 4)},
            "attention_resolutions [4]",
            "attention_resolutions [8,4]",
            "model.network.attention_resolutions=[4]",
        ),
    ],
)
def test_another_unet_is_told_by_its_options(tmp_path, options, found: str, expected: str, do: str) -> None:
    error = refused(flow(**options), saved(published(), tmp_path / "start.pt"))
    assert error.found == f"a UNet with {found}"
    assert error.expected == f"{expected}, as in this config"
    assert error.do.startswith(f"set {do}, or")


@pytest.mark.parametrize(("shape", "patch_size", "inputs"), [((1, 8, 8), 1, 1), ((3, 16, 16), 2, 12)])
def test_images_of_other_channels(tmp_path, shape, patch_size: int, inputs: int) -> None:
    error = refused(flow(shape=shape, patch_size=patch_size), saved(published(), tmp_path / "start.pt"))
    assert error.found == "a UNet for images of 3 channels"
    assert error.expected.startswith(f"one for {inputs}: the {shape[0]} of the data")


@pytest.mark.parametrize("network", ["unet", "mlp"])
@pytest.mark.parametrize(
    ("theirs", "ours", "found", "expected"),
    [
        (7, 10, "a network of 7 classes and the null class", "one of 10 classes, those of the data"),
        (9, 10, "9 classes and the null class, or of 10 without it", "one of 10 classes, those of the data"),
        (7, None, "class-conditional network, of 7 classes", "a network that is not"),
        (None, 7, "a network that is not class-conditional", "one of 7 classes"),
    ],
)
def test_other_classes(
    tmp_path, network: str, theirs: int | None, ours: int | None, found: str, expected: str
) -> None:
    def model(classes: int | None) -> FlowMatching:
        data = images(3, 8, 8, classes=classes or 10)
        options: Any = SMALL_UNET if network == "unet" else {}
        kind = UNet if network == "unet" else TimeMLP
        return FlowMatching(data, network=kind(data, class_conditional=classes is not None, **options))

    torch.save(model(theirs).state_dict(), tmp_path / "start.pt")
    error = refused(model(ours), tmp_path / "start.pt")
    assert found in error.found
    assert expected in error.expected
    assert error.do


def test_another_kind_of_network(tmp_path) -> None:
    data = images(3, 8, 8)
    model = FlowMatching(data, network=TimeMLP(data))
    error = refused(model, saved(published(), tmp_path / "start.pt"))
    assert error.found.startswith("weights named time_embed.0.weight, ")
    assert "network.first.weight" in error.do


def test_another_network_is_told_by_three_of_its_tensors(tmp_path) -> None:
    data = images(3, 8, 8)
    torch.save(TimeMLP(data, width=8, depth=3).state_dict(), tmp_path / "start.pt")
    error = refused(FlowMatching(data, network=TimeMLP(data, width=9, depth=4)), tmp_path / "start.pt")
    assert error.found == (
        "weights of another network: network.first.weight is [8, 208] in the file, [9, 208] in this config; "
        "network.first.bias is [8] in the file, [9] in this config; "
        "network.rest.1.weight is [8, 8] in the file, [9, 9] in this config; and 7 more"
    )


def test_what_is_learnt_outside_the_network_may_not_be_missing(tmp_path) -> None:
    model = flow()
    torch.save(model.network.state_dict(), tmp_path / "start.pt")
    model.register_buffer("constant", torch.ones(2))
    assert torch.equal(read_start(model, tmp_path / "start.pt").weights["constant"], torch.ones(2))
    model.register_parameter("scale", nn.Parameter(torch.ones(2)))
    assert refused(model, tmp_path / "start.pt").found.endswith("scale is not in the file")


def test_torchcfms_weights_need_their_time(tmp_path) -> None:
    error = refused(flow(time_scale=1000.0), saved(published(), tmp_path / "start.pt"))
    assert "time_scale 1000" in error.found
    assert error.do == "set model.network.time_scale=1"
