"""What torchcfm's train_cifar10.py saves, made with a small network, and models of ours that it may be for."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchcfm.models.unet.unet import UNetModelWrapper

from sc_loops import FlowMatching, RealData, Samples, UNet
from sc_loops.errors import UsageError
from sc_loops.models.starts import Start, read_start

# torchcfm's CIFAR-10 network in both spellings, and a small one.
CIFAR = {
    "dim": (3, 32, 32),
    "num_res_blocks": 2,
    "channel_mult": [1, 2, 2, 2],
    "num_heads": 4,
    "num_head_channels": 64,
    "attention_resolutions": "16",
    "dropout": 0.1,
}
SMALL = {
    "dim": (3, 8, 8),
    "num_channels": 32,
    "num_res_blocks": 1,
    "channel_mult": [1, 2],
    "num_heads": 2,
    "num_head_channels": 16,
    "attention_resolutions": "4",
}
SMALL_UNET: dict[str, Any] = {
    "channels": 32,
    "residual_blocks": 1,
    "channel_multipliers": (1, 2),
    "attention_resolutions": (4,),
    "heads": 2,
    "head_channels": 16,
    "dropout": 0.0,
    "time_scale": 1.0,
}


def images(*shape: int, classes: int = 10) -> RealData:
    samples = Samples(torch.zeros(4, *shape), torch.zeros(4, dtype=torch.int64))
    return RealData(samples, samples, "images", tuple("abcdefghijkl"[:classes]))


def flow(shape: tuple[int, ...] = (3, 8, 8), classes: int = 10, **options: Any) -> FlowMatching:
    data = images(*shape, classes=classes)
    return FlowMatching(data, network=UNet(data, **{**SMALL_UNET, **options}), ema_decay=0.9)


def scrambled(network: nn.Module, seed: int = 0) -> nn.Module:
    """With no layer at 0, where nothing could be seen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network


def begin(model: Any, start: Start) -> Any:
    model.load_state_dict(start.weights)
    model._average.load_state_dict(start.average)
    return model


def step(network: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    """One step of flow matching on noise that ``number`` determines."""
    generator = torch.Generator().manual_seed(number)
    t, x, u = torch.rand(4, generator=generator), *torch.randn(2, 4, 3, 8, 8, generator=generator)
    optimizer.zero_grad()
    (network(t, x) - u).square().mean().backward()
    optimizer.step()


@cache
def trained() -> tuple[nn.Module, nn.Module, torch.optim.Optimizer, Any]:
    """Network, average, optimizer and schedule of torchcfm's train_cifar10.py after three steps."""
    network = scrambled(UNetModelWrapper(**SMALL))
    means = copy.deepcopy(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_lambda=lambda step: (step + 1) / 5)
    for number in range(3):
        step(network, optimizer, number)
        schedule.step()
        with torch.no_grad():
            for mean, weight in zip(means.parameters(), network.parameters(), strict=True):
                mean.lerp_(weight, 0.1)
    return network, means, optimizer, schedule


def published(parallel: bool = False) -> dict[str, Any]:
    """What that script saves."""
    network, means, optimizer, schedule = trained()
    return copy.deepcopy(
        {
            "net_model": (nn.DataParallel(network) if parallel else network).state_dict(),
            "ema_model": (nn.DataParallel(means) if parallel else means).state_dict(),
            "sched": schedule.state_dict(),
            "optim": optimizer.state_dict(),
            "step": 400000,
        }
    )


def saved(content: dict[str, Any], path: Path) -> Path:
    torch.save(content, path)
    return path


def refused(model: Any, path: Path) -> UsageError:
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(UsageError) as caught:
        read_start(model, path)
    assert caught.value.where == str(path)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not model._average.shadow
    return caught.value
