"""How the samples are spread over the classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sc_loops.evaluation.metric import Metric
from sc_loops.networks.classifier import Classifier
from sc_loops.samples import Observation, Samples


class ClassShares(Metric):
    """``class_share/<k>``, the share of samples whose most probable class is number k, and ``class_entropy``,
    the entropy of these shares in nats: log(classes) when all are equal, 0 when one class is left.

    Args:
        classifier: tells the classes.
    """

    name = "class_shares"

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    def observe(self, samples: Samples) -> Observation:
        classes = self._classifier.probabilities(samples.x).argmax(dim=1)
        return {"counts": classes.bincount(minlength=len(self._classifier.class_names))}

    def summarise(self, observations: Sequence[Observation]) -> dict[str, float]:
        counts = torch.stack([o["counts"] for o in observations]).sum(dim=0).double()
        shares = counts / counts.sum()
        entropy = torch.special.entr(shares).sum()
        return {
            **{f"class_share/{k}": share for k, share in enumerate(shares.tolist())},
            "class_entropy": float(entropy),
        }
