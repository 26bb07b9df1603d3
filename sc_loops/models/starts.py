"""``read_start``: trained weights from a file, to begin the loop with. Nothing in the file is executed.

Three layouts are known:

* torchcfm's, ``otcfm_cifar10_weights_step_400000.pt`` and whatever its example scripts write: ``net_model`` and
  ``ema_model`` are state dicts of its ``UNetModelWrapper``, ``optim`` is that of Adam, ``step`` counts the steps.
* a checkpoint of ours, written by Lightning.
* a plain state dict of the model, of its network or of torchcfm's UNet in it, ``.pt`` or ``.safetensors``.

What no layout tells is left to the user: whether the weights predict a velocity or noise, and the UNet's heads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from sc_loops.data.files import checksum, read_tensors
from sc_loops.errors import UsageError
from sc_loops.models.start_fit import UNET, Misfit, check_fit, check_time, listed

if TYPE_CHECKING:
    from sc_loops.models.base import GenerativeModel

# What the names in a file may lack to be the model's.
PREFIXES = ("", "network.", UNET)

# Updates of an average that is not counted: so many that its warm-up is over.
LONG = 10**6


@dataclass(frozen=True)
class Start:
    """What a model begins with, in the model's own names and order.

    Attributes:
        weights: a whole state dict of the model.
        average: a state of ``WeightAverage``.
        moments: for every trainable parameter Adam's ``step``, ``exp_avg`` and ``exp_avg_sq``, or nothing if it was
            never trained; None where the file has none that fit.
    """

    weights: dict[str, Tensor]
    average: dict[str, Any]
    moments: list[dict[str, Tensor]] | None

    def restore(self, optimizer: torch.optim.Optimizer) -> bool:
        """Give Adam its moments, if there are any, and return whether there are.

        Args:
            optimizer: over the model's trainable parameters in their order. Learning rate and all other options
                remain its own.
        """
        if self.moments is None or not isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW)):
            return False
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        state = {
            number: {key: value.clone() if key == "step" else _like(p, value) for key, value in moments.items()}
            for number, (p, moments) in enumerate(zip(parameters, self.moments, strict=True))
            if moments
        }
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        return True


def read_start(model: GenerativeModel, path: Path) -> Start:
    """What the file ``path`` holds for ``model``, which stays as it is.

    The average of torchcfm's layout has as many updates as steps. A plain state dict has none: its average starts
    anew from the weights.

    Raises:
        UsageError: the file is missing, damaged, of no known layout, of another network, or asks for code to be run.
    """
    try:
        return _start(model, _understood(_loaded(path)))
    except Misfit as misfit:
        ours = f"a checkpoint of a {type(model).__name__} with this config's network"
        raise UsageError(
            str(path),
            found=misfit.found,
            expected=misfit.expected or f"{ours}, or torchcfm's or a state dict of that network",
            do=misfit.do
            or "give as loop.start a generation-*.ckpt of such a run, or an *_weights_step_*.pt of torchcfm",
        ) from misfit


class _Content(NamedTuple):
    """What a file holds, in its own names. ``average`` is in the order of the trainable parameters, or by name."""

    weights: dict[str, Tensor]
    average: list[Tensor] | dict[str, Tensor]
    updates: int
    optimizer: Any = None
    from_torchcfm: bool = False


def _loaded(path: Path) -> Any:
    """The content of the file, which is data alone."""
    if path.is_dir():  # "." has no name
        raise Misfit("a directory, which cannot be read as weights")
    sidecar = path.with_name(f"{path.name}.sha256")
    try:
        if sidecar.exists() and sidecar.read_text().split()[:1] != [checksum(path)]:
            raise Misfit("a file that is not what its checksum says")
        if path.suffix == ".safetensors":
            return read_tensors(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Misfit:
        raise
    except FileNotFoundError as error:
        raise Misfit("no such file") from error
    except Exception as error:
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code:
            do = "if you trust it, load it in a program of your own and save the state dict with torch.save"
            raise Misfit(f"a file that asks for {code[1]} to be run, which was not done", do=do) from error
        found = f"a file that cannot be read ({type(error).__name__}): damaged, cut short or of another kind"
        raise Misfit(found) from error


def _understood(content: Any) -> _Content:
    """Tell the layouts apart."""
    keys = set(content) if isinstance(content, dict) else set()
    if {"net_model", "ema_model"} <= keys:
        weights, means = _tensors(content["net_model"]), _tensors(content["ema_model"])
        if weights and means.keys() == weights.keys():
            return _Content(weights, means, _count(content.get("step")), content.get("optim"), from_torchcfm=True)
    elif {"state_dict", "ema"} <= keys:
        weights, ema = _tensors(content["state_dict"]), content["ema"]
        shadow = ema.get("shadow") if isinstance(ema, dict) else None
        if weights and isinstance(shadow, list) and all(isinstance(tensor, Tensor) for tensor in shadow):
            optimizers = content.get("optimizer_states") or [None]
            return _Content(weights, shadow, _count(ema.get("updates")), optimizers[0])
    else:
        weights = _tensors(content.get("state_dict", content)) if keys else {}
        if weights:
            return _Content(weights, weights, updates=0)
    held = f"the keys {listed(content, 6)}" if keys else f"a {type(content).__name__}"
    raise Misfit(f"{held}: no weights in a layout that is known")


def _tensors(content: Any) -> dict[str, Tensor]:
    """A state dict, without the ``module.`` that torch's DataParallel and DDP put in front; empty if it is none."""
    if not isinstance(content, dict) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        return {}
    parallel = all(str(name).startswith("module.") for name in content)
    return {str(name).removeprefix("module." if parallel else ""): tensor for name, tensor in content.items()}


