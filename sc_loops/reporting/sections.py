"""The sections of the report: which panels there are, and what a reader is told of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup

from sc_loops.reporting.curation_panels import contested, plural_panels
from sc_loops.reporting.figures import PALETTE, Curve, Figure, curves, ridgeline, stacked, svg
from sc_loops.reporting.history import Array, expected_series, keys_of, measured, picked, rewards, series
from sc_loops.reporting.improvement_panels import TEXT, improvement_panels
from sc_loops.reporting.motion_panels import caption_panels, correction_panels, physical_panels, with_real
from sc_loops.reporting.stability import ASSUMPTIONS, admissible_region
from sc_loops.reporting.wording import class_name, exact, family, symbol
from sc_loops.run import Row, Run

MAX_FRAMES, MAX_LAYERS, MAX_STEPS = 12, 11, 400
PHASES = ("training", "improving", "sampling", "scoring", "curating", "writing", "evaluating")


@dataclass(frozen=True)
class Panel:
    """A figure with its title and what one sees in it."""

    title: str
    figure: Markup
    caption: str

    @staticmethod
    def of(title: str, figure: Figure, caption: str) -> Panel:
        return Panel(title, svg(figure, title), caption)


@dataclass(frozen=True)
class Section:
    """Panels that belong together, under a heading and a sentence or two."""

    title: str
    text: str
    panels: list[Panel] = field(default_factory=list)


def sections(run: Run, rows: Sequence[Row]) -> list[Section]:
    """The sections that the run has something to show in."""
    if not rows:
        return []
    facts, theory = run.facts(), expected_series(run, int(rows[-1]["generation"]))
    parts = [
        _rewards(run, rows, theory),
        _correction(facts, rows, theory),
        _classes(rows, facts.get("class_names", [])),
        _distances(rows),
        Section("Improvement", TEXT, [Panel.of(*drawn) for drawn in improvement_panels(rows)]),
        _captions(rows),
        _physics(rows),
        _training(run, rows),
    ]
    return [part for part in parts if part.panels]


def picked_generations(rows: Sequence[Row]) -> list[int]:
    """The generations that are shown one by one."""
    return picked([int(row["generation"]) for row in rows], MAX_FRAMES)


def _rewards(run: Run, rows: Sequence[Row], theory: Mapping[str, Array]) -> Section:
    text = (
        "r(x) is the reward of a sample x; E and Var are taken over the raw samples of a generation, "
        "before any stage. The theory's guarantees are on E[eʳ]."
    )
    if "reward/mean" in theory:
        stand_in = ", which also stand for the real data" if 0 < run.facts()["synthetic_ratio"] < math.inf else ""
        text += (
            " The dashed line is theory: the exact recursion of K-choice curation, "
            "p(t+1) = (p(0) + λ · curated p(t))\u00a0/\u00a0(1\u00a0+\u00a0λ), started from the rewards of "
            f"generation 0's samples{stand_in}. It is what a model would do that learns its training mixture "
            "perfectly."
        )
    text += contested(run.facts())
    words = {
        "reward/mean": ("Mean reward", "How much the samples are what curation favours."),
        "reward/var": ("Variance of the reward", "It vanishes when the loop collapses onto its favourites."),
        "reward/top_share": ("Share of the highest reward", "Samples that no others are preferred to."),
        "exp_reward/mean": ("Mean of eʳ", "Without real data, K-choice by r never lowers it in theory."),
        "exp_reward/var": (
            "Variance of eʳ",
            "In theory, K-choice by r raises E[eʳ] by at least (K-1)/K of it over its maximum.",
        ),
    }
    panels = []
    for key, (title, caption) in words.items():
        lines = [Curve(*series(rows, key), "raw samples")]
        curated = series(rows, f"curated/{key}")
        if len(curated[0]):
            lines.append(Curve(*curated, "after curation", "curated"))
        lines += _expected(theory, key)
        if lines[0].y.any():
            panels.append(Panel.of(title, curves(lines, symbol(key)), caption))
    panels += [Panel.of(*drawn) for drawn in plural_panels(rows, theory)]
    histograms = [(t, rewards(run, t)) for t in picked_generations(rows)]
    kept = [(t, values) for t, values in histograms if values is not None and len(values)]
    if kept:
        caption = (
            "Distribution of the reward, one generation below the other, each scaled to its own peak (heights "
            "as square roots, so that tails show). The triangle is the mean."
        )
        panels.append(Panel.of("Reward by generation", ridgeline(kept, "reward r(x)"), caption))
    return Section("Reward", text, panels)


def _expected(theory: Mapping[str, Array], key: str) -> list[Curve]:
    """The dashed line of ``key``, if theory has one."""
    if key not in theory:
        return []
    return [Curve(np.arange(len(theory[key]), dtype=float), theory[key], "theory", "theory")]


def _correction(facts: Row, rows: Sequence[Row], theory: Mapping[str, Array]) -> Section:
    panels, text = _corrected(rows), []
    strength, ratio = facts.get("strength"), facts.get("synthetic_ratio")
    title = "Correction" if panels or strength is not None else "Fits of the model"
    if panels:
        here = "" if strength is None else f"; here γ = {exact(strength)}"
        text.append(f"A sample is corrected with probability γ\u00a0/\u00a0(1\u00a0+\u00a0γ) before the pool{here}.")
    if "mean_square/gaussian" in theory:
        text.append(
            "The dashed line is theory: the exact expectation over all loops with the real points of this one. A "
            "single run scatters around it, and for long on one side, since its generations inherit from each other."
        )
    panels += _gaussian_fits(rows, theory)
    if strength is not None and ratio is not None and math.isfinite(ratio):
        panels.append(Panel.of("Admissible region", admissible_region([(strength, ratio)]), ASSUMPTIONS))
    return Section(title, " ".join(text), panels)


def _corrected(rows: Sequence[Row]) -> list[Panel]:
    """What the stage did to the samples."""
    panels = []
    share, failed = Curve(*series(rows, "correction/share"), "corrected"), series(rows, "correction/failed_share")
    if len(share.x):
        lines = [share, *([Curve(*failed, "failed, of those picked", colour=PALETTE[3])] if len(failed[0]) else [])]
        caption = "Share of the samples that were corrected, and of those picked for it the share on which it failed."
        panels.append(Panel.of("Samples corrected", curves(lines, "share"), caption))
    distance = Curve(*series(rows, "correction/distance"))
    if len(distance.x):
        caption = "How far corrected samples moved, on average: Euclidean, in the units of the samples."
        panels.append(Panel.of("Distance moved", curves([distance], "distance moved"), caption))
    panels += [Panel.of(*drawn) for drawn in correction_panels(rows)]
    return panels


def _gaussian_fits(rows: Sequence[Row], theory: Mapping[str, Array]) -> list[Panel]:
    """How far a Gaussian model is from its target."""
    words = {
        "wasserstein_2": ("Wasserstein-2 distance to the target", "Between the model's Gaussian and the target's."),
        "mean_square": ("Squared error of the mean", "Of the model's mean μ, as the mean μ* of the target is known."),
        "covariance_trace": ("Trace of the covariance", "Of the model. It shrinks where the loop loses variance."),
    }
    panels = []
    for name, (title, caption) in words.items():
        key = f"{name}/gaussian"
        found = series(rows, key)
        if len(found[0]):
            lines = [Curve(*found, "this run"), *_expected(theory, key)]
            panels.append(Panel.of(title, curves(lines, symbol(key)), caption))
    return panels


def _classes(rows: Sequence[Row], class_names: Sequence[str]) -> Section:
    keys = [k for k in keys_of(rows, "class_share") if k != "class_share"]
    x = np.array([row["generation"] for row in rows], dtype=float)
    panels = []
    if keys:
        layers = [
            (class_name(key.split("/", 1)[1], class_names), np.array([row.get(key, 0.0) for row in rows]))
            for key in keys
        ]
        figure = stacked(x, _most(layers), "share of the raw samples", share=True)
        caption = "Share of each class among the raw samples, as the classifier sees them."
        panels.append(Panel.of("Class shares", figure, caption))
    entropy = series(rows, "class_entropy")
    if len(entropy[0]):
        caption = "Entropy of the class shares: ln(number of classes) when all are alike, 0 for a single class."
        panels.append(Panel.of("Class entropy", curves([Curve(*entropy)], "entropy (nats)"), caption))
    return Section("Classes", "", panels)


def _most(layers: list[tuple[str, Array]]) -> list[tuple[str, Array]]:
    """At most ``MAX_LAYERS`` layers: the largest in any generation, the others summed up."""
    if len(layers) <= MAX_LAYERS:
        return layers
    by_size = sorted(range(len(layers)), key=lambda i: -layers[i][1].max())
    shown = sorted(by_size[: MAX_LAYERS - 1])
    others = np.sum([layers[i][1] for i in by_size[MAX_LAYERS - 1 :]], axis=0)
    return [*(layers[i] for i in shown), (f"{len(layers) - len(shown)} others", others)]


def _captions(rows: Sequence[Row]) -> Section:
    text = (
        "In the features of an evaluator that was trained to bring a motion and its caption together, for the "
        "captions that the samples were drawn under. Dashed: the real data's own value."
    )
    return Section("Motions and captions", text, [Panel.of(*drawn) for drawn in caption_panels(rows)])


def _physics(rows: Sequence[Row]) -> Section:
    text = (
        "Of the raw samples. Real motions are not at 0, since their joints are inside the body and they jump: their "
        "own value, dashed, is the one to be near to."
    )
    return Section("Physics", text, [Panel.of(*drawn) for drawn in physical_panels(rows)])


def _distances(rows: Sequence[Row]) -> Section:
    panels = []
    words = {
        "fid": ("FID", "Fréchet distance in Inception's features, to the real images that evaluation.metrics names"),
        "kid": ("KID", "Kernel distance in Inception's features; unbiased, so it may be compared over sample sizes"),
        "wasserstein_2": ("Wasserstein-2 distance", "How far mass must be moved to turn samples into real data"),
        "energy_distance": ("Energy distance", "Zero only where both distributions are the same"),
        "frechet_distance": ("Fréchet distance", "Between Gaussians fitted to the features of both"),
    }
    known = {"wasserstein_2/gaussian"}  # to a target that is known: beside the fits
    for key in [k for prefix in words for k in measured(keys_of(rows, prefix)) if k not in known]:
        if lines := with_real(rows, key):
            title, caption = words[family(key)]
            caption += ". Dashed: between real data" if len(lines) > 1 else ""
            figure = curves(lines, symbol(key))
            panels.append(Panel.of(f"{title}{_space(key)}", figure, f"{caption}. Lower is better."))
    score = Curve(*series(rows, "inception_score"))
    if len(score.x):
        caption = "How sure Inception is of each sample's class, and how varied the classes are. Higher is better."
        panels.append(Panel.of("Inception score", curves([score], symbol("inception_score")), caption))
    for name in [k.split("/", 1)[1] for k in keys_of(rows, "precision") if "/" in k]:
        precision, recall = series(rows, f"precision/{name}"), series(rows, f"recall/{name}")
        lines = [Curve(*precision, "precision"), Curve(*recall, "recall", colour=PALETTE[2])]
        caption = "Precision: share of samples that look real. Recall: share of real data that samples cover."
        figure = curves([line for line in lines if len(line.x)], "share")
        panels.append(Panel.of(f"Precision and recall{_space(f'precision/{name}')}", figure, caption))
    text = "Between the raw samples of a generation and real data: held-out ones, which nothing was fitted to"
    text += ", but for Inception's, which are customarily the training images." if len(keys_of(rows, "fid")) else "."
    return Section("Distance to real data", text, panels)


def _space(key: str) -> str:
    return f" ({key.split('/', 1)[1]})" if "/" in key else ""


def _training(run: Run, rows: Sequence[Row]) -> Section:
    panels = []
    losses = series(rows, "train/loss")
    steps = [(row["step"], row["train/loss"]) for row in run.training_rows() if "step" in row]
    if len(losses[0]):
        caption = "Mean training loss of each generation. Later generations train on a different mixture."
        panels.append(Panel.of("Loss by generation", curves([Curve(*losses)], "loss"), caption))
    if len(steps) > 1:
        x, y = _binned(np.array(steps, dtype=float))
        wide = bool((y > 0).all() and y.max() > 20 * y.min())
        figure = curves([Curve(x, y, look="plain")], "loss", x_label="optimizer step", log=wide)
        panels.append(Panel.of("Loss by step", figure, "Training loss, averaged over neighbouring steps."))
    phases = [p for p in PHASES if f"seconds/{p}" in {key for row in rows for key in row}]
    if phases:
        x = np.array([row["generation"] for row in rows], dtype=float)
        layers = [(p, np.array([row.get(f"seconds/{p}", 0.0) for row in rows], dtype=float)) for p in phases]
        caption = "Wall-clock time of each generation by phase."
        panels.append(Panel.of("Time by phase", stacked(x, layers, "seconds", share=False), caption))
    return Section("Training and time", "", panels)


def _binned(points: Array) -> tuple[Array, Array]:
    """Finite points ``(N, 2)`` averaged in at most ``MAX_STEPS`` runs of neighbours."""
    finite = points[np.isfinite(points).all(axis=1)]
    bins = np.array_split(finite, min(MAX_STEPS, max(1, len(finite))))
    means = np.array([b.mean(axis=0) for b in bins if len(b)]).reshape(-1, 2)
    return means[:, 0], means[:, 1]
