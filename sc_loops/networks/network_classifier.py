"""``NetworkClassifier``: what classifiers that are networks share, from the cache to the accuracies."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sc_loops.data.files import damage, read_json, read_tensors, write_json, write_tensors
from sc_loops.data.pixels import as_float
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue, require
from sc_loops.networks.classifier import Classifier
from sc_loops.networks.devices import work_device
from sc_loops.networks.precision import full_precision
from sc_loops.randomness import seed_for
from sc_loops.samples import Samples


class ClassifierNetwork(nn.Module):
    """``body`` maps ``(N, *shape)`` to features ``(N, d)``, ``head`` maps these to logits ``(N, classes)``."""

    body: Callable[[Tensor], Tensor]
    head: Callable[[Tensor], Tensor]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class NetworkClassifier(Classifier):
    """A network trained on the real data when the run is prepared, or loaded.

    Features are the inputs of its head. It is trained once: the weights are kept in the cache, under a
    name made of the data, the seed and every option; so are its accuracies, which take a while to measure. Using it
    before ``prepare`` is a ``RuntimeError``.

    Args:
        data: labelled data.
        seed: of the initial weights and of all that is random in training. It is an option of its own and not the
            experiment's seed, so that runs of different seeds are measured in one feature space.
        weights: a file with a state dict. Then nothing is trained.
    """

    block = 1024  # samples that go through the network at a time, so that memory does not grow with a chunk

    def __init__(self, data: RealData, seed: int, weights: str | None) -> None:
        require_labels(data)
        require(weights is None or Path(weights).is_file(), "weights", weights, "a file that exists")
        self.class_names = data.class_names
        self._data, self._seed, self._weights = data, seed, weights
        self._network: ClassifierNetwork | None = None

    @abstractmethod
    def _initial(self) -> ClassifierNetwork:
        """The network with new weights drawn from torch's global generator."""

    @abstractmethod
    def _options(self) -> list[Any]:
        """All that the trained weights and the outputs depend on beside the data, the seed and the layers."""

    @abstractmethod
    def _train(self, network: ClassifierNetwork, state: Path) -> None:
        """Train ``network``. ``state`` is where to keep what an interrupted training continues from."""

    @abstractmethod
    def _load(self, path: Path) -> ClassifierNetwork:
        """The network with the weights of a file that a user gave.

        Raises:
            UsageError: the file does not fit.
        """

    def prepare(self, cache: Path) -> dict[str, float]:
        """Train, or load from ``weights`` or ``cache``.

        Returns ``test_accuracy``, ``train_accuracy``, ``balanced_test_accuracy``, the mean of the accuracies on
        each class, and these as ``test_accuracy/<k>``.
        """
        cache.mkdir(parents=True, exist_ok=True)
        network = self._load(Path(self._weights)) if self._weights is not None else self._trained(cache)
        self._network = network.eval().requires_grad_(False)
        return self._accuracies(cache)

    def probabilities(self, x: Tensor) -> Tensor:
        network = self._ready(x.device)
        return self._blockwise(x, lambda block: network(block).softmax(dim=1))

    def features(self, x: Tensor) -> Tensor:
        return self._blockwise(x, self._ready(x.device).body)

    def _ready(self, device: torch.device) -> ClassifierNetwork:
        if self._network is None:
            raise RuntimeError("this classifier was not prepared: call classifier.prepare(cache) first")
        return self._network.to(device)

    def _blockwise(self, x: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """``compute`` of ``x``, in float32 also where the trainer's precision is lower."""
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False), full_precision():
            return torch.cat([compute(as_float(block).float()) for block in x.split(self.block)])

    def _untrained(self) -> ClassifierNetwork:
        """The network with its initial weights, which leave torch's global generator as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_for(self._seed, "classifier"))
            return self._initial()

    def _trained(self, cache: Path) -> ClassifierNetwork:
        """The network as it is in ``cache``, where it is put if it is not there whole."""
        network = self._untrained()
        key = self._key(network)
        path = cache / f"classifier-{key}.safetensors"
        if not damage(path):
            network.load_state_dict(read_tensors(path))
            return network
        state = cache / f"training-{key}.safetensors"
        self._train(network, state)
        write_tensors(path, network.state_dict())
        state.unlink(missing_ok=True)
        return network

    def _key(self, network: ClassifierNetwork) -> str:
        """A hash of what the trained weights depend on."""
        train = self._data.train
        return digest([str(network), self._seed, self._options()], (train.x, labels_of(train)))

    def _accuracies(self, cache: Path) -> dict[str, float]:
        """What ``prepare`` returns: from ``cache``, or measured and put there."""
        assert self._network is not None
        train, test = self._data.train, self._data.test
        samples = (train.x, labels_of(train), test.x, labels_of(test))
        content = digest([str(self._network), self._options()], (*self._network.state_dict().values(), *samples))
        path = cache / f"accuracies-{content}.json"
        try:
            return read_json(path)
        except (OSError, ValueError):  # absent or damaged
            accuracies = self._measured()
            write_json(path, accuracies)
            return accuracies

    def _measured(self) -> dict[str, float]:
        right, labels = self._correct(self._data.test), labels_of(self._data.test)
        by_class = {int(k): float(right[labels == k].mean()) for k in labels.unique()}
        return {
            "test_accuracy": float(right.mean()),
            "train_accuracy": float(self._correct(self._data.train).mean()),
            "balanced_test_accuracy": sum(by_class.values()) / len(by_class),
            **{f"test_accuracy/{k}": accuracy for k, accuracy in by_class.items()},
        }

    def _correct(self, samples: Samples) -> Tensor:
        """``(N,)``: 1.0 where the most probable class is the true one."""
        classes = [self.probabilities(x.to(work_device())).argmax(dim=1).cpu() for x in samples.x.split(self.block)]
        return (torch.cat(classes) == labels_of(samples)).double()


def require_labels(data: RealData) -> None:
    """Raise ``InvalidValue`` where ``data`` has nothing to learn a classifier from."""
    if not data.class_names or data.train.condition is None or data.test.condition is None:
        expected = "data with class labels, to learn a classifier from"
        raise InvalidValue("data", found=f"{data.name}, which has no labels", expected=expected)


def labels_of(samples: Samples) -> Tensor:
    """The class labels, which there are by ``require_labels``."""
    assert samples.condition is not None
    return samples.condition


def digest(content: list[Any], tensors: Iterable[Tensor]) -> str:
    """16 hexadecimal digits of the SHA-256 of ``content``, in JSON, and the bytes of ``tensors``."""
    found = hashlib.sha256(json.dumps(content).encode())
    for tensor in tensors:
        found.update(tensor.detach().cpu().contiguous().reshape(-1).numpy().data)
    return found.hexdigest()[:16]
