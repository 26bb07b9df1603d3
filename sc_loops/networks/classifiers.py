"""Classifiers: small networks trained on the real data, and the nearest class mean."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sc_loops.data.files import read_tensors
from sc_loops.data.pixels import as_float
from sc_loops.data.real import RealData
from sc_loops.errors import UsageError, require
from sc_loops.networks.classifier import Classifier
from sc_loops.networks.devices import work_device
from sc_loops.networks.network_classifier import ClassifierNetwork, NetworkClassifier, labels_of, require_labels
from sc_loops.randomness import generator_for


class TrainedClassifier(NetworkClassifier):
    """A small network trained on the real data when the run is prepared, or loaded; see ``NetworkClassifier``.

    Args:
        data: labelled data.
        architecture: ``mlp`` for points, ``convnet`` for images ``(N, C, H, W)``, ``lenet`` for such images with
            sides of at least 12, made for those of MNIST.
        width: hidden units, or channels where the sides of an image have been halved once. ``lenet`` has the sizes
            of its publication and takes none but the default.
        epochs: passes over the training data.
        batch_size: samples in one step.
        learning_rate: AdamW's at the start; it falls to 0 along a cosine.
        weight_decay: AdamW's.
        label_smoothing: the part of the target that is spread over all classes; above 0 it keeps the network
            from certainty.
        weights: a ``.safetensors`` or ``.pt`` file with the state dict of this architecture and width. Then
            nothing is trained.
        seed: of the initial weights and of the order of the batches; the same in all runs that are to be compared.
        trained_on: other labelled data to train on, of the same kind and classes: more of it, where the experiment
            sees only a part; by default the experiment's own.
    """

    def __init__(
        self,
        data: RealData,
        *,
        architecture: Literal["mlp", "convnet", "lenet"] = "mlp",
        width: int = 64,
        epochs: int = 30,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        label_smoothing: float = 0.0,
        weights: str | None = None,
        seed: int = 0,
        trained_on: RealData | None = None,
    ) -> None:
        if trained_on is not None:
            alike = (trained_on.shape, trained_on.class_names) == (data.shape, data.class_names)
            require(alike, "trained_on", trained_on.name, f"samples like those of {data.name}, of the same classes")
            data = trained_on
        super().__init__(data, seed, weights)
        images, lenets = len(data.shape) == 3, architecture == "lenet"
        require(images or architecture == "mlp", "architecture", architecture, "mlp: these are no images")
        small = lenets and min(data.shape[1:]) < 12
        require(not small, "architecture", architecture, f"convnet: the images are of {data.shape[1:]} pixels")
        require(not lenets or width == 64, "width", width, "64, the default: lenet has the sizes of its publication")
        require(1 <= width <= 10000, "width", width, "an integer in 1..10000")
        require(epochs >= 1, "epochs", epochs, "an integer of at least 1")
        require(batch_size >= 1, "batch_size", batch_size, "an integer of at least 1")
        require(0 < learning_rate < math.inf, "learning_rate", learning_rate, "a number > 0")
        require(0 <= weight_decay < math.inf, "weight_decay", weight_decay, "a number >= 0")
        require(0 <= label_smoothing < 1, "label_smoothing", label_smoothing, "a number in [0, 1)")
        self.feature_name = f"{data.name}_{architecture}"
        self._build = {"mlp": mlp, "convnet": convnet, "lenet": lenet}[architecture]
        self._width, self._epochs, self._batch_size = width, epochs, batch_size
        self._learning_rate, self._weight_decay = learning_rate, weight_decay
        self._label_smoothing = label_smoothing

    def _initial(self) -> ClassifierNetwork:
        return self._build(self._data.shape, self._width, len(self.class_names))

    def _options(self) -> list[Any]:
        return [self._epochs, self._batch_size, self._learning_rate, self._weight_decay, self._label_smoothing]

    def _train(self, network: ClassifierNetwork, state: Path) -> None:
        """Cross-entropy on the training part, on the trainer's device. Too short to keep a state of."""
        device = work_device()
        train = self._data.train.to(device)
        network.to(device).train()
        batches = -(-len(train) // self._batch_size)
        optimizer = torch.optim.AdamW(network.parameters(), lr=self._learning_rate, weight_decay=self._weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, batches * self._epochs)
        for epoch in range(self._epochs):
            order = torch.randperm(len(train), generator=generator_for(self._seed, "classifier", epoch))
            for index in order.to(device).split(self._batch_size):
                logits = network(as_float(train.x[index]))
                loss = F.cross_entropy(logits, labels_of(train)[index], label_smoothing=self._label_smoothing)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()

    def _load(self, path: Path) -> ClassifierNetwork:
        network = self._untrained()
        expected = "a state dict, .safetensors or .pt, of this architecture, width and data"
        try:
            safe = path.suffix == ".safetensors"
            network.load_state_dict(read_tensors(path) if safe else torch.load(path, "cpu", weights_only=True))
        except Exception as problem:
            do = "give the architecture and width that it was trained with"
            raise UsageError("classifier.weights", found=f"{path}: {problem}", expected=expected, do=do) from problem
        return network


class NearestMean(Classifier):
    """The class whose mean over the real training data is nearest; probabilities are 0 or 1.

    Features are the samples themselves, flattened: ``pixels`` or ``coordinates``.

    Args:
        data: labelled data.
    """

    def __init__(self, data: RealData) -> None:
        require_labels(data)
        x, labels = data.train.x, labels_of(data.train)
        missing = [name for k, name in enumerate(data.class_names) if not bool((labels == k).any())]
        require(not missing, "data", missing, "training samples of every class")
        self.class_names = data.class_names
        self.feature_name = "coordinates" if data.kind == "points" else "pixels"
        self._means = torch.stack([self.features(x[labels == k]).mean(dim=0) for k in range(data.num_classes)])

    def probabilities(self, x: Tensor) -> Tensor:
        nearest = torch.cdist(self.features(x), self._means.to(x.device)).argmin(dim=1)
        return F.one_hot(nearest, len(self.class_names)).float()

    def features(self, x: Tensor) -> Tensor:
        return as_float(x).flatten(1).float()


class FeatureNetwork(ClassifierNetwork):
    """A network of a body and a head that are modules."""

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head


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


def lenet(shape: tuple[int, ...], width: int, classes: int) -> FeatureNetwork:
    """LeNet-5 (LeCun et al. 1998, Fig. 2) in its present-day form: max-pooling, no Gaussian output units, ReLU.

    MNIST's 28 pixels become 32, as there, by a margin of -1, the value of the background. Features are the 84
    numbers that the layer before the last one gives, not yet rectified, as in Gillman et al. 2024. Their network has
    sigmoids and is trained through two softmaxes one upon the other, which is not copied. ReLU's features are nearest
    to the Gaussians that a Fréchet distance fits: after ten epochs on 12,000 images their mean excess kurtosis is
    -0.3, of tanh and of sigmoids -1.0. It is right about 98.3 % of the test images, tanh 98.2 %, sigmoids 96.7 %.

    ``width`` is not used.
    """
    channels, *sides = shape
    rows, columns = ((side // 2 - 4) // 2 for side in sides)
    body = nn.Sequential(
        *(nn.ConstantPad2d(2, -1.0), nn.Conv2d(channels, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(16 * rows * columns, 120), nn.ReLU(), nn.Linear(120, 84)),
    )
    return FeatureNetwork(body, nn.Sequential(nn.ReLU(), nn.Linear(84, classes)))
