"""The words of the official motion-text evaluator: vectors (GloVe, 300 numbers) and kinds (parts of speech, with five
classes of words of its own)."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sc_loops.errors import InvalidValue

# The order of the fifteen kinds, and which words are of the last classes whatever their part of speech, are those
# that the weights were trained with (Guo et al. 2022). Words are lemmas: kick, not kicks.
_PARTS = ("VERB", "NOUN", "DET", "ADP", "NUM", "AUX", "PRON", "ADJ", "ADV")
KINDS = (*_PARTS, "place", "body", "object", "act", "manner", "OTHER")
_CLASSES = {
    "place": "left right clockwise counterclockwise anticlockwise forward back backward up down straight curve",
    "body": "arm chin foot feet face hand mouth leg waist eye knee shoulder thigh",
    "object": "stair dumbbell chair window floor car ball handrail baseball basketball",
    "act": "walk run swing pick bring kick put squat throw hop dance jump turn stumble stop sit lift lower raise "
    "wash stand kneel stroll rub bend balance flap jog shuffle lean rotate spin spread climb",
    "manner": "slowly carefully fast careful slow quickly happy angry sad happily angrily sadly",
}
CLASS_OF = {word: kind for kind, words in _CLASSES.items() for word in words.split()}
MOST = 20  # tokens of a caption that are read
UNKNOWN = "unk"


class T2MWords:
    """Captions as the evaluator's text encoder reads them.

    Args:
        folder: holds ``our_vab_data.npy``, ``our_vab_words.pkl`` and ``our_vab_idx.pkl``.

    Raises:
        InvalidValue: a file is something else, or would execute code.
    """

    def __init__(self, folder: Path) -> None:
        try:
            data = torch.from_numpy(np.load(folder / "our_vab_data.npy", allow_pickle=False)).float()
            words, numbers = (_plain(folder / f"our_vab_{part}.pkl") for part in ("words", "idx"))
            self._vectors = {str(word): data[numbers[word]] for word in words}
            self.size = len(self._vectors[UNKNOWN])
        except (ValueError, LookupError, TypeError, AttributeError, EOFError, pickle.UnpicklingError) as error:
            found = f"{folder}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            expected = "the T2M evaluator's word vectors: an array, a list of words and a dictionary of their rows"
            raise InvalidValue("glove", found=found, expected=expected) from error

    def read(self, captions: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor, Tensor]:
        """Word vectors ``(N, L, size)``, kinds ``(N, L, 15)`` and numbers of words ``(N,)`` of captions.

        Args:
            captions: the tokens of each, ``word/PART_OF_SPEECH``; of more than 20 the first 20 are read.
        """
        sentences = [["sos/OTHER", *tokens[:MOST], "eos/OTHER"] for tokens in captions]
        lengths = torch.tensor([len(tokens) for tokens in sentences])
        longest = int(lengths.max())
        read = [[self._token(token) for token in tokens] for tokens in sentences]
        vectors = torch.zeros(len(read), longest, self.size)
        kinds = torch.zeros(len(read), longest, len(KINDS))
        for number, tokens in enumerate(read):
            vectors[number, : len(tokens)] = torch.stack([vector for vector, _ in tokens])
            kinds[number, range(len(tokens)), [kind for _, kind in tokens]] = 1.0
        return vectors, kinds, lengths

    def _token(self, token: str) -> tuple[Tensor, int]:
        """The vector of a word and the number of its kind."""
        word, _, part = token.rpartition("/")
        if word not in self._vectors:
            return self._vectors[UNKNOWN], KINDS.index("OTHER")
        kind = CLASS_OF.get(word, part)
        return self._vectors[word], KINDS.index(kind if kind in KINDS else "OTHER")


class _OnlyPlain(pickle.Unpickler):
    """Reads lists, dictionaries, texts and numbers, which need no class and call nothing."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} in a file that should hold words and numbers only")


def _plain(path: Path) -> Any:
    with path.open("rb") as file:
        return _OnlyPlain(file).load()


def official_tokens(folder: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """The tokens of each caption, by its text with single spaces, in the files ``<name>.txt`` of HumanML3D's folder
    ``texts``: lines ``caption#word/PART word/PART ...#start#end``. A piece of a clip, ``<name>/<number>``, has its
    clip's file. Files that are not there are passed over."""
    tokens: dict[str, list[str]] = {}
    files = dict.fromkeys(file for name in names for file in (name, name.rpartition("/")[0]) if file)
    for path in (folder / f"{file}.txt" for file in files):
        if path.is_file():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                caption, _, rest = line.partition("#")
                tokens[" ".join(caption.split())] = rest.partition("#")[0].split()
    return tokens
