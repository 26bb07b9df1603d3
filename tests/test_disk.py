"""Disk space: what is kept, what is foretold, and a disk that is full."""

from __future__ import annotations

import math
from pathlib import Path
from typing import get_args

import pytest
import torch

from sc_loops.checkpoints import Checkpoints
from sc_loops.data.memory import Memory, MemoryPolicy
from sc_loops.data.pool import Chunk, Pool
from sc_loops.disk import Keep, ModelBytes, Pruner, expected_bytes, free_bytes, items_of, used_bytes
from sc_loops.errors import InvalidValue, RunError
from sc_loops.models.base import GenerativeModel
from sc_loops.run import Run
from sc_loops.samples import Samples


def generation(run: Run, number: int, weights: int = 1000) -> None:
    """Leave behind what a generation does: a checkpoint of 4 x ``weights`` floats and a pool of 500 points."""
    chunks = [Chunk(0, 0, 250), Chunk(1, 250, 250)]
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    with run.saved.writing(run.checkpoint(number), 16 * weights) as temporary:
        torch.save(torch.zeros(4 * weights), temporary)
    run.saved.seal(temporary, run.checkpoint(number))
    pool = run.pool(number)
    list(pool.fill(chunks, lambda chunk: (Samples(torch.zeros(chunk.size, 2)), {"m": {"v": torch.zeros(1)}})))
    pool.finish(number, chunks)
    run.record({"generation": number})


def kept(run: Run, newest: int) -> list[int]:
    """The generations with samples, which must be those with a checkpoint."""
    samples = [t for t in range(newest + 1) if run.pool(t).has_samples]
    assert samples == [t for t in range(newest + 1) if run.checkpoint(t).exists()]
    return samples


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (Keep(), [0, 1, 2, 3, 4, 5, 6, 7]),
        (Keep(last=1), [7]),
        (Keep(last=3), [5, 6, 7]),
        (Keep(last=99), [0, 1, 2, 3, 4, 5, 6, 7]),
        (Keep(every=3), [0, 3, 6, 7]),
        (Keep(last=2, every=5), [0, 5, 6, 7]),
    ],
)
def test_which_generations_stay(tmp_path, keep: Keep, expected: list[int]) -> None:
    run = Run(tmp_path)
    pruner = Pruner(run, keep)
    for number in range(8):
        generation(run, number)
        pruner.prune(number)
        if number == 4:
            pruner = Pruner(run, keep)  # as that of a run that goes on
    assert kept(run, 7) == expected
    assert [number for number in range(8) if run.pool(number).finished] == list(range(8))
    assert all(run.pool(number).observations("m") for number in range(8))
    assert run.saved.newest() == run.checkpoint(7)


@pytest.mark.parametrize("option", ["last", "every"])
@pytest.mark.parametrize("value", [0, -1])
def test_impossible_values(option: str, value: int) -> None:
    with pytest.raises(InvalidValue, match=option):
        Keep(**{option: value})


@pytest.mark.parametrize("anew", [True, False])
def test_a_prune_that_was_cut_short_is_completed(tmp_path, monkeypatch, anew: bool) -> None:
    """By the same pruner, and by that of a run that goes on."""
    run, unlink = Run(tmp_path), Path.unlink
    pruner = Pruner(run, Keep(last=1))
    for number in range(4):
        generation(run, number)
    stops = 0
    while stops == 0 or kept_or_none(run) != [3]:
        left = [1]  # each attempt deletes one file and dies

        def dying(path: Path, missing_ok: bool = False, left: list[int] = left) -> None:
            if path.exists():
                if left[0] == 0:
                    raise KeyboardInterrupt
                left[0] -= 1
            unlink(path, missing_ok)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", dying)
            try:
                pruner.prune(3)
            except KeyboardInterrupt:
                stops += 1
                pruner = Pruner(run, Keep(last=1)) if anew else pruner
        assert all(run.pool(number).finished and not run.pool(number).damaged() for number in range(4))
    assert stops == 3 * 4 - 1  # two chunks, a checkpoint and its checksum, of three generations
    assert not list(tmp_path.glob("pools/000[0-2]/chunk-*"))


def kept_or_none(run: Run) -> list[int]:
    return [
        t for t in range(4) if list(run.pool(t).path.glob("chunk-*")) or list(run.checkpoints.glob(f"*{t}.ckpt*"))
    ]


@pytest.mark.parametrize("needed", [False, True])
@pytest.mark.parametrize("keep", [Keep(), Keep(last=2), Keep(last=2, every=30)])
def test_a_generation_costs_the_same_after_many_as_after_few(tmp_path, monkeypatch, keep: Keep, needed: bool) -> None:
    """In looks at the disk: at pools, checkpoints and improvements. Also where memory needs all pools."""
    run, looks = Run(tmp_path), []
    monkeypatch.setattr(Run, "pool", lambda self, t: looks.append(t) or Pool(tmp_path / "none"))
    monkeypatch.setattr(Checkpoints, "remove", lambda self, t: looks.append(t))
    monkeypatch.setattr(Run, "generations", lambda self: looks.append(-1) or [0])
    pruner, counts = Pruner(run, keep), []
    for number in range(100):
        pruner.prune(number, needs=lambda pool: needed)
        counts.append(len(looks))
        looks.clear()
    assert counts[0] == 1
    assert max(counts[1:]) <= 2


