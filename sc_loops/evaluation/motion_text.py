"""``MotionText``: the T2M protocol with an evaluator that is trained here, so that nothing is downloaded."""

from __future__ import annotations

import json
import math
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sc_loops.data.files import damage, read_metadata, read_tensors, write_tensors
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue, require
from sc_loops.evaluation.motion_evaluator import MotionEvaluator
from sc_loops.networks.motion_text_networks import MotionTextNetwork, Vocabulary
from sc_loops.networks.motion_text_training import Recipe, train, training_captions
from sc_loops.networks.network_classifier import digest
from sc_loops.randomness import seed_for
from sc_loops.samples import Samples


@dataclass(frozen=True, eq=False)
class TrainedEvaluator:
    """A trained network with all that it reads motions and captions by.

    Attributes:
        network: in evaluation mode, without gradients.
        vocabulary: the words of the captions it was trained on.
        mean, std: ``(263,)``, the units it was trained in.
    """

    network: MotionTextNetwork
    vocabulary: Vocabulary
    mean: Tensor
    std: Tensor

    def write(self, path: Path) -> None:
        """Keep it in a file that ``read`` reads."""
        weights = {f"network/{name}": tensor for name, tensor in self.network.state_dict().items()}
        units = {"mean": self.mean, "std": self.std}
        write_tensors(path, weights | units, words=json.dumps(self.vocabulary.words), kind="motion_text")

    @staticmethod
    def read(path: Path) -> TrainedEvaluator:
        """What ``write`` wrote.

        Raises:
            LookupError, RuntimeError, ValueError: it is something else.
        """
        vocabulary = Vocabulary(json.loads(read_metadata(path)["words"]))
        tensors, weights = read_tensors(path), read_tensors(path, "network/")
        features, width = weights["motion.head.3.weight"].shape
        network = MotionTextNetwork(len(vocabulary), width=width, features=features)
        network.load_state_dict(weights)
        return TrainedEvaluator(network.eval().requires_grad_(False), vocabulary, tensors["mean"], tensors["std"])


