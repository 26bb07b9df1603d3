"""Holds finished runs of the recipes against the paper's claims and the theory; prints numbers and verdicts.

    python train.py --config mog_curated.yaml        (and the other recipes)
    python benchmarks/claims.py runs

The recursion of Ferbach et al. 2024 (arXiv 2407.09499), Eq. 6, is computed exactly, on the samples of generation 0.
"""

from __future__ import annotations

import math
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from sc_loops import theory
from sc_loops.run import Row, Run

failed: list[str] = []


def say(claim: str, holds: bool, numbers: str) -> None:
    failed.extend([claim] * (not holds))
    print(f"  {'holds' if holds else 'FAILS'}  {claim}: {numbers}")


def values(rows: list[Row], key: str) -> list[float]:
    return [row[key] for row in rows]


def shown(numbers: list[float]) -> str:
    return " ".join(f"{x:.3g}" for x in numbers)


def rises(rows: list[Row], key: str) -> bool:
    """Whether ``key`` rises at every generation, up to two standard errors of the difference."""
    pairs = pairwise(rows)
    return all(b[key] > a[key] - 2 * math.hypot(a[f"{key}_error"], b[f"{key}_error"]) for a, b in pairs)


def share_rises(shares: list[float], samples: int) -> bool:
    """The same for a share p of n samples, whose error is sqrt(p (1 - p) / n)."""
    errors = [math.sqrt(p * (1 - p) / samples) for p in shares]
    steps = zip(shares, shares[1:], errors, errors[1:], strict=False)
    return all(b > a - 2 * math.hypot(c, d) for a, b, c, d in steps)


def recursion(run: Run, rewards: np.ndarray) -> list[np.ndarray]:
    facts = run.facts()
    return theory.curation_path(
        np.full(len(rewards), 1 / len(rewards)),
        rewards,
        choices=facts["choices"],
        synthetic_ratio=facts["synthetic_ratio"],
        generations=facts["generations"],
    )


def observed(run: Run, generation: int, metric: str, key: str) -> np.ndarray:
    return torch.cat([o[key] for o in run.pool(generation).observations(metric)]).double().numpy()


def mog_curated(run: Run, rows: list[Row]) -> None:
    means, var = values(rows, "exp_reward/mean"), values(rows, "reward/var")
    say("E[e^r] rises at every generation", rises(rows, "exp_reward/mean"), shown(means))
    say("Var[r] ends below 5 % of generation 0's", var[-1] < 0.05 * var[0], f"{var[-1] / var[0]:.2%}")
    rewards = observed(run, 0, "reward", "values")
    path = recursion(run, rewards)
    expected = [float(p[rewards >= -1e-6].sum()) for p in path]
    shares = values(rows, "reward/top_share")
    worst = max(abs(a - b) for a, b in zip(shares, expected, strict=True))
    say("the share in the ball follows the recursion within 0.05", worst <= 0.05, f"largest gap {worst:.3f}")
    print(f"         measured  {shown(shares)}\n         recursion {shown(expected)}")
    kept = values(rows, "curated/reward/top_share")
    print(
        f"         model error alone (raw share minus what it was trained on): "
        f"{shown([b - a for a, b in zip(kept, shares[1:], strict=False)])}"
    )


def mog_mixed(run: Run, rows: list[Row]) -> None:
    points = torch.from_numpy(observed(run, 0, "points", "x"))
    rewards = observed(run, 0, "reward", "values")
    center, modes = torch.tensor([2.0, 0.0]), 8
    angles = torch.arange(modes) * 2 * math.pi / modes
    centers = 2.0 * torch.stack([angles.cos(), angles.sin()], 1)
    mode = torch.cdist(points, centers.double()).argmin(1).numpy()
    reward = -10.0 * ((points - center).norm(dim=1) - 1.0).clamp(min=0).numpy()
    path = recursion(run, reward)
    ratios = [
        row[f"class_share/{k}"] / float(p[mode == k].sum())
        for row, p in zip(rows, path, strict=True)
        for k in range(modes)
    ]
    say("every mode keeps half its predicted share", min(ratios) >= 0.5, f"smallest ratio {min(ratios):.2f}")
    means = values(rows, "reward/mean")
    say("reward stays above generation 0's", min(means[1:]) > means[0], shown(means))
    uniform = np.full(len(rewards), 1 / len(rewards))
    facts = run.facts()
    bound = theory.theorem_2_3_bound(
        uniform, rewards, choices=facts["choices"], synthetic_ratio=facts["synthetic_ratio"]
    )
    exp_means = values(rows, "exp_reward/mean")
    say("Theorem 2.3 at every generation", min(exp_means[1:]) >= bound, f"bound {bound:.4g}; {shown(exp_means)}")


def moons_curated(run: Run, rows: list[Row]) -> None:
    share = values(rows, "class_share/0")
    say("one moon, at least 95 %", share[-1] >= 0.95, shown(share))


def moons_mixed(run: Run, rows: list[Row]) -> None:
    share = rows[-1]["class_share/0"]
    say("both moons, the preferred larger", 0.5 < share <= 0.85, f"{share:.3f} and {1 - share:.3f}")


def digits_curated(run: Run, rows: list[Row]) -> None:
    share = values(rows, "class_share/0")
    say("the preferred class rises", share_rises(share, rows[0]["samples"]), shown(share))
    say("it ends above 0.8", share[-1] > 0.8, f"{share[-1]:.3f}")


def digits_confidence(run: Run, rows: list[Row]) -> None:
    entropy, reward = values(rows, "class_entropy"), values(rows, "reward/mean")
    say("class entropy falls", entropy[-1] < entropy[0], shown(entropy))
    say("mean reward rises", rises(rows, "reward/mean") and reward[-1] > reward[0], shown(reward))


def digits_mixed(run: Run, rows: list[Row]) -> None:
    entropy, reward = values(rows, "class_entropy"), values(rows, "reward/mean")
    worst = max(abs(e / entropy[0] - 1) for e in entropy)
    say(
        "class entropy within 10 % of generation 0's",
        worst <= 0.1,
        f"largest change {worst:.1%}; {shown(entropy)}",
    )
    half = len(reward) // 2
    early, late = reward[half] - reward[0], reward[-1] - reward[half]
    say("reward rises and levels off", early > 0 and late < 0.5 * early, shown(reward))


CLAIMS = {
    "mog_curated": mog_curated,
    "mog_curated_mixed": mog_mixed,
    "moons_curated": moons_curated,
    "moons_curated_mixed": moons_mixed,
    "digits_curated": digits_curated,
    "digits_confidence": digits_confidence,
    "digits_mixed": digits_mixed,
}

if __name__ == "__main__":
    for name, check in CLAIMS.items():
        run = Run(Path(sys.argv[1]) / name)
        if run.rows():
            seconds = sum(values(run.rows(), "seconds/total"))
            print(f"{name} (seconds in generations: {seconds:.0f})")
            check(run, run.rows())
    sys.exit(bool(failed))
