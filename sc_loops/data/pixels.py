"""Images of 8 bits a channel, as they lie on disk and on the device, and as networks see them.

x = pixel / 127.5 - 1 maps the pixels 0..255 to [-1, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor


def as_float(x: Tensor) -> Tensor:
    """uint8 pixels as float32 in [-1, 1]; floats as they are."""
    return x.float().div_(127.5).sub_(1) if x.dtype == torch.uint8 else x


def as_bytes(x: Tensor) -> Tensor:
    """float images in [-1, 1] as the nearest uint8 pixels, clamped to 0..255; uint8 as they are."""
    return x if x.dtype == torch.uint8 else ((x.float() + 1) * 127.5).round().clamp(0, 255).byte()


def as_stored(x: Tensor, like: Tensor) -> Tensor:
    """``x`` in the type in which its data set's samples lie on disk: pixels where ``like``, the real ones, are, and
    else floats of their type."""
    return as_bytes(x) if like.dtype == torch.uint8 else as_float(x).to(like.dtype)
