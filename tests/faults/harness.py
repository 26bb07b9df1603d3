"""What the fault tests share: a tiny loop whose phases are slow enough to be hit, run by ``train.py`` as users do.

The user components in ``my_slow.py`` write a line to a journal whenever a phase begins, then pause. The journal tells
a test when to strike and which process is which rank, and afterwards which optimizer steps were done twice. Pauses
change no number, so an undisturbed run without them is the oracle.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sc_loops import Run

TRAIN = Path(__file__).resolve().parents[2] / "train.py"
CHECKPOINT_STEPS = 5
# Each phase, with how often it comes at least while one process makes one generation.
PHASES = {
    "training": 20,
    "sampling": 7,
    "scoring": 7,
    "curating": 7,
    "evaluating": 8,
    "writing raw": 7,
    "writing chunk": 7,
    "writing manifest": 1,
    "writing metrics": 1,
}
TWO = ("trainer.devices=2", "trainer.strategy=ddp")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")

CONFIG = f"""
name: run
data: {{name: two_moons, size: 200, test_size: 50}}
batch_size: 24
classifier: nearest_mean
reward: {{name: "my_slow:reward"}}
model: {{name: "my_slow:Model", steps: 2, network: {{name: mlp, width: 16, depth: 1}}}}
evaluation: {{metrics: [{{name: "my_slow:Slow"}}]}}
loop:
  generations: 3
  synthetic_ratio: 1
  stages: ["my_slow:stage", {{name: k_choice, choices: 2}}]
  first: {{steps: 40}}
  later: {{steps: 20}}
  chunk_size: 60
  checkpoint_steps: {CHECKPOINT_STEPS}
  log_every: 3
  preview: 4
trainer: {{accelerator: cpu, devices: 1}}
wandb: {{mode: disabled}}
"""

# FAULT is "<raise or hang> <phase> <rank>". The disk is slow, too: a kill then lands before a file has its name.
COMPONENTS = '''
import os
import re
import time

import torch
from sc_loops import FlowMatching, Metric

RANK = os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))
FAULT, PAUSE = os.environ.get("FAULT", ""), float(os.environ.get("PAUSE", "0"))
TRIED = (8, 50)  # samples that parts are tried on before the run, which is no phase: real ones, or all held-out ones
flush = os.fsync


def begin(phase, step=-1):
    with open(os.environ["JOURNAL"], "a") as journal:
        journal.write(f"{phase},{RANK},{os.getpid()},{step}\\n")
    if FAULT == f"raise {phase} {RANK}":
        raise ValueError(f"injected into rank {RANK}")
    time.sleep(1e6 if FAULT == f"hang {phase} {RANK}" else PAUSE)


def slow_flush(file):
    """Of .chunk-00003.safetensors.71.tmp the phase is "writing chunk"."""
    name = os.path.basename(os.readlink(f"/proc/self/fd/{file}"))
    begin("writing " + re.match(r"\\W*([a-z]*)", name)[1])
    flush(file)


os.fsync = slow_flush


def reward(x):
    """Minus the squared distance to (0, 1)."""
    if len(x) not in TRIED:
        begin("scoring")
    return -(x - torch.tensor([0.0, 1.0], device=x.device)).square().sum(1).clamp(max=25.0)


def stage(samples, generator):
    if len(samples) not in TRIED:
        begin("curating")
    return samples


class Model(FlowMatching):
    def loss(self, batch):
        if self._trainer is not None:  # else it is tried
            begin("training", self.global_step)
        return super().loss(batch)

    def sample(self, generator, n, condition=None):
        if self._trainer is not None:
            begin("sampling")
        return super().sample(generator, n, condition)


class Slow(Metric):
    name = "slow"

    def observe(self, samples):
        if len(samples) not in TRIED:
            begin("evaluating")
        return {"sum": samples.x.sum(0)}

    def summarise(self, observations):
        if len(observations) > 1:
            begin("evaluating")
        return {"slow/mean": float(torch.stack([o["sum"] for o in observations]).mean())}
'''


class Entry(NamedTuple):
    """One line of the journal: process ``pid``, which is ``rank``, began ``phase``."""

    phase: str
    rank: int
    pid: int
    step: int


class Command:
    """One ``train.py`` command in a folder of its own, given again and again until the run is finished."""

    def __init__(self, folder: Path, *arguments: str, launcher: tuple[str, ...] = (sys.executable,)) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tiny.yaml").write_text(CONFIG)
        (folder / "my_slow.py").write_text(COMPONENTS)
        self.folder, self.run, self.journal = folder, Run(folder / "runs/run"), folder / "journal"
        self.journal.touch()
        self.command = [*launcher, str(TRAIN), "--config", "tiny.yaml", *arguments]
        self.earlier = 0  # journal lines of attempts before this one

    def start(self, **environment: str) -> None:
        """Give the command, in a process group of its own. Environment: see ``COMPONENTS``."""
        self.earlier = len(self.entries())
        fixed = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "JOURNAL": str(self.journal), "PAUSE": "0"}
        # Files and not pipes: a process left behind would hold a pipe open, and reading it would wait for ever.
        with (self.folder / "out").open("w") as out, (self.folder / "err").open("w") as err:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env={**os.environ, **fixed, **environment},
                stdout=out,
                stderr=err,
                start_new_session=True,
                # What a shell starts in the background ignores Ctrl-C, and so would all that it starts.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )

    def ended(self, within: float = 120) -> int:
        """The exit status, for which the command has so many seconds."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {within} s\n{self.errors}") from None

    def finish(self, **environment: str) -> Command:
        """Give the command and let it end well."""
        self.start(**environment)
        assert self.ended(240) == 0, self.errors
        return self

    @property
    def errors(self) -> str:
        return (self.folder / "err").read_text()

    def entries(self) -> list[Entry]:
        """The journal of all attempts; a line cut short by a kill is none."""
        lines = [line.split(",") for line in self.journal.read_text().splitlines()]
        return [Entry(words[0], *map(int, words[1:])) for words in lines if len(words) == 4]

    def present(self) -> list[Entry]:
        """The journal of this attempt."""
        return self.entries()[self.earlier :]

    def reached(self, phase: str, times: int = 1, rank: int = 0, within: float = 120) -> bool:
        """Wait until ``rank`` has begun ``phase`` so often; False if the command ends before that."""

        def begun() -> bool:
            return sum((e.phase, e.rank) == (phase, rank) for e in self.present()) >= times

        return self.until(begun, within)

    def until(self, condition: Callable[[], bool], within: float = 120) -> bool:
        """Wait for ``condition``; False if the command ends before it holds."""
        deadline = time.monotonic() + within
        while not condition():
            if self.process.poll() is not None:
                return condition()
            assert time.monotonic() < deadline, self.errors
            time.sleep(0.002)
        return True

    def pid(self, rank: int) -> int:
        """The process that is ``rank``: as it wrote in the journal, or before it did, as its environment says."""
        wrote = [entry.pid for entry in self.present() if entry.rank == rank]
        named = [pid for pid in self.alive() if f"LOCAL_RANK={rank}".encode() in _environment(pid)]
        return [*wrote[-1:], *named, self.process.pid][0]

    def signal(self, number: int, rank: int | None = None) -> None:
        """Send a signal to one rank, or else to the command, as ``kill PID`` would."""
        os.kill(self.process.pid if rank is None else self.pid(rank), number)

    def signal_all(self, number: int) -> None:
        """Send a signal to every process of the command, as a terminal or a scheduler does."""
        for pid in self.alive():
            _kill(pid, number)

    def alive(self) -> list[int]:
        """All processes that the command started and that have not ended, whatever became of their parents."""
        mine = f"JOURNAL={self.journal}".encode()
        return [pid for pid in _processes() if mine in _environment(pid)]  # that of a zombie is empty

    def destroy(self) -> None:
        """SIGKILL to everything, and wait until it is gone."""
        while self.alive():
            self.signal_all(signal.SIGKILL)
            time.sleep(0.01)
        self.process.wait(30)

    def gone(self, within: float = 30) -> bool:
        """Whether all processes end by themselves within so many seconds."""
        deadline = time.monotonic() + within
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.1)
        return not self.alive()

    def chunks(self) -> dict[str, int]:
        """When each chunk that is there was written."""
        paths = self.run.path.glob("pools/*/chunk-*.safetensors")
        return {str(path): path.stat().st_mtime_ns for path in paths}

    def repeated_steps(self, rank: int = 0) -> int:
        """Optimizer steps that were begun more than once, over all attempts."""
        begun = Counter(e.step for e in self.entries() if e.phase == "training" and e.rank == rank)
        return sum(begun.values()) - len(begun)


