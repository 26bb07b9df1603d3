"""``NearestCentre``: the corrector of Gillman et al. 2024 on MNIST."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sc_loops.data.files import damage, read_tensors, write_tensors
from sc_loops.data.pixels import as_bytes, as_float
from sc_loops.data.real import RealData
from sc_loops.errors import require
from sc_loops.networks.network_classifier import digest
from sc_loops.samples import Samples


class NearestCentre:
    """Moves a sample to the nearest of K centres of the real samples of its class (Gillman et al. 2024, MNIST).

    With ``blend`` 1, as published, a sample is replaced by that centre, so the corrected samples are at most K
    different ones a class, and correcting twice is correcting once. Less moves them only that part of the way.
    Samples without a condition go to the nearest centre of any class.

    The centres are scikit-learn's k-means on the training part, found once and kept in the cache. Those of 8-bit
    images are rounded to pixels. (The published code adds half a grey level before it rounds.)

    Args:
        data: what the centres are found in.
        clusters: K, centres of each class.
        blend: in [0, 1], the part of the way to the centre.
        seed: of k-means; the same in all runs that are to be compared.
    """

    def __init__(self, data: RealData, *, clusters: int = 16, blend: float = 1.0, seed: int = 0) -> None:
        require(clusters >= 1, "clusters", clusters, "an integer >= 1")
        require(0 <= blend <= 1, "blend", blend, "a number in [0, 1]")
        self._classes = _by_class(data.train)
        fewest = min(map(len, self._classes.values()))
        require(clusters <= fewest, "clusters", clusters, f"at most {fewest}, the real samples of the smallest class")
        self.clusters, self.blend, self.seed = clusters, blend, seed
        self._centres: Tensor | None = None

    def prepare(self, cache: Path) -> None:
        path = cache / f"centres-{digest(['kmeans', self.clusters, self.seed], self._classes.values())}.safetensors"
        if damage(path):
            cache.mkdir(parents=True, exist_ok=True)
            write_tensors(path, {"centres": self.centres})
        self._centres = read_tensors(path)["centres"]

    @property
    def centres(self) -> Tensor:
        """``(classes, K, *shape)`` float32, of the classes that there are, in ascending order."""
        if self._centres is None:
            self._centres = torch.stack([self._found(x) for x in self._classes.values()])
        return self._centres

    def __call__(self, samples: Samples, generator: torch.Generator) -> Tensor:
        centres = self.centres.to(samples.x.device).flatten(0, 1)
        distance = torch.cdist(samples.x.flatten(1), centres.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")
        if samples.condition is not None and None not in self._classes:
            owners = torch.tensor(list(self._classes), device=samples.x.device).repeat_interleave(self.clusters)
            own = owners == samples.condition[:, None]
            known = bool(own.any(dim=1).all())
            require(known, "corrector", "samples of a class without real ones", "real samples of every class")
            distance = distance.masked_fill(~own, torch.inf)
        nearest = centres[distance.argmin(dim=1)]
        return nearest if self.blend == 1 else torch.lerp(samples.x, nearest, self.blend)

    def _found(self, x: Tensor) -> Tensor:
        """The centres ``(K, *shape)`` of the samples ``x`` of one class."""
        from sklearn.cluster import KMeans  # takes a second to import

        flat = as_float(x).flatten(1).double().numpy()
        found = KMeans(self.clusters, n_init="auto", random_state=self.seed).fit(flat).cluster_centers_
        centres = torch.from_numpy(found).float().view(self.clusters, *x.shape[1:])
        return as_float(as_bytes(centres)) if x.dtype == torch.uint8 else centres


def _by_class(real: Samples) -> dict[int | None, Tensor]:
    """The real samples of each class, or all of them under None."""
    labels = real.condition
    if labels is None:
        return {None: real.x}
    return {int(k): real.x[labels == k] for k in labels.unique()}
