"""A training step of the MLP: the loop under Lightning against a bare PyTorch loop that does the same.

    OMP_NUM_THREADS=1 python -m benchmarks.training_step [--rounds 21] [--steps 150] [--width 128]

Both take the same batches of 256 points, the same loss (independent coupling), the same fused AdamW and a moving
average of the weights in one foreach call. Ours adds what a run needs: Lightning's loops and hooks, noise that is
a function of the step, the loss log with a row on disk every 50 steps, and telling the observers. That costs the
same for any network, so the ratio depends on the network's size.

Required: the bare step takes at least 0.8 of the processor time of ours.
"""

from __future__ import annotations

import argparse
import tempfile

import torch

from benchmarks.measure import (
    Cost,
    Stopwatch,
    Way,
    cpu_ratio,
    fit,
    interleaved,
    milliseconds,
    quiet,
    timed,
    wall_ratio,
)
from sc_loops import (
    Evaluation,
    FlowMatching,
    LoopDataModule,
    Observer,
    Run,
    SelfConsumingLoop,
    TimeMLP,
    Training,
    two_moons,
)

WARM_UP = 20  # steps before the clock starts
DECAY = 0.999


class Steps(Observer):
    """Times the training from step ``WARM_UP`` to the last."""

    def __init__(self) -> None:
        self.watch = Stopwatch()

    def progress(self, generation: int, phase: str, done: int, total: int, unit: str) -> None:
        if phase == "training" and done == WARM_UP:
            self.watch.start()
        if phase == "training" and done == total:
            self.watch.stop()


def model_for(width: int) -> FlowMatching:
    torch.manual_seed(0)
    network = TimeMLP(two_moons(size=4096, test_size=4), width=width)
    return FlowMatching(two_moons(size=4096, test_size=4), network=network, coupling="independent", ema_decay=DECAY)


def ours(steps: int, width: int) -> Cost:
    """The cost of ``steps`` steps of generation 0 of a loop."""
    data, timer = two_moons(size=4096, test_size=4), Steps()
    with tempfile.TemporaryDirectory() as directory:
        loop = SelfConsumingLoop(
            Run(directory),
            None,
            Evaluation(data, None, None, samples=2),
            [timer],
            generations=0,
            synthetic_ratio=0.0,
            first=Training(steps=WARM_UP + steps),
            later=Training(steps=1),
            samples=10,
        )
        fit(loop, model_for(width), data, 256)
    return timer.watch.cost


def bare(steps: int, width: int) -> Cost:
    """The cost of the same steps without Lightning."""
    model, module = model_for(width), LoopDataModule(two_moons(size=4096, test_size=4), batch_size=256)
    budget = Training(steps=WARM_UP + steps)
    module.begin_generation(0, synthetic_ratio=0.0, training=budget, seed=0)
    weights = list(model.parameters())
    average = [w.detach().clone() for w in weights]
    optimizer = torch.optim.AdamW(weights, lr=2e-4, weight_decay=0.0, fused=True)
    batches = iter(module.train_dataloader())

    def step() -> None:
        optimizer.zero_grad()
        model.loss(next(batches)).backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, weights, 1 - DECAY)

    for _ in range(WARM_UP):
        step()
    with timed() as watch:
        for _ in range(steps):
            step()
    return watch.cost


def ways(steps: int, width: int) -> dict[str, Way]:
    return {"bare": lambda: bare(steps, width), "ours": lambda: ours(steps, width)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--width", type=int, default=128)
    chosen = parser.parse_args()
    quiet()
    costs = interleaved(ways(chosen.steps, chosen.width), chosen.rounds)
    for name, spent in costs.items():
        print(f"{name}: {1e3 * milliseconds(spent) / chosen.steps:.0f} us of processor time a step")
    cpu, wall = cpu_ratio(costs["bare"], costs["ours"]), wall_ratio(costs["bare"], costs["ours"])
    met = "met" if cpu >= 0.8 else "NOT met"
    print(f"required: bare / ours >= 0.8: {cpu:.3f} cpu, {wall:.3f} wall: {met}")


if __name__ == "__main__":
    main()
