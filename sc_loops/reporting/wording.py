"""How numbers, durations and metrics are written for people: the same on the terminal and in the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sc_loops.run import Row

# Metric: (symbol, what it is). A key ``family/<name>`` is looked up by its family when it is not here itself.
# The order is that of tables.
QUANTITIES: dict[str, tuple[str, str]] = {
    "train/loss": ("loss", "mean training loss of the generation"),
    "reward/mean": ("E[r]", "mean reward of the raw samples"),
    "reward/mean_error": ("± E[r]", "standard error of E[r]"),
    "reward/var": ("Var[r]", "variance of the reward"),
    "exp_reward/mean": ("E[eʳ]", "mean of e to the reward, the quantity of the theory's guarantees"),
    "exp_reward/mean_error": ("± E[eʳ]", "standard error of E[eʳ]"),
    "exp_reward/var": ("Var[eʳ]", "variance of e to the reward"),
    "reward/top_share": ("top share", "share of raw samples with the highest possible reward"),
    "curated/reward/mean": ("E[r] curated", "mean reward after the stages"),
    "curated/reward/mean_error": ("± E[r] curated", "standard error of it"),
    "curated/reward/var": ("Var[r] curated", "variance of the reward after the stages"),
    "curated/exp_reward/mean": ("E[eʳ] curated", "mean of e to the reward after the stages"),
    "curated/exp_reward/mean_error": ("± E[eʳ] curated", "standard error of it"),
    "curated/exp_reward/var": ("Var[eʳ] curated", "variance of e to the reward after the stages"),
    "curated/reward/top_share": ("top share curated", "share of kept samples with the highest possible reward"),
    "plural_reward": ("E[r] of reward", "mean of one of the rewards that decide choices, by its number"),
    "plural_exp_reward": ("E[eʳ] of reward", "mean of e to one of the rewards that decide choices, by its number"),
    "nash_welfare": ("Nash welfare", "Σ w log E[eʳ] over the rewards that each decide a share w of the choices"),
    "correction/share": ("corrected", "share of the samples that were corrected"),
    "correction/failed_share": ("failed", "of the samples picked for correction, the share on which it failed"),
    "correction/distance": ("moved", "mean Euclidean distance by which corrected samples moved"),
    "correction/error_before": ("error before", "mean physical error of the motions picked for correction, in mm"),
    "correction/error_after": ("error after", "mean physical error of these motions after correction, in mm"),
    "correction/status": ("status", "share of the motions picked for correction that ended with a status"),
    "class_entropy": ("class entropy", "entropy of the class shares in nats; 0 is a single class"),
    "class_share": ("share", "share of the raw samples in a class"),
    "wasserstein_2": ("W₂", "Wasserstein-2 distance to held-out real data; 0 is best"),
    "wasserstein_2/gaussian": ("W₂ to target", "Wasserstein-2 distance of the model's Gaussian to the target's"),
    "mean_square": ("‖μ-μ*‖²", "squared distance of the model's mean to the target's; 0 is best"),
    "covariance_trace": ("tr Σ", "trace of the model's covariance"),
    "covariance_trace_median": ("median tr Σ", "median over replicas of the trace of the model's covariance"),
    "wasserstein_2_error": ("± W₂", "standard error of W₂ over replicas"),
    "mean_square_error": ("± ‖μ-μ*‖²", "standard error of it over replicas"),
    "covariance_trace_error": ("± tr Σ", "standard error of it over replicas"),
    "energy_distance": ("energy distance", "between samples and held-out real data; 0 is best"),
    "frechet_distance": ("FD", "Fréchet distance to held-out real data in feature space; 0 is best"),
    "frechet_distance_error": ("± FD", "standard error of FD, from finitely many samples"),
    "diversity": ("diversity", "mean distance between the features of two samples; best is the real data's own"),
    "matching_score": ("matching score", "mean distance between the features of a motion and of its caption"),
    "r_precision_1": ("R@1", "share of captions whose own motion is the nearest of 32"),
    "r_precision_2": ("R@2", "share of captions whose own motion is among the 2 nearest of 32"),
    "r_precision_3": ("R@3", "share of captions whose own motion is among the 3 nearest of 32"),
    "multimodality": ("multimodality", "mean distance between the features of two motions of one caption"),
    "physical/error": ("physical error", "penetration, floating and skating added up, in mm"),
    "physical/penetration": ("penetration", "mean depth of the lowest joint below the floor, in mm"),
    "physical/floating": ("floating", "mean height of the lowest joint above the floor, in mm"),
    "physical/skating": ("skating", "mean way that a foot on the floor slides from frame to frame, in mm"),
    "physical/jerk": ("jerk", "third derivative of the joints' positions, in m/s³"),
    "physical/self_penetration": ("self-penetration", "mean depth to which limbs are inside one another, in mm"),
    "fid": ("FID", "Fréchet Inception distance to real images; 0 is best"),
    "kid": ("KID", "kernel Inception distance to real images; 0 is best"),
    "kid_std": ("± KID", "standard deviation of KID over its subsets"),
    "inception_score": ("IS", "Inception score: how sure and how varied Inception finds the samples"),
    "inception_score_std": ("± IS", "standard deviation of the Inception score over its splits"),
    "precision": ("precision", "share of samples that look real"),
    "recall": ("recall", "share of real data that the samples cover"),
    "improvement/omega": ("ω", "by which the model was extrapolated away from its auxiliary; 0 is the base"),
    "improvement/search": ("measured at ω", "what the search for ω wants low, by default a distance to real data"),
    "improvement/precision": ("precision at ω", "share of samples that look real, of those by which ω was searched"),
    "improvement/recall": ("recall at ω", "share of real data covered by the samples by which ω was searched"),
    "improvement/base_share": ("base's share of class", "share of a class in the base's samples"),
    "improvement/chosen_share": ("chosen share of class", "share of a class in what the auxiliary is made of"),
    "improvement/improved_share": ("improved share of class", "share of a class in samples of the shifted model"),
    "improvement/total_variation": ("TV to wanted", "total variation from the wanted shares of the classes"),
    "improvement/shift": ("part of the shift", "for which part of the wanted shift the samples could be chosen"),
    "improvement/loss": ("auxiliary loss", "mean loss of the fine-tuning of the auxiliary"),
    "improvement/items_seen": ("auxiliary items seen", "training items that the auxiliary was fine-tuned on"),
    "real_items": ("real items", "real items in the training mixture"),
    "synthetic_items": ("synthetic items", "synthetic items in the training mixture"),
    "items_seen": ("items seen", "training items seen so far"),
    "real_items_seen": ("real items seen", "real items among them, by the composition of what was trained on"),
    "synthetic_items_seen": ("synthetic items seen", "synthetic items among them"),
    "samples": ("samples", "raw samples drawn"),
    "pool_items": ("pool", "items the generation left in its pool"),
    "nfe": ("nfe", "network evaluations per sample"),
    "samples_per_second": ("samples/s", "samples per second"),
    "seconds": ("s", "wall-clock seconds"),
}

ROUNDING = 1e-12  # what is smaller is written as zero


def family(key: str) -> str:
    """The entry of ``QUANTITIES`` that describes ``key``: the longest that it starts with; or else its first part."""
    parts = key.split("/")
    starts = ("/".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((start for start in starts if start in QUANTITIES), parts[0])


def symbol(key: str, class_names: Sequence[str] = ()) -> str:
    """What ``key`` is called: ``E[r]``, ``FD inception``, ``share of cat``, ``train s``."""
    head = QUANTITIES.get(family(key), (key, ""))[0]
    rest = key[len(family(key)) + 1 :]
    if not rest or family(key) not in QUANTITIES:
        return head
    if family(key) == "class_share":
        return f"share of {class_name(rest, class_names)}"
    return f"{rest} {head}" if family(key) in ("seconds", "samples_per_second") else f"{head} {rest}"


def meaning(key: str) -> str:
    """One clause on what ``key`` measures, empty for a metric unknown here."""
    return QUANTITIES.get(family(key), ("", ""))[1]


def in_order(keys: Sequence[str]) -> list[str]:
    """``keys`` in the order of ``QUANTITIES``; unknown ones last, as they came."""
    order = {key: i for i, key in enumerate(QUANTITIES)}
    return sorted(keys, key=lambda key: order.get(family(key), len(order)))


def class_name(index: str, class_names: Sequence[str]) -> str:
    """The name of the class that a metric's key ends in, where it is a number and names are known."""
    known = index.isdigit() and int(index) < len(class_names)
    return str(class_names[int(index)]) if known else f"class {index}" if index.isdigit() else index


