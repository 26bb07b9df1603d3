"""When a self-correcting loop is stable: the estimate of Gillman et al. 2024, "Self-Correcting Self-Consuming Loops
for Generative Model Training" (ICML, arXiv 2402.07087), Theorem 4.3, which extends that of Bertrand et al. 2024
(ICLR, arXiv 2310.00429) from γ = 0 to corrected samples. Derivation: docs/self_correction_theory.md.

λ in [0, inf] is the synthetic ratio, γ in [0, inf] the correction strength and C = 1 + εL/α >= 1, where α is the
local strong concavity of the expected log-likelihood at the optimum θ*, L the Lipschitz constant of its Hessian in
θ and ε the distance of p_θ* from the data. C is not known for a network; C = 1 is a model that can represent the
data, and gives the largest region.

Assumptions: infinite samples (the theorem's term for finite ones is not a part of the rate); a loop that starts near
θ* and retrains from the last weights; the ideal corrector. Outside of the region nothing is claimed.

Verified: the factor λ(α+εL)/((1+γ)(α-λ(α+εL))) and π_γ, from a third party's quotation of the theorem. Not verified,
since the paper's text could not be had: what it says of α, ε, L and its other assumptions, and its condition in the
form λC < (1+γ)/(2+γ). That is where the factor is below 1, as the documentation derives, so the two cannot disagree.
"""

from __future__ import annotations

import math

from sc_loops.errors import require


def rate(synthetic_ratio: float, strength: float, *, lipschitz_ratio: float = 1.0) -> float:
    """ρ(λ)/(1+γ) with ρ(λ) = λC/(1-λC): by what the distance from θ* shrinks in a generation, at most.

    ``lipschitz_ratio`` is C. 0 for λ = 0; inf, which bounds nothing, for λC >= 1.
    """
    _require(synthetic_ratio, strength, lipschitz_ratio)
    scaled = synthetic_ratio * lipschitz_ratio
    return scaled / (1 - scaled) / (1 + strength) if scaled < 1 else math.inf


def is_stable(synthetic_ratio: float, strength: float, *, lipschitz_ratio: float = 1.0) -> bool:
    """Whether the theorem promises that a loop near θ* stays near it: ``rate`` < 1 <=> λC < (1+γ)/(2+γ)."""
    _require(synthetic_ratio, strength, lipschitz_ratio)
    return synthetic_ratio < largest_synthetic_ratio(strength, lipschitz_ratio=lipschitz_ratio)


def largest_synthetic_ratio(strength: float, *, lipschitz_ratio: float = 1.0) -> float:
    """(1+γ)/((2+γ) C): the λ below which the loop is stable. For C = 1 it is 1/2 at γ = 0, as in Bertrand et al.,
    and 1 at γ = inf."""
    _require(0.0, strength, lipschitz_ratio)
    return (1 - 1 / (2 + strength)) / lipschitz_ratio


def _require(synthetic_ratio: float, strength: float, lipschitz_ratio: float) -> None:
    require(synthetic_ratio >= 0, "synthetic_ratio", synthetic_ratio, "a number in [0, inf]")
    require(strength >= 0, "strength", strength, "a number in [0, inf]")
    possible = 1 <= lipschitz_ratio < math.inf
    require(possible, "lipschitz_ratio", lipschitz_ratio, "C = 1 + εL/α, a number of at least 1")
