"""torch-fidelity's Inception: where its weights come from, and what it makes of images."""

from __future__ import annotations

import io
import pickle
import sys
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

import torch
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

from sc_loops.data.files import checksum, write_atomically
from sc_loops.data.pixels import as_bytes
from sc_loops.errors import InvalidValue, require
from sc_loops.networks.precision import full_precision

FEATURES = 2048
WEIGHTS_FILE = URL_INCEPTION_V3.rsplit("/", 1)[-1]
TIMEOUT = 60  # seconds without an answer after which there is no network


class InceptionFeatures:
    """The features of Inception's last pooling layer, on which FID, KID, precision and recall are defined.

    Images are compared as the 8-bit pixels that a file of them would hold. The features are computed in float32
    whatever the trainer's precision, which would move them by up to a percent.

    Args:
        weights: the file with torch-fidelity's weights. By default it is looked for where torch-fidelity keeps
            it, and downloaded to there if need be.
        batch_size: images that go through the network at a time.
    """

    def __init__(self, weights: str | None, batch_size: int) -> None:
        require(weights is None or Path(weights).is_file(), "weights", weights, f"a file that exists, {WEIGHTS_FILE}")
        require(batch_size >= 1, "batch_size", batch_size, "an integer of at least 1")
        self._given, self._batch_size = weights, batch_size

    def __call__(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` of 1 or 3 channels, in [-1, 1] or uint8, to ``(N, 2048)`` float32 on the same device."""
        network = self._network.to(x.device)
        if not len(x):
            return torch.empty(0, network.fc.in_features, device=x.device)
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False), full_precision():
            # A grey image is one whose three channels are the same.
            blocks = [as_bytes(block).expand(-1, 3, -1, -1) for block in x.split(self._batch_size)]
            return torch.cat([network(block)[0] for block in blocks])

    def logits(self, features: Tensor) -> Tensor:
        """``(N, 2048)`` to ``(N, 1008)``: the logits of ImageNet's classes without the bias, as the Inception score
        uses them."""
        return features @ self._network.fc.weight.to(features.device).T

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the file of weights."""
        return checksum(self._path)

    def load(self) -> None:
        """Load the weights now rather than when they are needed.

        Raises:
            InvalidValue: there are none, or they are of something else.
        """
        _ = self._network  # is made when it is first read

    @cached_property
    def _network(self) -> FeatureExtractorInceptionV3:
        """Images ``(N, 3, H, W)`` uint8 to a tuple of the features. Channels last is exact and quicker."""
        return load(self._path).to(memory_format=torch.channels_last)

    @cached_property
    def _path(self) -> Path:
        if self._given is not None:
            return Path(self._given)
        path = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS_FILE  # where torch-fidelity looks, too
        if not path.exists():
            download(path)
        return path


def download(path: Path) -> None:
    """Download torch-fidelity's weights to ``path``, which is then whole or absent.

    Raises:
        InvalidValue: they cannot be had.
    """
    print(f"inception: downloading {URL_INCEPTION_V3} (91 MB) to {path.parent}", file=sys.stderr)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with urlopen(URL_INCEPTION_V3, timeout=TIMEOUT) as answer:
            content = answer.read()
    except (OSError, HTTPException) as problem:
        raise InvalidValue(
            "weights",
            found=f"no file {path}, and no download: {type(problem).__name__}: {problem}",
            expected=f"{WEIGHTS_FILE} there, or its path given here",
            do=f"download {URL_INCEPTION_V3} elsewhere and give its path, or leave the metric out, as with "
            "evaluation.metrics=[]: a classifier gives frechet_distance/<features>, under its own name",
        ) from problem
    write_atomically(path, content)


def load(path: Path) -> FeatureExtractorInceptionV3:
    """The network with the state dict in ``path``, of which no code is run.

    Raises:
        InvalidValue: it is no state dict of this network.
    """
    try:
        # torch-fidelity unpickles what it is given, so it is given what was read without.
        harmless = io.BytesIO()
        torch.save(torch.load(path, "cpu", weights_only=True), harmless)
        harmless.seek(0)
        with torch.random.fork_rng(devices=[]):  # the initial weights, which are not kept, are random
            return FeatureExtractorInceptionV3(
                "inception-v3-compat", [str(FEATURES)], feature_extractor_weights_path=harmless
            )
    except Exception as problem:
        unsafe = isinstance(problem, pickle.UnpicklingError)  # whose text advises to read it all the same
        reason = "more than tensors, or damaged" if unsafe else " ".join(str(problem).split())
        raise InvalidValue(
            "weights",
            found=f"{path}: {reason[:160]}",
            expected=f"the state dict of torch-fidelity's Inception, as in {WEIGHTS_FILE}",
            do=f"download {URL_INCEPTION_V3}",
        ) from problem