def decimals(value: float, most: int = 4) -> int:
    """How many decimals show three significant digits of ``value``, at most ``most``."""
    if abs(value) <= ROUNDING or not math.isfinite(value):
        return 2
    return min(most, max(0, 2 - math.floor(math.log10(abs(value)))))


def number(value: Any, most: int = 4) -> str:
    """Three significant digits in at most ``most`` decimals: ``0.312``, ``45.1``, ``1.2e-05``; ``–`` for None."""
    if value is None:
        return "–"
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return str(value)
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: "-∞"}.get(value, "nan")
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ")
    if abs(value) <= ROUNDING:
        value = 0.0  # not -0.00
    elif not 1e-3 <= abs(value) < 1e6:
        return f"{value:.1e}"
    return f"{value:.{decimals(value, most)}f}"


def exact(value: Any) -> str:
    """A value that a person chose, as they would write it: ``1``, ``0.25``, ``∞``."""
    if isinstance(value, float):
        return f"{value:g}" if math.isfinite(value) else number(value)
    return number(value)


def change(now: Any, before: Any, most: int = 4) -> str:
    """``now - before`` signed, to three digits of the larger of it and ``now``; empty where either is missing."""
    both = isinstance(now, (int, float)) and isinstance(before, (int, float))
    if not both or not math.isfinite(now - before):
        return ""
    largest = max(abs(now), abs(now - before))
    if not 1e-3 <= largest < 1e6 and largest > ROUNDING:
        return f"{now - before:+.1e}"
    return f"{now - before:+.{0 if isinstance(now, int) else decimals(largest, most)}f}"


