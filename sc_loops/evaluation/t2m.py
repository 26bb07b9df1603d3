"""``T2M``: the T2M protocol with the official evaluator, whose weights a user has."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue, require
from sc_loops.evaluation.motion_evaluator import MotionEvaluator
from sc_loops.networks.motion_text_networks import words_of
from sc_loops.networks.t2m_networks import CONTACTS, UNIT, read_networks
from sc_loops.networks.t2m_words import KINDS, T2MWords, official_tokens

_FROM = (
    "they come with the evaluators of EricGuo5513/text-to-motion and GuyTevet/motion-diffusion-model on GitHub; the "
    "metric motion_text needs no download"
)


class T2M(MotionEvaluator):
    """The numbers of the T2M protocol in the space ``t2m`` of the official evaluator: see ``MotionEvaluator``.

    The networks are those of Guo et al. 2022: motions without their contacts, in the evaluator's own units, through
    two convolutions and a recurrent network; captions as GloVe vectors with parts of speech through another.
    R-precision is as published: only a caption's own motion counts as found. Differences from the published protocol:
    motions start at their first frame, where the authors draw one of the first few, and multimodality and diversity
    are as in ``sc_loops/evaluation/retrieval.py``.

    Numbers that can be compared with published ones need HumanML3D itself and, for all but the Fréchet distance, the
    diversity and the multimodality, its lemmas and parts of speech, which ``texts`` gives. For captions that are not
    found there every word is taken as it is written, as ``word/OTHER``: inflected words are then mostly unknown.

    Args:
        data: motions.
        weights: the file ``finest.tar`` of the folder ``t2m/text_mot_match/model``. Nothing in it is executed.
        glove: the folder with ``our_vab_data.npy``, ``our_vab_words.pkl`` and ``our_vab_idx.pkl``. Nothing in them is
            executed.
        stats: the folder with the mean and the standard deviation that the evaluator was trained with,
            ``t2m_mean.npy`` and ``t2m_std.npy``, or ``mean.npy`` and ``std.npy`` as in ``t2m/Comp_v6_KLD01/meta``.
            They are not those of the data: where the two are confused all numbers are wrong.
        texts: HumanML3D's folder ``texts``, for the tokens of captions.
        limit: see ``MotionEvaluator``.
    """

    name = "t2m"
    equal_captions = False

    def __init__(
        self, data: RealData, *, weights: str, glove: str, stats: str, texts: str | None = None, limit: int = 2000
    ) -> None:
        super().__init__(data, limit)
        require_files("weights", weights, [Path(weights)])
        require_files(
            "glove", glove, [Path(glove) / f"our_vab_{part}" for part in ("data.npy", "words.pkl", "idx.pkl")]
        )
        require(texts is None or Path(texts).is_dir(), "texts", texts, "HumanML3D's folder texts")
        self._mean, self._std = read_units(Path(stats))
        self._networks, self._words = read_networks(Path(weights)), T2MWords(Path(glove))
        self._texts = None if texts is None else Path(texts)
        self.features = self._networks.features
        sizes = (self._networks.frame + CONTACTS, self._networks.word, self._networks.kinds)
        wanted = (len(self._mean), self._words.size, len(KINDS))
        require(sizes == wanted, "weights", sizes, f"networks for frames, words and kinds of {wanted} numbers")

    def embed_motions(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        z = (vectors - self._mean.to(vectors)) / self._std.to(vectors)
        return self._networks.to(vectors.device).motions(z, lengths.clamp(min=UNIT))

    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        read = self._words.read([self.tokens_of(caption) for caption in captions])
        return self._networks.cpu().text_encoder.embed(*read)

    def tokens_of(self, caption: str) -> list[str]:
        """The tokens ``word/PART_OF_SPEECH`` of a caption."""
        known = self._tokens.get(" ".join(caption.split()))
        return [f"{word}/OTHER" for word in words_of(caption)] if known is None else known

    @cached_property
    def _tokens(self) -> dict[str, list[str]]:
        return {} if self._texts is None else official_tokens(self._texts, self.motions.names)


def require_files(option: str, given: str, paths: Sequence[Path]) -> None:
    """Raise ``InvalidValue`` for ``option`` where one of ``paths`` is no file."""
    missing = ", ".join(str(path) for path in paths if not path.is_file())
    if missing:
        expected = f"the T2M evaluator's {', '.join(path.name for path in paths)}"
        raise InvalidValue(option, found=f"{given!r}: no {missing}", expected=expected, do=_FROM)


def read_units(folder: Path) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation ``(263,)`` in ``folder``.

    Raises:
        InvalidValue: they are not there, or something else.
    """
    prefix = "" if (folder / "mean.npy").is_file() and not (folder / "t2m_mean.npy").is_file() else "t2m_"
    paths = [folder / f"{prefix}{part}.npy" for part in ("mean", "std")]
    require_files("stats", str(folder), paths)
    try:
        mean, std = (torch.from_numpy(np.load(path, allow_pickle=False)).float() for path in paths)
    except (OSError, ValueError, TypeError) as error:
        raise InvalidValue("stats", found=f"{folder}: {error}", expected="arrays of 263 numbers") from error
    usable = mean.shape == std.shape == (263,) and bool((std > 0).all()) and bool(torch.isfinite(mean).all())
    require(usable, "stats", str(folder), "263 finite means and 263 deviations above 0")
    return mean, std
