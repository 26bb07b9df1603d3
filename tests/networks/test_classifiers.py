"""Trained classifiers: accuracy, cache and weights; and the nearest mean against a loop."""

import dataclasses
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sc_loops import schema
from sc_loops.data.digits import digits
from sc_loops.data.mnist import mnist
from sc_loops.data.pixels import as_float
from sc_loops.data.points import gaussian_mixture, two_moons
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue, UsageError
from sc_loops.networks.classifiers import NearestMean, TrainedClassifier, convnet, lenet
from sc_loops.samples import Samples

MNIST = Path(os.environ.get("SC_LOOPS_DATA", Path(__file__).parents[2] / "../shared/data")) / "mnist"
MOONS = two_moons(size=600, test_size=200)
MIXTURE = gaussian_mixture(modes=3, size=300, test_size=100)


def quick(data=MOONS, seed=0, **options):
    return TrainedClassifier(data, **{"width": 8, "epochs": 2, "seed": seed, **options})


@pytest.fixture(scope="module")
def digits_convnet(tmp_path_factory):
    classifier = TrainedClassifier(digits(), architecture="convnet", epochs=15)
    return classifier, classifier.prepare(tmp_path_factory.mktemp("cache"))


def test_convnet_reads_the_digits(digits_convnet):
    classifier, accuracies = digits_convnet
    assert accuracies["test_accuracy"] >= 0.96
    test = digits().test
    q = classifier.probabilities(test.x)
    torch.testing.assert_close(q.sum(dim=1), torch.ones(360))
    right = q.argmax(dim=1) == test.condition
    assert accuracies["test_accuracy"] == pytest.approx(float(right.double().mean()))
    by_class = [float(right[test.condition == k].double().mean()) for k in range(10)]
    assert accuracies["balanced_test_accuracy"] == pytest.approx(sum(by_class) / 10)
    assert [accuracies[f"test_accuracy/{k}"] for k in range(10)] == pytest.approx(by_class)


def test_confidence_of_the_convnet_is_not_saturated(digits_convnet):
    confidence = digits_convnet[0].probabilities(digits().test.x).amax(dim=1)
    assert float(confidence.median()) < 0.995
    assert float(confidence.quantile(0.1)) < 0.95


def test_features_are_what_the_last_layer_sees(digits_convnet):
    classifier, x = digits_convnet[0], digits().test.x[:5]
    features = classifier.features(x)
    assert features.shape == (5, 64)
    q = classifier._network.head(features).softmax(dim=1)
    torch.testing.assert_close(classifier.probabilities(x), q)
    assert classifier.feature_name == "digits_convnet"


def test_a_samples_output_does_not_depend_on_its_batch(digits_convnet):
    classifier, x = digits_convnet[0], digits().test.x[:50]
    torch.testing.assert_close(classifier.probabilities(x)[7:8], classifier.probabilities(x[7:8]))


def test_a_damaged_cache_is_trained_again(tmp_path):
    accuracies = quick().prepare(tmp_path)
    (path,) = tmp_path.glob("classifier-*")
    whole = path.read_bytes()
    path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 4]) + whole[-8:])
    assert quick().prepare(tmp_path) == accuracies
    assert path.read_bytes() == whole


def test_precision_of_the_trainer_does_not_reach_the_classifier(digits_convnet):
    classifier, x = digits_convnet[0], digits().test.x[:5]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = classifier.features(x)
    assert torch.equal(inside, classifier.features(x))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 5, 4)])
def test_convnet_takes_images_of_any_size(shape):
    network = convnet(shape, 8, 4)
    assert network(torch.zeros(2, *shape)).shape == (2, 4)


def test_lenet_is_lecuns():
    """The trainable parameters by layer of LeCun et al. 1998, Sec. II.B, but that C3 sees all maps of S2."""
    network = lenet((1, 28, 28), 64, 10)
    counts = [sum(p.numel() for p in layer.parameters()) for layer in (*network.body, *network.head)]
    assert [count for count in counts if count] == [156, 16 * (6 * 25 + 1), 48_120, 10_164, 850]
    assert network.body(torch.zeros(3, 1, 28, 28)).shape == (3, 84)


