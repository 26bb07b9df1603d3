"""The networks of the official motion-text evaluator (Guo et al. 2022), named as in the file of its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from sc_loops.errors import InvalidValue

UNIT = 4  # frames that the movement encoder makes one item of
LONGEST = 196  # frames; shorter motions are padded to it
CONTACTS = 4  # the last numbers of a frame, which it does not see
SLOPE = 0.2  # of the leaky rectifiers


class Movements(nn.Module):
    """``(N, T, d)`` to ``(N, T // 4, output)``: two strided convolutions."""

    def __init__(self, size: int, hidden: int, output: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv1d(size, hidden, 4, stride=2, padding=1),
            nn.Dropout(0.2),
            nn.LeakyReLU(SLOPE),
            nn.Conv1d(hidden, output, 4, stride=2, padding=1),
            nn.Dropout(0.2),
            nn.LeakyReLU(SLOPE),
        )
        self.out_net = nn.Linear(output, output)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_net(self.main(x.mT).mT)


class Recurrent(nn.Module):
    """``(N, T, size)`` to ``(N, output)``: a recurrent network in both directions, from a learnt first state."""

    def __init__(self, size: int, hidden: int, output: int) -> None:
        super().__init__()
        self.input_emb = nn.Linear(size, hidden)
        self.gru = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.output_net = nn.Sequential(
            nn.Linear(2 * hidden, hidden),
            nn.LayerNorm(hidden),
            nn.LeakyReLU(SLOPE),
            nn.Linear(hidden, output),
        )
        self.hidden = nn.Parameter(torch.randn(2, 1, hidden))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Of ``x (N, T, size)``, of which ``lengths (N,)`` items count, each at least 1."""
        start = self.hidden.repeat(1, len(x), 1)
        items = pack_padded_sequence(self.input_emb(x), lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, last = self.gru(items, start)
        return self.output_net(torch.cat([last[0], last[1]], dim=1))


class Words(Recurrent):
    """A recurrent network on the sums of word vectors ``(N, L, size)`` and of embedded kinds ``(N, L, kinds)``."""

    def __init__(self, size: int, kinds: int, hidden: int, output: int) -> None:
        super().__init__(size, hidden, output)
        self.pos_emb = nn.Linear(kinds, size)

    def embed(self, vectors: Tensor, kinds: Tensor, lengths: Tensor) -> Tensor:
        """``(N, output)`` of captions of ``lengths (N,)`` words."""
        return self(vectors + self.pos_emb(kinds), lengths)


class T2MNetworks(nn.Module):
    """The three networks, in evaluation mode and without gradients.

    Args:
        content: of the file, a state dict for each; they tell all sizes.
    """

    def __init__(self, content: dict[str, dict[str, Tensor]]) -> None:
        super().__init__()
        movement, motion, text = (content[f"{part}_encoder"] for part in ("movement", "motion", "text"))
        hidden, size, _ = movement["main.0.weight"].shape
        self.movement_encoder = Movements(size, hidden, movement["out_net.weight"].shape[0])
        self.motion_encoder = Recurrent(*_sizes(motion))
        words, width, output = _sizes(text)
        self.text_encoder = Words(words, text["pos_emb.weight"].shape[1], width, output)
        for name, part in self.named_children():
            part.load_state_dict(content[name])
        self.frame, self.word, self.kinds, self.features = size, words, text["pos_emb.weight"].shape[1], output
        self.eval().requires_grad_(False)

    def motions(self, z: Tensor, lengths: Tensor) -> Tensor:
        """``(N, features)`` of normalised motions ``z (N, T, 263)`` of ``lengths (N,)`` frames, each at least 4.

        Motions are cut to a multiple of 4 frames, as those were that the weights were trained on.
        """
        units = lengths // UNIT
        here = torch.arange(z.shape[1], device=z.device) < UNIT * units[:, None]
        z = z[..., :-CONTACTS] * here[..., None]
        # The published padding is seen at a motion's end, by the first convolution's bias, but not beyond a unit.
        z = F.pad(z, (0, 0, 0, min(UNIT, max(0, LONGEST - z.shape[1]))))
        movements = self.movement_encoder(z)
        return self.motion_encoder(movements, units)


def _sizes(weights: dict[str, Tensor]) -> tuple[int, int, int]:
    """Input, width and output of a ``Recurrent`` with ``weights``."""
    hidden, size = weights["input_emb.weight"].shape
    return size, hidden, weights["output_net.3.weight"].shape[0]


def read_networks(path: Path) -> T2MNetworks:
    """The networks in the file ``path``, as the authors' ``finest.tar``. Nothing in it is executed.

    Raises:
        InvalidValue: it is another file.
    """
    expected = "the T2M evaluator's finest.tar, with movement_encoder, motion_encoder and text_encoder"
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
        return T2MNetworks(content)
    except Exception as error:  # whatever a file that is something else leads to
        found = f"{path}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise InvalidValue("weights", found=found, expected=expected) from error
