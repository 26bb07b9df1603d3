"""Rotations: unit quaternions ``(..., 4)``, real part first, and turns about the vertical.

Arguments broadcast over their leading dimensions; everything keeps the type of its argument.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def multiply(p: Tensor, q: Tensor) -> Tensor:
    """The Hamilton product ``(..., 4)``: first ``q``, then ``p``."""
    p_w, p_v, q_w, q_v = p[..., :1], p[..., 1:], q[..., :1], q[..., 1:]
    real = p_w * q_w - (p_v * q_v).sum(-1, keepdim=True)
    return torch.cat((real, p_w * q_v + q_w * p_v + torch.linalg.cross(p_v, q_v)), -1)


def inverse(q: Tensor) -> Tensor:
    """The rotation ``(..., 4)`` that undoes ``q``."""
    return torch.cat((q[..., :1], -q[..., 1:]), -1)


def rotate(q: Tensor, v: Tensor) -> Tensor:
    """``v (..., 3)`` rotated by ``q (..., 4)``."""
    axis, v = torch.broadcast_tensors(q[..., 1:], v)
    twice = 2 * torch.linalg.cross(axis, v)
    return v + q[..., :1] * twice + torch.linalg.cross(axis, twice)


def between(u: Tensor, v: Tensor) -> Tensor:
    """``(..., 4)``: the smallest rotation that takes the unit vector ``u (..., 3)`` to the unit vector ``v``.

    Of opposite vectors it is the half turn about the axis that is at right angles to both and to that coordinate
    axis to which ``u`` has the smallest share.
    """
    u, v = torch.broadcast_tensors(u, v)
    real = 1 + (u * v).sum(-1, keepdim=True)
    q = torch.cat((real, torch.linalg.cross(u, v)), -1)
    opposite = real < 1e-6 if q.dtype == torch.float32 else real < 1e-14
    if opposite.any():
        least = torch.zeros_like(u).scatter_(-1, u.abs().argmin(-1, keepdim=True), 1.0)
        half = torch.cat((torch.zeros_like(real), torch.linalg.cross(u, least)), -1)
        q = torch.where(opposite, half, q)
    return normalize(q, dim=-1)


def about(axis: tuple[float, float, float], angle: Tensor) -> Tensor:
    """``(..., 4)``: the right-handed rotation about the unit vector ``axis`` by ``angle (...)``, in radians."""
    direction = torch.tensor(axis, dtype=angle.dtype, device=angle.device)
    half = angle[..., None] / 2
    return torch.cat((half.cos(), half.sin() * direction), -1)


def two_columns(q: Tensor) -> Tensor:
    """``(..., 6)``: the first column of the matrix of ``q (..., 4)``, then the second (Zhou et al. 2019)."""
    w, x, y, z = q.unbind(-1)
    first = (1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y))
    second = (2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x))
    return torch.stack((*first, *second), -1)


def turn(v: Tensor, angle: Tensor) -> Tensor:
    """``v (..., 3)`` turned about the vertical (y) by ``angle (...)`` radians, from +z towards +x."""
    x, y, z = v.unbind(-1)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack((cos * x + sin * z, y.expand_as(x), cos * z - sin * x), -1)
