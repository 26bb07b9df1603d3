"""Samples per second of one and of two single-threaded processes that make the same pool:

    python -m benchmarks.scaling

Timed from the preview, which is written first, to the manifest, which is written when all processes are done; so the
ratio counts whatever waiting there is. The commands are those of a user, and take turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from sc_loops import Run

TRAIN = Path(__file__).resolve().parent.parent / "train.py"
RECIPE = [
    "--config", "digits_curated", "loop.generations=0", "loop.first={steps: 2}", "classifier.epochs=1",
    "wandb.mode=disabled", "trainer.accelerator=cpu", "loop.chunk_size=100",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=1600)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as output:
        print(f"{options.samples} samples of 8 x 8 digits by the UNet, in chunks of 100, one thread a process")
        start = train(output, "start", 1, "loop.samples=100").checkpoint(0)
        ratios = []
        for number in range(options.rounds):
            more = (f"loop.samples={options.samples}", f"loop.start={start}")
            order = (1, 2) if number % 2 else (2, 1)
            took = {n: seconds(train(output, f"{number}-{n}", n, *more)) for n in order}
            one, two = took[1], took[2]
            ratios.append(one / two)
            rates = f"{options.samples / one:.0f} and {options.samples / two:.0f} samples/s"
            print(f"round {number + 1}: {rates} with 1 and 2 processes, ratio {ratios[-1]:.2f}")
    print(f"median ratio {statistics.median(ratios):.2f}")


def train(output: str, name: str, processes: int, *options: str) -> Run:
    """Make generation 0 with so many processes."""
    several = [f"trainer.devices={processes}", *(["trainer.strategy=ddp"] if processes > 1 else [])]
    command = [sys.executable, str(TRAIN), *RECIPE, f"output={output}", f"name={name}", *several, *options]
    subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, stdout=subprocess.DEVNULL)
    return Run(Path(output) / name)


def seconds(run: Run) -> float:
    """From the preview to the manifest of generation 0."""
    pool = run.pool(0).path
    return (pool / "manifest.json").stat().st_mtime - (pool / "preview.safetensors").stat().st_mtime


if __name__ == "__main__":
    main()
