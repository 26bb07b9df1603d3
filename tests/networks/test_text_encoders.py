"""Text encoders without a download: what they tell apart, what they cannot, and that they are reproducible."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from sc_loops.data.motions import Motions
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue
from sc_loops.networks.text_encoders import Actions, LatentSemantic
from sc_loops.samples import Samples

CAPTIONS = [
    ["a person walks forward", "someone walks forward slowly"],
    ["a person waves the left hand"],
    ["a person waves the right hand"],
    ["a person squats twice", "somebody squats, twice"],
    ["a zebra yodels"],  # held out
]
TRAINED = 4


def motion_data(
    captions: list[list[str]] = CAPTIONS, actions: list[int] | None = None, names: tuple[str, ...] = ()
) -> RealData:
    clips = [str(i) for i in range(len(captions))]
    stats = torch.zeros(263), torch.ones(263)
    motions, rows = Motions.of_clips(clips, captions, [3] * len(clips), *stats, actions, names)
    samples = Samples(torch.zeros(len(clips), 3, 263), rows)
    return RealData(samples[:TRAINED], samples[TRAINED:], "motions", motions=motions)


def cosines(rows: torch.Tensor) -> torch.Tensor:
    unit = torch.nn.functional.normalize(rows)
    return unit @ unit.T


def test_with_all_directions_the_angles_are_those_of_tf_idf() -> None:
    data = motion_data()
    embeddings = LatentSemantic(data, width=64).embeddings
    flat = [caption for own in CAPTIONS for caption in own]
    tf_idf = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\w+", sublinear_tf=True)
    exact = tf_idf.fit(flat[:6]).transform(flat[:6])
    torch.testing.assert_close(cosines(embeddings[:6]), torch.from_numpy((exact @ exact.T).toarray()).float())
    torch.testing.assert_close(embeddings[:6].norm(dim=1), torch.full((6,), 8.0))
    assert embeddings.shape == (7, 64)
    assert not embeddings[:, 6:].any()  # six captions have six directions


def test_few_directions_are_the_largest_of_the_captions_to_train_on() -> None:
    data = motion_data()
    flat = [caption for own in CAPTIONS for caption in own]
    tf_idf = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\w+", sublinear_tf=True)
    matrix = tf_idf.fit_transform(flat[:6]).toarray()
    _, _, directions = np.linalg.svd(matrix, full_matrices=False)
    expected = torch.from_numpy(matrix @ directions[:3].T).float()
    torch.testing.assert_close(cosines(LatentSemantic(data, width=3).embeddings[:6]), cosines(expected))


def test_what_it_tells_apart_and_what_it_cannot() -> None:
    similar = cosines(LatentSemantic(motion_data()).embeddings)
    assert similar[2, 3] < 0.9  # left and right
    assert similar[2, 3] > similar[2, 0] + 0.1  # though both are waving
    of_unknown_words = LatentSemantic(motion_data([*CAPTIONS[:4], ["zebras yodel"]])).embeddings[6]
    assert not of_unknown_words.any()


def test_held_out_captions_change_nothing() -> None:
    here = LatentSemantic(motion_data()).embeddings
    other = LatentSemantic(motion_data([*CAPTIONS[:4], ["a person walks on their hands"]])).embeddings
    assert torch.equal(here[:6], other[:6])


def test_it_is_the_same_every_time_and_from_the_cache(tmp_path: Path) -> None:
    first, again = LatentSemantic(motion_data(), width=3), LatentSemantic(motion_data(), width=3)
    first.prepare(tmp_path)
    assert torch.equal(first.embeddings, again.embeddings)
    LatentSemantic(motion_data(), width=4).prepare(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    again.prepare(tmp_path)
    assert torch.equal(first.embeddings, again.embeddings)
    assert len(list(tmp_path.iterdir())) == 2


def test_actions_are_unit_vectors() -> None:
    encoder = Actions(motion_data(actions=[2, 0, 0, 1, 2], names=("walk", "wave", "squat")))
    assert encoder.width == 3
    assert encoder.embeddings.argmax(1).tolist() == [2, 2, 0, 0, 1, 1, 2]
    assert encoder.embeddings.sum(1).eq(1).all()


def test_what_is_refused() -> None:
    with pytest.raises(InvalidValue, match="action labels"):
        Actions(motion_data())
    with pytest.raises(InvalidValue, match="width"):
        LatentSemantic(motion_data(), width=0)
    with pytest.raises(InvalidValue, match="without a word"):
        _ = LatentSemantic(motion_data([["!?"]] * 5)).embeddings
    points = RealData(Samples(torch.zeros(3, 2)), Samples(torch.zeros(3, 2)), "points")
    with pytest.raises(InvalidValue, match="motions with captions"):
        LatentSemantic(points)
