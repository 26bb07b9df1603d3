"""The options of a UNet are those that it was made with."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sc_loops import RealData, Samples, UNet
from sc_loops.networks.unet_shapes import shape_options


@pytest.mark.parametrize(
    "options",
    [
        {"channels": 128, "residual_blocks": 2, "channel_multipliers": (1, 2, 2, 2), "attention_resolutions": (16,)},
        {"channels": 64, "residual_blocks": 1, "channel_multipliers": (1,), "attention_resolutions": ()},
        {"channels": 32, "residual_blocks": 3, "channel_multipliers": (2, 1, 4), "attention_resolutions": (32, 8)},
    ],
)
def test_options_are_read_off_the_shapes_of_a_unet(options: dict[str, Any]) -> None:
    samples = Samples(torch.zeros(2, 3, 32, 32))
    data = RealData(samples, samples, "images", ())
    with torch.device("meta"):
        weights = UNet(data, head_channels=32, **options).unet.state_dict()
    assert shape_options(weights, 32) == {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
    del weights["time_embed.0.weight"]
    assert shape_options(weights, 32) == {}
