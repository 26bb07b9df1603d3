"""``kinematic``: what every method begins with: less noise, a floor at 0, feet that stand still."""

from __future__ import annotations

from sc_loops.correction.physics.contacts import CUTOFFS, STILL, low_passed, noise_level, stances
from sc_loops.correction.physics.feet import feet
from sc_loops.correction.physics.floor import drift, floor_curve
from sc_loops.correction.physics.legs import LEGS, bent, forward_direction, reach_shift
from sc_loops.correction.physics.outcome import Array, Kinematic
from sc_loops.correction.physics.overlaps import legs_apart, separated
from sc_loops.motion.bones import LENGTHS, unit, with_bone_lengths

CLEARANCE = 0.031
"""Metres, beyond those up to which a toe that moves counts as skating."""


def kinematic(joints: Array, *, clearance: float = CLEARANCE) -> Kinematic:
    """``joints (T, 22, 3)``, T >= 14, as a motion that could stand on its feet; its bones get the skeleton's lengths.

    It is low-passed (as strongly as it is noisy), put on the floor and freed of drift; feet are planted while they
    stand and swing clear of the floor; the legs follow by inverse kinematics; arms go out of the body. No forces are
    looked at.

    Args:
        clearance: metres, the least height of a toe that swings.
    """
    level = noise_level(joints)
    smooth = low_passed(joints, CUTOFFS[level])
    smooth[..., 1] -= floor_curve(smooth)[:, None]
    smooth = smooth - drift(smooth, stances(smooth))[:, None]
    smooth = legs_apart(smooth)
    stance = stances(smooth, STILL)
    ankles, toes = feet(smooth, stance, clearance)
    return Kinematic(separated(_on_feet(smooth, ankles, toes)), stance, level)


def _on_feet(joints: Array, ankles: Array, toes: Array) -> Array:
    """``joints`` with the skeleton's bone lengths and feet where these are to be, as far as the legs reach."""
    body = with_bone_lengths(joints)
    # Legs bend as in the input: its knee, seen from its hip.
    body = body + reach_shift(body[:, [leg[0] for leg in LEGS]], ankles)[:, None]
    forward = forward_direction(body)
    for side, (hip, knee, ankle, toe) in enumerate(LEGS):
        towards = joints[:, knee] - joints[:, hip] + body[:, hip]
        lengths = LENGTHS[knee], LENGTHS[ankle]
        body[:, knee], body[:, ankle] = bent(body[:, hip], towards, ankles[:, side], *lengths, forward)
        body[:, toe] = body[:, ankle] + LENGTHS[toe] * unit(toes[:, side] - ankles[:, side])
    return body
