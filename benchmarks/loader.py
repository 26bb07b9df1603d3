"""The cost of getting images and of averaging weights, against the published way of both.

    OMP_NUM_THREADS=1 python -m benchmarks.loader --root data [--images 5000] [--rounds 5] [--channels 128]

A pass over CIFAR-10 in batches of 128, mirrored at random, as float32 in [-1, 1]: ours takes uint8 images out of one
tensor by index. The other way is torch's ``DataLoader`` over torchvision's transforms of single images, of arrays as
for real data, or of PNG files as for a pool of samples. Its workers are left out: they do the same work in other
processes. The moving average is one foreach call, against the usual loop over state dicts; operations that only make
views are not counted.

Required: our loader takes at most a fifteenth of the processor time of the ``DataLoader`` over arrays; the average
takes one operation.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader
from torchvision import transforms

from benchmarks import reference_cifar as reference
from benchmarks.measure import Cost, Way, cpu_ratio, interleaved, milliseconds, quiet, timed, wall_ratio
from sc_loops import RealData, Samples, UNet
from sc_loops.data.cifar10 import cifar10
from sc_loops.data.mixture import MixtureLoader
from sc_loops.models.ema import WeightAverage

OURS = "ours"
ARRAYS, FILES = "DataLoader over arrays", "DataLoader over PNG files"
BATCH = 128
DECAY = 0.9999
MIRRORED = transforms.Compose([transforms.RandomHorizontalFlip(), *reference.TO_TENSOR.transforms])


def batches(images: Tensor) -> Iterable[Tensor]:
    """A pass of ours over uint8 ``images``, as the model sees them."""
    steps = len(images) // BATCH
    loader = MixtureLoader(Samples(images), batch_size=BATCH, steps=steps, seed=0, generation=0, flips=True)
    return (batch.as_float().x for batch in loader)


def loaders(images: Tensor, folder: Path) -> dict[str, Way]:
    """A pass over ``images (N, 3, H, W)`` by name; ``folder`` is for the files."""
    pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
    reference.write(pixels, folder, reference.Record())
    arrays = reference.ImageArrays(pixels, MIRRORED)
    files = reference.ImageFiles(folder, MIRRORED)

    def theirs(items: Any) -> Iterable[Tensor]:
        return DataLoader(items, batch_size=BATCH, shuffle=True, drop_last=True)

    def a_pass(over: Iterable[Tensor]) -> Cost:
        with timed() as watch:
            seen = sum(len(batch) for batch in over)
        assert seen == len(images) // BATCH * BATCH
        return watch.cost

    return {
        ARRAYS: lambda: a_pass(theirs(arrays)),
        FILES: lambda: a_pass(theirs(files)),
        OURS: lambda: a_pass(batches(images)),
    }


class Operations(TorchDispatchMode):
    """Counts the operations that are not views."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def averages(network: nn.Module) -> tuple[dict[str, Way], dict[str, int]]:
    """The ways of averaging the weights of ``network``, and the operations of each in one step."""
    weights, average = list(network.parameters()), WeightAverage(DECAY)
    average.reset(weights)
    shadow = copy.deepcopy(network)
    updates = {
        "loop over state dicts": lambda: reference.ema(network, shadow, DECAY),
        OURS: lambda: average.update(weights),
    }
    counts = {}
    for name, update in updates.items():
        with Operations() as operations:
            update()
        counts[name] = operations.count

    def way(name: str) -> Cost:
        with timed() as watch:
            for _ in range(20):
                updates[name]()
        return watch.cost

    return {name: (lambda name=name: way(name)) for name in updates}, counts


def real_images(root: str, count: int) -> RealData:
    return cifar10(root=root, download=False, train_size=count, test_size=10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data", help="the folder that holds cifar-10-batches-py")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--channels", type=int, default=128, help="of the UNet whose weights are averaged")
    chosen = parser.parse_args()
    quiet()
    data = real_images(chosen.root, chosen.images)
    seen = chosen.images // BATCH * BATCH
    with tempfile.TemporaryDirectory() as directory:
        costs = interleaved(loaders(data.train.x, Path(directory) / "files"), chosen.rounds)
    print(f"{'':<28}{'us an image':>12}{'cpu ratio':>11}{'wall ratio':>12}")
    for name, spent in costs.items():
        cpu, wall = cpu_ratio(spent, costs[OURS]), wall_ratio(spent, costs[OURS])
        print(f"{name:<28}{1e3 * milliseconds(spent) / seen:>12.1f}{cpu:>11.1f}{wall:>12.1f}")
    cpu = cpu_ratio(costs[ARRAYS], costs[OURS])
    print(f"required: {ARRAYS} / ours >= 15: {cpu:.1f} cpu: {'met' if cpu >= 15 else 'NOT met'}")
    network = UNet(data, channels=chosen.channels, head_channels=32)
    ways, operations = averages(network)
    costs = interleaved(ways, chosen.rounds)
    weights = sum(p.numel() for p in network.parameters())
    print(f"averaging {weights:,} weights in {len(list(network.parameters()))} tensors, processor time of a step:")
    for name, spent in costs.items():
        cpu = cpu_ratio(spent, costs[OURS])
        print(f"{name:<28}{milliseconds(spent) / 20:>9.2f} ms{cpu:>11.1f}{operations[name]:>12} operations")
    print(f"required: one operation: {operations[OURS]}: {'met' if operations[OURS] == 1 else 'NOT met'}")


if __name__ == "__main__":
    main()
