from __future__ import annotations

import io
import math
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sc_loops.motion.drawing import BELOW, ELEVATION, LEFT, RIGHT, SPINE, TALL, gif, strip
from sc_loops.motion.skeleton import OFFSETS, PARENTS

SHARED = Path(os.environ.get("SC_LOOPS_DATA", Path(__file__).parents[2] / ".." / "shared" / "data")) / "humanml3d"


def standing(frames: int = 4) -> NDArray[np.float64]:
    """One who stands on the floor and faces +z."""
    joints = np.zeros((22, 3))
    for joint in range(1, 22):
        joints[joint] = joints[PARENTS[joint]] + OFFSETS[joint].numpy()
    joints[:, 1] -= joints[:, 1].min()
    return np.repeat(joints[None], frames, axis=0)


def moved(joints: NDArray[np.float64], *, x: float = 0, y: float = 0, z: float = 0) -> NDArray[np.float64]:
    return joints + np.array([x, y, z])


def places(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.int64]:
    """Rows and columns ``(N, 2)`` of the pixels of exactly ``colour``."""
    return np.argwhere((picture == np.array(colour)).all(axis=-1))


def frames_of(file: bytes) -> list[NDArray[np.uint8]]:
    image = Image.open(io.BytesIO(file))
    found = []
    for i in range(getattr(image, "n_frames", 1)):
        image.seek(i)
        found.append(np.asarray(image.convert("RGB")))
    return found


@pytest.mark.parametrize("frames", [1, 3, 8, 60])
def test_a_strip_has_a_place_for_each_pose_and_one_size_for_all_motions(frames: int) -> None:
    picture = strip(standing(frames), poses=5, height=100)
    assert picture.shape == (100, 5 * 66, 3)
    assert picture.dtype == np.uint8
    cells = [picture[:, 66 * i : 66 * (i + 1)] for i in range(5)]
    assert sum(bool((cell < 255).any()) for cell in cells) == min(frames, 5)


def test_the_persons_left_is_amber_and_right_of_their_right_for_who_sees_them_from_the_front() -> None:
    picture = strip(standing(1), poses=1, height=240)
    assert places(picture, LEFT)[:, 1].mean() > places(picture, RIGHT)[:, 1].mean() + 10
    turned = standing(1) * (-1, 1, -1)  # by half a turn
    picture = strip(turned, poses=1, height=240)
    assert places(picture, LEFT)[:, 1].mean() < places(picture, RIGHT)[:, 1].mean() - 10


def test_a_metre_is_as_many_pixels_as_the_scale_says() -> None:
    low, high = (places(strip(moved(standing(1), y=y), poses=1, height=400), SPINE)[:, 0].min() for y in (0, 0.2))
    assert low - high == pytest.approx(0.2 * math.cos(ELEVATION) * 400 / TALL, abs=1.5)


def test_only_what_is_below_the_floor_is_marked() -> None:
    marked = [len(places(strip(moved(standing(1), y=-depth), height=240), BELOW)) for depth in (0, 0.005, 0.05, 0.15)]
    assert marked[:2] == [0, 0]
    assert 0 < marked[2] < marked[3]


def test_a_motion_elsewhere_on_the_grid_looks_the_same() -> None:
    motion = standing(20)
    motion[:, :, 2] += np.linspace(0, 1, 20)[:, None]
    np.testing.assert_array_equal(strip(motion), strip(moved(motion, x=1.5, z=-7.0)))
    assert (strip(motion) != strip(moved(motion, x=0.25))).any()


def test_what_is_not_finite_can_be_drawn() -> None:
    broken = standing(6)
    broken[2:4, 3:9], broken[4, 0], broken[5, 5] = math.nan, math.inf, 1e30
    assert strip(broken).shape == strip(standing(6)).shape
    assert frames_of(gif(broken))


def test_a_film_repeats_for_ever_at_its_speed_in_one_palette() -> None:
    motion = standing(40)
    motion[:, :, 2] += np.linspace(0, 2, 40)[:, None]
    for fps in (10, 20):
        file = gif(motion, fps=fps, size=96)
        image = Image.open(io.BytesIO(file))
        assert (image.size, image.n_frames, image.info["loop"]) == ((96, 96), 2 * fps, 0)  # type: ignore[attr-defined]
        assert image.info["duration"] == 1000 / fps
        assert len({tuple(colour) for frame in frames_of(file) for colour in frame.reshape(-1, 3)}) <= 16


def test_the_camera_goes_along() -> None:
    motion = standing(40)
    motion[:, :, 2] += np.linspace(0, 8, 40)[:, None]
    columns = [places(frame, SPINE)[:, 1].mean() for frame in frames_of(gif(motion, size=120))[2:-2]]
    assert np.ptp(columns) < 2


def test_motions_beside_one_another_wait_for_the_longest() -> None:
    alone, other = standing(10), standing(30)
    other[:, :, 1] += 0.3 * np.sin(np.arange(30))[:, None] ** 2
    both = frames_of(gif(alone, other, size=80))
    assert both[0].shape == (80, 160, 3)
    assert len(both) == 15
    np.testing.assert_array_equal(both[-1][:, :80], frames_of(gif(alone, size=80))[-1])


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared data: set SC_LOOPS_DATA")
@pytest.mark.parametrize("name", ["000000", "012314"])
def test_a_film_of_five_seconds_is_small(name: str) -> None:
    motion = np.load(SHARED / "new_joints" / f"{name}.npy")[:100]
    assert len(gif(motion)) < 61_440
