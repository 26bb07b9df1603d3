"""``correct``: one clip through the gate, the tiers of a method, and the gate again."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from sc_loops.correction.physics.contacts import SHORTEST, TOE_HEIGHT
from sc_loops.correction.physics.gate import LIMITS, MARGIN, measures
from sc_loops.correction.physics.kinematic import CLEARANCE, kinematic
from sc_loops.correction.physics.outcome import Array, Kinematic, Method, Outcome, Simulated, Status
from sc_loops.correction.physics.overlaps import separated
from sc_loops.correction.physics.soft import soft
from sc_loops.correction.physics.tracking import track
from sc_loops.motion.physical_errors import PhysicalErrors, physical_errors

Policy = Callable[[Array], Array]
"""A trained imitator: joints ``(T, 22, 3)``, metres, y up, 20 frames a second, to joints of the same shape."""

Tier = Callable[[], Simulated]

PHYSICS = {"residual_force": 200.0, "residual_torque": 60.0}
PHYSICS_HIGH = {"residual_force": 400.0, "residual_torque": 120.0}
"""N and N m, with which the pelvis may be held where the feet do not suffice."""

PASSES = 10
"""Of the kinematic stage, at most. Of motions of a hardly trained model a fifth need a second one and more."""

_WORSE = 1e-9  # mm, by which rounding may make an error larger


def correct(joints: Array, method: Method, *, policy: str | None = None, toe_height: float = TOE_HEIGHT) -> Outcome:
    """``joints (T, 22, 3)``, metres, y up, 20 frames a second, floor y = 0, as a motion that passes the gate.

    What passes it already is returned as it is. Otherwise the tiers of ``method`` are tried in turn, until the motion
    of one passes the gate with a margin and has no larger physical error than the input. Correcting again therefore
    changes nothing: the result is valid, or it is the input, with which the same will happen.

    Args:
        method: ``kinematic``; ``soft``, after which kinematic; ``physics``, with little and with more residual
            force, after which soft and kinematic.
        policy: ``module:function`` of a ``Policy`` that is tried before the method's own tiers.
        toe_height: metres above the floor of the toes of who stands, which differs between sources of motions.
    """
    if not bool(np.isfinite(joints).all()):
        return Outcome(joints, "rejected", reason="it has coordinates that are not finite")
    if len(joints) < SHORTEST:
        return Outcome(joints, "kept", reason=f"{len(joints)} frames, of which at least {SHORTEST} are needed")
    before = physical_errors(joints)
    if not (found := measures(joints, before).beyond(LIMITS)):
        return Outcome(joints, "valid", before, before)
    reasons = [f"input: {found}"]
    for name, status, tier in _tiers(joints, method, policy, toe_height - TOE_HEIGHT):
        made = _contained(tier, joints)
        after = physical_errors(made.joints)
        if not (reason := _fault(made, before, after)):
            numbers = (made.residual_force, made.residual_torque, made.track_mm)
            return Outcome(made.joints, status, before, after, *numbers, reason="; ".join(reasons))
        reasons.append(f"{name}: {reason}")
    return Outcome(joints, "kept", before, before, reason="; ".join(reasons))


def _fault(made: Simulated, before: PhysicalErrors, after: PhysicalErrors) -> str:
    """Why ``made`` is not what becomes of a motion with the errors ``before``; empty where it is."""
    if not made.ok:
        return made.reason or "it failed"
    if after.error > before.error + _WORSE:
        return f"error {after.error:.3g} > {before.error:.3g} mm"
    return measures(made.joints, after).beyond(LIMITS, MARGIN)


def _contained(tier: Tier, joints: Array) -> Simulated:
    """What ``tier`` makes; ``joints`` and what went wrong, where it raises or returns something else."""
    try:
        made = tier()
    except Exception as error:
        return Simulated(joints, ok=False, reason=f"{type(error).__name__}: {error}")
    if made.joints.shape != joints.shape or not bool(np.isfinite(made.joints).all()):
        return Simulated(joints, ok=False, reason=f"joints of shape {made.joints.shape}, or not finite")
    return made


def _tiers(joints: Array, method: Method, policy: str | None, lift: float) -> Iterator[tuple[str, Status, Tier]]:
    """What makes something of ``joints``, the most ambitious first: its name, and the status of what it makes."""
    plan = _planned(joints, CLEARANCE - lift)

    def lifted(made: Simulated) -> Simulated:
        return replace(made, joints=made.joints + np.array([0.0, lift, 0.0]))

    if policy is not None:
        yield "policy", "physics", lambda: lifted(_imitated(plan, policy))
    if method == "physics":
        yield "physics", "physics", lambda: lifted(track(plan, **PHYSICS))
        yield "physics_high", "physics_high", lambda: lifted(track(plan, **PHYSICS_HIGH))
    if method in ("soft", "physics"):
        yield "soft", "soft", lambda: lifted(soft(plan.joints))
    yield "kinematic", "kinematic", lambda: lifted(Simulated(plan.joints, ok=True))
    # Where only arms are wrong, the feet may stay as they are.
    yield "arms", "kinematic", lambda: Simulated(separated(joints), ok=True)


def _planned(joints: Array, clearance: float) -> Kinematic:
    """``kinematic`` of ``joints``, and of what it makes, until that passes the gate: where noise hides who stands and
    who swings, they are told apart only in what has been smoothed before."""
    plan = kinematic(joints, clearance=clearance)
    for _ in range(PASSES - 1):
        if not measures(plan.joints).beyond(LIMITS, MARGIN):
            break
        plan = kinematic(plan.joints, clearance=clearance)
    return plan


def _imitated(plan: Kinematic, policy: str) -> Simulated:
    module, _, name = policy.partition(":")
    imitate: Policy = getattr(importlib.import_module(module), name)
    joints = np.asarray(imitate(plan.joints.copy()), dtype=np.float64)
    track_mm = 1000 * float(np.linalg.norm(joints - plan.joints, axis=-1).mean())
    return Simulated(joints, ok=True, track_mm=track_mm)
