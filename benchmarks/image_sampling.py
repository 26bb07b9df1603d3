"""What a solver's evaluations buy on images: the error of the samples, and their distance to real images.

    OMP_NUM_THREADS=1 python -m benchmarks.image_sampling --config cifar_small_curated \\
        [--checkpoint runs/.../generation-0000.ckpt] [--images 1000] [data.root=...]

Solves the ODE of a flow-matching model from the same noise in different ways: ``--checkpoint`` of a run of
``--config``, or the model of that config trained here for ``--train`` steps. The error is the root mean square, over
pixels in [-1, 1], of the difference to a fine solve (RK4 with 50 steps). The Fréchet distance is to the held-out real
images, in the feature space of the config's classifier. The solvers take turns, chunk by chunk; a network wants the
time that it wants, so evaluations are what counts.

Says which solver with at most 32 evaluations is the cheapest whose Fréchet distance is at most 2 % above dopri5's.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.measure import Cost, quiet, timed
from benchmarks.sampling import TOLERANCE, end_points
from sc_loops import Classifier, FlowMatching, LoopDataModule, RealData, Run, Training
from sc_loops.data.pixels import as_bytes, as_float
from sc_loops.evaluation.frechet import frechet_distance, gaussian
from sc_loops.experiment import Experiment, build, resolved_config
from sc_loops.processes import Processes
from sc_loops.randomness import generator_for, seed_global
from sc_loops.sampling.solvers import SOLVER_EVALUATIONS, Solver

Key = tuple[Solver, int]

EULER_100: Key = ("euler", 100)
DOPRI5: Key = ("dopri5", 0)
FEW: list[Key] = [(solver, n // each) for n in (16, 32) for solver, each in SOLVER_EVALUATIONS.items()]
SOLVERS: list[Key] = [DOPRI5, EULER_100, *FEW]
FINE: Key = ("rk4", 50)


@dataclass
class Outcome:
    """What one solver gave.

    Attributes:
        features: of the images, chunk by chunk.
        evaluations: of the network on a sample, chunk by chunk.
        costs: of the chunks.
        error: of the first chunk, against the fine solve.
        distance: of all, to the real images.
    """

    features: list[Tensor] = field(default_factory=list)
    evaluations: list[int] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    error: float = float("nan")
    distance: float = float("nan")


def trained(experiment: Experiment, steps: int) -> FlowMatching:
    """The model of the experiment after ``steps`` steps of its generation 0, by a plain loop."""
    seed_global(experiment.seed, "benchmark")
    model, module = experiment.model, LoopDataModule(experiment.data, batch_size=experiment.batch_size)
    assert isinstance(model, FlowMatching)
    pairing, training = model.pairing(), Training(steps=steps)
    module.begin_generation(0, synthetic_ratio=0.0, training=training, seed=0, pairing=pairing)
    optimizer = torch.optim.Adam(model.parameters(), lr=experiment.loop.first.learning_rate or model.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for batch in module.train_dataloader():
        optimizer.zero_grad()
        model.loss(batch.as_float()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model


@torch.no_grad()
def outcomes(
    model: FlowMatching, classifier: Classifier, data: RealData, *, images: int, chunk: int, solvers: list[Key]
) -> dict[Key, Outcome]:
    """Each solver's samples from the same noise, in chunks, and what became of them."""
    found = {key: Outcome() for key in solvers}
    with model.averaged():
        for number in range(images // chunk):
            generator = generator_for(0, "benchmark", number)
            noise = torch.randn((chunk, *data.shape), generator=generator).to(model.device)
            exact = end_points(model, noise, *FINE)[0] if number == 0 else None
            for key in solvers if number % 2 else reversed(solvers):
                with timed() as watch:
                    x, evaluations = end_points(model, noise, *key)
                    x = x.cpu()
                found[key].costs.append(watch.cost)
                found[key].evaluations.append(evaluations)
                found[key].features.append(classifier.features(as_float(as_bytes(x))))
                if exact is not None:
                    found[key].error = float((x - exact.cpu()).square().mean().sqrt())
    real = gaussian(classifier.features(as_float(data.test.x))).with_root()
    for outcome in found.values():
        outcome.distance = frechet_distance(gaussian(torch.cat(outcome.features)), real)
    return found


def cheapest(found: dict[Key, Outcome]) -> Key | None:
    """Of the solvers in ``FEW``, the one with the fewest evaluations whose distance is at most 2 % above dopri5's; of
    several, the one with the least error."""
    good = [key for key in FEW if key in found and found[key].distance <= 1.02 * found[DOPRI5].distance]
    return min(good, key=lambda key: (found[key].evaluations[0], found[key].error), default=None)


def name(key: Key) -> str:
    return f"{key[0]} {key[1]}" if key[1] else f"{key[0]} {TOLERANCE:g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="cifar_small_curated")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--train", type=int, default=500, help="steps, where no checkpoint is given")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--chunk", type=int, default=250)
    parser.add_argument("overrides", nargs="*", help="of the config, as key=value")
    chosen = parser.parse_args()
    quiet()
    with tempfile.TemporaryDirectory() as directory:
        overrides = [*chosen.overrides, f"output={directory}"]
        experiment = build(resolved_config(chosen.config, overrides), Run(Path(directory) / "run"))
        experiment.prepare(Processes())
        model, classifier = experiment.model, experiment.classifier
        assert isinstance(model, FlowMatching)
        assert classifier is not None
        if chosen.checkpoint:
            model.load_weights(chosen.checkpoint)
        else:
            trained(experiment, chosen.train)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    found = outcomes(model, classifier, experiment.data, images=chosen.images, chunk=chosen.chunk, solvers=SOLVERS)
    print(f"{'':<14}{'evaluations':>12}{'rms error':>11}{'Fréchet':>9}{'of dopri5':>11}{'times cheaper':>15}")
    for key, outcome in found.items():
        cheaper = statistics.median(a.cpu / b.cpu for a, b in zip(found[EULER_100].costs, outcome.costs, strict=True))
        evaluations, relative = statistics.mean(outcome.evaluations), outcome.distance / found[DOPRI5].distance
        print(f"{name(key):<14}{evaluations:>12.0f}{outcome.error:>11.4f}{outcome.distance:>9.3f}", end="")
        print(f"{relative:>11.3f}{cheaper:>15.1f}")
    best = cheapest(found)
    which = "none" if best is None else name(best)
    print(f"the cheapest whose Fréchet distance is at most 2 % above dopri5's: {which}", end="")
    print(f", in {classifier.feature_name}, {chosen.images} images")


if __name__ == "__main__":
    main()
