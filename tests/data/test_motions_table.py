"""The table of captions: rows, lengths and units of motions."""

from __future__ import annotations

import pytest
import torch

from sc_loops.data.motions import Motions
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue
from sc_loops.samples import Samples


@pytest.fixture
def table() -> tuple[Motions, torch.Tensor]:
    mean, std = torch.linspace(-1, 1, 263), torch.linspace(0.5, 2, 263)
    captions = [["walks", "a person walks"], ["jumps"], ["waves", "greets", "waves a hand"]]
    return Motions.of_clips(["a", "b", "c"], captions, [40, 64, 52], mean, std, [0, 1, 2], ("walk", "jump", "wave"))


def test_captions_of_a_clip_stand_together(table) -> None:
    motions, rows = table
    assert rows.tolist() == [0, 2, 3]
    assert [motions.captions[row] for row in rows.tolist()] == ["walks", "jumps", "waves"]
    assert motions.names == ("a", "a", "b", "c", "c", "c")
    assert motions.lengths.tolist() == [40, 40, 64, 52, 52, 52]
    assert motions.first.tolist() == [0, 0, 2, 3, 3, 3]
    assert motions.count.tolist() == [2, 2, 1, 3, 3, 3]
    assert motions.actions is not None
    assert motions.actions.tolist() == [0, 0, 1, 2, 2, 2]


def test_another_caption_is_any_of_the_same_clip(table) -> None:
    motions, _ = table
    torch.manual_seed(0)
    drawn = motions.another_caption(torch.tensor([0, 2, 4]).repeat_interleave(6000)).view(3, -1)
    for clip, rows in enumerate(([0, 1], [2], [3, 4, 5])):
        share = drawn[clip].bincount(minlength=6)[rows] / 6000
        torch.testing.assert_close(share, torch.full_like(share, 1 / len(rows)), atol=0.02, rtol=0)


def test_mask_and_units(table) -> None:
    motions, rows = table
    mask = motions.mask(rows, 64)
    assert mask.sum(dim=1).tolist() == [40, 64, 52]
    assert mask[0, :40].all()
    vectors = torch.randn(2, 5, 263, dtype=torch.float64)
    torch.testing.assert_close(motions.vectors(motions.normalised(vectors)), vectors)
    torch.testing.assert_close(motions.normalised(motions.mean), torch.zeros(263))
    torch.testing.assert_close(motions.normalised(motions.mean + motions.std), torch.ones(263))


def test_motions_come_with_their_table(table) -> None:
    motions, rows = table
    samples = Samples(torch.zeros(3, 64, 263), rows)
    assert RealData(samples, samples, "motions", motions=motions).num_classes == 6
    with pytest.raises(InvalidValue, match="table of captions"):
        RealData(samples, samples, "motions")
    with pytest.raises(InvalidValue, match="table of captions"):
        RealData(samples, samples, "points", motions=motions)
