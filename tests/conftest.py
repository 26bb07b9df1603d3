"""What several tests share: a tiny model, tiny data, a loop over them that takes a fraction of a second, and
train.py's command on a tiny config."""

from __future__ import annotations

import logging
import lzma
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from torch import Tensor, nn

os.environ.setdefault("WANDB_MODE", "offline")
torch.set_num_threads(1)
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", message=".*does not have many workers.*")

from sc_loops import (  # noqa: E402  (after the settings above)
    Curate,
    GenerativeModel,
    LoopDataModule,
    RealData,
    Run,
    Samples,
    SelfConsumingLoop,
    Training,
)
from sc_loops.cli import train  # noqa: E402


@pytest.fixture(autouse=True)
def _own_modules_are_forgotten() -> Iterator[None]:
    """Modules that a test wrote and imported (my_rewards.py, ...) are not those of the next test."""
    path = sys.path.copy()
    yield
    sys.path[:] = path
    for name in [name for name in sys.modules if name.startswith(("my_", "own_"))]:
        del sys.modules[name]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mount is not permitted here")
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.fixture(scope="session")
def cifar_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with CIFAR-10 as torchvision wants it, unpacked from the development data."""
    default = Path(__file__).resolve().parents[1] / "../shared/data"
    packed = Path(os.environ.get("SC_LOOPS_DATA", default)) / "cifar10" / "cifar-10-batches-py"
    if not packed.is_dir():
        pytest.skip(f"no CIFAR-10 in {packed}; SC_LOOPS_DATA says where it is")
    folder = tmp_path_factory.mktemp("cifar") / packed.name
    folder.mkdir()

    def unpack(file: Path) -> None:
        if file.suffix == ".xz":
            (folder / file.stem).write_bytes(lzma.decompress(file.read_bytes()))
        else:
            shutil.copy(file, folder)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(unpack, packed.iterdir()))
    return folder.parent


class TinyModel(GenerativeModel):
    """x = noise @ A + b, trained so that noise regresses to data: enough to see every part of the loop move."""

    def __init__(self, *, learning_rate: float = 1e-2, **options: Any) -> None:
        super().__init__(learning_rate=learning_rate, **options)
        self.network = nn.Linear(2, 2)
        self.samplings = 0

    def loss(self, batch: Samples) -> Tensor:
        return (self.network(torch.randn_like(batch.x)) - batch.x).square().mean()

    def sample(self, generator: torch.Generator, n: int, condition: Tensor | None = None) -> Tensor:
        self.samplings += 1
        noise = torch.randn(n, 2, generator=generator, device=self.device)
        return noise + self.network(noise)


def tiny_data(n: int = 60) -> RealData:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n + 50, 2, generator=generator) + 1
    labels = (x[:, 0] > 1).long()
    return RealData(Samples(x[:n], labels[:n]), Samples(x[n:], labels[n:]), "points", ("left", "right"), "tiny")


def first_coordinate(x: Tensor) -> Tensor:
    """A reward that tests can compute in their heads."""
    return x[:, 0]


def tiny_loop(path: Path, **options: Any) -> SelfConsumingLoop:
    chosen: dict[str, Any] = {
        "generations": 3,
        "synthetic_ratio": 1.0,
        "stages": [Curate(first_coordinate, choices=2)],
        "first": Training(steps=8),
        "later": Training(passes=1.5),
        "chunk_size": 50,
        "log_every": 3,
        "reward": first_coordinate,
        **options,
    }
    return SelfConsumingLoop(Run(path), **chosen)


def fit(
    loop: SelfConsumingLoop, model: GenerativeModel | None = None, *, data: RealData | None = None, **trainer: Any
) -> GenerativeModel:
    """Fit from the newest checkpoint of the loop's run, if there is one."""
    return plain_fit(loop, loop.resume(), model, data=data, **trainer)


def plain_fit(
    loop: SelfConsumingLoop,
    checkpoint: Path | None = None,
    model: GenerativeModel | None = None,
    *,
    data: RealData | None = None,
    callbacks: Sequence[Callback] = (),
    **trainer: Any,
) -> GenerativeModel:
    """Fit from ``checkpoint``, and with further ``callbacks``."""
    torch.manual_seed(0)
    model = TinyModel() if model is None else model
    Trainer(
        accelerator="cpu",
        devices=1,
        callbacks=[loop, *callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **trainer,
    ).fit(model, LoopDataModule(data or tiny_data(), batch_size=16), ckpt_path=checkpoint)
    return model


# The command line.

TINY = """
data: {name: two_moons, size: 200, test_size: 40}
batch_size: 20
reward: {name: clipped_distance, center: [0.0, 0.0]}
model: {name: flow_matching, steps: 2, network: {name: mlp, width: 8, depth: 1}}
loop:
  generations: 1
  synthetic_ratio: 0.5
  stages: [{name: k_choice, choices: 2}]
  first: {steps: 3}
  later: {steps: 3}
  chunk_size: 100
  preview: 4
evaluation: {samples: 40}
trainer: {accelerator: cpu}
wandb: {mode: disabled}
"""

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Iterator[Path]:
    """An empty working directory with tiny.yaml in it, from which modules can be imported."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    on_interrupt = signal.getsignal(signal.SIGINT)
    yield tmp_path
    signal.signal(signal.SIGINT, on_interrupt)  # Lightning ignores it once it was interrupted


@pytest.fixture
def tiny(here, capfd) -> Command:
    """Run train.py's command on tiny.yaml with further arguments: status, output, errors."""

    def command(*arguments: str) -> tuple[int, str, str]:
        status = train(["--config", "tiny.yaml", *arguments])
        printed = capfd.readouterr()
        return status, printed.out, printed.err

    return command


def generations(path: Path | str) -> list[int]:
    """Those that the run at ``path`` recorded, in their order."""
    return [row["generation"] for row in Run(path).rows()]
