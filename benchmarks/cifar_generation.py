"""One generation of the CIFAR-10 experiment, at a size for a CPU: train, sample, score, curate, evaluate, write.

    OMP_NUM_THREADS=1 python -m benchmarks.cifar_generation --root data [--start runs/.../generation-0000.ckpt]

Compares the library's generation 1 with ``reference_cifar.py``, the way published scripts do it. Both start from the
same generation 0 (weights, average and pool), with the same network, reward and feature network in float32, train on
as many items, and draw, keep and compare as many images. Proportions are the experiment's: a generation trains on as
many items as it samples. ``--start`` is a checkpoint of ``cifar_small_curated``, since how many evaluations dopri5
takes depends on how far a network is trained; without one, generation 0 is ``--first`` steps. ``--root`` holds
CIFAR-10 as torchvision lays it out. Not timed: imports, generation 0, and on our side the features of the real
images, which a run computes once. The library also measures precision, recall and class shares, which the reference
does not.

Required: our generation takes at most a quarter of the processor time of the reference, whether that samples with
dopri5 or with Euler; and less than 3 % of ours is spent outside of network, classifier and features.
"""

from __future__ import annotations

import argparse
import copy
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
import torch

from benchmarks import reference_cifar as reference
from benchmarks.inside import BackwardClock, Inside, TimedClassifier
from benchmarks.measure import Cost, Stopwatch, cpu_ratio, fit, quiet, timed, wall_ratio
from sc_loops import (
    ClassProbability,
    Curate,
    Evaluation,
    FlowMatching,
    Observer,
    RealData,
    Run,
    SelfConsumingLoop,
    Training,
    UNet,
)
from sc_loops.data.cifar10 import cifar10
from sc_loops.run import Row

OURS = "ours"
PHASES = ["training", "sampling", "sampling again", "scoring", "curating", "evaluating", "writing", "rest"]
COUNTS = ["network evaluations in sampling", "images trained on", "images decoded one by one", "image files written"]
PREVIEW = 8  # the usual grid of 64 is a thousandth of 50,000 samples, but would be an eighth of 512
NETWORK: dict[str, Any] = {
    "channels": 32,
    "residual_blocks": 1,
    "channel_multipliers": (1, 2, 2),
    "attention_resolutions": (8,),
    "head_channels": 32,
    "dropout": 0.0,
    "patch_size": 2,
}
SOLVER: dict[str, Any] = {"solver": "midpoint", "steps": 8}


class GenerationOne(Observer):
    """Times generation 1 of a run that continues after generation 0, from its first check to its row."""

    def __init__(self, inside: Inside) -> None:
        self.watch, self._inside = Stopwatch(), inside

    def run_started(self, run: Run, generations: int, start: int) -> None:
        self._inside.reset()
        self.watch.start()

    def generation_finished(self, run: Run, row: Row) -> None:
        self.watch.stop()
        self.row = row


@dataclass
class Outcome:
    """One generation.

    Attributes:
        cost: processor and wall time of all of it.
        cpu: processor seconds by phase.
        counts: what the network and the disk had to do.
        inside: the part of the processor time within network, classifier and features, or None if not known.
    """

    cost: Cost
    cpu: dict[str, float]
    counts: dict[str, int]
    inside: float | None = None


