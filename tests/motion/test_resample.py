"""Any frame rate to 20 frames a second: exact at multiples, near a known movement elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from sc_loops.motion.importing.recording import Array, Unusable
from sc_loops.motion.importing.resample import at_20_fps


def test_multiples_of_20_are_exact() -> None:
    joints = np.random.default_rng(0).normal(size=(61, 22, 3))
    np.testing.assert_array_equal(at_20_fps(joints, 120), joints[::6])
    np.testing.assert_array_equal(at_20_fps(joints, 20), joints)


@pytest.mark.parametrize("fps", [25, 30, 50])
def test_a_swing_of_2_hz_comes_out_within_half_a_millimetre(fps: int) -> None:
    def swing(times: Array) -> Array:
        return np.broadcast_to(0.2 * np.sin(4 * np.pi * times)[:, None, None], (len(times), 22, 3))

    found = at_20_fps(swing(np.arange(4 * fps) / fps), fps)
    expected = swing(np.arange(len(found)) / 20)
    # Next to the ends a spline knows less.
    assert np.abs(found - expected)[4:-4].max() < 5e-4
    assert np.abs(found - expected).max() < 5e-3


def test_too_few_frames_a_second() -> None:
    with pytest.raises(Unusable, match="under 20"):
        at_20_fps(np.zeros((30, 22, 3)), 15)
