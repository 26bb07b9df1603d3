"""The exponential moving average of a model's weights, which is what is sampled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from sc_loops.errors import require


class WeightAverage:
    """shadow <- d_n shadow + (1 - d_n) weights, with d_n = min(decay, (1 + n) / (10 + n)) after n updates.

    The warm-up of d_n lets a short generation be sampled from weights it has actually reached; from
    n = (10 decay - 1) / (1 - decay) on the average is the plain one. One ``torch._foreach`` call updates all
    tensors.

    Args:
        decay: d in [0, 1). 0 makes the average the weights themselves.
    """

    def __init__(self, decay: float) -> None:
        require(0 <= decay < 1, "ema_decay", decay, "a number in [0, 1)")
        self.decay = decay
        self.updates = 0
        self.shadow: list[Tensor] = []

    def reset(self, weights: Sequence[Tensor]) -> None:
        """Start anew from ``weights``."""
        self.updates = 0
        self.shadow = [w.detach().clone() for w in weights]

    @torch.no_grad()
    def update(self, weights: Sequence[Tensor]) -> None:
        """Move the average towards ``weights``."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self.shadow, list(weights), 1 - decay)
        self.updates += 1

    @contextmanager
    def swapped_in(self, weights: Sequence[Tensor]) -> Iterator[None]:
        """Within the context ``weights`` hold the average; afterwards, also on an error, their own values."""
        if not weights:  # of a model that has only buffers
            yield
            return
        own = [w.detach().clone() for w in weights]
        with torch.no_grad():
            torch._foreach_copy_([w.detach() for w in weights], self.shadow)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_([w.detach() for w in weights], own)

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "shadow": self.shadow}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates = int(state["updates"])
        self.shadow = [t.clone() for t in state["shadow"]]