@dataclass
class Experiment:
    """Generation 0 in ``directory``, and ways to make generation 1 of it.

    Args:
        data: uint8 images with classes; generations are compared with all of ``data.test``.
        setting: of generation 1.
        directory: empty.
        first: steps of generation 0.
        epochs: passes of the classifier's training.
        start: a checkpoint to take generation 0 from, instead of training it.
    """

    data: RealData
    setting: reference.Setting
    directory: Path
    first: int
    epochs: int
    start: str | None = None
    network: dict[str, Any] = field(default_factory=lambda: dict(NETWORK))
    solver: dict[str, Any] = field(default_factory=lambda: dict(SOLVER))

    def __post_init__(self) -> None:
        self.inside = Inside()
        self.classifier = TimedClassifier(self.inside, self.data, epochs=self.epochs)
        self.classifier.prepare(self.directory / "classifiers")
        self.reward = ClassProbability(self.classifier, target=0)
        # One for all runs: that a run computes the features of the real images once is no part of generation 1.
        self.evaluation = Evaluation(self.data, self.classifier, self.reward, samples=self.setting.samples)
        self._fit(self._run.path, generations=0)
        kept = self._run.pool(0).samples().x
        record = reference.Record()
        reference.write(kept.permute(0, 2, 3, 1).numpy(), self.directory / "pool", record)

    @property
    def _run(self) -> Run:
        return Run(self.directory / "run")

    def ours(self) -> Outcome:
        """Generation 1 of the library's loop."""
        with tempfile.TemporaryDirectory() as temporary, clocks_of_processor_time():
            path = Path(shutil.copytree(self._run.path, Path(temporary) / "run", symlinks=True))
            timer = self._fit(path, generations=1)
        row, cost = timer.row, timer.watch.cost
        cpu = {name: row[f"seconds/{name}"] for name in PHASES if f"seconds/{name}" in row}
        counts = dict(zip(COUNTS, (self.inside.evaluated, self.inside.trained, 0, 0), strict=True))
        return Outcome(cost, {**cpu, "rest": cost.cpu - sum(cpu.values())}, counts, self.inside.seconds)

    def theirs(self, solver: Literal["dopri5", "euler"]) -> Outcome:
        """The same of the reference, from the same weights."""
        model = self._model()
        model.load_weights(Path(self.start) if self.start else self._run.checkpoint(0))
        with model.averaged():
            average = copy.deepcopy(model.network)
        real = self.data.test.x.permute(0, 2, 3, 1).numpy()
        torch.manual_seed(0)
        np.random.seed(0)
        with tempfile.TemporaryDirectory() as temporary, timed() as watch:
            record, _ = reference.generation(
                model.network,
                average,
                self.directory / "pool",
                real,
                self.reward,
                self.classifier.features,
                self.setting,
                solver,
                Path(temporary),
            )
        found = (record.evaluations, record.trained, record.images_decoded, record.files_written)
        counts = dict(zip(COUNTS, found, strict=True))
        return Outcome(watch.cost, {**record.cpu, "rest": watch.cost.cpu - sum(record.cpu.values())}, counts)

    def _model(self) -> FlowMatching:
        torch.manual_seed(0)
        return FlowMatching(
            self.data,
            network=UNet(self.data, **self.network),
            clip=1.0,
            ema_decay=self.setting.ema_decay,
            **self.solver,
        )

    def _fit(self, path: Path, *, generations: int) -> GenerationOne:
        """Fit the run at ``path`` up to ``generations``."""
        setting, timer, model = self.setting, GenerationOne(self.inside), self._model()
        self.inside.watch(model.network)
        loop = SelfConsumingLoop(
            Run(path),
            self.reward,
            self.evaluation,
            [timer],
            generations=generations,
            synthetic_ratio=float("inf"),
            stages=[Curate(self.reward, choices=setting.choices)],
            first=Training(steps=self.first, learning_rate=1e-3),
            later=Training(steps=setting.steps, learning_rate=setting.learning_rate),
            samples=setting.samples,
            chunk_size=setting.sampling_batch,
            preview=PREVIEW,
            checkpoint_minutes=None,
            start=self.start,
        )
        last = loop.run.last_checkpoint
        fit(
            loop,
            model,
            self.data,
            setting.batch_size,
            checkpoint=last.resolve() if last.exists() else None,
            callbacks=[BackwardClock(self.inside)],
            gradient_clip_val=setting.gradient_norm,
        )
        return timer


@contextmanager
def clocks_of_processor_time() -> Iterator[None]:
    """Within the context the loop's own clocks of its phases count processor time."""
    places = ("synthesis", "pool_maker", "progress")
    patches = [patch(f"sc_loops.{place}.perf_counter", time.process_time) for place in places]
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()


