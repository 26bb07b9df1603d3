"""Training an image classifier: momentum, one cycle of the learning rate, crops and flips; it continues where it was
interrupted.

Everything random is drawn from generators seeded by the epoch, so the state of a training is its weights, its
momentum and the number of epochs done.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sc_loops.data.files import damage, read_metadata, read_tensors, write_tensors
from sc_loops.data.pixels import as_float
from sc_loops.data.real import RealData
from sc_loops.errors import UsageError
from sc_loops.networks.devices import work_device
from sc_loops.networks.network_classifier import labels_of
from sc_loops.randomness import generator_for, seed_for
from sc_loops.samples import Samples

MOMENTUM = 0.9
RISE = 0.2  # the part of the training in which the learning rate rises


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train; see ``VGG11`` for what the options mean."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    label_smoothing: float
    flips: bool
    shift: int


def train_on_images(network: nn.Module, data: RealData, recipe: Recipe, seed: int, name: str, state: Path) -> None:
    """Train ``network`` to classify ``data``, on the trainer's device, and say on the terminal how it goes.

    On CPU the same arguments give the same weights on the same machine with the same number of threads, interrupted
    or not; on a GPU up to the order of its sums.

    Args:
        network: maps ``(N, C, H, W)`` in [-1, 1] to logits.
        data: labelled images, float32 or uint8.
        recipe: how.
        seed: of the order of the images, their crops and flips, and dropout.
        name: what the network is called on the terminal.
        state: where to keep the state after each epoch. A training of which there is one continues from it.

    Raises:
        UsageError: the loss became NaN or infinite.
        RunError: the state cannot be written.
    """
    device = work_device()
    network.to(device)
    train, test = data.train.to(device), data.test.to(device)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.0, momentum=MOMENTUM, nesterov=True, weight_decay=recipe.weight_decay
    )
    done = _restore(network, optimizer, state)
    how = f"{device.type}, {'bfloat16' if _has_bfloat16(device) else 'float32'}"
    since = f", continued after epoch {done}" if done else ""
    line = f"training {name} on {data.name}: {recipe.epochs} epochs of {len(train)} images ({how}){since}"
    print(line, flush=True)
    began = monotonic()
    for epoch in range(done, recipe.epochs):
        loss = _train_one_epoch(network, optimizer, train, recipe, seed, epoch)
        if not loss < float("inf"):
            found = f"{recipe.learning_rate}, with which the loss became {loss} in epoch {epoch + 1}"
            raise UsageError("classifier.learning_rate", found=found, expected="a rate that converges", do="lower it")
        _keep(network, optimizer, epoch + 1, state)
        accuracy = _accuracy(network, test, recipe.batch_size)
        left = (monotonic() - began) / (epoch + 1 - done) * (recipe.epochs - epoch - 1)
        line = f"  epoch {epoch + 1}/{recipe.epochs}   loss {loss:.3f}   test accuracy {100 * accuracy:.2f} %"
        print(line + (f"   {left / 60:.1f} min left" if left else ""), flush=True)


def _train_one_epoch(
    network: nn.Module, optimizer: torch.optim.Optimizer, train: Samples, recipe: Recipe, seed: int, epoch: int
) -> float:
    """One pass over ``train``; the mean loss of its images."""
    device, n = train.x.device, len(train)
    generator = generator_for(seed, "classifier", epoch)
    order = torch.randperm(n, generator=generator).to(device)
    shifts = torch.randint(-recipe.shift, recipe.shift + 1, (n, 2), generator=generator).to(device)
    mirrored = _mirrored(n, seed, epoch).to(device) & recipe.flips
    batches = order.split(recipe.batch_size)
    total = torch.zeros((), device=device)
    network.train()
    with _own_randomness(device, seed_for(seed, "classifier", epoch)):
        for number, index in enumerate(batches):
            rate = one_cycle((epoch * len(batches) + number + 0.5) / (recipe.epochs * len(batches)))
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * rate
            x = as_float(moved(train.x, index, shifts[index], mirrored[index]))
            with _autocast(device):
                logits = network(x)
            loss = F.cross_entropy(logits.float(), labels_of(train)[index], label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(index)
    return float(total) / n


def one_cycle(progress: float) -> float:
    """The learning rate at ``progress`` in [0, 1] of the training, as a part of the highest: up and down again,
    linearly, to 0 at the end (Smith and Topin 2017)."""
    return min(progress / RISE, (1 - progress) / (1 - RISE))


def moved(x: Tensor, index: Tensor, shifts: Tensor, mirrored: Tensor) -> Tensor:
    """``(B, C, H, W)``: the images ``x[index]``, each moved and perhaps mirrored.

    Args:
        x: ``(N, C, H, W)`` of any type.
        index: ``(B,)``.
        shifts: ``(B, 2)`` pixels by which the window moves down and right; beyond an edge the image is reflected.
        mirrored: ``(B,)`` bool: left and right exchanged.
    """
    rows, columns = (_reflected(shifts[:, d], x.shape[2 + d]) for d in (0, 1))
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    channels = torch.arange(x.shape[1], device=x.device)[:, None, None]
    return x[index[:, None, None, None], channels, rows[:, None, :, None], columns[:, None, None, :]]


def _reflected(shift: Tensor, size: int) -> Tensor:
    """``(B, size)``: which pixels a row of ``size`` shows when its window moves by ``shift``, ``(B,)``, < size."""
    places = (torch.arange(size, device=shift.device) + shift[:, None]).abs()
    return size - 1 - (size - 1 - places).abs()


def _mirrored(n: int, seed: int, epoch: int) -> Tensor:
    """``(n,)`` bool: which images to mirror. A random half at first, then at every epoch the other ones, which in
    short trainings is better than a new half each time (Jordan 2024, "94% on CIFAR-10 in 3.29 seconds")."""
    first = torch.randint(0, 2, (n,), generator=generator_for(seed, "classifier mirrored"))
    return (first + epoch) % 2 == 1


@torch.no_grad()
def _accuracy(network: nn.Module, test: Samples, batch_size: int) -> float:
    """The accuracy on ``test``, in the precision of training: only to be looked at."""
    network.eval()
    with _autocast(test.x.device):
        right = [
            (network(as_float(x)).argmax(dim=1) == y).sum()
            for x, y in zip(test.x.split(batch_size), labels_of(test).split(batch_size), strict=True)
        ]
    return float(sum(right)) / len(test)


# Precision and randomness.


def _autocast(device: torch.device) -> torch.autocast:
    """bfloat16 where the device computes in it; there it is about twice as fast."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=_has_bfloat16(device))


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    known = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # emulated, it would be slower than float32
    return bool(known and known())


@contextmanager
def _own_randomness(device: torch.device, seed: int) -> Iterator[None]:
    """Have what draws from the global generators (dropout) draw from ``seed``, and leave them as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        yield


# The state on disk.


def _keep(network: nn.Module, optimizer: torch.optim.Optimizer, done: int, state: Path) -> None:
    parameters = dict(network.named_parameters())
    momentum = {f"momentum/{name}": optimizer.state[p]["momentum_buffer"] for name, p in parameters.items()}
    weights = {f"network/{name}": tensor for name, tensor in network.state_dict().items()}
    write_tensors(state, weights | momentum, epochs_done=str(done))


def _restore(network: nn.Module, optimizer: torch.optim.Optimizer, state: Path) -> int:
    """Continue from ``state`` if it is there and whole; the number of epochs done."""
    if damage(state):
        return 0
    network.load_state_dict(read_tensors(state, "network/"))
    momentum = read_tensors(state, "momentum/")
    for name, parameter in network.named_parameters():
        optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum[name])
    return int(read_metadata(state)["epochs_done"])
