"""Stateless randomness: every draw comes from a generator seeded by what the draw is for.

Nothing here remembers anything, so checkpoints hold no random state and a resumed run draws exactly what the
uninterrupted one would have drawn.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_for(seed: int, purpose: str, *numbers: int) -> int:
    """A 63-bit seed that is a pure function of the run's seed, a purpose and some numbers.

    ``seed_for(0, "sample", generation, chunk)`` and ``seed_for(0, "curate", generation, chunk)`` are
    unrelated, as are neighbouring numbers: the parts go through SHA-256.
    """
    text = "/".join([str(int(seed)), purpose, *(str(int(n)) for n in numbers)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator_for(seed: int, purpose: str, *numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh ``torch.Generator`` on ``device``, seeded by ``seed_for``."""
    return torch.Generator(device=device).manual_seed(seed_for(seed, purpose, *numbers))


def seed_global(seed: int, purpose: str, *numbers: int) -> None:
    """Seed the global generators of Python, numpy, torch and the devices in use, for code that draws from them
    (dropout, torchcfm, a user's reward)."""
    value = seed_for(seed, purpose, *numbers)
    random.seed(value)
    np.random.seed(value % 2**32)
    # torch.manual_seed would do, but notes a traceback for each kind of device that is not in use, which takes as
    # long as a small network's training step.
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(value)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(value)


@contextmanager
def global_generators_kept() -> Iterator[None]:
    """After the context, also on an error, the global generators of Python, numpy, torch and CUDA devices are what
    they were."""
    python, legacy = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            np.random.set_state(legacy)
            random.setstate(python)
