"""FID, KID, Inception score, precision and recall, as torch-fidelity defines them."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
import torch_fidelity
from torch import Tensor
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from sc_loops.data.files import damage, read_tensors, write_tensors
from sc_loops.data.pixels import as_bytes
from sc_loops.data.real import RealData
from sc_loops.errors import require
from sc_loops.evaluation.distances import BLOCK, evenly
from sc_loops.evaluation.frechet import Gaussian, frechet_distance, gaussian
from sc_loops.evaluation.inception_features import FEATURES, InceptionFeatures
from sc_loops.evaluation.metric import Metric
from sc_loops.networks.devices import work_device
from sc_loops.samples import Observation, Samples

SEED = 2020  # torch-fidelity's own, so that its command line gives the same numbers
SPLITS = 10  # of the Inception score
SUBSETS, SUBSET_SIZE = 100, 1000  # of KID


class InceptionDistances(Metric):
    """The metrics of image generation in the feature space of Inception:

    * ``fid`` (Heusel et al. 2017, Eq. 6);
    * ``kid`` (Bińkowski et al. 2018), the mean over 100 random subsets of 1000 samples, or of as many as there are
      where these are fewer, and ``kid_std``, its standard deviation over the subsets;
    * ``inception_score`` (Salimans et al. 2016) over ten splits, or as many as there are samples, and
      ``inception_score_std``, its standard deviation over the splits;
    * ``precision/inception`` and ``recall/inception`` (Kynkäänniemi et al. 2019) between equally many of each.

    KID, precision and recall of so few samples that they are undefined (one, or no more than ``neighbours``) are nan.
    The real images are measured once; what is known of them is kept in the cache, under a name made of these images
    and the weights.

    Args:
        data: images of 1 or 3 channels.
        weights: the path of torch-fidelity's file of weights, ``weights-inception-2015-12-05-6726825d.pth``. By
            default it is looked for where torch-fidelity keeps it, and downloaded if need be.
        samples: the samples that are compared are those with a number below this.
        pairs: KID, precision and recall, whose cost grows faster, see so many of the samples and real images.
        neighbours: k of precision and recall.
        against: the real images to compare with, all of this part. The published FIDs of CIFAR-10 are against
            ``train``.
        batch_size: images that go through Inception at a time.
    """

    name = "inception"

    def __init__(
        self,
        data: RealData,
        *,
        weights: str | None = None,
        samples: int = 50_000,
        pairs: int = 10_000,
        neighbours: int = 3,
        against: Literal["train", "test"] = "train",
        batch_size: int = 100,
    ) -> None:
        is_image = data.kind == "images" and len(data.shape) == 3 and data.shape[0] in (1, 3)
        require(is_image, "data", f"{data.kind} of shape {data.shape}", "images of 1 or 3 channels, for Inception")
        require(samples >= 2, "samples", samples, "an integer of at least 2")
        require(pairs >= 2, "pairs", pairs, "an integer of at least 2")
        require(neighbours >= 1, "neighbours", neighbours, "an integer of at least 1")
        self._features = InceptionFeatures(weights, batch_size)
        self._images = data.train.x if against == "train" else data.test.x
        self._samples, self._pairs, self._neighbours = samples, pairs, neighbours
        self._cached: Path | None = None

    def check(self) -> None:
        self._features.load()

    def prepare(self, cache: Path) -> None:
        self._features.load()
        path = cache / f"inception-{self._key()}.safetensors"
        if damage(path):
            print(f"inception: features of {len(self._images)} real images, kept in {path}", file=sys.stderr)
            cache.mkdir(parents=True, exist_ok=True)
            write_tensors(path, self._measured().tensors())
        self._cached = path

    def observe(self, samples: Samples) -> Observation:
        first = samples.columns["index"] < self._samples
        return {"features": self._features(samples.x[first])}

    def observed_bytes(self, raw: int) -> int:
        return 4 * FEATURES * min(raw, self._samples)

    def summarise(self, observations: Sequence[Observation]) -> dict[str, float]:
        fake = torch.cat([o["features"] for o in observations]).cpu()
        some, real = evenly(fake, self._pairs), self._real.features
        return {
            "fid": frechet_distance(gaussian(fake), self._real.gaussian),
            **kernel_distance(some, real),
            **inception_score(self._features.logits(fake)),
            **precision_recall(some, real, self._neighbours),
        }

    @cached_property
    def _real(self) -> RealSide:
        if self._cached is not None and not damage(self._cached):
            return RealSide.of_tensors(read_tensors(self._cached))
        return self._measured()

    def _measured(self) -> RealSide:
        """The real side, where that of the samples is computed, too."""
        device = work_device()
        features = torch.cat([self._features(block.to(device)).cpu() for block in self._images.split(BLOCK)])
        return RealSide(gaussian(features).with_root(), evenly(features, self._pairs).clone())

    def _key(self) -> str:
        """A hash of what the real side depends on."""
        options = [torch_fidelity.__version__, self._pairs, list(self._images.shape)]
        content = hashlib.sha256(json.dumps([self._features.digest, options]).encode())
        for block in self._images.split(BLOCK):
            content.update(as_bytes(block).cpu().contiguous().numpy().data)
        return content.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class RealSide:
    """What is kept of the real images: the Gaussian of all features, with its root, and ``pairs`` of the features."""

    gaussian: Gaussian
    features: Tensor

    def tensors(self) -> dict[str, Tensor]:
        fitted = self.gaussian.with_root()
        assert fitted.root is not None
        return {
            "mean": fitted.mean,
            "covariance": fitted.covariance,
            "root": fitted.root,
            "features": self.features,
        }

    @staticmethod
    def of_tensors(tensors: dict[str, Tensor]) -> RealSide:
        return RealSide(Gaussian(tensors["mean"], tensors["covariance"], tensors["root"]), tensors["features"])


def kernel_distance(fake: Tensor, real: Tensor) -> dict[str, float]:
    """KID between features ``(n, d)`` and ``(m, d)``: unbiased, so it may be slightly negative."""
    size = min(SUBSET_SIZE, len(fake), len(real))
    if size < 2:
        return {"kid": math.nan, "kid_std": math.nan}
    options = {"kid_subsets": SUBSETS, "kid_subset_size": size, "rng_seed": SEED, "verbose": False}
    found = kid_features_to_metric(fake, real, **options)
    return {"kid": found["kernel_inception_distance_mean"], "kid_std": found["kernel_inception_distance_std"]}


def inception_score(logits: Tensor) -> dict[str, float]:
    """The Inception score of samples with class logits ``(n, classes)``, from 1 to the number of classes."""
    found = isc_features_to_metric(logits, splits=min(SPLITS, len(logits)), rng_seed=SEED)
    return {
        "inception_score": found["inception_score_mean"],
        "inception_score_std": found["inception_score_std"],
    }


def precision_recall(fake: Tensor, real: Tensor, neighbours: int) -> dict[str, float]:
    """Precision and recall between equally many of the features ``(n, d)`` and ``(m, d)``."""
    n = min(len(fake), len(real))
    if n <= neighbours:
        return {"precision/inception": math.nan, "recall/inception": math.nan}
    # In blocks: the matrix of all distances is never in memory.
    options = {"prc_neighborhood": neighbours, "prc_batch_size": BLOCK, "save_cpu_ram": True, "verbose": False}
    found = prc_features_to_metric(evenly(fake, n), evenly(real, n), **options)
    return {"precision/inception": found["precision"], "recall/inception": found["recall"]}