def test_what_memory_needs_no_more_goes(tmp_path) -> None:
    run, pruner = Run(tmp_path), Pruner(Run(tmp_path), Keep(last=1))
    for number in range(4):
        generation(run, number)
        pruner.prune(number, needs=lambda pool: True)
    assert [run.pool(t).has_samples for t in range(4)] == 4 * [True]
    assert [run.checkpoint(t).exists() for t in range(4)] == [False, False, False, True]
    pruner.prune(3, needs=lambda pool: pool == 1)
    assert [run.pool(t).has_samples for t in range(4)] == [False, True, False, True]


@pytest.mark.parametrize("keep", [Keep(), Keep(last=2), Keep(every=3)])
def test_what_is_expected_is_about_what_is_used(tmp_path, keep: Keep) -> None:
    run, options = Run(tmp_path), {"model": ModelBytes(400_000), "sample_bytes": 8, "pool_items": 500}
    pruner = Pruner(run, keep)
    for number in range(7):
        generation(run, number, weights=100_000)
        pruner.prune(number)
    spare = 2 * 4 * 400_000 + 500 * 8  # step checkpoints and a pool in the making, of which there are none now
    expected = expected_bytes(**options, generations=6, keep=keep) - spare
    assert used_bytes(run) == pytest.approx(expected, rel=0.03)
    per_generation = expected_bytes(**options, observed_bytes=100, generations=6, keep=keep) - spare - expected
    assert per_generation == 7 * 100


@pytest.mark.parametrize("memory", get_args(MemoryPolicy))
@pytest.mark.parametrize("ratio", [0.0, 0.5, 2.0, math.inf])
def test_the_items_of_a_generation_are_those_that_memory_has(memory: MemoryPolicy, ratio: float) -> None:
    pool = Samples(torch.zeros(40 if math.isinf(ratio) else int(40 * ratio), 2))
    recalling = Memory.of(memory, lambda number: pool, 40, ratio)
    for number in range(1, 6):
        drawn = recalling.real(number) if ratio else None
        real = 0 if math.isinf(ratio) else 40 if drawn is None else len(drawn)
        synthetic = sum(map(len, recalling.recall(number))) if ratio else 0
        found = items_of(number, memory, first=7, real=40, synthetic=len(pool), sees_real=ratio < math.inf)
        assert found == pytest.approx(real + synthetic, abs=number)  # fading rounds down pool by pool
    assert items_of(0, memory, first=7, real=40, synthetic=len(pool)) == 7


def test_a_model_is_its_learnt_weights_its_fixed_ones_and_what_grows() -> None:
    class Growing(GenerativeModel):
        growing = ("items",)

        def __init__(self) -> None:
            super().__init__()
            self.learnt, self.frozen = torch.nn.Linear(3, 2), torch.nn.Linear(5, 1, bias=False).requires_grad_(False)
            self.register_buffer("matrix", torch.zeros(4, 4, dtype=torch.float64))
            self.register_buffer("items", torch.zeros(9, 7))
            self.register_buffer("scratch", torch.zeros(1000), persistent=False)

        def loss(self, batch: Samples) -> torch.Tensor:
            return batch.x.mean()

        def sample(self, generator, n, condition=None):
            return torch.zeros(n, 2)

    assert ModelBytes.of(Growing()) == (4 * 8, 4 * 5 + 8 * 16, 4 * 7)


def test_free_space_is_that_of_the_nearest_parent(small_disk: Path) -> None:
    for path in (small_disk, small_disk / "not" / "there"):
        assert free_bytes(path) == 1 << 20
    assert used_bytes(Run(small_disk / "absent")) == 0


def test_a_full_disk_ends_each_write_with_what_was_there_intact(small_disk: Path) -> None:
    run = Run(small_disk / "run")
    generation(run, 0)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(free_bytes(small_disk)))
    with pytest.raises(RunError, match="No space left"):
        run.record({"generation": 1, "text": "x" * 8192})
    with pytest.raises(RunError, match=r"loop\.keep"):
        list(run.pool(1).fill([Chunk(0, 0, 9)], lambda chunk: (Samples(torch.zeros(chunk.size, 2)), {})))
    with pytest.raises(RunError, match="No space left"):
        run.pool(0).write_preview(Samples(torch.zeros(5000, 2)))
    assert run.rows()[0]["generation"] == 0
    assert run.pool(0).damaged() == []
    assert run.saved.newest() == run.checkpoint(0)
    assert not list(small_disk.rglob("*.tmp"))
    filler.unlink()
    generation(run, 1)  # and it goes on
    assert run.rows()[-1]["generation"] == 1
