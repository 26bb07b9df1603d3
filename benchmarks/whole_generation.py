"""One whole generation on two moons: train, sample, score, curate, write the pool and the checkpoint.

    OMP_NUM_THREADS=1 python -m benchmarks.whole_generation [--rounds 5] [--width 128]

Compares the library's generation 1 with ``reference_generation.py``, which trains as many steps on as many items
with a network of the same class and draws as many samples. 4096 real points and as many synthetic ones, 8 passes
in batches of 256, 8192 raw samples, K = 2. Starting up (imports, the data, the first pool) is left out on both
sides, and so are the metrics, which the reference has none of.

Required: with the same coupling, optimal transport over the whole batch, ours costs at most a quarter of the
reference's processor time.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks import reference_generation as reference
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
    ClippedDistance,
    Curate,
    Evaluation,
    FlowMatching,
    Observer,
    RealData,
    Run,
    SelfConsumingLoop,
    TimeMLP,
    Training,
    two_moons,
)
from sc_loops.run import Row

REWARD = ClippedDistance(center=[-1.0, 2.0])

REFERENCE = "reference"
SAME_COUPLING = "OT over the batch"
COUPLINGS: dict[str, dict[str, Any]] = {
    SAME_COUPLING: {},
    "OT over the batch, euler-100": {"solver": "euler", "steps": 100},
    "OT with replacement, as in the reference": {"ot_with_replacement": True},
    "OT in blocks of 128": {"ot_block": 128},
    "independent": {"coupling": "independent"},
}


class GenerationOne(Observer):
    """Times from the moment when generation 0 is done to the same of generation 1."""

    def __init__(self) -> None:
        self.watch, self.evaluations = Stopwatch(), 0.0

    def generation_finished(self, run: Run, row: Row) -> None:
        if row["generation"] == 0:
            self.watch.start()
        else:
            self.watch.stop()
            self.evaluations = row["nfe"]


def data_of(setting: reference.Setting) -> RealData:
    """As many real points as are kept, so that a pass holds as many items as are sampled."""
    return two_moons(size=setting.samples // setting.choices, test_size=4)


def ours(setting: reference.Setting, width: int, **options: Any) -> tuple[Cost, float]:
    """The cost of generation 1 with our library, and the network evaluations per sample."""
    data, timer = data_of(setting), GenerationOne()
    later = Training(passes=setting.passes, learning_rate=setting.learning_rate)
    with tempfile.TemporaryDirectory() as directory:
        loop = SelfConsumingLoop(
            Run(directory),
            REWARD,
            Evaluation(data, None, REWARD, samples=2),  # next to no metrics
            [timer],
            generations=1,
            synthetic_ratio=1.0,
            stages=[Curate(REWARD, choices=setting.choices)],
            first=Training(steps=1),
            later=later,
        )
        torch.manual_seed(0)
        fit(loop, FlowMatching(data, network=TimeMLP(data, width=width), **options), data, setting.batch_size)
    return timer.watch.cost, timer.evaluations


def theirs(setting: reference.Setting, width: int) -> tuple[Cost, float]:
    """The same of the reference."""
    data = data_of(setting)
    torch.manual_seed(0)
    network = TimeMLP(data, width=width)
    synthetic = data.train.x + 0.1 * torch.randn_like(data.train.x)
    with tempfile.TemporaryDirectory() as directory, timed() as watch:
        path = Path(directory) / "pool.pt"
        evaluations = reference.generation(network, data.train.x, synthetic, REWARD, setting, path)
    return watch.cost, evaluations


def ways(setting: reference.Setting, width: int, evaluations: dict[str, float]) -> dict[str, Way]:
    """All ways by name; each leaves its network evaluations per sample in ``evaluations``."""

    def way(name: str) -> Cost:
        made = theirs(setting, width) if name == REFERENCE else ours(setting, width, **COUPLINGS[name])
        cost, evaluations[name] = made
        return cost

    return {name: (lambda name=name: way(name)) for name in (REFERENCE, *COUPLINGS)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=128)
    chosen = parser.parse_args()
    quiet()
    evaluations: dict[str, float] = {}
    costs = interleaved(ways(reference.Setting(), chosen.width, evaluations), chosen.rounds)
    print(f"{'':<42}{'evaluations':>12}{'cpu ms':>9}{'cpu ratio':>11}{'wall ratio':>12}")
    for name, spent in costs.items():
        cpu, wall = cpu_ratio(costs[REFERENCE], spent), wall_ratio(costs[REFERENCE], spent)
        print(f"{name:<42}{evaluations[name]:>12.0f}{milliseconds(spent):>9.0f}{cpu:>11.2f}{wall:>12.2f}")
    cpu, wall = (ratio(costs[REFERENCE], costs[SAME_COUPLING]) for ratio in (cpu_ratio, wall_ratio))
    met = "met" if cpu >= 4 else "NOT met"
    print(f"required: reference / ours >= 4 with the same coupling: {cpu:.2f} cpu, {wall:.2f} wall: {met}")


if __name__ == "__main__":
    main()
