"""``Classifier``: what turns samples into class probabilities and features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from torch import Tensor


class Classifier(ABC):
    """Class probabilities q(x) and features of samples. Used by rewards and by evaluation.

    Attributes:
        class_names: names of the classes, in the order of the probabilities.
        feature_name: what the feature space is called in metric names, e.g. ``digits_convnet``.
    """

    class_names: tuple[str, ...]
    feature_name: str

    @abstractmethod
    def probabilities(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` to ``(N, classes)``, rows summing to 1, on the device of ``x``."""

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` to ``(N, d)`` float32 features, on the device of ``x``."""

    def prepare(self, cache: Path) -> dict[str, float]:
        """Do the expensive part (training, or loading from ``cache``) once, before the loop starts.

        Returns what is worth printing and logging of it, e.g. ``{"test_accuracy": 0.98}``.
        """
        return {}
