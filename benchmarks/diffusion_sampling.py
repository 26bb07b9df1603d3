"""What the sampler of a guided diffusion model costs: the Fréchet distance over the network's evaluations.

    OMP_NUM_THREADS=1 python -m benchmarks.diffusion_sampling --config mnist_small_baseline \\
        --checkpoint runs/mnist_small_baseline/checkpoints/generation-0000.ckpt [--images 1000] [data.root=...]

The published MNIST loop of Gillman et al. 2024 (arXiv 2402.07087) samples all T = 400 steps ancestrally with the
variance beta, each with guidance, in batches of 40. Here every way samples the same classes from one trained model.
The distance is to the held-out real images in the features of the config's classifier, with its standard error. An
evaluation is one image through the network; guidance takes two a step.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import quiet, timed
from sc_loops import Run
from sc_loops.data.pixels import as_bytes, as_float
from sc_loops.evaluation.frechet import frechet_distance, frechet_distance_error, gaussian
from sc_loops.experiment import Experiment, build, resolved_config
from sc_loops.processes import Processes
from sc_loops.randomness import generator_for
from sc_loops.synthesis import counted_evaluations

PUBLISHED = {"sampler": "ancestral", "variance": "fixed_large", "steps": 400}
WAYS: list[dict[str, Any]] = [
    PUBLISHED,
    {"sampler": "ancestral", "variance": "fixed_large", "steps": 100},
    *({"sampler": "ancestral", "variance": "fixed_small", "steps": steps} for steps in (100, 50, 25)),
    *({"sampler": "ddim", "steps": steps} for steps in (100, 50, 25, 10)),
]


def experiment_with(config: str, way: dict[str, Any], overrides: list[str], directory: str) -> Experiment:
    options = [f"model.{key}={value}" for key, value in way.items()]
    resolved = resolved_config(config, [*overrides, *options, f"output={directory}"])
    return build(resolved, Run(Path(directory) / "run"))


@torch.no_grad()
def measured(experiment: Experiment, checkpoint: Path, images: int, chunk: int) -> tuple[float, float, float, float]:
    """Evaluations of an image, seconds of CPU for it, the Fréchet distance and its standard error."""
    model, classifier = experiment.model, experiment.classifier
    assert classifier is not None
    model.load_weights(checkpoint)
    features, evaluations, seconds = [], 0, 0.0
    with model.averaged():
        for number in range(images // chunk):
            condition = torch.arange(chunk) % experiment.data.num_classes
            generator = generator_for(0, "benchmark", number)
            with timed() as watch, counted_evaluations(model) as count:
                x = model.sample(generator, chunk, condition)
            evaluations, seconds = evaluations + count.total, seconds + watch.cost.cpu
            features.append(classifier.features(as_float(as_bytes(x))))
    fake = torch.cat(features)
    real = gaussian(classifier.features(as_float(experiment.data.test.x))).with_root()
    distance, error = frechet_distance(gaussian(fake), real), frechet_distance_error(fake, real)
    return evaluations / images, seconds / images, distance, error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="mnist_small_baseline")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--chunk", type=int, default=250)
    parser.add_argument("overrides", nargs="*", help="of the config, as key=value")
    chosen = parser.parse_args()
    quiet()
    print("| sampler | steps | evaluations an image | ms of CPU an image | Fréchet distance |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        for way in WAYS:
            experiment = experiment_with(chosen.config, way, chosen.overrides, directory)
            experiment.prepare(Processes())
            cost, seconds, distance, error = measured(experiment, chosen.checkpoint, chosen.images, chosen.chunk)
            kind = f"{way['sampler']}, {way['variance']}" if "variance" in way else way["sampler"]
            line = f"| {kind} | {way['steps']} | {cost:.0f} | {1e3 * seconds:.1f} | {distance:.1f} ± {error:.1f} |"
            print(line, flush=True)


if __name__ == "__main__":
    main()