def test_lenets_margin_is_background():
    """An image with two more rows and columns of background all around, in the place of the margin, is the same."""
    network = lenet((1, 28, 28), 64, 10)
    x = 2 * torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0)) - 1
    by_hand = torch.full((5, 1, 32, 32), -1.0)
    by_hand[:, :, 2:-2, 2:-2] = x
    torch.testing.assert_close(network.body[1:](by_hand), network.body(x))


def test_lenets_features_are_not_rectified(tmp_path):
    generator = torch.Generator().manual_seed(0)
    x, labels = torch.rand(40, 1, 12, 15, generator=generator), torch.arange(40) % 2
    part = Samples(x, labels)
    classifier = TrainedClassifier(RealData(part, part, "images", ("a", "b"), "bars"), architecture="lenet", epochs=1)
    classifier.prepare(tmp_path)
    features = classifier.features(x)
    assert (features.shape, classifier.feature_name) == ((40, 84), "bars_lenet")
    assert float(features.amin()) < 0
    last = classifier._network.head[1]
    q = (features.clamp(min=0) @ last.weight.T + last.bias).softmax(dim=1)
    torch.testing.assert_close(classifier.probabilities(x), q)


@pytest.mark.slow
def test_lenet_reads_mnist(tmp_path):
    if not MNIST.is_dir():
        pytest.skip(f"no {MNIST}; SC_LOOPS_DATA says where the data is")
    data = mnist(root=str(MNIST), download=False, train_size=12_000)
    classifier = TrainedClassifier(data, architecture="lenet", epochs=10, learning_rate=5e-3)
    assert classifier.prepare(tmp_path)["test_accuracy"] >= 0.98


def test_the_cache_gives_the_same_predictions_without_training(tmp_path, monkeypatch):
    first = quick()
    accuracies = first.prepare(tmp_path)

    def no_work(self, *_):
        raise AssertionError("done again")

    monkeypatch.setattr(TrainedClassifier, "_train", no_work)
    monkeypatch.setattr(TrainedClassifier, "_measured", no_work)
    second = quick()
    assert second.prepare(tmp_path) == accuracies
    assert torch.equal(first.probabilities(MOONS.test.x), second.probabilities(MOONS.test.x))
    assert torch.equal(first.features(MOONS.test.x), second.features(MOONS.test.x))


def relabelled(data, part="train"):
    samples = getattr(data, part)
    return dataclasses.replace(data, **{part: Samples(samples.x, 1 - samples.condition)})


def test_accuracies_are_those_of_the_present_data(tmp_path):
    accuracies, accurate = quick().prepare(tmp_path), quick(relabelled(MOONS, "test")).prepare(tmp_path)
    assert len(list(tmp_path.glob("classifier-*"))) == 1  # the same training data
    assert accurate["test_accuracy"] == pytest.approx(1 - accuracies["test_accuracy"])
    assert accurate["train_accuracy"] == accuracies["train_accuracy"]


def test_damaged_accuracies_are_measured_again(tmp_path):
    accuracies = quick().prepare(tmp_path)
    (path,) = tmp_path.glob("accuracies-*")
    path.write_text(path.read_text().replace("0.", "1.", 1))
    assert quick().prepare(tmp_path) == accuracies


@pytest.mark.parametrize(
    "other",
    [
        quick(seed=1),
        quick(epochs=3),
        quick(width=9),
        quick(label_smoothing=0.1),
        quick(two_moons(size=600, test_size=200, seed=1)),
        quick(relabelled(MOONS)),
    ],
)
def test_another_setting_is_another_entry_of_the_cache(tmp_path, other):
    quick().prepare(tmp_path)
    other.prepare(tmp_path)
    assert len(list(tmp_path.glob("classifier-*.safetensors"))) == 2


def test_training_neither_reads_nor_moves_the_global_generator(tmp_path):
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        classifier = quick()
        classifier.prepare(tmp_path / str(seed))
        assert torch.equal(torch.get_rng_state(), before)
        found.append(classifier.probabilities(MOONS.test.x))
    assert torch.equal(*found)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_given_weights_are_used(tmp_path, suffix):
    trained = quick()
    trained.prepare(tmp_path)
    path = tmp_path / f"mine.{suffix}"
    state = trained._network.state_dict()
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    loaded = quick(seed=5, weights=str(path))
    loaded.prepare(tmp_path)
    assert torch.equal(loaded.probabilities(MOONS.test.x), trained.probabilities(MOONS.test.x))


