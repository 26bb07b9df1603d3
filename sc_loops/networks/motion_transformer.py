"""``MotionTransformer``: the network of the human motion diffusion model (Tevet et al. 2023)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sc_loops.data.motions import Motions
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue, require
from sc_loops.networks.mlp import sinusoids
from sc_loops.networks.network import Network
from sc_loops.networks.text import TextEncoder

TIME_SCALE = 1000  # the sinusoids of the published model see its integer timesteps 0..999
PERIODS = 10_000  # between the sinusoids' highest and lowest frequency (Vaswani et al. 2017, Section 3.5)


class MotionTransformer(Network):
    """A transformer encoder over the frames of a motion, with one token in front that holds time and caption (Tevet
    et al. 2023, Section 3 and Figure 2). Of width 512 and with CLIP's embeddings it has the published 17,880,327
    parameters.

    A class is a caption's row, 0..M-1 in ``Motions``, and tells the length too. Row y + M is its null class: no text,
    the same length. Without classes all frames are there and there is no text.

    Attention never looks at padding. The published code's does, so its motions depend on the frames that follow
    their end. Frames of the output beyond the length are 0.

    The captions' embeddings are no weights: they are looked up in ``text``, are kept on the device after the first
    use, and are not in the state dict.

    Args:
        data: motions.
        text: embeddings of its captions. Without it the network knows only lengths, and classes are their own null
            classes, since there is nothing to drop.
        width: numbers per frame inside.
        layers: of self-attention.
        heads: of each layer.
        feedforward: width of the hidden layer behind each attention.
        dropout: in training.
    """

    frequencies: Tensor
    positions: Tensor

    def __init__(
        self,
        data: RealData,
        text: TextEncoder | None = None,
        *,
        width: int = 512,
        layers: int = 8,
        heads: int = 4,
        feedforward: int = 1024,
        dropout: float = 0.1,
    ) -> None:
        if data.motions is None:
            raise InvalidValue("data", found=f"{data.name}, {data.kind}", expected="motions")
        super().__init__(data, class_conditional=True)
        require(2 <= width <= 10_000 and width % 2 == 0, "width", width, "an even integer in 2..10000")
        require(1 <= layers <= 100, "layers", layers, "an integer in 1..100")
        require(heads >= 1 and width % heads == 0, "heads", heads, f"an integer that divides width={width}")
        require(1 <= feedforward <= 100_000, "feedforward", feedforward, "an integer in 1..100000")
        require(0 <= dropout < 1, "dropout", dropout, "a number in [0, 1)")
        of_data = text is None or text.motions.captions == data.motions.captions
        require(of_data, "text", type(text).__name__, "a text encoder of this data set's captions")
        frames, features = data.shape
        frequencies = PERIODS ** -(torch.arange(width // 2) / (width // 2))
        self.register_buffer("frequencies", frequencies, persistent=False)
        places = sinusoids(torch.arange(frames + 1.0), frequencies)
        self.register_buffer("positions", places, persistent=False)
        self._captions = _Captions(data.motions, text)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.text = None if text is None else nn.Linear(text.width, width)
        self.enter, self.leave = nn.Linear(features, width), nn.Linear(width, features)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(_Layer(width, heads, feedforward, dropout) for _ in range(layers))

    def forward(self, t: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        """See ``Network``; ``y`` is in 0..2M-1, and x may be cut to fewer frames than the data's, ``(N, F, 263)``."""
        frames, dtype = x.shape[1], self.enter.weight.dtype
        token = self.time(sinusoids(t * TIME_SCALE, self.frequencies).to(dtype))
        if self.text is not None:
            token = token + self.text(self._captions.embeddings(y, x).to(dtype))
        hidden = torch.cat([token[:, None], self.enter(x.to(dtype))], dim=1)
        hidden = self.dropout(hidden + self.positions[: frames + 1].to(dtype))
        valid = None if y is None else torch.arange(frames, device=x.device) < self._captions.lengths(y)[:, None]
        # The token in front is there for every motion.
        seen = None if valid is None else F.pad(valid, (1, 0), value=True)[:, None, None]
        for layer in self.layers:
            hidden = layer(hidden, seen)
        output = self.leave(hidden[:, 1:]).to(x.dtype)
        return output if valid is None else output * valid[..., None]

    def null(self, y: Tensor) -> Tensor:
        return y if self.text is None else y % self.num_classes + self.num_classes


class _Layer(nn.Module):
    """Self-attention and two linear layers, each added to its input and then normalised (Vaswani et al. 2017); what
    torch's ``TransformerEncoderLayer`` computes, whose inference path returns other numbers at padding."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self._heads, self._dropout = heads, dropout
        self.attend, self.attended = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feedforward = nn.Sequential(
            nn.Linear(width, feedforward), nn.GELU(), nn.Dropout(dropout), nn.Linear(feedforward, width)
        )
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        # As torch's, from which the published weights started.
        nn.init.xavier_uniform_(self.attend.weight)
        nn.init.zeros_(self.attend.bias)
        nn.init.zeros_(self.attended.bias)

    def forward(self, x: Tensor, seen: Tensor | None) -> Tensor:
        """``(N, S, width)`` to the same.

        Args:
            seen: ``(N, 1, 1, S)`` bool: what may be looked at; None is all.
        """
        x = self.first_norm(x + self.dropout(self._attention(x, seen)))
        return self.second_norm(x + self.dropout(self.feedforward(x)))

    def _attention(self, x: Tensor, seen: Tensor | None) -> Tensor:
        n, tokens, width = x.shape
        query, key, value = self.attend(x).view(n, tokens, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        dropout = self._dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen, dropout_p=dropout)
        return self.attended(mixed.transpose(1, 2).reshape(n, tokens, width))


class _Captions:
    """Lengths and embeddings by row of the table of captions, on the device where they were last asked for. Copies of
    a network share one."""

    def __init__(self, motions: Motions, text: TextEncoder | None) -> None:
        self._motions, self._text = motions, text
        self._lengths, self._table = motions.lengths, torch.empty(0)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Captions:
        return self

    def lengths(self, y: Tensor) -> Tensor:
        """``(N,)``: frames of the motions of classes ``y (N,)``, null classes among them."""
        self._lengths = self._lengths.to(y.device)
        return self._lengths[y % len(self._motions)]

    def embeddings(self, y: Tensor | None, x: Tensor) -> Tensor:
        """``(N, text width)`` on the device of x: 0 for null classes, and for all of x where y is None."""
        assert self._text is not None
        if y is None:
            return x.new_zeros(len(x), self._text.width)
        if not len(self._table) or self._table.device != x.device:
            self._table = self._text.embeddings.to(x.device)
        has_text = y < len(self._motions)
        return self._table[y % len(self._motions)] * has_text[:, None]
