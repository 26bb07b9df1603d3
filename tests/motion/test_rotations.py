"""Quaternions against scipy's rotations."""

from __future__ import annotations

import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from sc_loops.motion.rotations import about, between, inverse, multiply, rotate, turn, two_columns


@pytest.fixture
def quaternions() -> Tensor:
    """``(2, 50, 4)`` unit quaternions."""
    generator = torch.Generator().manual_seed(0)
    return torch.nn.functional.normalize(torch.randn(2, 50, 4, dtype=torch.float64, generator=generator), dim=-1)


def scipys(q: Tensor) -> Rotation:
    return Rotation.from_quat(q[..., [1, 2, 3, 0]].numpy())


def test_product_inverse_and_action_are_those_of_scipy(quaternions: Tensor) -> None:
    p, q = quaternions
    v = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(rotate(multiply(p, q), v), torch.from_numpy((scipys(p) * scipys(q)).apply(v.numpy())))
    torch.testing.assert_close(rotate(inverse(p), v), torch.from_numpy(scipys(p).inv().apply(v.numpy())))


def test_the_six_numbers_are_the_first_two_columns(quaternions: Tensor) -> None:
    matrix = torch.from_numpy(scipys(quaternions[0]).as_matrix())
    torch.testing.assert_close(two_columns(quaternions[0]), torch.cat((matrix[..., 0], matrix[..., 1]), -1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_between_takes_one_to_the_other_by_the_smallest_angle(dtype: torch.dtype) -> None:
    u, v = torch.nn.functional.normalize(torch.randn(2, 200, 3, generator=torch.Generator().manual_seed(2)), dim=-1)
    u, v = u.to(dtype), v.to(dtype)
    u, v = u / u.norm(dim=-1, keepdim=True), v / v.norm(dim=-1, keepdim=True)
    v[:20], v[20:40], v[40:60] = u[:20], -u[20:40], torch.nn.functional.normalize(1e-4 * v[40:60] - u[40:60], dim=-1)
    q = between(u, v)
    exact = 1e-3 if dtype == torch.float32 else 1e-7
    torch.testing.assert_close(rotate(q, u), v, rtol=0, atol=exact)
    torch.testing.assert_close(q.norm(dim=-1), torch.ones(200, dtype=dtype))
    # The cosine of the whole angle is u v.
    torch.testing.assert_close(2 * q[..., 0].square() - 1, (u * v).sum(-1), rtol=0, atol=exact)


def test_a_turn_is_the_rotation_about_y_and_goes_from_z_to_x() -> None:
    angle = torch.tensor([0.3, -2.0, torch.pi / 2], dtype=torch.float64)
    v = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(turn(v, angle), rotate(about((0.0, 1.0, 0.0), angle), v))
    torch.testing.assert_close(turn(torch.tensor([0.0, 0, 1]), torch.tensor(torch.pi / 2)), torch.tensor([1.0, 0, 0]))
