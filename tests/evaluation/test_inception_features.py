"""Features and logits against torch-fidelity's own; where the weights come from, and what is said without them."""

import hashlib
import io
from http.client import IncompleteRead
from pathlib import Path
from unittest import mock
from urllib.error import URLError

import pytest
import torch
from torch_fidelity import feature_extractor_inceptionv3 as published

from sc_loops.data.pixels import as_float
from sc_loops.errors import InvalidValue
from sc_loops.evaluation import inception_features
from sc_loops.evaluation.inception_features import WEIGHTS_FILE, InceptionFeatures, load

PIXELS = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def write_random_weights(path):
    """A file as the published one is, with random weights by which features differ from image to image."""
    with (
        mock.patch.object(published, "load_state_dict_from_url"),
        mock.patch.object(published.FeatureExtractorInceptionV3, "load_state_dict"),
        torch.random.fork_rng(),
    ):
        torch.manual_seed(0)
        network = published.FeatureExtractorInceptionV3("random", ["2048"])
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight)
    torch.save(network.state_dict(), path)
    return str(path)


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory):
    return write_random_weights(tmp_path_factory.mktemp("inception") / "weights.pth")


@pytest.fixture(scope="module")
def features(inception_weights):
    return InceptionFeatures(inception_weights, batch_size=3)


@pytest.fixture(scope="module")
def found(features):
    return features(PIXELS)


def test_features_and_logits_are_torch_fidelitys(features, found, inception_weights):
    theirs = published.FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=inception_weights
    )
    expected, logits = theirs(PIXELS)
    assert expected.std(dim=0).mean() > 0.003  # the images are told apart
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(features.logits(found), logits, rtol=1e-5, atol=1e-5)
    assert found.dtype == torch.float32


def test_floats_are_measured_as_the_nearest_pixels(features, found):
    blurred = as_float(PIXELS[:1]) + torch.tensor(0.3 / 127.5)
    torch.testing.assert_close(features(blurred), found[:1], rtol=1e-5, atol=1e-6)
    loud = as_float(PIXELS[:1]).where(PIXELS[:1] < 255, torch.tensor(7.0))  # beyond the range is clamped
    torch.testing.assert_close(features(loud), found[:1], rtol=1e-5, atol=1e-6)


def test_grey_images_have_three_equal_channels(features):
    grey = PIXELS[:1, :1]
    assert torch.equal(features(grey), features(grey.repeat(1, 3, 1, 1)))


def test_no_images_have_no_features(features):
    assert features(PIXELS[:0]).shape == (0, 2048)


class Recorder(torch.nn.Module):
    """In place of Inception: notes under which settings it is called, and with how many images."""

    def __init__(self):
        super().__init__()
        self.fc, self.calls = torch.nn.Linear(5, 7), []

    def forward(self, x):
        precision = torch.backends.cudnn.conv.fp32_precision
        state = torch.is_autocast_enabled("cpu"), precision, torch.is_grad_enabled()
        self.calls.append((len(x), *state))
        return (x.flatten(1)[:, :5].float(),)


def test_runs_in_full_precision_a_batch_at_a_time(monkeypatch, tmp_path):
    network = Recorder()
    monkeypatch.setattr(inception_features, "load", lambda path: network)
    (tmp_path / "file").touch()
    before = torch.backends.cudnn.conv.fp32_precision
    with torch.autocast("cpu"):
        InceptionFeatures(str(tmp_path / "file"), batch_size=3)(PIXELS)
    assert network.calls == [(3, False, "ieee", False), (1, False, "ieee", False)]
    assert torch.backends.cudnn.conv.fp32_precision == before != "ieee"


def test_loading_leaves_the_global_generator_alone(inception_weights):
    before = torch.get_rng_state()
    network = load(Path(inception_weights))
    assert torch.equal(torch.get_rng_state(), before)
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())


def test_a_file_that_is_absent_is_refused_at_once():
    with pytest.raises(InvalidValue, match="weights") as error:
        InceptionFeatures("nowhere.pth", batch_size=1)
    assert WEIGHTS_FILE in error.value.expected


class Payload:
    """Makes a file ``ran`` when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path / "ran",)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"conv.weight": torch.ones(3)}, "Missing key"),
        ([torch.ones(3)], "list"),
        (Payload, "more than tensors, or damaged"),
        (b"<!DOCTYPE html>", "more than tensors, or damaged"),
        (b"", ""),
    ],
)
def test_a_file_of_something_else_is_refused_and_not_run(tmp_path, content, reason):
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content(tmp_path) if content is Payload else content, path)
    with pytest.raises(InvalidValue) as error:
        InceptionFeatures(str(path), batch_size=1).load()
    assert error.value.where == "weights"
    assert error.value.found.startswith(f"{path}: ")
    assert reason in error.value.found
    assert "weights_only" not in str(error.value)
    assert WEIGHTS_FILE in error.value.expected
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """torch's directory of downloads, empty."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints" / WEIGHTS_FILE


class Answer(io.BytesIO):
    """What urlopen returns; cut short where ``whole`` is false."""

    def __init__(self, content, whole=True):
        super().__init__(content)
        self.whole = whole

    def read(self, *args):
        if self.whole:
            return super().read(*args)
        raise IncompleteRead(b"abc", 7)


def test_weights_are_downloaded_once_to_where_torch_fidelity_keeps_them(monkeypatch, hub):
    asked = []

    def urlopen(url, timeout):
        asked.append((url, timeout > 0))
        return Answer(b"weights")

    monkeypatch.setattr(inception_features, "urlopen", urlopen)
    digests = [InceptionFeatures(None, batch_size=1).digest for _ in range(2)]
    assert digests == 2 * [hashlib.sha256(b"weights").hexdigest()]
    assert asked == [(inception_features.URL_INCEPTION_V3, True)]
    assert hub.read_bytes() == b"weights"


@pytest.mark.parametrize("fault", ["no network", "timeout", "cut short", "read-only"])
def test_without_weights_and_network_it_is_said_what_to_do(monkeypatch, hub, fault):
    def urlopen(url, timeout):
        if fault == "cut short":
            return Answer(b"", whole=False)
        raise {"timeout": TimeoutError("timed out")}.get(fault) or URLError("Name or service not known")

    monkeypatch.setattr(inception_features, "urlopen", urlopen)
    if fault == "read-only":
        hub.parents[1].touch()  # a file where a directory is to be made
    with pytest.raises(InvalidValue) as error:
        InceptionFeatures(None, batch_size=1).load()
    message = str(error.value)
    assert error.value.where == "weights"
    for part in (str(hub), WEIGHTS_FILE, "evaluation.metrics=[]", "frechet_distance/<features>"):
        assert part in message
    assert not hub.exists()
    assert hub.parents[1].is_file() or not list(hub.parent.iterdir())
