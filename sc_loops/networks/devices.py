"""Where the networks beside the model are trained and used: classifiers, feature extractors, text encoders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_CHOSEN: ContextVar[torch.device | None] = ContextVar("device", default=None)


def work_device() -> torch.device:
    """Where to compute what no samples on a device tell: to train a classifier, or to measure the real data.

    Within ``working_on``, as in a run, it is the device given there; outside of it, the GPU where there is one.
    """
    return _CHOSEN.get() or torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def working_on(device: torch.device) -> Iterator[None]:
    """Within the context ``work_device`` is ``device``."""
    token = _CHOSEN.set(device)
    try:
        yield
    finally:
        _CHOSEN.reset(token)
