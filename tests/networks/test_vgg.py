"""VGG11: torchvision's as the oracle, published layouts of weights, files that do not fit, the cache."""

import dataclasses
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import vgg
from torchvision.transforms.functional import normalize

from sc_loops import schema
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue, UsageError
from sc_loops.networks import image_training
from sc_loops.networks.classifier import Classifier
from sc_loops.networks.network_classifier import ClassifierNetwork
from sc_loops.networks.vgg import VGG11
from sc_loops.networks.vgg_network import VGG11Network
from sc_loops.samples import Samples

ROOT = Path(__file__).parents[2]
CIFAR = Path(os.environ.get("SC_LOOPS_DATA", ROOT / "../shared/data")) / "cifar10" / "cifar10_subset.npz"
NORM = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2471, 0.2435, 0.2616)}


def images(n=12, shape=(3, 32, 32), classes=10):
    x = torch.randint(0, 256, (n, *shape), generator=torch.Generator().manual_seed(0)).byte()
    samples = Samples(x, torch.arange(n) % classes)
    return RealData(samples, samples[:4], "images", tuple(map(str, range(classes))), "noise")


def reference(side=1, hidden=(512, 512), classes=10, layers="A"):
    """torchvision's VGG with a head of the given size and batch normalisation that has seen something."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = vgg.VGG.__new__(vgg.VGG)  # its constructor fills a head of 120 million weights
        nn.Module.__init__(model)
        model.features = vgg.make_layers(vgg.cfgs[layers], batch_norm=True)
        model.avgpool = nn.AdaptiveAvgPool2d(side)
        sizes = ((512 * side**2, hidden[0]), hidden, (hidden[1], classes))
        first, second, last = (nn.Linear(*size) for size in sizes)
        model.classifier = nn.Sequential(first, nn.ReLU(), nn.Dropout(), second, nn.ReLU(), nn.Dropout(), last)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.data.uniform_(0.5, 1.5)
                module.momentum = 0.9
        with torch.no_grad():
            model(torch.randn(16, 3, 32, 32))  # sets the statistics
    return model.eval()


def hollow(state):
    """The same names and shapes in a few kilobytes."""
    return {name: torch.zeros((), dtype=value.dtype).expand(value.shape) for name, value in state.items()}


def loaded(path, data=None, **options):
    classifier = VGG11(data or images(), weights=str(path), **options)
    network = classifier._load(Path(path))
    classifier._network = network.eval().requires_grad_(False)
    return classifier


@pytest.mark.parametrize(("side", "hidden"), [(1, (96, 48)), (7, (32, 24))])
def test_published_weights_give_what_torchvisions_network_gives(tmp_path, side, hidden):
    model, data = reference(side, hidden), images()
    torch.save(model.state_dict(), tmp_path / "w.pt")
    classifier = loaded(tmp_path / "w.pt", data)
    with torch.no_grad():
        x = normalize(data.test.x / 255, **NORM)
        logits = model(x)
        features = model.classifier[:6](model.avgpool(model.features(x)).flatten(1))
    assert float(logits.std(dim=0).max()) > 1e-2  # images are told apart
    near = {"atol": 1e-5, "rtol": 1e-4}
    torch.testing.assert_close(classifier.probabilities(data.test.x), logits.softmax(dim=1), **near)
    torch.testing.assert_close(classifier.probabilities(data.test.as_float().x), logits.softmax(dim=1), **near)
    torch.testing.assert_close(classifier.features(data.test.x), features, **near)
    assert classifier.feature_name == "noise_vgg11_bn"


def test_names_and_shapes_of_the_state_are_the_public_ones():
    def shapes(network):
        return {name: tuple(value.shape) for name, value in network.state_dict().items()}

    assert shapes(VGG11Network(10, **NORM)) == shapes(reference())


def test_another_normalisation():
    data, options = images(), {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}
    ours, theirs = VGG11Network(10, **options).eval(), reference()
    ours.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(
            ours(data.test.as_float().x), theirs(normalize(data.test.x / 255, **options)), atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("wrapped", ["module", "lightning", "safetensors", "old"])
def test_every_common_way_to_save_it(tmp_path, wrapped):
    state, path = reference(hidden=(16, 8)).state_dict(), tmp_path / "w.pth"
    if wrapped == "module":
        _saved({f"module.{name}": value for name, value in state.items()}, path)
    elif wrapped == "lightning":
        inside = {f"model.{name}": value for name, value in state.items()} | {"loss.weight": torch.ones(10)}
        _saved({"epoch": 3, "state_dict": inside}, path)
    elif wrapped == "safetensors":
        path = tmp_path / "w.safetensors"
        save_file(state, path)
    else:
        _saved({name: v for name, v in state.items() if not name.endswith("num_batches_tracked")}, path)
    before = torch.get_rng_state()
    found = loaded(path)._network.state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    counters = {name for name in state if name.endswith("num_batches_tracked")} if wrapped == "old" else set()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in found.keys() - counters)


def _saved(content, path):
    torch.save(content, path)
    return path


def test_the_head_of_4096_units(tmp_path):
    state = hollow(VGG11Network(10, **NORM).state_dict())
    for name, shape in {"0.weight": (4096, 512), "3.weight": (4096, 4096), "6.weight": (10, 4096)}.items():
        state[f"classifier.{name}"] = torch.zeros(()).expand(shape)
    state |= {f"classifier.{n}.bias": torch.zeros(4096) for n in (0, 3)}
    classifier = loaded(_saved(state, tmp_path / "w.pt"))
    assert classifier.features(images().test.x).shape == (4, 4096)


# Files that do not fit.


class Bomb:
    def __reduce__(self):
        return (os.mkdir, (os.environ["BOMB"],))


def complaint(content, tmp_path, name="w.pt", classes=10):
    path = tmp_path / name
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(UsageError) as caught:
        VGG11(images(classes=classes), weights=str(path)).prepare(tmp_path)
    assert caught.value.where == "classifier.weights"
    assert str(path) in caught.value.found
    return caught.value


@pytest.fixture(scope="module")
def state():
    return hollow(VGG11Network(10, **NORM).state_dict())


def test_weights_for_other_classes(tmp_path, state):
    error = complaint(state, tmp_path, classes=7)
    assert "10 classes" in error.found
    assert "the 7 classes of noise" in error.expected


@pytest.mark.parametrize("layers", ["B", "D"])
def test_weights_of_a_deeper_network(tmp_path, layers):
    error = complaint(hollow(reference(layers=layers).state_dict()), tmp_path)
    assert "another architecture" in error.found
    assert "VGG11 with batch norm" in error.expected


def test_weights_of_something_else(tmp_path):
    assert "without features.0.weight" in complaint({"fc.weight": torch.zeros(10, 3)}, tmp_path).found
    assert "a list" in complaint([1, 2], tmp_path).found


def test_weights_in_part(tmp_path, state):
    less = {name: value for name, value in state.items() if name != "features.4.bias"}
    assert complaint(less, tmp_path).found.endswith("without features.4.bias")
    less = {name: value for name, value in state.items() if not name.startswith("classifier")}
    assert "without classifier.0.weight" in complaint(less, tmp_path).found


def test_weights_of_another_shape(tmp_path, state):
    other = {**state, "features.4.weight": torch.zeros(128, 64, 5, 5)}
    assert "features.4.weight (128, 64, 5, 5) for (128, 64, 3, 3)" in complaint(other, tmp_path).found
    other = {**state, "classifier.0.weight": torch.zeros(512, 300)}
    assert "classifier.0.weight" in complaint(other, tmp_path).found


def test_weights_that_are_damaged(tmp_path, state):
    whole = _saved(state, tmp_path / "whole.pt").read_bytes()
    for name in ("w.pt", "w.safetensors"):
        assert "damaged" in complaint(whole[:1000], tmp_path, name).found
    nan = {**state, "features.4.bias": torch.full((128,), float("nan"))}
    assert "NaN" in complaint(nan, tmp_path).found


def test_code_in_a_file_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("BOMB", str(tmp_path / "went off"))
    assert "damaged file, or none of this kind" in complaint({"state_dict": Bomb()}, tmp_path).found
    assert not (tmp_path / "went off").exists()


# Training.


class Small(ClassifierNetwork):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2))
        self.head = nn.Linear(256, 10)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(VGG11, "_initial", lambda self: Small())
    return lambda data=None, seed=0, **options: VGG11(
        data or images(40), **{"epochs": 2, "batch_size": 20, "seed": seed, **options}
    )


def test_the_network_itself_trains_and_comes_back_from_the_cache(tmp_path):
    data = images(8)
    options = {"epochs": 1, "batch_size": 4}
    trained, cached = VGG11(data, **options), VGG11(data, **options)
    accuracies = trained.prepare(tmp_path)
    assert {"test_accuracy", "train_accuracy", "balanced_test_accuracy", "test_accuracy/3"} <= set(accuracies)
    assert cached.prepare(tmp_path) == accuracies
    q = trained.probabilities(data.test.x)
    assert torch.equal(cached.probabilities(data.test.x), q)
    torch.testing.assert_close(q.sum(dim=1), torch.ones(4))
    torch.testing.assert_close(trained.probabilities(data.test.x[2:3]), q[2:3], atol=1e-4, rtol=1e-4)
    # What is kept is a file in the public layout.
    (path,) = tmp_path.glob("classifier-*.safetensors")
    assert torch.equal(loaded(path, data).probabilities(data.test.x), q)


def test_an_interrupted_preparation_continues(tmp_path, monkeypatch, small):
    expected = small()
    expected.prepare(tmp_path / "whole")
    one_epoch, seen = image_training._train_one_epoch, []

    def interrupted(*arguments):
        seen.append(arguments[-1])
        if seen == [0, 1]:
            raise KeyboardInterrupt
        return one_epoch(*arguments)

    monkeypatch.setattr(image_training, "_train_one_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        small().prepare(tmp_path)
    assert [path.name.split("-")[0] for path in tmp_path.glob("*.safetensors")] == ["training"]
    continued = small()
    continued.prepare(tmp_path)
    assert seen == [0, 1, 1]
    assert [path.name.split("-")[0] for path in tmp_path.glob("*.safetensors")] == ["classifier"]
    for name, value in expected._network.state_dict().items():
        assert torch.equal(continued._network.state_dict()[name], value)


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"epochs": 3},
        {"batch_size": 10},
        {"learning_rate": 0.05},
        {"label_smoothing": 0.1},
        {"weight_decay": 0.0},
        {"flips": False},
        {"shift": 2},
        {"std": (0.5, 0.5, 0.5)},
        {"data": images(39)},
    ],
)
def test_another_setting_is_another_entry_of_the_cache(small, other):
    def key(classifier):
        return classifier._key(classifier._untrained())

    assert key(small()) == key(small())
    assert key(small()) != key(small(**other))


def test_dropout_is_part_of_the_key():
    keys = {VGG11(images(), dropout=p)._key(VGG11Network(10, dropout=p, **NORM)) for p in (0.1, 0.2)}
    assert len(keys) == 2


def test_it_is_built_from_a_config():
    section = schema.resolve(VGG11, {"epochs": 2})
    assert section["mean"] == list(NORM["mean"])
    built = schema.build(VGG11, section, {"data": images(), "seed": 7})
    assert built._seed == 0  # its own, not the experiment's
    assert built._mean == NORM["mean"]
    assert isinstance(built, Classifier)


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 16, 16), (3, 32, 40)])
def test_images_that_do_not_fit(shape):
    with pytest.raises(InvalidValue, match="3 channels with sides that are multiples of 32"):
        VGG11(images(shape=shape))


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"weight_decay": -1.0},
        {"label_smoothing": 1.0},
        {"dropout": 1.0},
        {"shift": 32},
        {"shift": -1},
        {"std": (0.0, 1.0, 1.0)},
        {"mean": (float("inf"), 0.0, 0.0)},
        {"weights": "nowhere.pt"},
    ],
)
def test_impossible_values(options):
    with pytest.raises(InvalidValue, match=next(iter(options))):
        VGG11(images(), **options)


def test_it_must_have_labels_and_be_prepared():
    data = images()
    with pytest.raises(RuntimeError, match="prepare"):
        VGG11(data).probabilities(data.test.x)
    unlabelled = dataclasses.replace(data, train=Samples(data.train.x), test=Samples(data.test.x), class_names=())
    with pytest.raises(InvalidValue, match="no labels"):
        VGG11(unlabelled)


@pytest.mark.slow
def test_it_learns_real_images(tmp_path):
    if not CIFAR.exists():
        pytest.skip(f"no {CIFAR}: set SC_LOOPS_DATA")
    import numpy as np

    with np.load(CIFAR) as found:
        train, test = (
            Samples(
                torch.from_numpy(found[f"x_{part}"][:size]).permute(0, 3, 1, 2).contiguous(),
                torch.from_numpy(found[f"y_{part}"][:size]).long(),
            )
            for part, size in (("train", 2500), ("test", 500))
        )
        data = RealData(train, test, "images", tuple(map(str, found["classes"])), "cifar10")
    assert VGG11(data, epochs=4, batch_size=64, learning_rate=0.05).prepare(tmp_path)["test_accuracy"] > 0.25
