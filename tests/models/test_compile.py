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


class Compilations(Observer):
    """A backend that runs graphs as they are, counting them, and the count after each phase of each generation."""

    def __init__(self) -> None:
        self.count = 0
        self.after: dict[tuple[int, str], int] = {}

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
        attention_resolutions=(),
        head_channels=32,
        compile="always",
        **options,
    )


MODELS = {
    "flow matching": lambda: FlowMatching(data(), network=unet(), network_batch=6, steps=2),
    "flow matching, guided": lambda: FlowMatching(
        data(), network=unet(class_conditional=True), network_batch=6, steps=2, guidance_scale=2.0
    ),
    "flow matching, sampled in bf16": lambda: FlowMatching(
        data(), network=unet(channels_last=True), network_batch=6, steps=2, sampling_precision="bf16-true"
    ),
    "DDPM": lambda: DDPM(data(), network=unet(), network_batch=6, timesteps=10, steps=3),
}


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_compiled_after_the_first_sampling(name: str, tmp_path: Path, compilations: Compilations) -> None:
    """Batches are no multiple of ``network_batch``, and neither are chunks, their last one and the preview."""
    loop = tiny_loop(
        tmp_path,
        generations=2,
        observers=[compilations],
        reward=None,
        stages=[],
        samples=26,
        chunk_size=18,
        preview=5,
        first=Training(steps=2),
        later=Training(steps=3),
    )
    model: GenerativeModel = MODELS[name]()
    fit(loop, model, data=data(), gradient_clip_val=1.0)
    after = compilations.after
    trained, all_ = after[0, "training"], after[0, "writing"]
    assert 1 <= trained <= 2  # parts of 6 and the rest of 4 of a batch of 16
    assert all_ == trained + 1  # for sampling, without gradients
    assert after[2, "all"] == all_


def test_batches_of_changing_size_are_what_network_batch_is_for(tmp_path: Path, compilations: Compilations) -> None:
    """The count would notice: without ``network_batch`` the preview, and chunks of two sizes, differ in shape."""
    model = FlowMatching(data(), network=unet(), steps=2)
    options = {"reward": None, "stages": [], "samples": 26, "chunk_size": 18, "preview": 5}
    loop = tiny_loop(tmp_path, generations=0, observers=[compilations], first=Training(steps=1), **options)
    fit(loop, model, data=data())
    assert compilations.after[0, "all"] - compilations.after[0, "training"] == 3