def strike(command: Command, chance: random.Random, kill: Callable[[Command], None]) -> bool:
    """Give the command and ``kill`` at a random moment: while it starts, or in a random phase; False if it ended."""
    command.start(PAUSE="0.02")
    phase = chance.choice(("starting", *PHASES))
    if phase == "starting":
        time.sleep(chance.uniform(0.0, 5.0))
    elif not command.reached(phase, times=chance.randint(1, 2 * PHASES[phase])):
        return False
    time.sleep(chance.uniform(0.0, 0.03))  # the phase lasts 0.02: it is hit inside, at its end, and just behind
    if command.process.poll() is not None:
        return False
    kill(command)
    return True


# Comparing two runs.


def assert_same(one: Run, other: Run) -> None:
    """Everything that is a result is the same to the last bit; only times may differ."""
    assert pools(one) == pools(other)
    assert results(one) == results(other)
    assert losses(one) == losses(other)
    assert_identical(state(one), state(other))


def pools(run: Run) -> dict[str, bytes]:
    """All files of all pools. The temporary ones that a kill leaves are hidden, and no part of a pool."""
    root = run.path / "pools"
    paths = [path for path in root.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def results(run: Run) -> list[dict[str, Any]]:
    """The rows of the generations without what a clock measured."""
    clocks = ("seconds/", "samples_per_second/")
    return [{k: v for k, v in row.items() if not k.startswith(clocks)} for row in run.rows()]


def losses(run: Run) -> dict[int, float]:
    return {row["step"]: row["train/loss"] for row in run.training_rows()}


def state(run: Run) -> dict[str, Any]:
    """Weights, their average and the optimizer's state after the last generation."""
    checkpoint = torch.load(run.checkpoint(run.rows()[-1]["generation"]), weights_only=True, map_location="cpu")
    return {key: checkpoint[key] for key in ("state_dict", "ema", "optimizer_states")}


def assert_identical(one: Any, other: Any, where: str = "") -> None:
    """Equality of nested containers of tensors, to the bit."""
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, where
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_identical(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_identical(a, b, f"{where}.{number}")
    else:
        assert one == other, where


# Processes, from /proc.


def _processes() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it ended meanwhile, or is somebody else's
        return []


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