def _count(updates: Any) -> int:
    return updates if isinstance(updates, int) else LONG


def _start(model: GenerativeModel, content: _Content) -> Start:
    """Put the content into the model's names and order."""
    own = model.state_dict()
    prefix = max(PREFIXES, key=lambda prefix: sum(prefix + name in own for name in content.weights))
    weights = {prefix + name: tensor for name, tensor in content.weights.items()}
    check_fit(model, weights, prefix)
    if content.from_torchcfm:
        check_time(model)
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    average = content.average
    if isinstance(average, dict):
        average = [average[name.removeprefix(prefix)] for name in trainable]
    if [a.shape for a in average] != [p.shape for p in trainable.values()]:
        raise Misfit("an averaged network that is not the one that was trained")
    if not all(bool(tensor.isfinite().all()) for tensor in [*weights.values(), *average]):
        raise Misfit("weights that are NaN or infinite")
    shadow = [_like(p, a) for p, a in zip(trainable.values(), average, strict=True)]
    order = [name for name in weights if name in trainable]
    return Start(
        weights={**own, **weights},
        average={"updates": content.updates, "shadow": shadow},
        moments=_moments(content.optimizer, order, trainable),
    )


def _moments(
    optimizer: Any, order: Sequence[str], trainable: Mapping[str, nn.Parameter]
) -> list[dict[str, Tensor]] | None:
    """The state of Adam by parameter, as ``trainable`` has them; None where it is not Adam's or not of these.

    Args:
        optimizer: a state dict of it.
        order: the names of the parameters as it counts them.
    """
    try:
        numbers = [number for group in optimizer["param_groups"] for number in group["params"]]
        states = {name: optimizer["state"].get(number, {}) for name, number in zip(order, numbers, strict=True)}
        moments = [_moments_of(states[name], p) if states[name] else {} for name, p in trainable.items()]
    except (LookupError, TypeError, ValueError, AttributeError):  # of another kind, which is no harm
        return None
    return moments if any(moments) else None


def _moments_of(state: Mapping[str, Any], parameter: nn.Parameter) -> dict[str, Tensor]:
    if not state["exp_avg"].shape == state["exp_avg_sq"].shape == parameter.shape:
        raise ValueError("the state of another parameter")
    return {
        "step": torch.as_tensor(state["step"], dtype=torch.float32),  # a plain number before torch 1.12
        "exp_avg": state["exp_avg"],
        "exp_avg_sq": state["exp_avg_sq"],
    }


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """A copy of ``value`` on the device and with the type and strides of ``parameter``. Fused kernels go through both
    in the order of memory, which for channels_last weights is not that of the file."""
    return torch.empty_like(parameter, requires_grad=False).copy_(value)
