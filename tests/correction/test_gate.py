"""The gate, and the rule by which correcting twice is correcting once."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from sc_loops.correction.physics import methods
from sc_loops.correction.physics.clips import Job, carry_out, standing_toe_height
from sc_loops.correction.physics.gate import LIMITS, MARGIN, Measures, measures
from sc_loops.correction.physics.methods import correct
from sc_loops.correction.physics.outcome import Simulated
from sc_loops.motion.degradations import DEGRADATIONS, degraded
from sc_loops.motion.physical_errors import physical_errors
from sc_loops.motion.procedural import ACTIONS, procedural_clip
from sc_loops.motion.representation import decode, encode

SPOILT = [kind for kind in DEGRADATIONS if kind != "clean"]


@cache
def clip(action: str = "walk") -> np.ndarray:
    generator = torch.Generator().manual_seed(4)
    return procedural_clip(action, generator, max_frames=80)[0].numpy()


@pytest.mark.parametrize("action", ACTIONS)
def test_clean_motions_pass(action: str) -> None:
    assert measures(clip(action)).beyond(LIMITS) == ""
    outcome = correct(clip(action), "physics")
    assert outcome.status == "valid"
    assert outcome.joints is clip(action)


@pytest.mark.parametrize(
    ("kind", "measure"),
    [
        ("jitter", "jitter"),
        ("sinking", "depth"),
        ("oscillating", "depth"),
        ("floating", "height"),
        ("drift", "skating"),
        ("self-penetration", "self_penetration"),
    ],
)
def test_each_degradation_is_stopped_by_its_own_measure(kind: str, measure: str) -> None:
    assert measure in measures(degraded(clip(), kind, 1)).beyond(LIMITS)


def test_limbs_that_stretch_are_no_body() -> None:
    longer = clip().copy()
    longer[:, [18, 20]] += 0.02 * (longer[:, 18:19] - longer[:, 16:17])  # the left upper arm by 2 %, 5.1 mm
    assert measures(longer).beyond(LIMITS).startswith("bones 5.1")
    outcome = correct(longer, "kinematic", toe_height=0.004)
    assert outcome.status == "kinematic"
    assert measures(outcome.joints).bones < 1e-9


def test_a_limit_is_inclusive_and_a_margin_lowers_it() -> None:
    at = replace(Measures(0, 0, 0, 0, 0, 0, 0), depth=LIMITS.depth)
    assert at.beyond(LIMITS) == ""
    assert "depth 15 > 15" in at.beyond(LIMITS, MARGIN)
    assert "jitter" in replace(at, jitter=float("nan")).beyond(LIMITS)


@pytest.mark.parametrize("kind", SPOILT)
def test_a_corrected_motion_is_valid_with_a_margin_and_no_worse(kind: str) -> None:
    spoilt = degraded(clip(), kind, 2)
    outcome = correct(spoilt, "kinematic")
    assert outcome.status == "kinematic"
    assert measures(outcome.joints).beyond(LIMITS, MARGIN) == ""
    assert outcome.after.error <= outcome.before.error == physical_errors(spoilt).error


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_correcting_again_changes_nothing_through_float32_vectors(kind: str) -> None:
    joints = degraded(clip(), kind, 2)
    vectors = encode(torch.from_numpy(joints)).float().double().numpy()
    once = carry_out(Job(vectors, "kinematic", 0.012))
    assert (once.status == "valid") == (kind == "clean")
    stored = vectors if once.vectors is None else once.vectors.astype(np.float32).astype(np.float64)
    again = carry_out(Job(stored, "kinematic", 0.012))
    assert again.status == "valid"
    assert again.vectors is None
    assert again.before is not None
    assert once.after is not None
    assert again.before.error == pytest.approx(once.after.error, abs=1e-2)


def test_no_motion_is_rejected_and_a_short_one_kept() -> None:
    broken = clip().copy()
    broken[3, 4, 1] = np.nan
    outcome = correct(broken, "soft")
    assert (outcome.status, outcome.joints is broken, outcome.before) == ("rejected", True, None)
    short = degraded(clip(), "jitter", 1)[:13]
    outcome = correct(short, "soft")
    assert (outcome.status, outcome.joints is short) == ("kept", True)
    assert "13 frames" in outcome.reason
    vectors = np.full((20, 263), np.nan)
    assert carry_out(Job(vectors, "soft", 0.012)).status == "rejected"


def test_a_simulator_that_diverges_or_raises_fails_for_its_tier_alone(monkeypatch) -> None:
    def diverges(joints: np.ndarray) -> Simulated:
        return Simulated(joints, ok=False, reason="the simulation diverged")

    def breaks(plan: object, **options: float) -> Simulated:
        raise FloatingPointError("out of range")

    def not_finite(joints: np.ndarray) -> Simulated:
        return Simulated(np.full_like(joints, np.nan), ok=True)

    monkeypatch.setattr(methods, "track", breaks)
    for tier, says in ((diverges, "soft: the simulation diverged"), (not_finite, "not finite")):
        monkeypatch.setattr(methods, "soft", tier)
        outcome = correct(degraded(clip(), "sinking", 1), "physics")
        assert outcome.status == "kinematic"
        assert "physics_high: FloatingPointError: out of range" in outcome.reason
        assert says in outcome.reason


def test_what_is_worse_is_not_taken(monkeypatch) -> None:
    def hovers(joints: np.ndarray) -> Simulated:
        return Simulated(joints + np.array([0, 0.03, 0]), ok=True)

    monkeypatch.setattr(methods, "soft", hovers)
    spoilt = degraded(clip(), "self-penetration", 1)
    outcome = correct(spoilt, "soft")
    assert outcome.status == "kinematic"
    assert "soft: error" in outcome.reason

    monkeypatch.setattr(methods, "kinematic", lambda joints, clearance: methods.Kinematic(joints, np.zeros((1, 4))))
    monkeypatch.setattr(methods, "separated", lambda joints: joints)
    outcome = correct(spoilt, "soft")
    assert (outcome.status, outcome.joints is spoilt) == ("kept", True)
    assert outcome.after == outcome.before


def test_methods_in_their_order() -> None:
    pytest.importorskip("mujoco")
    spoilt = degraded(clip(), "sinking", 1)
    assert correct(spoilt, "soft").status == "soft"
    outcome = correct(spoilt, "physics")
    assert outcome.status == "physics"
    assert 0 <= outcome.residual_force < 1
    assert outcome.track_mm < 100


def twice(joints: np.ndarray) -> np.ndarray:
    return joints * 2.0


def same(joints: np.ndarray) -> np.ndarray:
    return joints


def test_an_imitator_of_the_user_stands_behind_the_same_gate() -> None:
    spoilt = degraded(clip(), "sinking", 1)
    outcome = correct(spoilt, "kinematic", policy=f"{__name__}:same")
    assert (outcome.status, outcome.track_mm) == ("physics", 0)
    outcome = correct(spoilt, "kinematic", policy=f"{__name__}:twice")
    assert outcome.status == "kinematic"
    assert correct(spoilt, "kinematic", policy=f"{__name__}:nowhere").status == "kinematic"


def test_toes_stand_as_high_as_those_of_the_data() -> None:
    joints = clip("stand")
    raised = [encode(torch.from_numpy(joints + np.array([0, up, 0]))).numpy() for up in (0.0, 0.0, 0.02)]
    height = standing_toe_height(raised[:1])
    assert standing_toe_height(raised[2:]) == pytest.approx(height + 0.02, abs=1e-6)
    assert standing_toe_height([]) == 0.012
    made = correct(joints - np.array([0, 0.05, 0]), "kinematic", toe_height=0.02).joints
    assert np.median(made[:, [10, 11], 1]) == pytest.approx(0.02, abs=1e-3)
    assert decode(torch.from_numpy(raised[0])).shape[0] == len(joints) - 1