def ways(experiment: Experiment) -> dict[str, Callable[[], Outcome]]:
    return {
        "dopri5": lambda: experiment.theirs("dopri5"),
        "euler 100": lambda: experiment.theirs("euler"),
        OURS: experiment.ours,
    }


def work(counts: dict[str, int]) -> int:
    """What the network had to do, in forward passes of one sample; training one takes about three."""
    return counts[COUNTS[0]] + 3 * counts[COUNTS[1]]


def report(found: dict[str, list[Outcome]], setting: reference.Setting) -> None:
    last, columns = {name: rounds[-1] for name, rounds in found.items()}, "".join(f"{n:>12}" for n in found)
    print(f"{'processor seconds, last round':<34}{columns}")
    for phase in PHASES:
        print(f"{phase:<34}" + "".join(f"{outcome.cpu.get(phase, 0.0):>12.2f}" for outcome in last.values()))
    print(f"{'in all':<34}" + "".join(f"{outcome.cost.cpu:>12.2f}" for outcome in last.values()))
    for count in COUNTS:
        print(f"{count:<34}" + "".join(f"{outcome.counts[count]:>12}" for outcome in last.values()))
    costs = {name: [outcome.cost for outcome in rounds] for name, rounds in found.items()}
    for name in list(found)[:-1]:
        cpu, wall = cpu_ratio(costs[name], costs[OURS]), wall_ratio(costs[name], costs[OURS])
        least = work(last[name].counts) / work(last[OURS].counts)
        again = statistics.median(
            (a.cost.cpu - a.cpu["sampling again"]) / b.cost.cpu for a, b in zip(found[name], found[OURS], strict=True)
        )
        met = "met" if cpu >= 4 else "NOT met"
        print(f"required: reference with {name} / ours >= 4: {cpu:.2f} cpu, {wall:.2f} wall: {met}", end="")
        print(f" (the network's work alone: {least:.2f}; without the second sampling: {again:.2f})")
    print("the network's work, reference / ours, if a generation trained on so many times what it samples:")
    for name in list(found)[:-1]:
        ratios = [f"{times}: {_scaled(last, name, times, setting):.1f}" for times in (1, 5, 10, 20)]
        print(f"  {name:<12}" + ", ".join(ratios))
    shares = [1 - outcome.inside / outcome.cost.cpu for outcome in found[OURS] if outcome.inside is not None]
    share = statistics.median(shares)
    met = "met" if share < 0.03 else "NOT met"
    print(f"required: outside of network, classifier and features < 3 % of our generation: {share:.2%}: {met}")


def _scaled(found: dict[str, Outcome], name: str, times: int, setting: reference.Setting) -> float:
    """The ratio of the network's work with training of ``times`` as many items as are sampled."""
    training = 3 * times * setting.samples
    over, under = (found[key].counts[COUNTS[0]] + training for key in (name, OURS))
    return over / under


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data", help="the folder that holds cifar-10-batches-py")
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--images", type=int, default=5000, help="real images to train on")
    parser.add_argument("--first", type=int, default=200, help="training steps of generation 0")
    parser.add_argument("--start", help="a checkpoint to take generation 0 from")
    parser.add_argument("--rounds", type=int, default=1)
    chosen = parser.parse_args()
    quiet()
    data = cifar10(root=chosen.root, download=False, train_size=chosen.images, test_size=chosen.samples // 10 * 10)
    steps = -(-chosen.samples // chosen.batch_size)
    setting = reference.Setting(samples=chosen.samples, batch_size=chosen.batch_size, steps=steps)
    with tempfile.TemporaryDirectory() as directory:
        experiment = Experiment(data, setting, Path(directory), first=chosen.first, epochs=2, start=chosen.start)
        found: dict[str, list[Outcome]] = {name: [] for name in ways(experiment)}
        for _ in range(chosen.rounds):
            for name, way in ways(experiment).items():
                found[name].append(way())
    report(found, setting)


if __name__ == "__main__":
    main()
