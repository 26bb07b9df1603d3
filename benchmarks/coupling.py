"""What pairing images with noise by optimal transport costs in training, when it is done beside the step.

    OMP_NUM_THREADS=1 python -m benchmarks.coupling --root data [--steps 40] [--rounds 9] [--batch-size 128]

Training steps (forward, backward, AdamW) of a UNet so small that a step takes tens of milliseconds, on CIFAR-10 in
one thread of torch; the plan of the next batch is found in a second thread, which wants a second core. Compared are
no pairing, the plan as a permutation beside the step and inside of it, and torchcfm's draws from the plan inside of
it. The clock is that on the wall, since a thread beside the step is to save no work but time: on a machine that is
busy with other things look at the time of the training thread instead.

Required: steps per second with pairing beside the step at least 0.97 of those without, for a step of 15 ms or more.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch

from benchmarks.measure import Cost, Way, interleaved, quiet, wall_ratio
from sc_loops import FlowMatching, LoopDataModule, RealData, Training, UNet
from sc_loops.data.cifar10 import cifar10

WARM_UP = 3  # steps before the clock starts
NONE, BESIDE = "no pairing", "beside the step"
COUPLINGS: dict[str, dict[str, Any]] = {
    NONE: {"coupling": "independent"},
    BESIDE: {"coupling": "exact_ot"},
    "inside of the step": {"coupling": "exact_ot"},
    "inside, torchcfm's draws": {"coupling": "exact_ot", "ot_with_replacement": True},
}


def train(name: str, data: RealData, network: dict[str, Any], batch_size: int, steps: int) -> Cost:
    """The cost of ``steps`` steps: time on the wall, and processor time of the training thread alone."""
    torch.manual_seed(0)
    model = FlowMatching(data, network=UNet(data, **network), **COUPLINGS[name])
    module = LoopDataModule(data, batch_size=batch_size)
    module.begin_generation(
        0,
        synthetic_ratio=0.0,
        training=Training(steps=WARM_UP + steps),
        seed=0,
        pairing=model.pairing() if name == BESIDE else None,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4, fused=True)
    for done, batch in enumerate(module.train_dataloader()):
        if done == WARM_UP:
            wall, cpu = time.perf_counter(), time.thread_time()
        optimizer.zero_grad()
        model.loss(batch.as_float()).backward()
        optimizer.step()
    return Cost(time.thread_time() - cpu, time.perf_counter() - wall)


def ways(data: RealData, network: dict[str, Any], batch_size: int, steps: int) -> dict[str, Way]:
    return {name: (lambda name=name: train(name, data, network, batch_size, steps)) for name in COUPLINGS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data", help="the folder that holds cifar-10-batches-py")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch-size", type=int, default=128)
    chosen = parser.parse_args()
    quiet()
    network = {
        "channels": 32,
        "residual_blocks": 1,
        "channel_multipliers": (1,),
        "attention_resolutions": (),
        "head_channels": 32,
        "scale_shift": True,
        "patch_size": 16,
    }
    data = cifar10(root=chosen.root, download=False, train_size=5000, test_size=10)
    costs = interleaved(ways(data, network, chosen.batch_size, chosen.steps), chosen.rounds)
    print(f"{'pairing':<26}{'ms a step':>10}{'steps a second, of the first':>30}{'ms of the training thread':>27}")
    for name, spent in costs.items():
        wall, own = (
            1e3 / chosen.steps * statistics.median(seconds)
            for seconds in ([cost.wall for cost in spent], [cost.cpu for cost in spent])
        )
        print(f"{name:<26}{wall:>10.1f}{wall_ratio(costs[NONE], spent):>30.3f}{own:>27.1f}")
    ratio = wall_ratio(costs[NONE], costs[BESIDE])
    step = 1e3 / chosen.steps * statistics.median(c.wall for c in costs[NONE])
    met = "met" if ratio >= 0.97 and step >= 15 else "NOT met"
    print(f"required: with / without >= 0.97 for a step of at least 15 ms: {ratio:.3f} at {step:.0f} ms: {met}")


if __name__ == "__main__":
    main()
