"""The pool: the same bytes whoever makes the chunks in whatever order, and no chunk made twice."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sc_loops.data.files import read_tensors
from sc_loops.data.pool import Chunk, Pool
from sc_loops.randomness import generator_for
from sc_loops.samples import Samples

CHUNKS = [Chunk(0, 0, 4), Chunk(1, 4, 4), Chunk(2, 8, 4), Chunk(3, 12, 1)]


def make(chunk: Chunk):
    x = torch.randn(chunk.size, 2, generator=generator_for(0, "sample", 1, chunk.index))
    reward = x.sum(1)
    kept = Samples(x[::2], torch.arange(chunk.size)[::2], {"reward": reward[::2]})
    return kept, {"reward": {"values": reward}}


def contents(pool: Pool) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(pool.path.iterdir())}


def test_the_bytes_do_not_depend_on_order_or_ranks(tmp_path) -> None:
    alone = Pool(tmp_path / "alone")
    list(alone.fill(CHUNKS, make))
    alone.finish(1, CHUNKS)
    for world_size in (2, 3, 5):
        shared = Pool(tmp_path / f"shared-{world_size}")
        for rank in reversed(range(world_size)):
            list(shared.fill(CHUNKS, make, rank=rank, world_size=world_size))
        shared.finish(1, CHUNKS)
        assert contents(shared) == contents(alone)


def test_what_a_killed_writer_left_goes_when_the_pool_is_finished_and_not_before(tmp_path) -> None:
    """Another rank may still be writing its chunk, and another node, on the same disk, its manifest."""
    tmp_path.joinpath(".manifest.json.00.tmp").write_bytes(b"x")
    for name in ("chunk-00002.safetensors", "raw-00001.safetensors", "preview.safetensors"):
        tmp_path.joinpath(f".{name}.1a2b.tmp").write_bytes(b"x")
    pool = Pool(tmp_path)
    list(pool.fill(CHUNKS[:3], make))
    with pytest.raises(OSError, match="chunk-00003"):
        pool.finish(1, CHUNKS)
    assert len(list(tmp_path.glob(".*.tmp"))) == 4
    list(pool.fill(CHUNKS, make))
    pool.finish(1, CHUNKS)
    assert [path.name for path in tmp_path.glob(".*")] == [".manifest.json.00.tmp"]
    assert pool.damaged() == []


def test_it_reads_what_was_written(tmp_path) -> None:
    pool = Pool(tmp_path)
    list(pool.fill(CHUNKS, make))
    assert not pool.finished
    pool.finish(1, CHUNKS)
    assert pool.finished
    assert (len(pool), pool.manifest["raw"], pool.manifest["chunks"]) == (7, 13, [2, 2, 2, 1])
    expected = Samples.concatenate([make(c)[0] for c in CHUNKS])
    samples = pool.samples()
    assert torch.equal(samples.x, expected.x)
    assert torch.equal(samples.columns["reward"], expected.columns["reward"])
    assert samples.condition is not None
    assert torch.equal(samples.condition, expected.condition)
    values = [observation["values"] for observation in pool.observations("reward")]
    assert torch.equal(torch.cat(values), torch.cat([make(c)[1]["reward"]["values"] for c in CHUNKS]))
    assert pool.observations("nothing") == []


def test_an_observation_is_that_of_its_metric_alone(tmp_path) -> None:
    """Also where one name starts with another, and where some chunks were not observed."""

    def make_observed(chunk: Chunk):
        observed = {"a": {"x": torch.tensor([chunk.index])}, "a_b": {"x": torch.tensor([-1]), "y": torch.ones(2)}}
        return make(chunk)[0], observed if chunk.index != 2 else {"a_b": observed["a_b"]}

    pool = Pool(tmp_path)
    list(pool.fill(CHUNKS, make_observed))
    assert [{k: v.tolist() for k, v in o.items()} for o in pool.observations("a")] == [{"x": [i]} for i in (0, 1, 3)]
    assert [sorted(o) for o in pool.observations("a_b")] == 4 * [["x", "y"]]


def test_a_finished_chunk_is_never_made_twice(tmp_path) -> None:
    made = []

    def counted(chunk: Chunk):
        made.append(chunk.index)
        return make(chunk)

    pool = Pool(tmp_path)
    filling = pool.fill(CHUNKS, counted)
    next(filling), next(filling)
    filling.close()  # cut short after two chunks
    list(Pool(tmp_path).fill(CHUNKS, counted))
    assert made == [0, 1, 2, 3]


def filled(path: Path, *, weights: str = "w") -> Pool:
    pool = Pool(path)
    list(pool.fill(CHUNKS, make, weights=weights))
    pool.write_preview(Samples(torch.zeros(2, 2)))
    pool.finish(1, CHUNKS, weights=weights)
    return pool


def remade(pool: Pool, *, weights: str = "w") -> list[int]:
    made = []

    def counted(chunk: Chunk):
        made.append(chunk.index)
        return make(chunk)

    list(pool.fill(CHUNKS, counted, weights=weights))
    return made


def break_file(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 16
    path.write_bytes(data)


def test_chunks_of_other_weights_are_made_again(tmp_path) -> None:
    pool = Pool(tmp_path)
    list(pool.fill(CHUNKS[:2], make, weights="v"))
    assert remade(pool) == [0, 1, 2, 3]
    assert remade(pool) == []
    assert pool.is_there(CHUNKS[0], "w")
    assert not pool.is_there(CHUNKS[0], "v")


@pytest.mark.parametrize("kind", ["raw", "chunk"])
def test_damaged_chunks_are_named_discarded_and_made_again(tmp_path, kind: str) -> None:
    pool = filled(tmp_path)
    before = contents(pool)
    assert pool.damaged() == []
    break_file(tmp_path / f"{kind}-00001.safetensors")
    (tmp_path / f"{kind}-00003.safetensors").unlink()
    (tmp_path / ".chunk-00001.safetensors.7.tmp").touch()
    names = Pool(tmp_path).damaged()
    assert names == [f"{kind}-00001.safetensors", f"{kind}-00003.safetensors"]
    pool.discard(names)
    assert not pool.finished
    left = [f"{kind}-0000{index}.safetensors" for kind in ("raw", "chunk") for index in (0, 2)]
    assert contents(pool).keys() == {"preview.safetensors", *left}
    assert remade(pool) == [1, 3]
    pool.finish(1, CHUNKS, weights="w")
    assert contents(pool) == before


def test_a_damaged_chunk_of_an_unfinished_pool_is_made_again_without_asking(tmp_path) -> None:
    pool = Pool(tmp_path)
    list(pool.fill(CHUNKS, make, weights="w"))
    break_file(tmp_path / "raw-00002.safetensors")
    assert pool.damaged() == ["raw-00002.safetensors"]
    assert remade(pool) == [2]


def test_a_damaged_manifest_makes_a_pool_unfinished(tmp_path) -> None:
    before = contents(filled(tmp_path))
    text = (tmp_path / "manifest.json").read_text()
    for broken in ("", text[:40], text.replace('"raw": 13', '"raw": 12'), "[]", "\0" * len(text)):
        (tmp_path / "manifest.json").write_text(broken)
        pool = Pool(tmp_path)
        assert not pool.finished
        assert not pool.has_samples
        assert pool.damaged() == ["manifest.json"]
    pool.discard(pool.damaged())
    assert remade(pool) == []
    pool.finish(1, CHUNKS, weights="w")
    assert contents(pool) == before


def test_a_pool_of_an_older_version_is_read_and_completed(tmp_path) -> None:
    """Its files say nothing of weights, its manifest has no digest."""
    pool = filled(tmp_path)
    for path in tmp_path.glob("*.safetensors"):
        save_file(read_tensors(path), path)
    manifest = {"generation": 1, "raw": 13, "kept": 7, "chunks": [2, 2, 2, 1]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest, indent=2))
    pool = Pool(tmp_path)
    assert pool.finished
    assert pool.has_samples
    assert pool.damaged() == []
    assert len(pool.samples()) == 7
    assert remade(pool, weights="") == []


def test_a_pool_that_is_not_there_is_not_damaged(tmp_path) -> None:
    assert Pool(tmp_path / "absent").damaged() == []


def test_filling_asks_before_each_chunk_that_is_to_be_made(tmp_path) -> None:
    asked = []

    def keep_going() -> None:
        asked.append(len(list(tmp_path.glob("chunk-*"))))
        if len(asked) == 3:
            raise KeyboardInterrupt

    pool = Pool(tmp_path)
    list(pool.fill(CHUNKS[:1], make))
    with pytest.raises(KeyboardInterrupt):
        list(pool.fill(CHUNKS, make, keep_going=keep_going))
    assert asked == [1, 2, 3]


def test_samples_are_removed_and_what_reports_need_stays(tmp_path) -> None:
    pool = filled(tmp_path)
    observed = pool.observations("reward")
    pool.remove_samples()
    for same in (pool, Pool(tmp_path)):
        assert same.finished
        assert not same.has_samples
        assert same.damaged() == []
        assert len(same) == 7
        assert same.preview is not None
        for now, then in zip(same.observations("reward"), observed, strict=True):
            assert torch.equal(now["values"], then["values"])
    assert not list(tmp_path.glob("chunk-*"))


@pytest.mark.parametrize("deleted", [0, 1, 3])
def test_a_removal_that_was_cut_short_is_consistent_and_completed(tmp_path, monkeypatch, deleted: int) -> None:
    pool, unlink, left = filled(tmp_path), Path.unlink, [deleted]

    def until_killed(path: Path, missing_ok: bool = False) -> None:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", until_killed)
        with pytest.raises(KeyboardInterrupt):
            pool.remove_samples()
    assert len(list(tmp_path.glob("chunk-*"))) == 4 - deleted
    pool = Pool(tmp_path)
    assert pool.finished
    assert not pool.has_samples
    assert pool.damaged() == []
    pool.remove_samples()
    assert not list(tmp_path.glob("chunk-*"))


def test_a_finished_pool_observes_its_own_chunks_only(tmp_path) -> None:
    pool = filled(tmp_path)
    (tmp_path / "raw-00009.safetensors").write_bytes((tmp_path / "raw-00000.safetensors").read_bytes())
    assert len(pool.observations("reward")) == 4