def test_weights_that_do_not_fit(tmp_path):
    with pytest.raises(InvalidValue, match="a file that exists"):
        quick(weights=str(tmp_path / "nowhere.pt"))
    torch.save({"body.1.weight": torch.zeros(2, 2)}, tmp_path / "other.pt")
    with pytest.raises(UsageError, match="architecture and width") as caught:
        quick(weights=str(tmp_path / "other.pt")).prepare(tmp_path)
    assert "other.pt" in caught.value.found
    (tmp_path / "broken.safetensors").write_text("no")
    with pytest.raises(UsageError, match=r"broken\.safetensors"):
        quick(weights=str(tmp_path / "broken.safetensors")).prepare(tmp_path)


def test_must_be_prepared():
    with pytest.raises(RuntimeError, match="prepare"):
        quick().probabilities(MOONS.test.x)


def test_images_that_lenet_cannot_take():
    part = Samples(torch.rand(4, 1, 11, 28), torch.arange(4) % 2)
    small = RealData(part, part, "images", ("a", "b"), "small")
    for data in (MOONS, small):
        with pytest.raises(InvalidValue, match="lenet") as caught:
            TrainedClassifier(data, architecture="lenet")
        assert caught.value.where == "architecture"
    part = Samples(torch.rand(4, 1, 28, 28), torch.arange(4) % 2)
    with pytest.raises(InvalidValue, match="64, the default"):
        TrainedClassifier(RealData(part, part, "images", ("a", "b")), architecture="lenet", width=32)


def test_a_config_gives_the_classifier_a_seed_of_its_own():
    for section, seed in (({"seed": 3}, 3), ({}, 0)):
        options = schema.resolve(TrainedClassifier, section)
        assert schema.build(TrainedClassifier, options, {"data": MOONS, "seed": 8})._seed == seed


def test_impossible_values():
    with pytest.raises(InvalidValue, match="architecture"):
        quick(architecture="convnet")
    with pytest.raises(InvalidValue, match="label_smoothing"):
        quick(label_smoothing=1.0)
    unlabelled = RealData(Samples(torch.zeros(2, 2)), Samples(torch.zeros(2, 2)), "points", name="zeros")
    for make in (NearestMean, quick):
        with pytest.raises(InvalidValue, match="zeros, which has no labels"):
            make(unlabelled)


def test_nearest_mean_against_a_loop():
    classifier = NearestMean(MIXTURE)
    train = MIXTURE.train
    means = [train.x[train.condition == k].mean(dim=0) for k in range(3)]
    x = 4 * torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    q = classifier.probabilities(x)
    for point, row in zip(x, q, strict=True):
        nearest = min(range(3), key=lambda k: float((point - means[k]).norm()))
        assert row.tolist() == [float(k == nearest) for k in range(3)]
    assert torch.equal(classifier.features(x), x)
    assert classifier.feature_name == "coordinates"


def pixel_images():
    """16 x 16 pixels, three classes that differ in brightness."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    x = torch.randint(0, 100, (60, 3, 16, 16), generator=generator) + 70 * labels[:, None, None, None]
    samples = Samples(x.byte(), labels)
    return RealData(samples[:40], samples[40:], "images", ("dark", "grey", "bright"), "greys")


def as_floats(data):
    return dataclasses.replace(data, train=data.train.as_float(), test=data.test.as_float())


@pytest.mark.parametrize(
    "make",
    [
        lambda data: quick(data, architecture="convnet"),
        lambda data: quick(data, architecture="mlp"),
        NearestMean,
    ],
    ids=["convnet", "mlp", "nearest mean"],
)
def test_pixels_give_what_their_float_images_give(tmp_path, make):
    data = pixel_images()
    of_pixels, of_floats = make(data), make(as_floats(data))
    assert of_pixels.prepare(tmp_path / "pixels") == of_floats.prepare(tmp_path / "floats")
    for compute in ("probabilities", "features"):
        expected = getattr(of_floats, compute)(as_float(data.test.x))
        assert torch.equal(getattr(of_pixels, compute)(as_float(data.test.x)), expected)
        assert torch.equal(getattr(of_pixels, compute)(data.test.x), expected)
