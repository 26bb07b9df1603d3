"""Full precision, where numbers are to be compared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_precision() -> Iterator[None]:
    """Convolutions in float32 on GPUs, too, where PyTorch's default is TF32."""
    cudnn = torch.backends.cudnn
    if not hasattr(cudnn, "conv"):  # before PyTorch 2.9
        with cudnn.flags(True, cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False):
            yield
        return
    before, cudnn.conv.fp32_precision = cudnn.conv.fp32_precision, "ieee"
    try:
        yield
    finally:
        cudnn.conv.fp32_precision = before
