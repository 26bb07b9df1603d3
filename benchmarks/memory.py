"""Peak memory of making a pool of 10^4 and of 10^6 points, and of training on one of 10^6.

    OMP_NUM_THREADS=1 python -m benchmarks.memory [--few 10000] [--many 1000000]

Each is a process of its own, whose peak (``ru_maxrss``) includes Python and the libraries. A whole generation is
made by the loop: sample, score, curate, observe, write and summarise, in chunks of 1000. That must not take more
memory for more samples, give or take some megabytes. Training is different: it holds the pool in memory, so that a
batch is one indexing operation.

The least of two runs counts: how the allocator lays out the large matrices of the Wasserstein distance moves the
peak of a run by some 15 MB, whatever the number of samples.

Required: the peak does not grow with the number of samples (at most 16 MB from 10^4 to 10^6).
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile

ALLOWANCE = 16.0  # megabytes


def peak() -> float:
    """The largest resident size of this process so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


def make_pools(samples: int, generations: int) -> None:
    """Fit a loop whose last generation is ``generations``, a few steps each, with pools of ``samples`` points."""
    # Imported here: a child inherits the peak of the process that starts it, which must therefore be small.
    from benchmarks.measure import fit, quiet
    from sc_loops import (
        ClippedDistance,
        Curate,
        FlowMatching,
        Run,
        SelfConsumingLoop,
        TimeMLP,
        Training,
        two_moons,
    )

    quiet()
    data, reward = two_moons(size=4096), ClippedDistance(center=[-1.0, 2.0])
    with tempfile.TemporaryDirectory() as directory:
        loop = SelfConsumingLoop(
            Run(directory),
            reward,
            generations=generations,
            synthetic_ratio=float("inf"),
            stages=[Curate(reward, choices=2)],
            first=Training(steps=10),
            later=Training(steps=10),
            samples=samples,
        )
        fit(loop, FlowMatching(data, network=TimeMLP(data, width=16, depth=2), steps=2), data, 256)


def peak_of_a_process(samples: int, generations: int, runs: int = 2) -> float:
    """The peak of ``make_pools`` in a new process, in megabytes; the least of ``runs``."""
    command = [sys.executable, "-m", "benchmarks.memory", "--child", str(samples), str(generations)]
    outputs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(runs)]
    return min(float(output.split()[-1]) for output in outputs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--few", type=int, default=10**4)
    parser.add_argument("--many", type=int, default=10**6)
    parser.add_argument("--child", type=int, nargs=2, metavar=("SAMPLES", "GENERATIONS"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        make_pools(*chosen.child)
        print(peak())
        return
    few, many = (peak_of_a_process(samples, 0) for samples in (chosen.few, chosen.many))
    training = peak_of_a_process(chosen.many, 1)
    print(f"making a pool of {chosen.few:>8}: {few:7.1f} MB at most")
    print(f"making a pool of {chosen.many:>8}: {many:7.1f} MB at most")
    print(f"and training on it:        {training:7.1f} MB at most")
    growth = many - few
    met = "met" if growth <= ALLOWANCE else "NOT met"
    print(f"required: {chosen.many} take at most {ALLOWANCE:g} MB more than {chosen.few}: {growth:+.1f} MB: {met}")


if __name__ == "__main__":
    main()
