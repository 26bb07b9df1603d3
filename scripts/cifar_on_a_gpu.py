"""CIFAR-10, curated, in half an hour on one GPU: the experiment of Ferbach et al. 2024 (section 4.1), reduced.

    python scripts/cifar_on_a_gpu.py --root data                 on one H100- or H200-class GPU
    python scripts/cifar_on_a_gpu.py --root data --toy           the same path in minutes on two CPU cores, to try it
    python scripts/cifar_on_a_gpu.py --root data model.network_batch=64     any option of the recipes; less memory

``--root`` holds ``cifar-10-batches-py``, which is downloaded where it may be. The parts, each a process of its own:

1. ``curated``: VGG11 with batch norm is trained on all of CIFAR-10, then generation 0 for 20,000 steps at 128
   channels, then six generations that keep 2,500 of 10,000 images by K = 4 choices; λ = inf, reward 5·q_airplane.
2. ``confidence``: the same from generation 0 of the first, with the reward 5·max q.
3. ``mixed``: that with λ = 1/2. The 25,000 synthetic items of a pass are the 2,500 kept ones, each ten times.
4. ``precision`` and ``cifar_generation``: the benchmarks of these names. The second is one of the processor alone.

A part that fails does not keep the others from running. The same command again continues what is unfinished and
leaves what is finished. Everything is in ``--output``: the runs with their reports, ``results.md``, ``curves.png``,
``film_strip.png`` and what the benchmarks printed. It takes some 10 GB: of each run, generation 0 and the last two
keep their weights and samples.

The estimates that are printed are arithmetic and not measured: floating point operations of the network, at a guessed
share of the peak of 989 TFLOP/s in bfloat16, and guesses in seconds for all else (``estimate``).

What differs from the recipes, for the sake of time: 20,000 steps in generation 0 instead of 400,000 (warm-up 1,000),
an average of decay 0.999, 16 network evaluations a sample, fewer samples and generations. No Inception metrics unless
``--inception-weights`` is given: distances are in the features of the VGG11.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from cifar_results import write_results

from sc_loops.errors import UsageError
from sc_loops.experiment import resolved_config
from sc_loops.reporting.wording import duration
from sc_loops.run import Run

HERE = Path(__file__).resolve().parent
ROOT, TRAIN = HERE.parent, HERE.parent / "train.py"
RUNS = {"curated": "cifar_curated", "confidence": "cifar_confidence", "mixed": "cifar_mixed"}

FULL = [
    "model.ema_decay=0.999",
    "model.solver=midpoint",
    "model.steps=8",
    "loop.generations=6",
    "loop.samples=10000",
    "loop.stages.0.choices=4",
    "loop.stages.0.kept=2500",
    "loop.first={steps: 20000, warmup_steps: 1000, horizontal_flips: true}",
    "loop.keep={last: 2, every: 1000}",
    "trainer.accelerator=gpu",
    "trainer.devices=1",
]
TOY = [
    "batch_size=32",
    "data.train_size=1000",
    "data.test_size=500",
    "classifier.epochs=3",
    "classifier.batch_size=32",
    "classifier.learning_rate=0.02",
    "model.network.channels=32",
    "model.network.residual_blocks=1",
    "model.network.channel_multipliers=[1, 2, 2]",
    "model.network.attention_resolutions=[8]",
    "model.network.head_channels=32",
    "model.network.patch_size=2",
    "model.network.compile=never",
    "model.network_batch=40",
    "model.steps=4",
    "model.sampling_precision=as_trained",
    "evaluation.samples=80",
    "loop.generations=2",
    "loop.samples=80",
    "loop.chunk_size=40",
    "loop.stages.0.kept=20",
    "loop.preview=16",
    "loop.first={steps: 40, warmup_steps: 5, learning_rate: 1e-3, horizontal_flips: true}",
    "loop.later={steps: 10}",
    "trainer.precision=32-true",
    "trainer.accelerator=cpu",
]

# Floating point operations of one image through the UNet of 128 channels; with gradients three times as many.
FORWARD = 12.44e9
PEAK = 989e12  # a second, in bfloat16, dense, of an H100 or H200
TRAINING, SAMPLING = 0.30, 0.35  # guesses: the share of the peak that is reached
START, CLASSIFIER, REST = 20, 120, 15  # guesses: seconds; REST is all else in a generation
COMPILING = {True: 90, False: 45}  # guesses: seconds, in the first run and in others, which find a part in a cache
BENCHMARK, LIMIT = 240, 420  # seconds of each: a guess, and after which it is given up
STOPPED = {130: 130, 143: 143, -signal.SIGINT: 130, -signal.SIGTERM: 143}  # a part's exit status to ours


@dataclass(frozen=True)
class Part:
    """One step of the whole.

    Attributes:
        name: of the run, or the benchmark.
        command: whose exit status 0 means that it is finished.
        product: a file that it leaves; a finished part without it is run again.
        estimate: seconds, or None where nobody knows.
        log: the file that its output goes to, instead of the terminal.
        needs: a file without which it cannot start.
        limit: seconds after which it is given up.
    """

    name: str
    command: list[str]
    product: Path
    estimate: float | None = None
    log: Path | None = None
    needs: Path | None = None
    limit: float | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 done, 1 a part failed, 2 bad input, 130 or 143 stopped by a signal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data", help="the folder that holds cifar-10-batches-py")
    parser.add_argument("--output", default=None, help="where everything goes: runs/gpu, or runs/toy with --toy")
    parser.add_argument("--toy", action="store_true", help="tiny, on the CPU; it shows nothing but that it works")
    parser.add_argument(
        "--inception-weights", metavar="FILE", help="torch-fidelity's; FID, KID and IS are then measured"
    )
    parser.add_argument("--no-benchmarks", action="store_true", help="only the three runs")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="options of all three runs")
    chosen = parser.parse_intermixed_args(arguments)
    given = list(sys.argv[1:] if arguments is None else arguments)
    output = Path(chosen.output or ("runs/toy" if chosen.toy else "runs/gpu"))
    try:
        require_gpu(chosen.toy)
        planned = parts(output, chosen)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    status = check(planned[0])
    if status:
        return status
    print("parts, with times that are estimated and were not measured:")
    for part in planned:
        print(f"  {part.name:<18}{_about(part.estimate)}")
    print(f"  {'in all':<18}{_about(total_estimate(planned))}", flush=True)
    return go(planned, output, shlex.join(["python", "scripts/cifar_on_a_gpu.py", *given]))


def require_gpu(toy: bool) -> None:
    """Raises:
    UsageError: there is no GPU, and this is no toy.
    """
    if not toy and not torch.cuda.is_available():
        raise UsageError(
            "the machine",
            found=f"no GPU that torch {torch.__version__} can use",
            expected="one GPU of the class of an H100, which takes half an hour; a CPU would take weeks",
            do="--toy tries the same path on a CPU; configs/cifar_small_curated.yaml is an experiment for one",
        )


def parts(output: Path, chosen: argparse.Namespace) -> list[Part]:
    """What is to be done, in order.

    Raises:
        UsageError: an override names no option, or has an impossible value.
    """
    weights = chosen.inception_weights
    metrics = f"[{{name: inception, weights: {json.dumps(weights)}, samples: 10000}}]" if weights else "[]"
    common = [*FULL, *(TOY if chosen.toy else []), f"evaluation.metrics={metrics}", "wandb.mode=disabled"]
    common += [f"data.root={chosen.root}", *chosen.overrides, f"output={output}"]
    start = Run(output / "curated").checkpoint(0)
    planned = []
    for name, recipe in RUNS.items():
        first = name == "curated"
        options = [*common, f"name={name}", *([] if first else [f"loop.start={start}"])]
        seconds = estimate(resolved_config(recipe, options), first=first)
        command = [sys.executable, str(TRAIN), "--config", recipe, *options]
        product = Run(output / name).metrics_path
        planned.append(Part(name, command, product, None if chosen.toy else seconds, needs=None if first else start))
    return planned + ([] if chosen.no_benchmarks else benchmarks(output, chosen.root, chosen.toy))


def benchmarks(output: Path, root: str, toy: bool) -> list[Part]:
    """The benchmarks as parts. Their sizes are their own: a key=value of the runs does not reach them."""
    place = ["--root", str(Path(root).resolve())]
    full = {
        "precision": ["--channels", "128", "--batch-size", "512", "--rounds", "3", "--compile"],
        "cifar_generation": [*place, "--samples", "100", "--batch-size", "25"],
    }
    tiny = {
        "precision": ["--channels", "32", "--batch-size", "2", "--rounds", "1"],
        "cifar_generation": [*place, "--samples", "20", "--batch-size", "10", "--images", "500", "--first", "2"],
    }
    planned = []
    for name, options in (tiny if toy else full).items():
        log = (output / "benchmarks" / f"{name}.txt").resolve()
        command = [sys.executable, "-m", f"benchmarks.{name}", *options]
        planned.append(Part(name, command, log, None if toy else BENCHMARK, log=log, limit=None if toy else LIMIT))
    return planned


def estimate(resolved: dict[str, Any], *, first: bool) -> float:
    """Seconds that a run of a resolved config takes at 128 channels: arithmetic and guesses, nothing measured.

    Args:
        resolved: sampled by the midpoint rule, with budgets in steps.
        first: whether the run trains the classifier and generation 0.
    """
    loop, batch = resolved["loop"], resolved["batch_size"]
    generations, evaluations = loop["generations"], 2 * resolved["model"]["steps"]
    steps = generations * (loop["later"]["steps"] or 0) + (loop["first"]["steps"] or 0) * first
    training = steps * batch * 3 * FORWARD / (TRAINING * PEAK)
    sampling = (generations + 1) * (loop["samples"] or 0) * evaluations * FORWARD / (SAMPLING * PEAK)
    return START + COMPILING[first] + CLASSIFIER * first + training + sampling + (generations + 1) * REST


def total_estimate(planned: Sequence[Part]) -> float | None:
    known = [part.estimate for part in planned if part.estimate is not None]
    return sum(known) if len(known) == len(planned) else None


def check(part: Part) -> int:
    """Try the data, the options and the disk, before anything runs: the exit status of a dry run."""
    return subprocess.run([*part.command, "--dry-run"], stdout=subprocess.DEVNULL).returncode


def go(planned: Sequence[Part], output: Path, command: str) -> int:
    """Run what of ``planned`` is not finished, and write the results after each; returns the exit status."""
    record = Record(output / "parts.json")
    began, failed = time.monotonic(), []
    for part in planned:
        if record.finished(part):
            print(f"== {part.name}: finished before, in {duration(record.seconds(part))}", flush=True)
            continue
        if part.needs is not None and not part.needs.exists():
            print(f"== {part.name}: left out, since there is no {part.needs}", flush=True)
            failed.append(part.name)
            continue
        print(f"== {part.name}: {shlex.join(part.command)}", flush=True)
        started = time.monotonic()
        status = run(part)
        record.add(part, status, time.monotonic() - started)
        outcome = "done" if status == 0 else "stopped" if status in STOPPED else f"FAILED, exit status {status},"
        print(f"== {part.name}: {outcome} after {duration(time.monotonic() - started)}", end="")
        print(f" (before: {_about(part.estimate)})", flush=True)
        if status in STOPPED:
            print("stopped; the same command continues from here")
            return STOPPED[status]
        failed += [part.name] * (status != 0)
        _write(output, planned, record, command)
    _write(output, planned, record, command)
    print(f"in all {duration(time.monotonic() - began)}; results: {output / 'results.md'}")
    if failed:
        print(f"not finished: {', '.join(failed)}. The same command tries again.", file=sys.stderr)
    return 1 if failed else 0


def _write(output: Path, planned: Sequence[Part], record: Record, command: str) -> None:
    """Write the results so far. They can be written again from what is on disk, so a failure ends nothing."""
    try:
        write_results(output, RUNS, planned, record, command)
    except Exception as error:
        print(f"results: not written this time ({type(error).__name__}: {error})", file=sys.stderr)


def run(part: Part) -> int:
    """Run the part's command to its end and return its exit status, negative for a signal that ended it.

    Ctrl-C reaches it by the terminal and SIGTERM through us; it saves, and this function waits for it. Its output is
    in ``part.log`` when it succeeded, else in a file beside it.
    """
    if part.log is None:
        return _waited(subprocess.Popen(part.command), part.limit)
    part.log.parent.mkdir(parents=True, exist_ok=True)
    unfinished = part.log.with_suffix(".unfinished.txt")
    with unfinished.open("w") as file:
        process = subprocess.Popen(part.command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
        status = _waited(process, part.limit)
    text = unfinished.read_text(errors="replace")
    print(text if status == 0 else f"{text[-2000:]}\n(all of it: {unfinished})", flush=True)
    if status == 0:
        os.replace(unfinished, part.log)
    return status


def _waited(process: subprocess.Popen[bytes], limit: float | None) -> int:
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        while True:
            try:
                return process.wait(limit)
            except KeyboardInterrupt:
                continue
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                return 124
    finally:
        signal.signal(signal.SIGTERM, before)


class Record:
    """What became of each part: its command, exit status and seconds over all attempts, in a JSON file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts: dict[str, dict[str, Any]] = {}
        if path.exists():
            self._parts = json.loads(path.read_text(encoding="utf-8"))

    def of(self, part: Part) -> dict[str, Any]:
        """What is known of ``part`` as it is now; of another command nothing is."""
        known = self._parts.get(part.name, {})
        return known if known.get("command") == part.command else {}

    def finished(self, part: Part) -> bool:
        return self.of(part).get("status") == 0 and part.product.exists()

    def seconds(self, part: Part) -> float:
        return float(self.of(part).get("seconds", 0.0))

    def add(self, part: Part, status: int, seconds: float) -> None:
        spent = self.seconds(part) + seconds
        self._parts[part.name] = {"command": part.command, "status": status, "seconds": round(spent, 1)}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._path.with_suffix(".tmp")
        unfinished.write_text(json.dumps(self._parts, indent=2) + "\n", encoding="utf-8")
        os.replace(unfinished, self._path)


def _about(seconds: float | None) -> str:
    return "no estimate" if seconds is None else f"about {duration(seconds)}"


if __name__ == "__main__":
    sys.exit(main())
