"""Whether weights from a file are those of a model, and if not, why, in the words of the config."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from sc_loops.networks.unet_shapes import shape_options

if TYPE_CHECKING:
    from sc_loops.models.base import GenerativeModel
    from sc_loops.networks.unet import UNet

UNET = "network.unet."  # where torchcfm's UNet is in a model

# Where networks embed classes: one row for each, and the last for the null class.
EMBEDDINGS = (f"{UNET}label_emb.weight", "network.classes.weight")


# Where the config describes what has weights; a model without a network takes its size from the data.
_SECTIONS = {"network": "model.network", "model": "model, or data,"}


class Misfit(Exception):
    """A file is not what is wanted. Of ``expected`` and ``do``, an empty one leaves it to the general words."""

    def __init__(self, found: str, expected: str = "", do: str = "") -> None:
        self.found, self.expected, self.do = found, expected, do
        super().__init__(found)


def check_fit(model: GenerativeModel, weights: Mapping[str, Tensor], prefix: str) -> None:
    """Require that ``weights``, named as in the state dict of ``model``, have its names and shapes, but for how many
    rows there are of what grows with the items. What is not under ``prefix`` may be missing, unless it is learnt.

    Raises:
        Misfit: they are of another network, or of other classes.
    """
    own = model.state_dict()
    what = "network" if hasattr(model, "network") else "model"
    if not weights.keys() & own.keys():
        raise Misfit(
            f"weights named {listed(weights, 3)}, none of which this model has",
            do=f"this model's are named {listed(own, 3)}: set {_SECTIONS[what]} to the {what} of the file",
        )
    unet = _unet(model)
    if unet is not None:
        _check_unet(unet, {name.removeprefix(UNET): w for name, w in weights.items() if name.startswith(UNET)})
    _check_classes(own, weights)
    learnt = {name for name, _ in model.named_parameters()}
    differences = [
        *(
            f"{name} is {list(weights[name].shape)} in the file, {list(tensor.shape)} in this config"
            for name, tensor in own.items()
            if name in weights and not _alike(weights[name], tensor, grows=name in model.growing)
        ),
        *(
            f"{name} is not in the file"
            for name in own
            if name not in weights and (name.startswith(prefix) or name in learnt)
        ),
        *(f"{name} is not in this model" for name in weights if name not in own),
    ]
    if differences:
        raise Misfit(
            f"weights of another {what}: {listed(differences, 3, '; ')}",
            do=f"set {_SECTIONS[what]} to what it was when the weights were trained",
        )


def check_time(model: GenerativeModel) -> None:
    """Require that the UNet sees t in [0, 1] as torchcfm's scripts give it. Weights do not show it; samples would.

    Raises:
        Misfit: it multiplies the time.
    """
    unet = _unet(model)
    if unet is not None and unet.time_scale != 1:
        raise Misfit(
            f"weights of torchcfm's, and time_scale {unet.time_scale:g} in this config",
            "time_scale 1, with which torchcfm trains",
            "set model.network.time_scale=1",
        )


def listed(words: Iterable[object], most: int, separator: str = ", ") -> str:
    """The first ``most`` of ``words``, and how many more there are."""
    all_words = [str(word) for word in words]
    more = [f"and {len(all_words) - most} more"] if len(all_words) > most else []
    return separator.join([*all_words[:most], *more])


def _alike(weight: Tensor, own: Tensor, *, grows: bool) -> bool:
    """Whether ``weight`` has the shape of ``own``; where it ``grows`` with the items, of any number of them."""
    return weight.shape == own.shape or (grows and weight.shape[1:] == own.shape[1:] and weight.numel() > 0)


def _check_unet(unet: UNet, weights: Mapping[str, Tensor]) -> None:
    """A UNet that differs by options is told by these; its weights have hundreds of shapes."""
    size, inputs = unet.unet.image_size, unet.unet.in_channels
    own, theirs = shape_options(unet.unet.state_dict(), size), shape_options(weights, size)
    differing = [option for option in theirs if theirs[option] != own[option]]
    if differing:
        settings = " ".join(f"model.network.{option}={_plain(theirs[option])}" for option in differing)
        raise Misfit(
            f"a UNet with {', '.join(f'{option} {_plain(theirs[option])}' for option in differing)}",
            f"{', '.join(f'{option} {_plain(own[option])}' for option in differing)}, as in this config",
            f"set {settings}, or give weights of a network like the config's",
        )
    stem = weights.get("input_blocks.0.0.weight")
    if stem is not None and stem.shape[1] != inputs:
        raise Misfit(
            f"a UNet for images of {stem.shape[1]} channels",
            f"one for {inputs}: the {unet.shape[0]} of the data, times patch_size²",
            "set model.network.patch_size as it was, or give weights that were trained on such images",
        )


def _check_classes(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    """Conditional on classes or not, and on how many."""
    for name in EMBEDDINGS:
        rows, needed = (len(w[name]) if name in w else 0 for w in (weights, own))
        if rows == needed:
            continue
        if not needed:
            raise Misfit(
                f"a class-conditional network, of {rows - 1} classes and the null class",
                "a network that is not, as in this config",
                "set model.network.class_conditional=true, or give weights that were trained without classes",
            )
        if not rows:
            raise Misfit(
                "a network that is not class-conditional",
                f"one of {needed - 1} classes, as in this config",
                "set model.network.class_conditional=false, or give weights that were trained with classes",
            )
        if rows == needed - 1:  # perhaps torchcfm's own: its class-conditional networks have no null class
            found = f"a network of {rows - 1} classes and the null class, or of {rows} without it"
        else:
            found = f"a network of {rows - 1} classes and the null class"
        raise Misfit(
            found,
            f"one of {needed - 1} classes, those of the data, and the null class",
            "give weights that were trained with these classes",
        )


def _unet(model: GenerativeModel) -> UNet | None:
    from sc_loops.networks.unet import UNet  # here, since torchcfm takes half a second to be imported

    return next((module for module in model.children() if isinstance(module, UNet)), None)


def _plain(option: object) -> str:
    """As one writes it on the command line."""
    return json.dumps(option, separators=(",", ":"))
