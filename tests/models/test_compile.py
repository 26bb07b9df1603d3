"""A compiled network is compiled when it is first trained and first sampled, and never again in a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import fit, tiny_loop
from torch import Tensor, fx

from sc_loops import DDPM, FlowMatching, GenerativeModel, Observer, RealData, Run, Samples, Training, UNet
from sc_loops.run import Row

Counts = dict[tuple[int, str], int]


class Compilations(Observer):
    """A backend that runs graphs as they are, counting them, and the count after each phase of each generation."""

    def __init__(self) -> None:
        self.count = 0
        self.after: Counts = {}  # by generation and phase

    def __call__(self, graph: fx.GraphModule, example_inputs: list[Tensor]) -> Any:
        self.count += 1
        return graph.forward

    def progress(self, generation: int, phase: str, done: int, total: int, unit: str) -> None:
        if phase in ("training", "writing"):
            self.after[generation, phase] = self.count

    def generation_finished(self, run: Run, row: Row) -> None:
        self.after[int(row["generation"]), "all"] = self.count


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> Iterator[Compilations]:
    """What ``torch.compile`` compiles with in this test, in place of minutes of the usual backend."""
    compilations, compile = Compilations(), torch.compile

    def with_own_backend(*args: Any, **options: Any) -> Any:
        return compile(*args, **{**options, "backend": compilations})

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", with_own_backend)
    yield compilations
    torch._dynamo.reset()


def images(n: int) -> Samples:
    generator = torch.Generator().manual_seed(n)
    return Samples(torch.randint(0, 256, (n, 3, 8, 8), dtype=torch.uint8, generator=generator), torch.arange(n) % 2)


def data() -> RealData:
    return RealData(images(30), images(10), "images", ("even", "odd"), "noise")


def unet(**options: Any) -> UNet:
    return UNet(
        data(),
        channels=32,
        residual_blocks=1,
        channel_multipliers=(1,),
        scale_shift=True,
        attention_resolutions=(),
        head_channels=32,
        compile="always",
        **options,
    )


def model(kind: str, network_batch: int | None) -> GenerativeModel:
    if kind == "DDPM":
        return DDPM(data(), network=unet(), network_batch=network_batch, timesteps=10, steps=3)
    if kind == "guided":
        network = unet(class_conditional=True)
        return FlowMatching(data(), network=network, network_batch=network_batch, steps=2, guidance_scale=2.0)
    precision: Any = "bf16-true" if kind == "sampled in bf16" else "as_trained"
    network = unet(channels_last=kind == "sampled in bf16")
    return FlowMatching(data(), network=network, network_batch=network_batch, steps=2, sampling_precision=precision)


def run(
    path: Path, compilations: Compilations, model: GenerativeModel, generations: int
) -> dict[tuple[int, str], int]:
    """The compilations until the end of each phase. Neither chunks, of 18 and 8 images, nor the preview of 5, fill
    parts of 6 or 8."""
    loop = tiny_loop(
        path,
        generations=generations,
        observers=[compilations],
        reward=None,
        stages=[],
        samples=26,
        chunk_size=18,
        preview=5,
        first=Training(steps=2),
        later=Training(steps=3),
    )
    fit(loop, model, data=data(), gradient_clip_val=1.0)  # in batches of 16
    return compilations.after


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("sampled in bf16", 8),
        pytest.param("as trained", 8, marks=pytest.mark.slow),
        pytest.param("guided", 8, marks=pytest.mark.slow),
        pytest.param("DDPM", 8, marks=pytest.mark.slow),
        pytest.param("as trained", 6, marks=pytest.mark.slow),
    ],
)
def test_nothing_is_compiled_after_the_first_sampling(
    kind: str, parts: int, tmp_path: Path, compilations: Compilations
) -> None:
    after = run(tmp_path, compilations, model(kind, parts), generations=2)
    trained, sampled = after[0, "training"], after[0, "writing"]
    assert trained == (1 if 16 % parts == 0 else 2)  # parts of 6 leave 4 of a batch of 16
    assert sampled == trained + 1  # without gradients
    assert after[2, "all"] == sampled


@pytest.mark.slow
def test_the_count_would_notice_calls_of_several_shapes(tmp_path: Path, compilations: Compilations) -> None:
    after = run(tmp_path, compilations, model("as trained", None), generations=0)
    assert after[0, "all"] - after[0, "training"] == 3  # the preview and two chunks
