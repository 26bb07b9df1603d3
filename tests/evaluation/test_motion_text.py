"""The evaluator that is trained here: its loss, its networks' invariances, what it learns, and the cache."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from test_metrics import chunked

from sc_loops import schema
from sc_loops.data.motions import Motions
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue, RunError
from sc_loops.evaluation import motion_text
from sc_loops.evaluation.frechet import frechet_distance, gaussian
from sc_loops.evaluation.motion_text import MotionText, TrainedEvaluator
from sc_loops.networks.motion_text_networks import (
    UNKNOWN,
    MotionTextNetwork,
    Vocabulary,
    words_of,
)
from sc_loops.networks.motion_text_training import contrast
from sc_loops.samples import Samples

T, ACTIONS = 24, 6
VERBS = ("walks", "waves", "squats", "turns", "bows", "jumps")


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def waves(n, seed, *, shift=0.0):
    """n vectors ``(T, 263)`` of each action in turn: a sine of its own frequency and direction, and noise."""
    directions, frequencies = normal(ACTIONS, 263, seed=99), torch.linspace(0.2, 1.2, ACTIONS)
    action = torch.arange(n) % ACTIONS
    phase = 6.28 * torch.rand(n, 1, generator=torch.Generator().manual_seed(seed))
    signal = torch.sin(frequencies[action][:, None] * torch.arange(T) + phase)
    return signal[..., None] * directions[action][:, None] + 0.3 * normal(n, T, 263, seed=seed) + shift


def moving(n=72, held_out=36, *, mean=0.0, std=1.0, seed=1):
    """Motions of ``waves``, each with two captions, normalised by ``mean`` and ``std``."""
    lengths = [T - 4 * (i % 3) for i in range(n + held_out)]
    captions = [[f"a person {VERBS[i % ACTIONS]}", f"somebody {VERBS[i % ACTIONS]}"] for i in range(n + held_out)]
    names = [str(i) for i in range(n + held_out)]
    table, rows = Motions.of_clips(names, captions, lengths, torch.full((263,), mean), torch.full((263,), std))
    x = table.normalised(torch.cat([waves(n, seed), waves(held_out, seed + 1)]))
    x = x * table.mask(rows, T)[..., None]
    return RealData(Samples(x[:n], rows[:n]), Samples(x[n:], rows[n:]), "motions", (), "waves", table)


DATA = moving()
SMALL = {"width": 16, "features": 8, "epochs": 15, "batch_size": 18, "learning_rate": 1e-2}


def numbered(samples):
    return samples.with_columns(index=torch.arange(len(samples)))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("statistics")


@pytest.fixture(scope="module")
def metric(cache):
    found = MotionText(DATA, **SMALL)
    found.prepare(cache)
    return found


# The loss.


def test_the_contrast_of_different_captions_is_clips():
    motions, texts = (F.normalize(normal(7, 4, seed=s), dim=1) for s in (1, 2))
    logits = motions @ texts.T / 0.3
    own = torch.arange(7)
    expected = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    assert torch.allclose(contrast(motions, texts, own, 0.3), expected)


def test_the_contrast_counts_equal_captions_as_wanted():
    """With two labels at two opposite points each motion is at all texts of its label: log of how many."""
    names = torch.tensor([0, 1, 0, 1, 0])
    points = torch.where(names[:, None] == 0, torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 0.0]))
    expected = (3 * math.log(3) + 2 * math.log(2)) / 5
    assert float(contrast(points, points, names, 0.05)) == pytest.approx(expected, abs=1e-6)


# The networks.


def test_a_motion_is_the_same_point_whatever_lies_around_it():
    network = MotionTextNetwork(9, width=8, features=5).eval()
    z, lengths = normal(3, 30, 263), torch.tensor([30, 17, 5])
    points = network.motions(z, lengths)
    assert torch.allclose(points.norm(dim=1), torch.ones(3))
    longer = torch.cat([z, normal(3, 21, 263, seed=1)], dim=1)
    longer[1, 17:], longer[2, 5:] = 50.0, math.inf
    longer[..., 259:] = 7.0  # contacts follow from the rest and are not looked at
    longer[longer == math.inf] = 9.0
    assert torch.allclose(network.motions(longer, lengths), points, atol=1e-6)
    assert torch.allclose(network.motions(z[1:2], lengths[1:2]), points[1:2], atol=1e-6)
    assert not torch.allclose(network.motions(z, lengths - 1)[0], points[0], atol=1e-4)


def test_a_caption_is_the_same_point_whatever_its_padding():
    network = MotionTextNetwork(9, width=8, features=5).eval()
    words = torch.tensor([[2, 3, 4, 0], [5, 0, 0, 0]])
    assert torch.allclose(network.texts(words)[1:], network.texts(torch.tensor([[5]])), atol=1e-6)
    assert not torch.allclose(network.texts(words)[0], network.texts(torch.tensor([[4, 3, 2]]))[0], atol=1e-4)


def test_words():
    assert words_of("A person's LEFT-hand, waves!") == ["a", "person's", "left", "hand", "waves"]
    vocabulary = Vocabulary.of(["b a", "a c"])
    assert vocabulary.words == ("a", "b", "c")
    assert vocabulary.numbers(["C b", "new a a", "?"]).tolist() == [[4, 3, 0], [UNKNOWN, 2, 2], [UNKNOWN, 0, 0]]


# What it learns.


def test_held_out_motions_are_found_after_training_and_not_before(metric):
    assert metric.real["r_precision_1/motion_text/real"] > 0.9
    untrained = MotionText(DATA, **{**SMALL, "epochs": 1, "learning_rate": 1e-9})
    # One of six labels, of which a batch of 32 holds about five motions each.
    assert untrained.real["r_precision_1/motion_text/real"] < 0.6


def test_the_numbers_tell_worse_motions(metric):
    good = numbered(DATA.test)
    row = metric.summarise([metric.observe(good)])
    shuffled = numbered(Samples(DATA.test.x, DATA.test.condition.roll(3)))  # of the same length, another action
    wrong = metric.summarise([metric.observe(shuffled)])
    assert wrong["matching_score/motion_text"] > 1.3 * row["matching_score/motion_text"]
    assert wrong["r_precision_1/motion_text"] < 0.3
    one = numbered(Samples(DATA.test.x[:1].expand(36, -1, -1), DATA.test.condition[:1].expand(36)))
    collapsed = metric.summarise([metric.observe(one)])
    assert collapsed["diversity/motion_text"] == pytest.approx(0, abs=1e-5)
    assert collapsed["multimodality/motion_text"] == pytest.approx(0, abs=1e-5)
    assert collapsed["frechet_distance/motion_text"] > 10 * row["frechet_distance/motion_text/real"]


# The numbers.


def test_a_row_is_the_same_however_the_chunks_are_cut(metric):
    samples = numbered(DATA.test)
    whole = metric.summarise([metric.observe(samples)])
    parts = metric.summarise([metric.observe(chunk) for chunk in chunked(samples, [5, 20])])
    assert parts == pytest.approx(whole, abs=1e-5)
    assert whole["frechet_distance/motion_text"] == pytest.approx(0, abs=1e-6)
    for key in ("diversity", "matching_score", "r_precision_1", "r_precision_3", "multimodality"):
        assert whole[f"{key}/motion_text"] == whole[f"{key}/motion_text/real"]


def test_captions_are_the_same_to_the_last_digit_whatever_was_asked_for_before(metric, cache):
    (path,) = cache.glob("motion_text-*.safetensors")
    rows = DATA.test.condition
    fresh = MotionText(DATA, weights=str(path))
    fresh.texts_of(rows[-1:])
    assert torch.equal(fresh.texts_of(rows), metric.texts_of(rows))


def test_the_real_distance_is_that_of_training_motions(metric):
    train, test = metric.features_of(DATA.train), metric.features_of(DATA.test)
    expected = frechet_distance(gaussian(train), gaussian(test))
    assert metric.real["frechet_distance/motion_text/real"] == pytest.approx(expected)


def test_only_the_first_samples_are_seen():
    metric = MotionText(DATA, **{**SMALL, "epochs": 1}, limit=10)
    observed = [metric.observe(chunk) for chunk in chunked(numbered(DATA.test), [8])]
    assert [len(o["features"]) for o in observed] == [8, 2]
    assert metric.observed_bytes(36) == 10 * (4 * 8 + 8)
    assert "frechet_distance_error/motion_text" not in metric.summarise(observed)
    assert math.isnan(metric.summarise(observed)["r_precision_1/motion_text"])


def test_motions_without_captions_cannot_be_measured(metric):
    with pytest.raises(RunError, match="without captions"):
        metric.observe(Samples(DATA.test.x, None, {"index": torch.arange(36)}))


# Training, the cache, and given weights.


def test_training_depends_on_its_seed_alone_and_leaves_the_global_generator():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    options = {**SMALL, "epochs": 1}
    first = MotionText(DATA, **options).features_of(DATA.test)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert torch.equal(MotionText(DATA, **options).features_of(DATA.test), first)
    assert not torch.equal(MotionText(DATA, **options, seed=1).features_of(DATA.test), first)


def test_it_is_trained_once_and_again_where_the_file_is_damaged(metric, cache, monkeypatch):
    trained = []
    train = motion_text.train
    monkeypatch.setattr(motion_text, "train", lambda *a: (trained.append(a[-1]), train(*a)))
    expected = metric.features_of(DATA.test)
    again = MotionText(moving(), **SMALL)
    again.prepare(cache)
    assert trained == []
    assert torch.equal(again.features_of(DATA.test), expected)
    (path,) = cache.glob("motion_text-*.safetensors")
    path.write_bytes(path.read_bytes()[:-9])
    again = MotionText(DATA, **SMALL)
    again.prepare(cache)
    assert len(trained) == 1
    assert torch.equal(again.features_of(DATA.test), expected)


@pytest.mark.parametrize("options", [{"seed": 1}, {"epochs": 2}, {"features": 9}, {"temperature": 0.2}])
def test_other_options_are_trained_apart(options):
    key, other = (MotionText(DATA, **{**SMALL, **o}) for o in ({}, options))
    assert key._key(key._vocabulary()) != other._key(other._vocabulary())


def test_other_captions_are_trained_apart():
    table = replace(DATA.motions, captions=("a new one", *DATA.motions.captions[1:]))
    key, other = MotionText(DATA, **SMALL), MotionText(replace(DATA, motions=table), **SMALL)
    assert key._key(key._vocabulary()) != other._key(other._vocabulary())


def test_given_weights_need_no_training(metric, cache, monkeypatch):
    monkeypatch.setattr(motion_text, "train", None)
    (path,) = cache.glob("motion_text-*.safetensors")
    given = MotionText(DATA, weights=str(path))
    given.prepare(cache)
    assert given.features == 8
    assert torch.equal(given.features_of(DATA.test), metric.features_of(DATA.test))
    assert torch.equal(given.texts_of(DATA.test.condition), metric.texts_of(DATA.test.condition))


def test_motions_in_other_units_are_the_same_points(metric, cache):
    """An evaluator trained on other data, which are normalised otherwise, sees the same motions."""
    other = moving(18, 36, mean=0.5, std=2.0)
    shared = MotionText(other, **SMALL, trained_on=DATA)
    shared.prepare(cache)
    same = replace(
        DATA.test, x=other.motions.normalised(DATA.motions.vectors(DATA.test.x)), condition=other.test.condition
    )
    own = metric.features_of(DATA.test)
    assert torch.allclose(shared.features_of(same), own, atol=1e-5)


def test_it_is_not_trained_on_what_is_held_out():
    other = moving(36, 36)
    x = torch.cat([other.train.x, other.test.x])
    rows = torch.cat([other.train.condition, other.test.condition])
    whole = replace(other, train=Samples(x, rows))
    with pytest.raises(InvalidValue, match="36 motions that are held out"):
        MotionText(other, **SMALL, trained_on=whole)
    MotionText(other, **SMALL, trained_on=other)  # names may be the same


def test_a_config_may_name_the_motions_to_train_on():
    section = {"epochs": 1, "trained_on": {"name": "procedural_motions", "size": 8, "test_size": 1}}
    resolved = schema.resolve(MotionText, section)
    built = schema.build(MotionText, resolved, {"data": DATA, "seed": 5})
    assert resolved["trained_on"]["max_frames"] == 120
    assert built._source.name == "procedural"
    assert built._seed == 0  # its own, not the run's


def test_files_that_are_no_evaluator(tmp_path, cache):
    with pytest.raises(InvalidValue, match="a file"):
        MotionText(DATA, weights=str(tmp_path / "none.safetensors"))
    wrong = tmp_path / "wrong.safetensors"
    motion_text.write_tensors(wrong, {"x": torch.zeros(2)})
    with pytest.raises(InvalidValue, match="KeyError"):
        MotionText(DATA, weights=str(wrong))


@pytest.mark.parametrize(
    ("option", "value"), [("width", 0), ("features", 1), ("epochs", 0), ("temperature", 0.0), ("limit", 1)]
)
def test_impossible_options(option, value):
    with pytest.raises(InvalidValue) as caught:
        MotionText(DATA, **{option: value})
    assert caught.value.where == option


def test_other_data_are_refused():
    points = RealData(Samples(torch.zeros(4, 2)), Samples(torch.zeros(4, 2)), "points")
    with pytest.raises(InvalidValue, match="captions"):
        MotionText(points)
    with pytest.raises(InvalidValue, match="captions"):
        MotionText(DATA, trained_on=points)


def test_what_is_written_is_read_back(metric, tmp_path):
    path = tmp_path / "evaluator.safetensors"
    metric.evaluator.write(path)
    read = TrainedEvaluator.read(path)
    assert read.vocabulary.words == metric.evaluator.vocabulary.words
    assert all(
        torch.equal(a, b)
        for a, b in zip(read.network.parameters(), metric.evaluator.network.parameters(), strict=True)
    )
