"""What is damaged on disk is found when a run is opened, said, and made again to the last bit, or refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TinyModel, fit, tiny_loop
from stopped_loops import Stop, StopAt, pool_bytes, rows_without_times
from torch import Tensor

from sc_loops import Run, Samples
from sc_loops.data.files import read_metadata
from sc_loops.errors import UsageError
from sc_loops.opening import damaged_pools, mend

Damage = Callable[[Path], None]


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-9] ^= 4  # among the numbers of a chunk; inside the archive's directory of a checkpoint
    path.write_bytes(content)


def remove(path: Path) -> None:
    path.unlink()


DAMAGES = [cut, flip, remove]


@pytest.fixture
def run(tmp_path) -> Run:
    """A finished run of generations 0 to 3."""
    fit(tiny_loop(tmp_path / "run"))
    return Run(tmp_path / "run")


def mended(run: Run) -> list[str]:
    """Open the run as the command does, and continue it; what was said of it."""
    said: list[str] = []
    mend(run, said.append)
    fit(tiny_loop(run.path))
    return said


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("generation", [1, 3])
@pytest.mark.parametrize("name", ["chunk-00001.safetensors", "raw-00000.safetensors", "manifest.json"])
def test_a_damaged_file_of_a_pool_is_made_again(run: Run, damage: Damage, generation: int, name: str) -> None:
    before, rows = pool_bytes(run, 3), rows_without_times(run)
    untouched = {p: p.stat().st_mtime_ns for p in run.pool(generation).path.glob("*-00002.safetensors")}
    damage(run.pool(generation).path / name)
    said = mended(run)
    assert pool_bytes(run, 3) == before
    assert rows_without_times(run) == rows
    assert {p: p.stat().st_mtime_ns for p in untouched} == untouched
    if name != "manifest.json" or damage is not remove:  # without one a pool is unfinished, not damaged
        assert len(said) == 1
        assert name in said[0]
        assert "made again" in said[0]


@pytest.mark.parametrize("damage", [cut, flip])
@pytest.mark.parametrize("how_many", [1, 2, 4])
def test_an_older_checkpoint_is_the_fallback_for_a_damaged_one(run: Run, damage: Damage, how_many: int) -> None:
    """With all four damaged, all is trained again, and the pools that are there turn out to be right."""
    before, rows = pool_bytes(run, 3), rows_without_times(run)
    for generation in range(4 - how_many, 4):
        damage(run.checkpoint(generation))
    said = mended(run)
    assert len(said) == how_many
    assert all(".ckpt" in line for line in said)
    assert pool_bytes(run, 3) == before
    assert rows_without_times(run) == rows
    assert run.saved.intact(run.checkpoint(3))


def test_a_row_that_was_cut_short_is_recorded_again(run: Run) -> None:
    rows = rows_without_times(run)
    text = run.metrics_path.read_text()
    run.metrics_path.write_text(text[: text.rindex('"samples"')])
    said = mended(run)
    assert len(said) == 1
    assert "cut short" in said[0]
    assert rows_without_times(run) == rows


def test_a_row_lost_in_the_middle_is_made_from_the_pool_and_the_checkpoint(run: Run) -> None:
    rows = rows_without_times(run)
    lines = run.metrics_path.read_text().splitlines(keepends=True)
    run.metrics_path.write_text("".join(line for line in lines if '"generation": 1,' not in line))
    mended(run)
    assert rows_without_times(run) == rows


def test_a_pool_that_is_needed_and_cannot_be_made_again_is_refused(tmp_path) -> None:
    """Generation 2 was being trained; the samples of generation 1 are damaged and its checkpoint is gone."""
    cut_loop = tiny_loop(tmp_path, observers=[StopAt("progress", 2, "training", 6)], checkpoint_steps=3)
    with pytest.raises(Stop):
        fit(cut_loop)
    run = Run(tmp_path)
    flip(run.pool(1).path / "chunk-00000.safetensors")
    remove(run.checkpoint(1))
    with pytest.raises(UsageError, match=r"chunk-00000.*\n.*generation-0001\.ckpt"):
        mend(run, lambda line: None)
    assert list(damaged_pools(run)) == [1]


@pytest.mark.parametrize("step", [4, 7])
@pytest.mark.parametrize("retraining", ["finetune", "from_scratch"])
def test_the_last_pool_is_made_again_while_the_next_generation_is_trained(tmp_path, step, retraining: str) -> None:
    options = {"retraining": retraining, "checkpoint_steps": 3}
    fit(tiny_loop(tmp_path / "whole", **options))
    with pytest.raises(Stop):
        fit(tiny_loop(tmp_path / "cut", observers=[StopAt("progress", 2, "training", step)], **options))
    run, whole = Run(tmp_path / "cut"), Run(tmp_path / "whole")
    flip(run.pool(1).path / "chunk-00001.safetensors")
    mend(run, lambda line: None)
    fit(tiny_loop(run.path, **options))
    assert pool_bytes(run, 3) == pool_bytes(whole, 3)
    assert rows_without_times(run) == rows_without_times(whole)
    assert run.training_rows() == whole.training_rows()


def test_a_pool_of_weights_that_were_trained_again_to_another_end_is_made_again(run: Run) -> None:
    """As when the last checkpoint is lost and the run goes on with another number of processes."""

    class Other(TinyModel):
        def loss(self, batch: Samples) -> Tensor:
            return super().loss(batch) * (1.0 + 1e-3 * (self._generation == 3))

    before, rows = pool_bytes(run, 3), rows_without_times(run)
    flip(run.checkpoint(3))
    mend(run, lambda line: None)
    fit(tiny_loop(run.path), Other())
    after, path = pool_bytes(run, 3), run.pool(3).path
    assert {name for name in before if before[name] != after[name]} == {
        f"pools/0003/{p.name}" for p in path.iterdir()
    }
    assert {read_metadata(p)["weights"] for p in path.glob("*.safetensors")} == {run.pool(3).manifest["weights"]}
    assert rows_without_times(run)[:3] == rows[:3]
    assert rows_without_times(run)[3]["reward/mean"] != rows[3]["reward/mean"]


def test_the_initial_weights_are_made_again_when_they_are_damaged(tmp_path) -> None:
    """A generation from scratch would else start from weights that nobody trained or drew."""
    options = {"retraining": "from_scratch"}
    fit(tiny_loop(tmp_path / "whole", **options))
    fit(tiny_loop(tmp_path / "cut", generations=1, **options))
    run = Run(tmp_path / "cut")
    flip(run.initial_weights)
    fit(tiny_loop(run.path, **options))
    assert pool_bytes(run, 3) == pool_bytes(Run(tmp_path / "whole"), 3)
    assert run.initial_weights.read_bytes() == Run(tmp_path / "whole").initial_weights.read_bytes()
