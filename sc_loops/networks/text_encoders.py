"""Text encoders that need no download: ``LatentSemantic`` from the captions themselves, ``Actions`` from labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor

from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue, require
from sc_loops.networks.text import TextEncoder

VERSION = 1  # of the computation below, for the cache


class LatentSemantic(TextEncoder):
    """Latent semantic analysis (Deerwester et al. 1990): TF-IDF of words and pairs of neighbouring words, reduced by
    a truncated singular value decomposition; rows scaled to the length sqrt(width), so that numbers are of order 1.

    Words and directions are those of the captions of the clips to train on; captions of other clips are only
    transformed. It tells apart what these captions tell apart ("waves the left hand", "waves the right hand"). Unlike
    CLIP it knows no language: a word that no caption to train on has is ignored, a caption of only such words is 0,
    as no text is, synonyms are alike only as far as they share neighbours, and word order counts only within pairs.
    Of the 60 wordings of the procedural motions, each left out in turn, 87 % were nearest to one of their own action,
    of nine; "stands still" was nearest to "walks forward", since no other caption stands.

    Args:
        data: motions.
        width: directions kept; more than the captions have are 0.
    """

    def __init__(self, data: RealData, *, width: int = 64) -> None:
        super().__init__(data)
        require(1 <= width <= 10_000, "width", width, "an integer in 1..10000")
        self.width = width
        assert data.train.condition is not None
        self._fitted = torch.isin(self.motions.first, self.motions.first[data.train.condition])

    def embed(self) -> Tensor:
        captions = self.motions.captions
        fitted = [caption for caption, is_fitted in zip(captions, self._fitted.tolist(), strict=True) if is_fitted]
        # Words of one letter count too: "raises a leg" is not "raises leg" to the pairs.
        counts = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\w+", sublinear_tf=True)
        try:
            known = counts.fit_transform(fitted)
        except ValueError as error:  # captions of nothing but punctuation
            raise InvalidValue("data", found=f"captions without a word: {fitted[0]!r}", expected="words") from error
        kept = min(self.width, *known.shape)
        directions = TruncatedSVD(kept, n_iter=7, random_state=0).fit(known)
        rows = torch.from_numpy(directions.transform(counts.transform(captions))).float()
        return F.pad(F.normalize(rows) * self.width**0.5, (0, self.width - kept))

    def identity(self) -> list[str | int | float]:
        return [VERSION, self.width, *self._fitted.nonzero()[:, 0].tolist()]


class Actions(TextEncoder):
    """The action labels of the data as unit vectors: what a caption says beside its label is not seen.

    Args:
        data: motions with action labels.
    """

    def __init__(self, data: RealData) -> None:
        super().__init__(data)
        has_labels = self.motions.actions is not None and len(self.motions.action_names) > 0
        require(has_labels, "data", data.name, "motions with action labels", "choose latent_semantic or clip")
        self.width = len(self.motions.action_names)

    def embed(self) -> Tensor:
        assert self.motions.actions is not None
        return F.one_hot(self.motions.actions, self.width).float()

    def identity(self) -> list[str | int | float]:
        return [*self.motions.action_names]
