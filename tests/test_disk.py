"""Disk space: what is kept, what is foretold, and a disk that is full."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sc_loops.data.pool import Chunk
from sc_loops.disk import Keep, expected_bytes, free_bytes, prune, used_bytes
from sc_loops.errors import InvalidValue, RunError
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
    for number in range(8):
        generation(run, number)
        prune(run, keep, number)
        prune(run, keep, number)
    assert kept(run, 7) == expected
    assert [number for number in range(8) if run.pool(number).finished] == list(range(8))
    assert all(run.pool(number).observations("m") for number in range(8))
    assert run.saved.newest() == run.checkpoint(7)


@pytest.mark.parametrize("option", ["last", "every"])
@pytest.mark.parametrize("value", [0, -1])
def test_impossible_values(option: str, value: int) -> None:
    with pytest.raises(InvalidValue, match=option):
        Keep(**{option: value})


def test_a_prune_that_was_cut_short_is_completed(tmp_path, monkeypatch) -> None:
    run, unlink = Run(tmp_path), Path.unlink
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
                prune(run, Keep(last=1), 3)
            except KeyboardInterrupt:
                stops += 1
        assert all(run.pool(number).finished and not run.pool(number).damaged() for number in range(4))
    assert stops == 3 * 4 - 1  # two chunks, a checkpoint and its checksum, of three generations
    assert not list(tmp_path.glob("pools/000[0-2]/chunk-*"))


def kept_or_none(run: Run) -> list[int]:
    return [
        t for t in range(4) if list(run.pool(t).path.glob("chunk-*")) or list(run.checkpoints.glob(f"*{t}.ckpt*"))
    ]


@pytest.mark.parametrize("keep", [Keep(), Keep(last=2), Keep(every=3)])
def test_what_is_expected_is_about_what_is_used(tmp_path, keep: Keep) -> None:
    run, options = Run(tmp_path), {"model_bytes": 400_000, "sample_bytes": 8, "pool_items": 500}
    for number in range(7):
        generation(run, number, weights=100_000)
        prune(run, keep, number)
    spare = 2 * 4 * 400_000 + 500 * 8  # step checkpoints and a pool in the making, of which there are none now
    expected = expected_bytes(**options, generations=6, keep=keep) - spare
    assert used_bytes(run) == pytest.approx(expected, rel=0.03)
    per_generation = expected_bytes(**options, observed_bytes=100, generations=6, keep=keep) - spare - expected
    assert per_generation == 7 * 100


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
