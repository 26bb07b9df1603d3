"""The data set of motions made in code."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sc_loops.data.procedural import procedural_motions
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue
from sc_loops.motion.procedural import ACTIONS
from sc_loops.motion.representation import decode, encode
from sc_loops.samples import Samples


def test_clips_captions_and_labels() -> None:
    data = procedural_motions(size=18, test_size=9, max_frames=60)
    motions = data.motions
    assert motions is not None
    assert (data.kind, len(data.train), len(data.test), motions.action_names) == ("motions", 18, 9, ACTIONS)
    assert motions.actions is not None
    rows = data.train.condition
    assert torch.equal(motions.actions[rows], torch.arange(18) % len(ACTIONS))
    lengths = motions.lengths_of(rows)
    assert lengths.min() >= 40
    assert lengths.max() <= 60
    assert (lengths % 4 == 0).all()
    for x, row, length in zip(data.train.x, rows, lengths, strict=True):
        vectors = motions.vectors(x)[:length]
        again = encode(decode(vectors, extended=True))
        torch.testing.assert_close(again, vectors, rtol=0, atol=2e-4)
        assert (x[length:] == 0).all()
        assert motions.captions[row]
    names = [motions.names[row] for row in [*rows, *data.test.condition]]
    assert len(set(names)) == 27


def told(data: RealData, part: Samples) -> list[tuple[Tensor, str]]:
    """The first 40 vectors, in their own units, and the first caption of each motion."""
    motions = data.motions
    assert motions is not None
    return [(motions.vectors(x)[:40], motions.captions[row]) for x, row in zip(part.x, part.condition, strict=True)]


def test_a_smaller_set_is_the_start_of_a_larger_one() -> None:
    small, large = (procedural_motions(size=size, test_size=3, max_frames=48, seed=5) for size in (5, 11))
    other = procedural_motions(size=5, test_size=3, max_frames=48, seed=6)
    pairs = [*zip(told(small, small.train), told(large, large.train)[:5], strict=True)]
    pairs += zip(told(small, small.test), told(large, large.test), strict=True)
    for (ours, caption), (theirs, same) in pairs:
        # Each set has its own units for x.
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
        assert caption == same
    for (ours, _), (others, _), (held_out, _) in zip(
        told(small, small.train)[:3], told(other, other.train)[:3], told(small, small.test), strict=True
    ):
        assert (ours - others).abs().max() > 0.05
        assert (ours - held_out).abs().max() > 0.05


@pytest.mark.parametrize("option", [{"size": 0}, {"test_size": 0}, {"max_frames": 39}, {"max_frames": 197}])
def test_impossible_sizes_are_refused(option: dict[str, int]) -> None:
    with pytest.raises(InvalidValue, match=next(iter(option))):
        procedural_motions(**option)
