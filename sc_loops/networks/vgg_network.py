"""VGG11 with batch normalisation, in the layout in which its weights are published, and files of such weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sc_loops.data.files import read_tensors
from sc_loops.errors import UsageError
from sc_loops.networks.network_classifier import ClassifierNetwork

# Configuration A of Simonyan and Zisserman 2015, table 1: channels of a convolution, or a pooling that halves.
LAYERS: tuple[int | None, ...] = (64, None, 128, None, 256, 256, None, 512, 512, None, 512, 512, None)
CHANNELS = 512  # after the last of them


class VGG11Network(ClassifierNetwork):
    """Images ``(N, 3, H, W)`` in [-1, 1] to logits ``(N, classes)``. State dicts have the names of torchvision's
    ``vgg11_bn``: ``features.N`` for the convolutions, ``classifier.0``, ``.3`` and ``.6`` for the head.

    Args:
        classes: the number of classes.
        hidden: units of the head's two hidden layers.
        side: the convolutions' output is averaged to ``side * side`` places: 1 for images of 32 pixels, 7 in the
            ImageNet layout.
        dropout: probability, in training, after each hidden layer.
        mean, std: of the channels of images in [0, 1]; what the convolutions see is normalised by them.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        classes: int,
        *,
        hidden: tuple[int, int] = (512, 512),
        side: int = 1,
        dropout: float = 0.5,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(*_convolutions())
        self.pool = nn.AdaptiveAvgPool2d(side)
        self.classifier = nn.Sequential(
            nn.Linear(CHANNELS * side**2, hidden[0]),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden[0], hidden[1]),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden[1], classes),
        )
        # Not persistent: published state dicts have no such entries.
        self.register_buffer("mean", torch.tensor(mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(1, 3, 1, 1), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        self.to(memory_format=torch.channels_last)

    def body(self, x: Tensor) -> Tensor:
        normalised = ((x + 1) / 2 - self.mean) / self.std
        places = self.features(normalised.contiguous(memory_format=torch.channels_last))
        return self.classifier[:-1](self.pool(places).flatten(1))

    def head(self, features: Tensor) -> Tensor:
        return self.classifier[-1](features)


def _convolutions() -> list[nn.Module]:
    modules: list[nn.Module] = []
    channels = 3
    for wider in LAYERS:
        if wider is None:
            modules.append(nn.MaxPool2d(2))
        else:
            modules += [nn.Conv2d(channels, wider, 3, padding=1), nn.BatchNorm2d(wider), nn.ReLU(inplace=True)]
            channels = wider
    return modules


# Files.


def load_vgg11(path: Path, classes: int, data_name: str, mean: Sequence[float], std: Sequence[float]) -> VGG11Network:
    """The network whose weights ``path`` holds; the size of its head is that of the file's.

    A ``.safetensors`` file, or what ``torch.save`` wrote of a state dict: bare, under ``state_dict``, or with a
    prefix such as ``module.`` before its names. Code in the file is not run.

    Raises:
        UsageError: the file is damaged, of another architecture or of another number of classes.
    """
    state = _plain_state(path)
    inputs, hidden = _shape(state, "classifier.0.weight", 1), _shape(state, "classifier.0.weight", 0)
    found = _shape(state, "classifier.6.weight", 0)
    side = math.isqrt(inputs // CHANNELS)
    if min(side, hidden, found) < 1 or side > 64:  # no head of this kind: let the comparison say what differs
        side, hidden, found = 1, 512, classes
    sizes = (hidden, max(1, _shape(state, "classifier.3.weight", 0)))

    def network() -> VGG11Network:
        return VGG11Network(found, hidden=sizes, side=side, mean=mean, std=std)

    with torch.device("meta"):  # names and shapes only
        differences = _differences(network().state_dict(), state)
    if differences:
        raise _complaint(path, f"weights of another architecture: {differences}")
    if found != classes:
        expected = f"weights for the {classes} classes of {data_name}"
        do = "give weights that were trained on these data, or leave 'weights' out to train them here"
        raise UsageError("classifier.weights", found=f"{path}: {found} classes", expected=expected, do=do)
    if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
        raise _complaint(path, "weights that are NaN or infinite")
    with torch.random.fork_rng(devices=[]):  # for the initial weights, which are replaced
        loaded = network()
    loaded.load_state_dict(state)
    return loaded


def _plain_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by the names they have in the public layout."""
    try:
        safe = path.suffix == ".safetensors"
        found: Any = read_tensors(path) if safe else torch.load(path, "cpu", weights_only=True)
    except Exception as problem:
        reason = " ".join(str(problem).split())[:200]
        raise _complaint(path, f"a damaged file, or none of this kind ({reason})") from problem
    found = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(found, dict):
        raise _complaint(path, f"a {type(found).__name__}")
    tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    first = "features.0.weight"
    prefix = next((name.removesuffix(first) for name in tensors if name.endswith(first)), "")
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _shape(state: dict[str, Tensor], name: str, dimension: int) -> int:
    """The size of a matrix in ``state``, or 0 where it is not there."""
    return state[name].shape[dimension] if name in state and state[name].ndim == 2 else 0


def _differences(expected: dict[str, Tensor], found: dict[str, Tensor]) -> str:
    """How the names and shapes of ``found`` differ from ``expected``, in words; empty where they do not."""
    counters = {name for name in expected if name.endswith("num_batches_tracked")}  # old files have none
    shared = [name for name in expected if name in found]
    lists = {
        "without": [name for name in expected if name not in found and name not in counters],
        "with": [name for name in found if name not in expected],
        "of other shapes": [
            f"{name} {tuple(found[name].shape)} for {tuple(expected[name].shape)}"
            for name in shared
            if found[name].shape != expected[name].shape
        ],
    }
    return "; ".join(f"{word} {_few(names)}" for word, names in lists.items() if names)


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _complaint(path: Path, found: str) -> UsageError:
    expected = "a state dict of VGG11 with batch normalisation, .pt, .pth or .safetensors, named as torchvision's"
    do = "leave 'weights' out to train it here"
    return UsageError("classifier.weights", found=f"{path}: {found}", expected=expected, do=do)
