"""One generation of the CIFAR-10 experiment in the plain style of published scripts, as the baseline.

Training is that of torchcfm's CIFAR-10 example: a ``DataLoader`` that opens one image file after another, torchcfm's
optimal-transport matcher inside the step (it draws pairs from the plan with replacement), Adam, clipped gradients and
an average of the weights by a loop over state dicts. Samples come from torchdiffeq's dopri5 at 1e-5 or torchdyn's
Euler with 100 steps, as in its ``compute_fid.py``, which draws a second set of samples for the distance. Between the
two lies the curation: a PNG file for each sample, K-choice as a Python loop over numpy. Nothing of sc_loops is used
here; the network, the reward and the features are handed in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import scipy.linalg
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchcfm.conditional_flow_matching import ExactOptimalTransportConditionalFlowMatcher
from torchdiffeq import odeint
from torchdyn.core import NeuralODE
from torchvision import transforms

Function = Callable[[Tensor], Tensor]
Transform = Callable[[Image.Image], Tensor]

TO_TENSOR = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)])


@dataclass(frozen=True)
class Setting:
    """Sizes of a generation: ``samples`` raw samples, of which one in ``choices`` is kept, after ``steps`` steps."""

    samples: int = 512
    choices: int = 2
    steps: int = 8
    batch_size: int = 64
    sampling_batch: int = 256
    learning_rate: float = 2e-4
    ema_decay: float = 0.9999
    gradient_norm: float = 1.0


@dataclass
class Record:
    """What a generation took.

    Attributes:
        cpu: processor seconds by phase.
        evaluations: of the network on one sample each, in sampling.
        trained: samples that went through the network forwards and backwards.
        images_decoded: image files and arrays that became tensors one by one.
        files_written: image files.
    """

    cpu: dict[str, float] = field(default_factory=dict)
    evaluations: int = 0
    trained: int = 0
    images_decoded: int = 0
    files_written: int = 0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = time.process_time()
        yield
        self.cpu[name] = self.cpu.get(name, 0.0) + time.process_time() - started


class ImageFiles(Dataset):
    """All PNG files of a folder, opened when they are wanted."""

    def __init__(self, folder: Path, transform: Transform = TO_TENSOR) -> None:
        self.paths, self.transform = sorted(folder.glob("*.png")), transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(Image.open(self.paths[index]).convert("RGB"))


class ImageArrays(Dataset):
    """Arrays ``(H, W, 3)`` uint8, which become images when they are wanted, as in torchvision's ``CIFAR10``."""

    def __init__(self, pixels: np.ndarray, transform: Transform = TO_TENSOR) -> None:
        self.pixels, self.transform = pixels, transform

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(Image.fromarray(self.pixels[index]))


class FieldOfTime(nn.Module):
    """A velocity with the signature that the solvers call, counting the samples that it is evaluated on."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.evaluations = network, 0

    def forward(self, t: Tensor, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        self.evaluations += len(x)
        return self.network(t.expand(len(x)), x)


def forever(loader: DataLoader) -> Iterator[Tensor]:
    while True:
        yield from loader


def ema(source: nn.Module, target: nn.Module, decay: float) -> None:
    new, averages = source.state_dict(), target.state_dict()
    for key in new:
        averages[key].data.copy_(averages[key].data * decay + new[key].data * (1 - decay))


def train(network: nn.Module, average: nn.Module, folder: Path, setting: Setting, record: Record) -> None:
    loader = DataLoader(ImageFiles(folder), batch_size=setting.batch_size, shuffle=True, drop_last=True)
    batches = forever(loader)
    optimizer = torch.optim.Adam(network.parameters(), lr=setting.learning_rate)
    matcher = ExactOptimalTransportConditionalFlowMatcher(sigma=0.0)
    network.train()
    for _ in range(setting.steps):
        optimizer.zero_grad()
        x1 = next(batches)
        t, xt, ut = matcher.sample_location_and_conditional_flow(torch.randn_like(x1), x1)
        loss = torch.mean((network(t, xt) - ut) ** 2)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), setting.gradient_norm)
        optimizer.step()
        ema(network, average, setting.ema_decay)
        record.trained += len(x1)
        record.images_decoded += len(x1)


@torch.no_grad()
def sample(
    network: nn.Module,
    shape: tuple[int, ...],
    setting: Setting,
    solver: Literal["dopri5", "euler"],
    record: Record,
) -> np.ndarray:
    """``(samples, H, W, 3)`` uint8."""
    velocity, made = FieldOfTime(network.eval()), []
    for start in range(0, setting.samples, setting.sampling_batch):
        x = torch.randn(min(setting.sampling_batch, setting.samples - start), *shape)
        if solver == "euler":
            trajectory = NeuralODE(velocity, solver="euler").trajectory(x, t_span=torch.linspace(0, 1, 101))
        else:
            trajectory = odeint(velocity, x, torch.linspace(0, 1, 2), rtol=1e-5, atol=1e-5, method="dopri5")
        made.append((trajectory[-1] * 127.5 + 128).clip(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy())
    record.evaluations += velocity.evaluations
    return np.concatenate(made)


def write(images: np.ndarray, folder: Path, record: Record) -> None:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:06d}.png")
    record.files_written += len(images)


def outputs(function: Function, images: Dataset, setting: Setting, record: Record) -> np.ndarray:
    """``function`` of all images, a batch at a time."""
    found = []
    for x in DataLoader(images, batch_size=setting.sampling_batch):
        found.append(function(x).numpy())
        record.images_decoded += len(x)
    return np.concatenate(found)


def curate(rewards: np.ndarray, choices: int) -> list[int]:
    """The positions of one of each ``choices`` samples, taken with probability softmax of the rewards."""
    kept = []
    for start in range(0, len(rewards) - choices + 1, choices):
        group = rewards[start : start + choices].astype(np.float64)
        weights = np.exp(group - group.max())
        kept.append(start + int(np.random.choice(choices, p=weights / weights.sum())))
    return kept


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Between Gaussians fitted to features ``(n, d)``, by scipy's matrix root."""
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root))


def generation(
    network: nn.Module,
    average: nn.Module,
    pool: Path,
    real: np.ndarray,
    reward: Function,
    features: Function,
    setting: Setting,
    solver: Literal["dopri5", "euler"],
    output: Path,
) -> tuple[Record, float]:
    """Train on the images in ``pool``, sample, curate and measure; leaves the kept images in ``output``.

    Args:
        network, average: hold the weights of the last generation, and those of this one afterwards.
        real: ``(n, H, W, 3)`` uint8, what the samples are compared with.

    Returns:
        What it took, and the Fréchet distance.
    """
    record = Record()
    with record.phase("training"):
        train(network, average, pool, setting, record)
        state = {"network": network.state_dict(), "average": average.state_dict()}
        torch.save(state, output / "weights.pt")
    shape = (3, *real.shape[1:3])
    with record.phase("sampling"):
        images = sample(average, shape, setting, solver, record)
    with record.phase("writing"):
        write(images, output / "raw", record)
    with record.phase("scoring"):
        rewards = outputs(reward, ImageFiles(output / "raw"), setting, record)
    with record.phase("curating"):
        kept = curate(rewards, setting.choices)
    with record.phase("writing"):
        write(images[kept], output / "kept", record)
    with record.phase("sampling again"):
        again = sample(average, shape, setting, solver, record)
    with record.phase("evaluating"):
        fake = outputs(features, ImageArrays(again), setting, record)
        distance = frechet_distance(fake, outputs(features, ImageArrays(real), setting, record))
    return record, distance
