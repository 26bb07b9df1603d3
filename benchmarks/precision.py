"""What number formats, memory layout and compilation are worth: images a second through the UNet.

    OMP_NUM_THREADS=1 python -m benchmarks.precision [--channels 32] [--batch-size 16] [--rounds 5] [--compile]

Sampling is a forward pass without gradients; training is forward and backward, of which the optimizer is no part.
The error is that of the output relative to float32's, in the root mean square. With a GPU all is done there, by the
clock on the wall, beside what one can do alone (TF32, CUDA graphs), and with the share of the card's bfloat16 peak
that the convolutions and products reach; ``--channels 128 --batch-size 512`` is the published size. On a CPU ratios
are of processor time. Compiling is left out unless it is asked for: it takes minutes on a CPU.

Also counts what a run of three generations compiles, with a backend that does nothing.

Required: nothing is compiled after generation 0; bfloat16 weights are within 2 % of float32.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import Cost, cpu_ratio, fit, interleaved, quiet, timed, wall_ratio
from sc_loops import FlowMatching, Observer, RealData, Run, Samples, SelfConsumingLoop, Training, UNet
from sc_loops.run import Row

PEAKS = {"H200": 989e12, "H100": 989e12, "B200": 2250e12, "A100": 312e12, "L40S": 362e12, "V100": 125e12}
"""Products and sums a second in bfloat16 (V100: float16), dense, from the data sheets."""


@dataclass(frozen=True)
class Mode:
    """How a network is run.

    Attributes:
        half: ``""`` for float32, ``autocast``, or ``weights`` for bfloat16 weights.
        channels_last: the layout.
        compiled: the mode of ``torch.compile``; None is without.
        tf32: whether float32 products may be taken in TF32.
    """

    half: str = ""
    channels_last: bool = False
    compiled: str | None = None
    tf32: bool = False

    def __str__(self) -> str:
        number = {"": "tf32" if self.tf32 else "float32", "autocast": "bf16 autocast", "weights": "bf16 weights"}
        layout = ", channels_last" if self.channels_last else ""
        compiled = {None: "", "default": ", compiled", "reduce-overhead": ", compiled, CUDA graphs"}[self.compiled]
        return number[self.half] + layout + compiled

    def context(self, device: str) -> AbstractContextManager[Any]:
        on = self.half == "autocast"
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = self.tf32
        return torch.autocast(device, dtype=torch.bfloat16) if on else nullcontext()


def sampling_modes(device: str, compile: bool) -> list[Mode]:
    modes = [Mode(half, last) for half in ("", "autocast", "weights") for last in (False, True)]
    if device == "cuda":
        modes += [Mode(tf32=True), Mode(tf32=True, channels_last=True)]
    if compile:
        modes += [Mode(compiled="default"), Mode("weights", True, "default")]
    if compile and device == "cuda":
        modes += [Mode("weights", True, "reduce-overhead")]
    return modes


def training_modes(device: str, compile: bool) -> list[Mode]:
    return [mode for mode in sampling_modes(device, compile) if mode.half != "weights"] + (
        [Mode("autocast", True, "default")] if compile else []
    )


def images(n: int, side: int) -> RealData:
    """Noise, which costs what images cost."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=generator)
    return RealData(Samples(x), Samples(x[:4]), "images", (), "noise")


def float_network(side: int, **options: Any) -> UNet:
    """A UNet as if it were trained: the last layers of its blocks start at zero, which would hide all errors."""
    torch.manual_seed(0)
    network = UNet(images(4, side), dropout=0.0, **options)
    with torch.no_grad():
        for weight in network.parameters():
            if not weight.any():
                weight.normal_(std=0.02)
    return network


def in_mode(network: UNet, mode: Mode, device: str) -> nn.Module:
    """A copy of ``network`` as the library would sample it in ``mode``."""
    network = copy.deepcopy(network).to(device)
    network._layout = torch.channels_last if mode.channels_last else torch.contiguous_format
    network.unet.to(memory_format=network._layout)
    if mode.half == "weights":
        model = FlowMatching(images(4, network.shape[-1]), network=network, sampling_precision="bf16-true")
        with model.averaged():
            network = model.network
    if mode.compiled is not None:
        network.unet.compile(dynamic=False, mode=mode.compiled)
    return network


def clocked(work: Callable[[], object], device: str) -> Cost:
    with timed() as watch:
        work()
        if device == "cuda":
            torch.cuda.synchronize()
    return watch.cost


def relative_error(found: Tensor, exact: Tensor) -> float:
    return float((found.float() - exact).square().mean().sqrt() / exact.square().mean().sqrt())


