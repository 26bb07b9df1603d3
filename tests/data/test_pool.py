"""The pool: the same bytes whoever makes the chunks in whatever order, and no chunk made twice."""

import torch

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
