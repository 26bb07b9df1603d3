"""The 263 numbers against the official samples, against scipy and closed forms, and under what must not matter."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from sc_loops.errors import InvalidValue
from sc_loops.motion import representation
from sc_loops.motion.representation import (
    CONTACTS,
    POSITIONS,
    ROOT,
    ROTATIONS,
    VELOCITIES,
    canonical,
    decode,
    encode,
    facing,
    from_directions,
    mirrored,
)
from sc_loops.motion.rotations import turn
from sc_loops.motion.skeleton import BONE_LENGTHS, DIRECTIONS, MIRRORED, OFFSETS, PARENTS

SHARED = Path(os.environ.get("SC_LOOPS_DATA", Path(__file__).parents[2] / "../shared/data")) / "humanml3d"
SAMPLES = ["012314", "000000"]
PARTS = {"root": ROOT, "positions": POSITIONS, "rotations": ROTATIONS, "velocities": VELOCITIES, "contacts": CONTACTS}


def official(name: str) -> tuple[Tensor, Tensor]:
    """Vectors ``(T, 263)`` and joints ``(T, 22, 3)`` as HumanML3D has them; of F frames, T = F - 1 are there."""
    if not SHARED.is_dir():
        pytest.skip("the official samples of HumanML3D are not there")
    files = (SHARED / folder / f"{name}.npy" for folder in ("new_joint_vecs", "new_joints"))
    vectors, joints = (torch.from_numpy(np.load(file)) for file in files)
    return vectors, joints


def errors(found: Tensor, expected: Tensor) -> dict[str, float]:
    """The largest error of each part."""
    gap = (found - expected).abs()
    return {name: float(gap[..., part].max()) for name, part in PARTS.items()}


def motion(frames: int = 60, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """``(frames, 22, 3)``, canonical: a smooth random motion that leans, bends, moves about and turns to and fro."""
    generator = torch.Generator().manual_seed(seed)

    def smooth(*shape: int, scale: float) -> Tensor:
        time = torch.linspace(0, frames / 20, frames, dtype=torch.float64).reshape(-1, *[1] * len(shape))
        waves = torch.randn(2, 3, *shape, dtype=torch.float64, generator=generator)
        return scale * sum(waves[0, k] * torch.sin((k + 1) * time + 6 * waves[1, k]) for k in range(3))

    bones = DIRECTIONS[1:].double() + smooth(21, 3, scale=0.2)
    bones = turn(bones, smooth(1, scale=0.7))
    joints = from_directions(torch.nn.functional.normalize(bones, dim=-1), smooth(3, scale=0.3))
    return canonical(joints).to(dtype)


@pytest.mark.parametrize("name", SAMPLES)
def test_official_vectors_decode_to_the_official_joints(name: str) -> None:
    vectors, joints = official(name)
    torch.testing.assert_close(decode(vectors).float(), joints, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "bounds"),
    [
        ("012314", {"root": 3.1e-4, "positions": 6.9e-3, "rotations": 1.4e-2, "velocities": 4.2e-4, "contacts": 0}),
        ("000000", {"root": 5e-6, "positions": 6e-5, "rotations": 2.1e-4, "velocities": 1e-6, "contacts": 0}),
    ],
)
def test_official_joints_encode_to_the_official_vectors(name: str, bounds: dict[str, float]) -> None:
    """The official joints lack the last frame, which the smoothing of the heading still saw: only the last 80 frames,
    its reach, differ."""
    vectors, joints = official(name)
    found = encode(joints.to(vectors))
    measured = errors(found, vectors[:-1])
    assert all(measured[part] <= bounds[part] for part in PARTS), measured
    torch.testing.assert_close(found[:-80], vectors[:-81], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", SAMPLES)
def test_official_vectors_come_back_whole_with_the_frame_that_the_last_one_leads_to(name: str) -> None:
    vectors, _ = official(name)
    torch.testing.assert_close(encode(decode(vectors, extended=True)), vectors, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", SAMPLES)
def test_official_motions_are_canonical(name: str) -> None:
    vectors, _ = official(name)
    joints = decode(vectors, extended=True)
    torch.testing.assert_close(canonical(joints), joints, rtol=0, atol=4e-4)


@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 3e-7), (torch.float64, 1e-14)])
def test_canonical_joints_come_back(dtype: torch.dtype, within: float) -> None:
    joints = torch.stack([motion(196, seed) for seed in range(8)]).to(dtype)
    vectors = encode(joints)
    assert vectors.dtype == dtype
    assert vectors.shape == (8, 195, 263)
    # A float32 resolves 1e-7 of a metre at best, more coarsely farther away.
    scale = max(1.0, float(joints.abs().max()))
    torch.testing.assert_close(decode(vectors), joints[:, :-1], rtol=0, atol=within * scale)
    torch.testing.assert_close(decode(vectors, extended=True), joints, rtol=0, atol=within * scale)


def test_encoding_what_any_vectors_decode_to_keeps_the_motion() -> None:
    """Sampled vectors are not consistent: of the numbers only the motion comes back. Cropped ones neither, since the
    heading is smoothed over frames that are no longer there."""
    generator = torch.Generator().manual_seed(0)
    sampled = 0.3 * torch.randn(4, 50, 263, dtype=torch.float64, generator=generator)
    cropped = encode(motion(120))[30:80]
    for vectors in (sampled, cropped):
        again = encode(decode(vectors, extended=True))
        torch.testing.assert_close(decode(again), decode(vectors), rtol=0, atol=1e-12)
        assert (again - vectors).abs().max() > 0.1


def test_vectors_of_an_encoder_come_back() -> None:
    vectors = encode(torch.stack([motion(100, seed) for seed in range(8)]))
    torch.testing.assert_close(encode(decode(vectors, extended=True)), vectors, rtol=0, atol=1e-12)
    # In float32, a bone that nearly opposes its offset has a swing that is hard to tell.
    measured = errors(encode(decode(vectors.float(), extended=True)).double(), vectors)
    assert max(measured[part] for part in PARTS if part != "rotations") < 2e-6, measured
    assert measured["rotations"] < 2e-4, measured


def test_a_padded_batch_equals_clip_by_clip() -> None:
    clips = [motion(frames, seed) for seed, frames in enumerate((60, 2, 33, 41))]
    batch = torch.full((4, 60, 22, 3), torch.nan, dtype=torch.float64)
    for row, clip in zip(batch, clips, strict=True):
        row[: len(clip)] = clip
    vectors = encode(batch, torch.tensor([60, 2, 33, 41]))
    moved = turn(batch + 3.0, torch.tensor(1.0).double())
    again = canonical(moved, torch.tensor([60, 2, 33, 41]))
    for i, clip in enumerate(clips):
        torch.testing.assert_close(vectors[i, : len(clip) - 1], encode(clip), rtol=0, atol=1e-13)
        torch.testing.assert_close(again[i, : len(clip)], clip, rtol=0, atol=1e-13)
        assert (vectors[i, len(clip) - 1 :] == 0).all()


def test_smoothing_is_that_of_scipy() -> None:
    values = torch.randn(2, 90, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = representation._smoothed(values, torch.tensor([90, 17]))
    for clip, own, length in zip(found, values, (90, 17), strict=True):
        expected = gaussian_filter1d(own[:length].numpy(), 20, axis=0, mode="nearest")
        np.testing.assert_allclose(clip[:length].numpy(), expected, atol=1e-14)


def test_the_heading_is_smoothed_and_the_hips_exchanged_as_in_the_official_encoder() -> None:
    """Step by step as the official code is described, by quaternions of one motion."""
    joints = motion(70, 3)
    across = (joints[:, 1] - joints[:, 2]) + (joints[:, 17] - joints[:, 16])
    across = across / across.norm(dim=-1, keepdim=True)
    forward = torch.linalg.cross(torch.tensor([0.0, 1.0, 0.0]).double().expand_as(across), across)
    forward = torch.from_numpy(gaussian_filter1d(forward.numpy(), 20, axis=0, mode="nearest"))
    forward = forward / forward.norm(dim=-1, keepdim=True)
    # The quaternion from forward to +z is (1 + forward z, 0, -forward x, 0), normalised.
    half = torch.atan2(-forward[:, 0], 1 + forward[:, 2])
    half[0] = 0
    torch.testing.assert_close(encode(joints)[:, 0], half[1:] - half[:-1], rtol=0, atol=1e-12)


def test_a_mirrored_motion_has_the_mirrored_vectors() -> None:
    joints = motion()
    torch.testing.assert_close(mirrored(mirrored(joints)), joints)
    # Left and right legs differ by some millimetres; the mirrored motion of the same bones keeps its own.
    vectors, found = encode(joints), encode(mirrored(joints))
    x = torch.tensor([-1.0, 1.0, 1.0]).double()
    swapped = torch.tensor(MIRRORED)
    expected = torch.cat(
        (
            vectors[:, ROOT] * torch.tensor([-1.0, -1.0, 1.0, 1.0]).double(),
            (vectors[:, POSITIONS].unflatten(-1, (21, 3))[:, swapped[1:] - 1] * x).flatten(-2),
            # The matrix between two reflections of x: the first column changes its sign too.
            (vectors[:, ROTATIONS].unflatten(-1, (21, 2, 3))[:, swapped[1:] - 1] * torch.stack((-x, x))).flatten(-3),
            (vectors[:, VELOCITIES].unflatten(-1, (22, 3))[:, swapped] * x).flatten(-2),
            vectors[:, CONTACTS][:, [2, 3, 0, 1]],
        ),
        -1,
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_numbers_of_a_walk_and_of_a_turn() -> None:
    """One metre a second along +z is 0.05 a frame. Who turns by 90 degrees to their right has turned by pi/2, half of
    which the first numbers add up to."""
    standing = from_directions(DIRECTIONS[1:].double(), torch.tensor([0.0, 1.0, 0.0]).double())
    time = torch.arange(121).double() / 20
    walk = standing + time[:, None, None] * torch.tensor([0.0, 0.0, 1.0]).double()
    expected = torch.tensor([0.0, 0.0, 0.05, 1.0], dtype=torch.float64).expand(120, 4)
    torch.testing.assert_close(encode(walk)[:, ROOT], expected, rtol=0, atol=1e-12)
    # One second of it, with 2 s before and after so that the smoothed heading is at rest at both ends.
    time = (torch.arange(221).double() - 100) / 20
    right = turn(standing.expand(221, 22, 3), -torch.pi / 2 * time.clamp(0, 1)[:, None])
    turned = encode(right)[:, 0]
    assert facing(right[-1]).item() == pytest.approx(-torch.pi / 2)
    assert right[-1, 1, 2] > right[-1, 2, 2], "facing -x, the left hip is ahead on z"
    assert turned.sum().item() == pytest.approx(torch.pi / 4, abs=1e-9)
    assert (turned > -1e-12).all()


def test_a_full_turn_decodes_without_a_jump() -> None:
    """Where a person faces -z the official quaternion changes its sign; only there do the first numbers differ."""
    joints = canonical(turn(motion(150, 5), torch.linspace(0, 9, 150).double()[:, None]))
    vectors = encode(joints)
    torch.testing.assert_close(decode(vectors), joints[:-1], rtol=0, atol=1e-12)
    half = representation._half_headings(joints[None], torch.tensor([150]))[0]
    theirs = torch.asin(torch.sin(half[1:] - half[:-1]))
    apart = (theirs - vectors[:, 0]).abs() > 1e-12
    assert 1 <= apart.sum() <= 3
    torch.testing.assert_close(theirs[apart], -vectors[apart, 0], rtol=0, atol=1e-12)


def test_canonical_undoes_place_heading_size_and_bones() -> None:
    joints = motion()
    moved = turn(1.7 * joints, torch.tensor(2.0).double()) + torch.tensor([3.0, 5.0, -2.0]).double()
    torch.testing.assert_close(canonical(moved), joints, rtol=0, atol=1e-12)
    # Bones of another person: the same directions.
    bones = (joints[:, 1:] - joints[:, PARENTS[1:]]) * torch.linspace(0.5, 2, 21).double()[:, None]
    places = [joints[:, 0]]
    for joint, parent in enumerate(PARENTS[1:]):
        places.append(places[parent] + bones[:, joint])
    found = canonical(torch.stack(places, 1))
    lengths = (found[:, 1:] - found[:, PARENTS[1:]]).norm(dim=-1)
    torch.testing.assert_close(lengths, BONE_LENGTHS[1:].double().expand_as(lengths), rtol=0, atol=1e-12)
    assert found[..., 1].min() == 0
    assert facing(found[0]).abs() < 1e-12
    assert (found[0, 0, [0, 2]] == 0).all()
    # The same directions up to one turn: all angles between bones of all frames.
    bones, ours = bones / bones.norm(dim=-1, keepdim=True), found[:, 1:] - found[:, PARENTS[1:]]
    ours = ours / ours.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(ours[..., 1], bones[..., 1], rtol=0, atol=1e-12)
    ours, bones = ours.flatten(0, 1), bones.flatten(0, 1)
    torch.testing.assert_close(ours @ ours.T, bones @ bones.T, rtol=0, atol=1e-12)


def test_a_joint_on_its_parent_gives_numbers() -> None:
    joints = motion()
    joints[:, 12] = joints[:, 9]
    assert encode(joints).isfinite().all()
    assert canonical(joints).isfinite().all()
    upright = from_directions(DIRECTIONS[1:], torch.tensor([0.0, 0.9, 0.0])).expand(3, 22, 3)
    torch.testing.assert_close(upright[0, 4] - upright[0, 1], OFFSETS[4])
    torch.testing.assert_close(encode(-upright).isfinite().all(), torch.tensor(True))


def test_gradients_of_decode_are_right() -> None:
    """Geometric losses go through it."""
    vectors = encode(motion(4)).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: decode(v, extended=True)[:, [0, 5, 11, 21]], (vectors,))


def test_what_is_no_motion_is_refused() -> None:
    with pytest.raises(InvalidValue, match="263"):
        decode(torch.zeros(4, 251))
    with pytest.raises(InvalidValue, match="22, 3"):
        encode(torch.zeros(4, 21, 3))
    with pytest.raises(InvalidValue, match="22, 3"):
        canonical(torch.zeros(4, 24, 3))
    for lengths in ([1, 4], [4, 5], [4]):
        with pytest.raises(InvalidValue, match="between 2 and 4"):
            encode(torch.zeros(2, 4, 22, 3), torch.tensor(lengths))
