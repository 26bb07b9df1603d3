"""Classifiers: small networks trained on the real data, and the nearest class mean."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sc_loops.data.files import damage, read_tensors, write_tensors
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue, UsageError, require
from sc_loops.networks.classifier import Classifier
from sc_loops.randomness import generator_for, seed_for
from sc_loops.samples import Samples

BLOCK = 1024  # samples that go through a network at a time, so that memory does not grow with a chunk


class TrainedClassifier(Classifier):
    """A network trained on the real data when the run is prepared, or loaded.

    Features are the inputs of its last layer. It is trained once: the weights are kept in the cache, under a
    name made of the data, the seed and every option. Using it before ``prepare`` is a ``RuntimeError``.

    Args:
        data: labelled data.
        seed: of the initial weights and of the order of the batches.
        architecture: ``mlp`` for points, ``convnet`` for images ``(N, C, H, W)``.
        width: hidden units, or channels where the sides of an image have been halved once.
        epochs: passes over the training data.
        batch_size: samples in one step.
        learning_rate: AdamW's at the start; it falls to 0 along a cosine.
        weight_decay: AdamW's.
        label_smoothing: the part of the target that is spread over all classes; above 0 it keeps the network
            from certainty.
        weights: a ``.safetensors`` or ``.pt`` file with the state dict of this architecture and width. Then
            nothing is trained.
    """

    def __init__(
        self,
        data: RealData,
        seed: int,
        *,
        architecture: Literal["mlp", "convnet"] = "mlp",
        width: int = 64,
        epochs: int = 30,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        label_smoothing: float = 0.0,
        weights: str | None = None,
    ) -> None:
        _require_labels(data)
        convolves = architecture == "convnet"
        require(not convolves or len(data.shape) == 3, "architecture", architecture, "mlp: these are no images")
        require(1 <= width <= 10000, "width", width, "an integer in 1..10000")
        require(epochs >= 1, "epochs", epochs, "an integer of at least 1")
        require(batch_size >= 1, "batch_size", batch_size, "an integer of at least 1")
        require(0 < learning_rate < math.inf, "learning_rate", learning_rate, "a number > 0")
        require(0 <= weight_decay < math.inf, "weight_decay", weight_decay, "a number >= 0")
        require(0 <= label_smoothing < 1, "label_smoothing", label_smoothing, "a number in [0, 1)")
        require(weights is None or Path(weights).is_file(), "weights", weights, "a file that exists")
        self.class_names = data.class_names
        self.feature_name = f"{data.name}_{architecture}"
        self._data, self._seed, self._weights = data, seed, weights
        self._build = convnet if convolves else mlp
        self._width, self._epochs, self._batch_size = width, epochs, batch_size
        self._learning_rate, self._weight_decay = learning_rate, weight_decay
        self._label_smoothing = label_smoothing
        self._network: FeatureNetwork | None = None

    def prepare(self, cache: Path) -> dict[str, float]:
        """Train, or load from ``weights`` or ``cache``. Returns ``test_accuracy``, ``train_accuracy`` and
        ``balanced_test_accuracy``, the mean of the accuracies on each class."""
        network = self._untrained()
        path = cache / f"classifier-{self._key(network)}.safetensors"
        if self._weights is not None:
            _load(network, Path(self._weights))
        elif not damage(path):
            network.load_state_dict(read_tensors(path))
        else:
            self._train(network)
            cache.mkdir(parents=True, exist_ok=True)
            write_tensors(path, network.state_dict())
        self._network = network.eval().requires_grad_(False)
        test, train = self._data.test, self._data.train
        return {
            "test_accuracy": float(self._correct(test).mean()),
            "train_accuracy": float(self._correct(train).mean()),
            "balanced_test_accuracy": _mean_over_classes(self._correct(test), _labels(test)),
        }

    def probabilities(self, x: Tensor) -> Tensor:
        network = self._ready(x.device)
        return _blockwise(x, lambda block: network(block).softmax(dim=1))

    def features(self, x: Tensor) -> Tensor:
        return _blockwise(x, self._ready(x.device).body)

    def _ready(self, device: torch.device) -> FeatureNetwork:
        if self._network is None:
            raise RuntimeError("this classifier was not prepared: call classifier.prepare(cache) first")
        return self._network.to(device)

    def _untrained(self) -> FeatureNetwork:
        """The network with its initial weights, which leave torch's global generator as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_for(self._seed, "classifier"))
            return self._build(self._data.shape, self._width, len(self.class_names))

    def _key(self, network: FeatureNetwork) -> str:
        """A hash of what the trained weights depend on."""
        options = [self._epochs, self._batch_size, self._learning_rate, self._weight_decay, self._label_smoothing]
        content = hashlib.sha256(json.dumps([str(network), self._seed, options]).encode())
        for tensor in (self._data.train.x, _labels(self._data.train)):
            content.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return content.hexdigest()[:16]

    def _train(self, network: FeatureNetwork) -> None:
        """Cross-entropy on the training part, on the GPU where there is one."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        train = self._data.train.to(device)
        network.to(device).train()
        batches = -(-len(train) // self._batch_size)
        optimizer = torch.optim.AdamW(network.parameters(), lr=self._learning_rate, weight_decay=self._weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, batches * self._epochs)
        for epoch in range(self._epochs):
            order = torch.randperm(len(train), generator=generator_for(self._seed, "classifier", epoch))
            for index in order.to(device).split(self._batch_size):
                logits = network(train.x[index])
                loss = F.cross_entropy(logits, _labels(train)[index], label_smoothing=self._label_smoothing)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()

    def _correct(self, samples: Samples) -> Tensor:
        """``(N,)``: 1.0 where the most probable class is the true one."""
        return (self.probabilities(samples.x).argmax(dim=1) == _labels(samples)).double()


class NearestMean(Classifier):
    """The class whose mean over the real training data is nearest; probabilities are 0 or 1.

    Features are the samples themselves, flattened: ``pixels`` or ``coordinates``.

    Args:
        data: labelled data.
    """

    def __init__(self, data: RealData) -> None:
        _require_labels(data)
        x, labels = data.train.x.flatten(1), _labels(data.train)
        missing = [name for k, name in enumerate(data.class_names) if not bool((labels == k).any())]
        require(not missing, "data", missing, "training samples of every class")
        self.class_names = data.class_names
        self.feature_name = "coordinates" if data.kind == "points" else "pixels"
        self._means = torch.stack([x[labels == k].mean(dim=0) for k in range(data.num_classes)])

    def probabilities(self, x: Tensor) -> Tensor:
        nearest = torch.cdist(self.features(x), self._means.to(x.device)).argmin(dim=1)
        return F.one_hot(nearest, len(self.class_names)).float()

    def features(self, x: Tensor) -> Tensor:
        return x.flatten(1).float()


class FeatureNetwork(nn.Module):
    """``body`` maps ``(N, *shape)`` to features ``(N, d)``, ``head`` maps these to logits ``(N, classes)``."""

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(x))
        return logits


def mlp(shape: tuple[int, ...], width: int, classes: int) -> FeatureNetwork:
    """Three hidden layers of ``width``."""
    layers: list[nn.Module] = [nn.Flatten()]
    inputs = torch.Size(shape).numel()
    for size in (inputs, width, width):
        layers += [nn.Linear(size, width), nn.SiLU()]
    return FeatureNetwork(nn.Sequential(*layers), nn.Linear(width, classes))


def convnet(shape: tuple[int, ...], width: int, classes: int) -> FeatureNetwork:
    """3 x 3 convolutions that halve the sides to less than 8 and double the channels from ``width / 2`` up to
    ``2 width``, then the mean over what is left. Group norm: a sample's output does not depend on its batch."""
    channels, *sides = shape
    halvings = max(1, min(sides).bit_length() - 3)
    layers: list[nn.Module] = []
    for stage in range(halvings + 1):
        wider = max(1, width * min(2**stage, 4) // 2)
        for stride in (1,) if stage == 0 else (2, 1):
            layers += [nn.Conv2d(channels, wider, 3, stride, padding=1), nn.GroupNorm(1, wider), nn.SiLU()]
            channels = wider
    body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return FeatureNetwork(body, nn.Linear(channels, classes))


def _require_labels(data: RealData) -> None:
    if not data.class_names or data.train.condition is None or data.test.condition is None:
        expected = "data with class labels, to learn a classifier from"
        raise InvalidValue("data", found=f"{data.name}, which has no labels", expected=expected)


def _labels(samples: Samples) -> Tensor:
    assert samples.condition is not None  # by _require_labels
    return samples.condition


def _mean_over_classes(correct: Tensor, labels: Tensor) -> float:
    return float(torch.stack([correct[labels == k].mean() for k in labels.unique()]).mean())


def _blockwise(x: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """``compute`` of ``x``, in float32 also where the trainer's precision is lower."""
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        return torch.cat([compute(block.float()) for block in x.split(BLOCK)])


def _load(network: FeatureNetwork, path: Path) -> None:
    """Load a state dict that a user gives."""
    expected = "a state dict, .safetensors or .pt, of this architecture, width and data"
    try:
        safe = path.suffix == ".safetensors"
        network.load_state_dict(read_tensors(path) if safe else torch.load(path, "cpu", weights_only=True))
    except Exception as problem:
        do = "give the architecture and width that it was trained with"
        raise UsageError("classifier.weights", found=f"{path}: {problem}", expected=expected, do=do) from problem
