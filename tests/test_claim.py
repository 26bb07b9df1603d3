"""A loop's hold on its run directory: one writer, what is damaged mended, and no second run begun in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import TinyModel, fit, generations, plain_fit, tiny_loop
from stopped_loops import Stop, StopAt, pool_bytes
from torch import Tensor

from sc_loops import Curate, Observer, Run
from sc_loops.claim import newest_whole
from sc_loops.errors import UsageError
from sc_loops.opening import mend


@pytest.fixture
def run(tmp_path) -> Run:
    """A finished run of generations 0 to 3."""
    fit(tiny_loop(tmp_path / "run"))
    return Run(tmp_path / "run")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-9] ^= 4  # among the numbers of a chunk; inside the archive's directory of a checkpoint
    path.write_bytes(content)


def rightmost(x: Tensor) -> Tensor:
    return -x[:, 0]


def test_another_reward_in_the_same_directory_is_refused(tmp_path) -> None:
    """Its weights of generation 0 are the same, by which a pool is known; the old choices would count as the new."""
    plain_fit(tiny_loop(tmp_path, generations=1))
    before = (tmp_path / "metrics.jsonl").read_bytes()
    changed = {"reward": rightmost, "stages": [Curate(rightmost, choices=2)], "generations": 1}
    with pytest.raises(UsageError, match=r"a run is there, of 2 generations\n(.*\n)*.*ckpt_path=loop.resume\(\)"):
        plain_fit(tiny_loop(tmp_path, **changed))
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_a_loop_that_is_fitted_twice_is_refused(tmp_path) -> None:
    loop = tiny_loop(tmp_path, generations=0)
    plain_fit(loop, loop.resume())
    with pytest.raises(UsageError, match="a run is there, of 1 generation\n"):
        plain_fit(loop)


@pytest.mark.parametrize("lost", ["pools", "metrics.jsonl", "checkpoints"])
def test_whatever_is_left_of_a_run_counts(tmp_path, lost: str) -> None:
    plain_fit(tiny_loop(tmp_path, generations=0))
    (tmp_path / lost).rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="a run is there"):
        plain_fit(tiny_loop(tmp_path, generations=0))


def test_a_checkpoint_of_another_run_does_not_continue_this_one(tmp_path) -> None:
    for name in ("a", "b"):
        plain_fit(tiny_loop(tmp_path / name, generations=0))
    with pytest.raises(UsageError, match=r"is none of its checkpoints"):
        plain_fit(tiny_loop(tmp_path / "b", generations=1), Run(tmp_path / "a").checkpoint(0))
    plain_fit(tiny_loop(tmp_path / "c", generations=1), Run(tmp_path / "a").checkpoint(0))  # a fork
    assert generations(tmp_path / "c") == [0, 1]


@pytest.mark.parametrize("options", [{}, {"start": "a"}])
def test_resuming_begins_again_where_no_checkpoint_was_written(tmp_path, options: dict[str, str]) -> None:
    """Killed inside the first generation that is trained; with ``start``, generation 0 has its pool and its row."""
    plain_fit(tiny_loop(tmp_path / "a", generations=0))
    begun = 1 if options else 0
    options = {"start": str(Run(tmp_path / "a").checkpoint(0))} if options else {}
    with pytest.raises(Stop):
        plain_fit(tiny_loop(tmp_path / "b", observers=[StopAt("progress", begun, "training", 4)], **options))
    with pytest.raises(UsageError, match=f"a run is there, of {begun} generation"):
        plain_fit(tiny_loop(tmp_path / "b", **options))
    loop = tiny_loop(tmp_path / "b", **options)
    assert loop.resume() is None
    plain_fit(loop)
    assert generations(tmp_path / "b") == [0, 1, 2, 3]


def test_what_resume_found_is_to_be_given_to_the_trainer(tmp_path) -> None:
    plain_fit(tiny_loop(tmp_path, generations=0))
    loop = tiny_loop(tmp_path, generations=1)
    assert loop.resume() == Run(tmp_path).checkpoint(0)
    with pytest.raises(UsageError, match="a run is there"):
        plain_fit(loop)


def test_initial_weights_of_a_fit_that_never_came_to_anything_are_not_those_of_the_next(tmp_path) -> None:
    class Broken(TinyModel):
        def training_step(self, batch, batch_idx):
            raise Stop

    options = {"retraining": "from_scratch", "generations": 1}
    torch.manual_seed(1)
    other = Broken()
    with pytest.raises(Stop):
        fit(tiny_loop(tmp_path / "a", **options), other)
    plain_fit(tiny_loop(tmp_path / "a", **options))
    plain_fit(tiny_loop(tmp_path / "b", **options))
    assert pool_bytes(Run(tmp_path / "a"), 1) == pool_bytes(Run(tmp_path / "b"), 1)


def test_what_is_damaged_is_mended_when_a_loop_is_resumed(run: Run, capfd) -> None:
    """Generation 4 trains on the pool of generation 3, in which a bit was flipped."""
    chunk, digest = run.pool(3).path / "chunk-00000.safetensors", pool_bytes(run, 3)
    flip(chunk)
    loop = tiny_loop(run.path, generations=4)
    checkpoint = loop.resume()
    assert checkpoint == run.checkpoint(3)
    assert not chunk.exists()
    fit(loop)
    assert pool_bytes(run, 3) == digest
    assert chunk.name in capfd.readouterr().err


def locked(run: Run) -> bool:
    """Whether another process finds that somebody writes to ``run``."""
    tries = "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    command = [sys.executable, "-S", "-c", tries, str(run.path / ".lock")]
    return subprocess.run(command, capture_output=True).returncode != 0


def test_a_fit_is_the_one_writer_to_its_run_until_it_ends(tmp_path) -> None:
    held: list[bool] = []

    class Look(Observer):
        def run_started(self, run: Run, generations: int, first: int) -> None:
            held.append(locked(run))

    for loop in [tiny_loop(tmp_path, generations=t, observers=[Look()]) for t in (0, 1)]:
        fit(loop)
        held.append(locked(loop.run))
    with pytest.raises(Stop):
        fit(tiny_loop(tmp_path, generations=2, observers=[Look(), StopAt("progress", 2, "training", 1)]))
    assert [*held, locked(Run(tmp_path))] == [True, False, True, False, True, False]


@pytest.mark.parametrize("how_many", [0, 1, 2, 4])
def test_other_ranks_find_the_checkpoint_that_rank_0_does_and_touch_nothing(run: Run, how_many: int) -> None:
    for generation in range(4 - how_many, 4):
        flip(run.checkpoint(generation))
    before = sorted(run.checkpoints.iterdir())
    found = newest_whole(run)
    assert sorted(run.checkpoints.iterdir()) == before
    assert found == mend(run, lambda line: None)
    assert newest_whole(run) == found


def test_a_checkpoint_inside_a_generation_is_newer_than_the_one_before_it(tmp_path) -> None:
    with pytest.raises(Stop):
        fit(tiny_loop(tmp_path, checkpoint_steps=3, observers=[StopAt("progress", 1, "training", 7)]))
    run = Run(tmp_path)
    assert newest_whole(run) == run.saved.step(1, 6) == run.saved.newest()
    flip(run.saved.step(1, 6))
    flip(run.saved.step(1, 3))
    assert newest_whole(run) == run.checkpoint(0)
