"""A run of motions as a loop would leave it behind: people who walk by sines, and sink as the generations go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sc_loops.correction.physics.outcome import STATUSES
from sc_loops.data.motions import Motions
from sc_loops.data.pool import Chunk
from sc_loops.data.real import RealData
from sc_loops.motion.representation import encode, from_directions
from sc_loops.motion.skeleton import DIRECTIONS, FPS
from sc_loops.run import Run
from sc_loops.samples import Samples

CAPTIONS = [
    ["a person walks forward", "someone is walking"],
    ["a person strides on with large steps, the arms swinging far, as one does who is late for a train at night"],
    ["a man runs"],
    ["a person marches"],
    ["she walks slowly"],
    ["he strolls"],
]
LENGTHS = [40, 60, 44, 56, 48, 32]
SHALLOW, T = 0.9, 60


def walk(frames: int, *, speed: float = 1.2, swing: float = 0.45, pace: float = 1.1) -> Tensor:
    """Joints ``(frames, 22, 3)`` of one who walks forward: thighs, knees, and arms swing as sines."""
    phase = 2 * torch.pi * pace * torch.arange(frames, dtype=torch.float64) / FPS
    directions = DIRECTIONS[1:].double().repeat(frames, 1, 1)
    for side, sign in ((0, 1.0), (1, -1.0)):
        thigh = sign * swing * torch.sin(phase)
        shin = thigh - 0.8 * swing * (1 + sign * torch.cos(phase)) * SHALLOW
        arm = -thigh
        for joint, angle in ((4, thigh), (7, shin), (18, arm), (20, arm + 0.4)):
            y, z = -torch.cos(angle), torch.sin(angle)
            directions[:, joint + side - 1] = torch.stack([torch.zeros_like(y), y, z], dim=-1)
    root = torch.zeros(frames, 3, dtype=torch.float64)
    root[:, 2] = speed * torch.arange(frames) / FPS
    joints = from_directions(directions, root)
    return joints - torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64) * joints[..., 1].min()


def motion_data() -> RealData:
    """Six clips to train on and two held-out ones, with 8 captions."""
    clips = [walk(n + 1, speed=0.8 + 0.2 * i, swing=0.3 + 0.08 * i) for i, n in enumerate(LENGTHS)]
    vectors = [encode(clip).float() for clip in clips]
    every = torch.cat(vectors)
    motions, rows = Motions.of_clips(
        [f"clip {i}" for i in range(6)], CAPTIONS, LENGTHS, every.mean(0), every.std(0).clamp(min=0.05)
    )
    x = torch.zeros(6, T, 263)
    for i, own in enumerate(vectors):
        x[i, : len(own)] = motions.normalised(own)
    samples = Samples(x, rows)
    return RealData(samples[:5], samples[5:], "motions", name="walks", motions=motions, left_out=("3 clips: NaN",))


def motion_row(t: int, **more: Any) -> dict[str, Any]:
    """A generation's row with the metrics of motions."""
    row: dict[str, Any] = {
        "generation": t, "train/loss": 0.3 - 0.02 * t, "real_items": 5, "synthetic_items": 5 * (t > 0), "samples": 5,
        "frechet_distance/motion_text": 1.0 + t, "frechet_distance/motion_text/real": 0.3,
        "correction/share": 0.5, "correction/error_before": 20.0 + t, "correction/error_after": 5.0,
    }  # fmt: skip
    values = {"penetration": 3.0, "floating": 6.0, "skating": 9.0, "error": 18.0, "jerk": 70.0}
    for name, value in {**values, "self_penetration": 4.0}.items():
        row |= {f"physical/{name}": value + 2 * t, f"physical/{name}/real": value}
    fits = {"diversity": 6.0, "matching_score": 3.0, "r_precision_1": 0.3, "r_precision_2": 0.5, "r_precision_3": 0.6}
    for name, value in fits.items():
        row |= {f"{name}/motion_text": value * (1 - 0.05 * t), f"{name}/motion_text/real": value}
    shares = {"valid": 0.5, "kinematic": 0.3, "physics": 0.15, "kept": 0.05, "rejected": 0.0}
    return row | {f"correction/status/{k}": v for k, v in shares.items()} | more


def fabricate_motions(
    path: Path, *, generations: int, previews: int = 5, conditional: bool = True, pools: bool = True
) -> Run:
    """Generations 0 to ``generations``, each 4 cm deeper in the floor; the pools hold the real clips."""
    run, data = Run(path), motion_data()
    motions = data.motions
    assert motions is not None
    run.open({"generations": generations, "synthetic_ratio": 1.0, "strength": 1.0}, data)
    for t in range(generations + 1):
        if pools:
            status = torch.tensor([STATUSES.index("kinematic"), *[STATUSES.index("valid")] * 4])
            kept = data.train.with_columns(
                status=status, error_before=torch.full((5,), 20.0 + t), error_after=torch.full((5,), 5.0)
            )
            for _ in run.pool(t).fill([Chunk(0, 0, 5)], lambda chunk, kept=kept: (kept, {})):  # type: ignore[misc]
                pass
            run.pool(t).finish(t, [Chunk(0, 0, 5)])
        x = sunk(motions, data.train.x, 0.04 * t)[torch.arange(previews) % 5]
        condition = data.train.condition[torch.arange(previews) % 5] if conditional else None  # type: ignore[index]
        run.pool(t).write_preview(Samples(x, condition))
        run.record(motion_row(t))
    return run


def sunk(motions: Motions, x: Tensor, depth: float) -> Tensor:
    """The same motions, ``depth`` metres lower: the height of the root and of all joints are numbers of a frame."""
    vectors = motions.vectors(x)
    vectors[..., 3] -= depth
    vectors[..., 5:67:3] -= depth
    return motions.normalised(vectors)
