"""Pixels and floats: nothing is lost on the way to and fro."""

from __future__ import annotations

import torch

from sc_loops.data.pixels import as_bytes, as_float, as_stored

ALL = torch.arange(256, dtype=torch.uint8)


def test_all_pixels_survive_the_way_to_floats_and_back() -> None:
    floats = as_float(ALL)
    assert floats.dtype == torch.float32
    assert (floats.min(), floats.max()) == (-1, 1)
    assert torch.equal(as_bytes(floats), ALL)


def test_the_nearest_pixel_is_taken_and_what_is_beyond_is_clamped() -> None:
    x = torch.tensor([-3.0, -1.0, -1 + 0.4 / 127.5, -1 + 0.6 / 127.5, 0.99, 1.0, 7.0])
    assert as_bytes(x).tolist() == [0, 0, 0, 1, 254, 255, 255]


def test_floats_and_pixels_stay_what_they_are_where_they_should() -> None:
    x = torch.tensor([0.1, 0.2])
    assert as_float(x) is x
    assert as_bytes(ALL) is ALL
    assert as_stored(x, torch.zeros(1)) is x
    assert as_stored(x, ALL).dtype == torch.uint8
