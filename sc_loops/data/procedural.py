"""Human motions that need no download."""

from __future__ import annotations

from typing import Literal

from sc_loops.data.motion_set import Clip, motion_set
from sc_loops.data.real import RealData
from sc_loops.errors import require
from sc_loops.motion.procedural import ACTIONS, MAX_FRAMES, MIN_FRAMES, procedural_clip
from sc_loops.motion.representation import encode
from sc_loops.randomness import generator_for


def procedural_motions(*, size: int = 256, test_size: int = 64, max_frames: int = 120, seed: int = 0) -> RealData:
    """Motions made in code: walks, turns, side steps, waves, squats, bows, jumps, standing, with captions and labels.

    The actions take turns, so that there are as many of each. The motions of a smaller set are the first ones of a
    larger set of the same seed and ``max_frames``.

    Args:
        size: motions to train on.
        test_size: held-out motions, drawn independently.
        max_frames: motions have 40 to this many frames, at 20 a second; at most 196.
        seed: of the drawn parameters; the same in all runs that are to be compared.
    """
    for option, found in (("size", size), ("test_size", test_size)):
        require(1 <= found <= 100_000, option, found, "a number of motions from 1 to 100000")
    expected = f"a number of frames from {MIN_FRAMES} to {MAX_FRAMES}"
    require(MIN_FRAMES <= max_frames <= MAX_FRAMES, "max_frames", max_frames, expected)
    train = [_clip("train", i, max_frames, seed) for i in range(size)]
    test = [_clip("test", i, max_frames, seed) for i in range(test_size)]
    return motion_set(train, test, name="procedural", max_frames=max_frames, action_names=ACTIONS)


def _clip(part: Literal["train", "test"], index: int, max_frames: int, seed: int) -> Clip:
    generator = generator_for(seed, f"procedural {part}", index)
    joints, captions, action = procedural_clip(ACTIONS[index % len(ACTIONS)], generator, max_frames=max_frames)
    return Clip(f"{part}{index:05d}", encode(joints).float(), captions, action)
