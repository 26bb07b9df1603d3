"""train.py in a process of its own: nothing on stderr, and a signal that ends a run which goes on later."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import generations

from sc_loops.run import Run

TRAIN = Path(__file__).resolve().parent.parent / "train.py"


def hear_interrupts() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so would all that it starts, this test's run too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(TRAIN), "--config", "tiny.yaml", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=hear_interrupts,
    )


def until(condition: Callable[[], object], process: subprocess.Popen[str], seconds: float = 90) -> None:
    """Wait for ``condition`` while ``process`` runs."""
    ends = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("number", "status"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_a_signal_ends_a_run_that_the_same_command_continues(here, number: int, status: int) -> None:
    process = start("loop.later.steps=100000", "loop.log_every=10", "name=mine")
    try:
        until(lambda: any(row["step"] > 3 for row in Run("runs/mine").training_rows()), process)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == status, errors
    assert "Traceback" not in errors
    assert "the same command continues" in errors.lower()
    assert len(errors.strip().splitlines()) == (2 if number == signal.SIGINT else 1)
    assert generations("runs/mine") == [0]
    assert Run("runs/mine").last_checkpoint.resolve(strict=True).name.startswith("generation-0001-step-")


def test_train_py_runs_and_says_nothing_on_stderr(here) -> None:
    process = start("loop.generations=0")
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    assert generations("runs/tiny") == [0]
