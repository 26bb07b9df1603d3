"""``MotionEvaluator``: what metrics share that know motions and captions by embeddings in one space."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from sc_loops.data.motions import Motions
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue, RunError, require
from sc_loops.evaluation.distances import evenly
from sc_loops.evaluation.frechet import BLOCKS, Gaussian, frechet_distance, frechet_distance_error, gaussian
from sc_loops.evaluation.images import MOST_FEATURES
from sc_loops.evaluation.metric import Metric
from sc_loops.evaluation.retrieval import RANKS, diversity, matching_score, multimodality, r_precision
from sc_loops.networks.devices import work_device
from sc_loops.networks.precision import full_precision
from sc_loops.samples import Observation, Samples

BLOCK = 128  # motions, or captions, that go through a network at a time


class MotionEvaluator(Metric):
    """The numbers of the T2M protocol (Guo et al. 2022) of the first samples, in the space that ``name`` names:

    * ``frechet_distance/<space>`` to the held-out real motions and its standard error
      ``frechet_distance_error/<space>``, absent for fewer than 20 samples (see ``sc_loops/evaluation/frechet.py``);
    * ``diversity/<space>``, ``matching_score/<space>``, ``r_precision_1/<space>``, ``_2``, ``_3``, and where two
      samples have equal captions ``multimodality/<space>`` (see ``sc_loops/evaluation/retrieval.py``).

    Each comes with the real data's own value under the same key with ``/real`` appended, constant over a run: the
    held-out motions with the first caption of each, and for the Fréchet distance training motions, as many as there
    are up to ``limit``, against the held-out ones. A generated motion's caption is that it was sampled under, in the
    loop one of the training captions.

    Args:
        data: motions, whose ``test`` part is compared with.
        limit: the samples that are compared are those with a number below this; so are the real ones.

    Attributes:
        features: numbers in an embedding.
        equal_captions: whether in R-precision a motion of a caption with the same text counts as found. Captions made
            of labels repeat, and nothing tells such motions apart; the published protocol counts only the one motion.
    """

    features: int
    equal_captions: bool

    def __init__(self, data: RealData, limit: int) -> None:
        if data.motions is None or data.train.condition is None or data.test.condition is None:
            raise InvalidValue("data", found=f"{data.name}, which has no captions", expected="motions with captions")
        require(limit >= 2, "limit", limit, "an integer of at least 2")
        self.motions: Motions = data.motions
        self._data, self._limit = data, limit
        self._known: dict[int, Tensor] = {}  # by block of the table of captions

    @abstractmethod
    def embed_motions(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """``(N, features)``, on the device of ``vectors (N, T, 263)``, HumanML3D's own units, of ``lengths (N,)``;
        what is beyond a motion's length does not count."""

    @abstractmethod
    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        """``(N, features)`` on the CPU."""

    def features_of(self, samples: Samples) -> Tensor:
        """``(N, features)``, in float32 also where the trainer's precision is lower."""
        if len(samples) == 0:
            return torch.zeros(0, self.features, device=samples.x.device)
        with torch.no_grad(), torch.autocast(samples.x.device.type, enabled=False), full_precision():
            return torch.cat([self._embedded(block) for block in samples.split(BLOCK)])

    def texts_of(self, condition: Tensor) -> Tensor:
        """``(N, features)`` on the CPU: the embeddings of the captions of rows ``condition (N,)``.

        They are computed once, a block of the table at a time, so that which were asked for before changes no digit.
        """
        rows = condition.tolist()
        with torch.no_grad(), torch.autocast("cpu", enabled=False), full_precision():
            for block in {row // BLOCK for row in rows} - self._known.keys():
                captions = self.motions.captions[block * BLOCK : (block + 1) * BLOCK]
                self._known[block] = self.embed_captions(captions)
        return torch.stack([self._known[row // BLOCK][row % BLOCK] for row in rows])

    def captions_of(self, condition: Tensor) -> list[str]:
        """The captions of rows ``condition (N,)``."""
        return [self.motions.captions[row] for row in condition.tolist()]

    def observe(self, samples: Samples) -> Observation:
        first = samples[samples.columns["index"] < self._limit]
        if first.condition is None:
            found = "motions that were sampled without captions"
            raise RunError(f"the metric {self.name}", found=found, expected="a model that is given captions")
        return {"features": self.features_of(first), "condition": first.condition}

    def observed_bytes(self, raw: int) -> int:
        return (4 * self.features + 8) * min(raw, self._limit)

    def summarise(self, observations: Sequence[Observation]) -> dict[str, float]:
        features = torch.cat([o["features"] for o in observations]).cpu()
        condition = torch.cat([o["condition"] for o in observations]).cpu()
        found = {**self.distance(features, self._real_gaussian), **self.fit(features, condition)}
        return self.named(found) | self.real

    def distance(self, features: Tensor, real: Gaussian) -> dict[str, float]:
        """The Fréchet distance of ``features (N, d)`` to ``real``, and its standard error where it can be told."""
        found = {"frechet_distance": frechet_distance(gaussian(features), real) if len(features) else math.nan}
        if len(features) >= 2 * BLOCKS and features.shape[1] <= MOST_FEATURES:
            found["frechet_distance_error"] = frechet_distance_error(features, real)
        return found

    def fit(self, features: Tensor, condition: Tensor) -> dict[str, float]:
        """The other numbers, of motions with embeddings ``(N, d)`` and captions of rows ``condition (N,)``."""
        texts, captions = self.texts_of(condition), self.captions_of(condition)
        precisions = r_precision(features, texts, captions if self.equal_captions else None)
        spread, _, several = multimodality(features, captions)
        return {
            "diversity": diversity(features),
            "matching_score": matching_score(features, texts),
            **{f"r_precision_{rank}": share for rank, share in zip(RANKS, precisions, strict=True)},
            **({"multimodality": spread} if several else {}),
        }

    def named(self, found: dict[str, float], suffix: str = "") -> dict[str, float]:
        """``found`` under the keys of this space."""
        return {f"{key}/{self.name}{suffix}": value for key, value in found.items()}

    @cached_property
    def real(self) -> dict[str, float]:
        """The real data's own values, under their keys."""
        distance = self.distance(self._measured(self._some(self._data.train)), self._real_gaussian)
        condition = self._some(self._data.test).condition
        assert condition is not None
        found = {"frechet_distance": distance["frechet_distance"], **self.fit(self._real_features, condition)}
        return self.named(found, "/real")

    def _some(self, samples: Samples) -> Samples:
        return samples[evenly(torch.arange(len(samples)), self._limit)]

    def _measured(self, samples: Samples) -> Tensor:
        """``(N, features)`` on the CPU, computed where those of the samples are, too."""
        device = work_device()
        return torch.cat([self.features_of(block.to(device)).cpu() for block in samples.split(BLOCK)])

    @cached_property
    def _real_features(self) -> Tensor:
        return self._measured(self._some(self._data.test))

    @cached_property
    def _real_gaussian(self) -> Gaussian:
        return gaussian(self._real_features).with_root()

    def _embedded(self, samples: Samples) -> Tensor:
        assert samples.condition is not None
        vectors = self.motions.vectors(samples.x.float())
        return self.embed_motions(vectors, self.motions.lengths_of(samples.condition))
