"""``VGG11``: the classifier behind the rewards of the published CIFAR-10 experiments."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from sc_loops.data.real import RealData
from sc_loops.errors import require
from sc_loops.networks.image_training import Recipe, train_on_images
from sc_loops.networks.network_classifier import ClassifierNetwork, NetworkClassifier
from sc_loops.networks.vgg_network import VGG11Network, load_vgg11


class VGG11(NetworkClassifier):
    """VGG11 with batch normalisation (Simonyan and Zisserman 2015), trained here or loaded; see
    ``NetworkClassifier``. The options of training are those for CIFAR-10.

    An interrupted training continues from its last whole epoch.

    Args:
        data: labelled images ``(N, 3, H, W)`` with sides that can be halved five times.
        epochs: passes over the training data.
        batch_size: images in one step.
        learning_rate: the highest of SGD with Nesterov momentum 0.9, reached after a fifth of the training; before
            and after, it rises from 0 and falls to 0 linearly.
        weight_decay: SGD's.
        label_smoothing: the part of the target that is spread over all classes; above 0 it keeps the network
            from certainty.
        dropout: probability, in training, after each of the head's two hidden layers of 512.
        flips: mirror every other time an image is seen.
        shift: pixels by which an image is moved at most, in training, in each direction.
        mean, std: of the channels of images in [0, 1], by which the network normalises; CIFAR-10's by default. They
            must be those that given ``weights`` were trained with.
        weights: a ``.pt``, ``.pth`` or ``.safetensors`` file with a state dict that has the names of torchvision's
            ``vgg11_bn``; the published weights for CIFAR-10 have them. The head may be of any size. Then nothing is
            trained.
        seed: of the initial weights and of all that is random in training; the same in all runs that are to be
            compared.
    """

    block = 256

    def __init__(
        self,
        data: RealData,
        *,
        epochs: int = 30,
        batch_size: int = 128,
        learning_rate: float = 0.1,
        weight_decay: float = 5e-4,
        label_smoothing: float = 0.0,
        dropout: float = 0.2,
        flips: bool = True,
        shift: int = 4,
        mean: tuple[float, float, float] = (0.4914, 0.4822, 0.4465),
        std: tuple[float, float, float] = (0.2471, 0.2435, 0.2616),
        weights: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(data, seed, weights)
        fits = len(data.shape) == 3 and data.shape[0] == 3 and all(side % 32 == 0 for side in data.shape[1:])
        expected = "another classifier: this one takes images of 3 channels with sides that are multiples of 32"
        require(fits, "name", f"VGG11 for samples of shape {data.shape}", expected)
        require(epochs >= 1, "epochs", epochs, "an integer of at least 1")
        require(batch_size >= 1, "batch_size", batch_size, "an integer of at least 1")
        require(0 < learning_rate < math.inf, "learning_rate", learning_rate, "a number > 0")
        require(0 <= weight_decay < math.inf, "weight_decay", weight_decay, "a number >= 0")
        require(0 <= label_smoothing < 1, "label_smoothing", label_smoothing, "a number in [0, 1)")
        require(0 <= dropout < 1, "dropout", dropout, "a number in [0, 1)")
        require(0 <= shift < min(data.shape[1:]), "shift", shift, "an integer >= 0, less than the sides")
        require(all(map(math.isfinite, mean)), "mean", mean, "three numbers")
        require(all(0 < s < math.inf for s in std), "std", std, "three numbers > 0")
        self.feature_name = f"{data.name}_vgg11_bn"
        self._dropout, self._mean, self._std = dropout, tuple(mean), tuple(std)
        self._recipe = Recipe(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            label_smoothing=label_smoothing,
            flips=flips,
            shift=shift,
        )

    def _initial(self) -> ClassifierNetwork:
        classes = len(self.class_names)
        return VGG11Network(classes, dropout=self._dropout, mean=self._mean, std=self._std)

    def _options(self) -> list[Any]:
        return [dataclasses.asdict(self._recipe), self._mean, self._std]

    def _train(self, network: ClassifierNetwork, state: Path) -> None:
        train_on_images(network, self._data, self._recipe, self._seed, "vgg11_bn", state)

    def _load(self, path: Path) -> ClassifierNetwork:
        return load_vgg11(path, len(self.class_names), self._data.name, self._mean, self._std)