class Sampling:
    """Forward passes of ``network`` in each of ``modes``, of the same ``batch`` images."""

    def __init__(self, network: UNet, modes: list[Mode], device: str, batch: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(batch, *network.shape, generator=generator).to(device)
        self.t = torch.rand(batch, generator=generator).to(device)
        self.networks = {mode: in_mode(network, mode, device).eval() for mode in modes}
        self.device = device

    def output(self, mode: Mode) -> Tensor:
        with torch.no_grad(), mode.context(self.device):
            return self.networks[mode](self.t, self.x)

    def errors(self) -> dict[Mode, float]:
        exact = self.output(Mode())
        return {mode: relative_error(self.output(mode), exact) for mode in self.networks}

    def ways(self) -> dict[Mode, Callable[[], Cost]]:
        return {mode: (lambda mode=mode: clocked(lambda: self.output(mode), self.device)) for mode in self.networks}


class TrainingPasses(Sampling):
    """Forward and backward passes."""

    def output(self, mode: Mode) -> Tensor:
        network = self.networks[mode].train()
        network.zero_grad()
        with mode.context(self.device):
            output = network(self.t, self.x)
            output.float().square().mean().backward()
        return output.detach()


def flops(network: nn.Module, side: int) -> int:
    """Products and sums of one image's forward pass."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros(1), torch.zeros(1, 3, side, side))
    return counter.get_total_flops()


class CompilationsByGeneration(Observer):
    """A backend that does nothing but count, and its count at the end of each generation."""

    def __init__(self) -> None:
        self.count, self.after = 0, [0]

    def __call__(self, graph: torch.fx.GraphModule, example_inputs: list[Tensor]) -> Callable[..., Any]:
        self.count += 1
        return graph.forward

    def generation_finished(self, run: Run, row: Row) -> None:
        self.after.append(self.count)

    @property
    def each(self) -> list[int]:
        return [after - before for before, after in zip(self.after, self.after[1:], strict=False)]


def compilations() -> list[int]:
    """How many graphs each of three generations of a loop compiles, in training and sampling together."""
    counter, compile = CompilationsByGeneration(), torch.compile
    data = images(32, 8)
    network = UNet(
        data, channels=32, residual_blocks=1, channel_multipliers=(1,), attention_resolutions=(), compile="always",
        head_channels=32, scale_shift=True,
    )  # fmt: skip
    model = FlowMatching(data, network=network, network_batch=8, steps=2)
    torch._dynamo.reset()
    with (
        tempfile.TemporaryDirectory() as directory,
        patch("torch.compile", lambda *args, **options: compile(*args, **{**options, "backend": counter})),
    ):
        loop = SelfConsumingLoop(
            Run(directory),
            observers=[counter],
            generations=2,
            synthetic_ratio=float("inf"),
            first=Training(steps=2),
            later=Training(steps=2),
            samples=30,
            chunk_size=20,
            preview=5,
        )
        fit(loop, model, data, 16)
    torch._dynamo.reset()
    return counter.each


def show(title: str, passes: Sampling, rounds: int, flop: float) -> dict[Mode, float]:
    """Print a table; returns the errors."""
    errors, costs = passes.errors(), interleaved(passes.ways(), rounds)
    ratio = wall_ratio if passes.device == "cuda" else cpu_ratio
    peak = next((p for n, p in PEAKS.items() if passes.device == "cuda" and n in torch.cuda.get_device_name()), None)
    print(f"{title:<36}{'images/s':>10}{'times float32':>15}{'error':>10}{'of the peak':>13}")
    for mode, spent in costs.items():
        seconds = statistics.median(cost.wall if passes.device == "cuda" else cost.cpu for cost in spent)
        speed = len(passes.x) / seconds
        share = f"{speed * flop / peak:.1%}" if peak else "-"
        print(f"{mode!s:<36}{speed:>10.1f}{ratio(costs[Mode()], spent):>15.2f}{errors[mode]:>10.2%}{share:>13}")
    return errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="time compiled networks too")
    chosen = parser.parse_args()
    quiet()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = float_network(32, channels=chosen.channels, head_channels=32)
    flop, batch = flops(network, 32), chosen.batch_size
    print(f"UNet of {chosen.channels} channels, {flop / 1e9:.2f} GFLOP an image, batches of {batch}, {device}")
    sampling = Sampling(network, sampling_modes(device, chosen.compile), device, batch)
    errors = show("sampling", sampling, chosen.rounds, flop)
    del sampling
    training = TrainingPasses(network, training_modes(device, chosen.compile), device, batch)
    show("training", training, chosen.rounds, 3 * flop)
    each = compilations()
    met = "met" if not any(each[1:]) else "NOT met"
    print(f"required: nothing compiled after generation 0: {', '.join(map(str, each))} in generations 0, 1, 2: {met}")
    worst = max(error for mode, error in errors.items() if mode.half == "weights")
    print(f"required: bf16 weights within 2 % of float32: {worst:.2%}: {'met' if worst <= 0.02 else 'NOT met'}")


if __name__ == "__main__":
    main()