def count(items: float) -> str:
    """A number of things in at most six characters: ``8000``, ``50.0 k``, ``0.31 M``."""
    for limit, unit, scale in ((1e4, "", 1.0), (1e5, " k", 1e3), (1e8, " M", 1e6)):
        if items < limit:
            return f"{items:.0f}" if not unit else f"{items / scale:.3g}{unit}"
    return f"{items / 1e9:.3g} G"


def size(items: float) -> str:
    """Bytes in a unit of three digits or fewer: 840 KB, 1.2 GB."""
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if items < 999.5 or unit == "TB":
            break
        items /= 1000
    return f"{items:.1f} {unit}" if items < 9.95 and unit != "B" else f"{items:.0f} {unit}"


def duration(seconds: float) -> str:
    """``4.1 s``, ``12 min``, ``1.3 h``, ``2.1 d``."""
    for limit, unit, scale in ((60, "s", 1), (3600, "min", 60), (86400, "h", 3600)):
        if seconds < limit:
            return f"{seconds / scale:.1f} {unit}"
    return f"{seconds / 86400:.1f} d"


def policies(facts: Row) -> list[str]:
    """What a run does that not every run does, in a few words each."""
    return [
        *([f"K = {facts['choices']} choices"] if "choices" in facts else []),
        *([f"{100 * facts['flipped']:g} % of them flipped"] if "flipped" in facts else []),
        *([f"by {len(facts['shares'])} rewards"] if "shares" in facts else []),
        *([f"γ = {exact(facts['strength'])}"] if "strength" in facts else []),
        *([f"sampling bias {exact(facts['sampling_bias'])}"] if "sampling_bias" in facts else []),
        *([str(facts["improvement"])] if "improvement" in facts else []),
        *([f"{facts['memory']} memory"] if facts.get("memory", "replace") != "replace" else []),
        *(["fresh real data"] if facts.get("real") == "fresh" else []),
        *([f"samples repeated up to {facts['repeats']} times"] if "repeats" in facts else []),
        *(["λ by weight"] if facts.get("mixing") == "weight" else []),
    ]