class MotionText(MotionEvaluator):
    """The numbers of the T2M protocol in the space ``motion_text`` of a small evaluator trained by contrast on real
    motions and their captions: see ``MotionEvaluator`` for the keys. They cannot be compared with published ones.

    Embeddings are points of the unit sphere, so no distance is above 2. In R-precision a motion of an equal caption
    counts as found. ``r_precision_1/motion_text/real`` and so on are how often the evaluator itself finds held-out
    real motions, chance being about 1/32 for captions that do not repeat; where that is poor, so is its judgement of
    generated ones. ``frechet_distance/motion_text/real`` is a little too large, since training motions are those that
    the evaluator learnt from.

    It is trained once, when the run is prepared, and kept in the cache under a name made of the motions, the
    captions, the seed and every option. 1,500 clips of 60 to 196 frames take about a minute and a half of one core.

    Args:
        data: motions.
        width: of the network's layers.
        features: numbers in an embedding. Few, since the Fréchet distance between n samples is too large by about
            features²/4n times their variance.
        epochs: passes over the training motions.
        batch_size: motions that are told apart at a time.
        learning_rate: the highest.
        temperature: of the contrast: the lower, the more the nearest count.
        trained_on: the motions to train on; by default ``data``, which may be too few to learn from. Give the same
            for runs on subsets of different sizes, so that they are measured in one space. Its training part must
            hold no motion that is held out in ``data``.
        weights: the file of a trained evaluator, as the cache holds it; nothing is trained.
        seed: of all that is random in training. It is an option of its own and not the experiment's seed, so that
            runs of different seeds are measured in one space.
        limit: see ``MotionEvaluator``.
    """

    name = "motion_text"
    equal_captions = True

    def __init__(
        self,
        data: RealData,
        *,
        width: int = 128,
        features: int = 64,
        epochs: int = 30,
        batch_size: int = 64,
        learning_rate: float = 2e-3,
        temperature: float = 0.1,
        trained_on: RealData | None = None,
        weights: str | None = None,
        seed: int = 0,
        limit: int = 2000,
    ) -> None:
        super().__init__(data, limit)
        require(1 <= width <= 4096, "width", width, "an integer in 1..4096")
        require(2 <= features <= 1024, "features", features, "an integer in 2..1024")
        require(epochs >= 1, "epochs", epochs, "an integer of at least 1")
        require(batch_size >= 2, "batch_size", batch_size, "an integer of at least 2")
        require(0 < learning_rate < math.inf, "learning_rate", learning_rate, "a number > 0")
        require(0 < temperature < math.inf, "temperature", temperature, "a number > 0")
        source = data if trained_on is None else trained_on
        described = source.motions is not None and source.train.condition is not None
        require(described, "trained_on", source.name, "motions with captions")
        held_out = _held_out(data, source)
        seen = f"{source.name}, with {held_out} motions that are held out in {data.name}"
        require(not held_out, "trained_on", seen, "motions to train on, none of which is held out")
        self._source, self._width, self._seed = source, width, seed
        self._recipe = Recipe(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            temperature=temperature,
        )
        self._weights = None if weights is None else Path(weights)
        self._trained = None if self._weights is None else _given(self._weights)
        self.features = features if self._trained is None else self._trained.network.features

    def prepare(self, cache: Path) -> None:
        if self._trained is None:
            vocabulary = self._vocabulary()
            path = cache / f"motion_text-{self._key(vocabulary)}.safetensors"
            if damage(path):
                cache.mkdir(parents=True, exist_ok=True)
                self._train(vocabulary).write(path)
            self._trained = TrainedEvaluator.read(path)

    @property
    def evaluator(self) -> TrainedEvaluator:
        """The trained evaluator. Without ``prepare`` it is trained here."""
        if self._trained is None:
            self._trained = self._train(self._vocabulary())
        return self._trained

    def embed_motions(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        evaluator = self.evaluator
        z = (vectors - evaluator.mean.to(vectors)) / evaluator.std.to(vectors)
        return evaluator.network.to(vectors.device).motions(z, lengths)

    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        evaluator = self.evaluator
        return evaluator.network.cpu().texts(evaluator.vocabulary.numbers(captions))

    def _vocabulary(self) -> Vocabulary:
        """Of the captions that the training motions have."""
        return Vocabulary.of(self._training_captions())

    def _training_captions(self) -> list[str]:
        motions, first = training_captions(self._source)
        rows = [
            row for f, n in zip(first.tolist(), motions.count[first].tolist(), strict=True) for row in range(f, f + n)
        ]
        return [motions.captions[row] for row in rows]

    def _train(self, vocabulary: Vocabulary) -> TrainedEvaluator:
        motions, _ = training_captions(self._source)
        network = self._untrained(vocabulary)
        train(network, self._source, vocabulary, self._recipe, self._seed)
        return TrainedEvaluator(network.requires_grad_(False), vocabulary, motions.mean, motions.std)

    def _untrained(self, vocabulary: Vocabulary) -> MotionTextNetwork:
        """The network with its initial weights, which leave torch's global generator as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_for(self._seed, "motion_text"))
            return MotionTextNetwork(len(vocabulary), width=self._width, features=self.features)

    def _key(self, vocabulary: Vocabulary) -> str:
        """A hash of what the trained weights depend on."""
        motions, first = training_captions(self._source)
        options = [str(self._untrained(vocabulary)), self._seed, vars(self._recipe)]
        tensors = (self._source.train.x, motions.lengths[first], motions.count[first], motions.mean, motions.std)
        return digest([*options, self._training_captions()], tensors)


def _held_out(data: RealData, source: RealData) -> int:
    """How many of the motions that ``source`` trains on are held out in ``data``: the same name and vectors."""
    if source is data:
        return 0
    held_out = _motions_of(data, data.test)
    return sum(
        name in held_out and held_out[name].shape == own.shape and torch.allclose(held_out[name], own, atol=1e-3)
        for name, own in _motions_of(source, source.train, held_out).items()
    )


def _motions_of(data: RealData, samples: Samples, names: Container[str] | None = None) -> dict[str, Tensor]:
    """Vectors ``(length, 263)`` by name of the motions of ``samples``, or of those of ``names`` alone."""
    motions, rows = data.motions, samples.condition
    assert motions is not None
    assert rows is not None
    return {
        motions.names[row]: motions.vectors(x[: int(motions.lengths[row])])
        for x, row in zip(samples.x, rows.tolist(), strict=True)
        if names is None or motions.names[row] in names
    }


def _given(path: Path) -> TrainedEvaluator:
    """The evaluator in a file that a user named."""
    expected = "a file motion_text-*.safetensors from the folder statistics/ of an output folder"
    require(path.is_file(), "weights", str(path), expected)
    wrong = damage(path)
    require(wrong is None, "weights", f"{path}: {wrong}", expected)
    try:
        return TrainedEvaluator.read(path)
    except (LookupError, RuntimeError, ValueError, AttributeError) as error:
        raise InvalidValue("weights", found=f"{path}: {type(error).__name__}", expected=expected) from error
