"""Which entries of references.bib a component or an option stands for.

Families are named as in ``sc_loops.components.family_name``. Nothing of the components is imported: a component that
is added there is added here too, which tests/citing/test_cite.py asserts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Options = Mapping[str, Any]
"""A section of a config; of a component with its ``name``."""

Keys = tuple[str, ...]

FRAMEWORK: Keys = ("sc_loops", "lightning", "paszke2019pytorch")
LOOP: Keys = ("bertrand2024stability",)

# The keys of a component; or, where there is nothing to cite, why.
COMPONENTS: dict[str, dict[str, Keys | str]] = {
    "data set": {
        "two_moons": ("pedregosa2011scikit",),
        "gaussian_mixture": "points drawn by sc_loops",
        "gaussian": "points drawn by sc_loops",
        "digits": ("alpaydin1998optical", "pedregosa2011scikit"),
        "mnist": ("lecun1998gradient",),
        "cifar10": ("krizhevsky2009learning",),
        "image_archive": "your own images; cite where they are from",
        "image_folder": "your own images; cite where they are from",
        "humanml3d": ("guo2022generating", "mahmood2019amass"),
        "procedural_motions": ("guo2022generating",),  # the 263 numbers of a frame
    },
    "text encoder": {
        "clip": ("radford2021learning", "wolf2020transformers"),
        "latent_semantic": ("deerwester1990indexing", "pedregosa2011scikit"),
        "actions": "labels as unit vectors",
    },
    "classifier": {
        "trained": "a small network of sc_loops",
        "nearest_mean": "the nearest of the class means",
        "vgg11_bn": ("simonyan2015very",),
    },
    "reward": {
        "clipped_distance": ("ferbach2024curated",),
        "class_probability": ("ferbach2024curated",),
        "classifier_confidence": ("ferbach2024curated",),
    },
    "network": {
        "mlp": "a multi-layer perceptron",
        "unet": ("dhariwal2021diffusion", "torchcfm"),
        "motion_transformer": ("tevet2023human", "vaswani2017attention"),
    },
    "model": {
        "ddpm": ("ho2020denoising",),
        "flow_matching": ("lipman2023flow", "tong2024improving", "torchcfm"),
        "edm": ("karras2022elucidating",),
        "motion_diffusion": ("tevet2023human", "ho2020denoising", "nichol2021improved"),
        "gaussian": "mean and covariance by maximum likelihood",
        "kde": ("kazdan2025collapse",),
    },
    "target": {
        "gaussian": "the target of the ideal corrector",
        "fitted_gaussian": "the target of the ideal corrector",
        "real_samples": "the target of the ideal corrector",
    },
    "corrector": {
        "ideal": ("gillman2024selfcorrecting",),
        "kmeans": ("gillman2024selfcorrecting", "pedregosa2011scikit"),
        "physics": ("gillman2024selfcorrecting", "yuan2023physdiff", "virtanen2020scipy"),
    },
    "stage": {
        "k_choice": ("ferbach2024curated",),
        "plural_choice": ("ferbach2024curated", "falahati2026pluralistic", "zhao2025heterogeneous"),
        "correct": ("gillman2024selfcorrecting",),
    },
    "improvement": {
        "sims": ("alemohammad2024sims",),
        "neon": ("alemohammad2026neon",),
    },
    "metric": {
        "inception": (
            "heusel2017gans",
            "binkowski2018demystifying",
            "salimans2016improved",
            "kynkaanniemi2019improved",
            "szegedy2016rethinking",
            "obukhov2020torchfidelity",
        ),
        "gaussian_distance": ("dowson1982frechet",),
        "motion_text": ("guo2022generating", "oord2018representation", "khosla2020supervised"),
        "t2m": ("guo2022generating", "pennington2014glove"),
    },
}

# What is measured on a generation without being asked for, by the kind of the data.
KINDS = {
    "two_moons": "points",
    "gaussian_mixture": "points",
    "gaussian": "points",
    "digits": "images",
    "mnist": "images",
    "cifar10": "images",
    "image_archive": "images",
    "image_folder": "images",
    "humanml3d": "motions",
    "procedural_motions": "motions",
}
DEFAULT_METRICS: dict[str, tuple[str, Keys]] = {
    "points": ("energy and Wasserstein distance", ("szekely2013energy", "flamary2021pot")),
    "images": (
        "Fréchet distance, precision and recall",
        ("heusel2017gans", "dowson1982frechet", "kynkaanniemi2019improved"),
    ),
    "motions": ("physical errors", ("yuan2023physdiff",)),
}


@dataclass(frozen=True)
class Rule:
    """An option that stands for entries of its own.

    Args:
        family: of the components that have the option, or ``loop``.
        what: the option's value in words.
        keys: the entries.
        holds: whether a section has that value. What it lacks is None.
    """

    family: str
    what: str
    keys: Keys
    holds: Callable[[Options], bool]


def _chosen(family: str, option: str, value: str, *keys: str) -> Rule:
    return Rule(family, f"{option} {value}", keys, lambda options: options.get(option) == value)


def _number(options: Options, option: str, absent: float) -> float:
    value = options.get(option)
    return float(value) if isinstance(value, (int, float)) else absent


def _biased(model: Options) -> bool:
    return _number(model, "sampling_bias", 1) < 1


def _conditional(model: Options) -> bool:
    network = model.get("network")
    return isinstance(network, Mapping) and bool(network.get("class_conditional"))


RULES: tuple[Rule, ...] = (
    Rule(
        "loop",
        "fully synthetic, λ = inf",
        ("alemohammad2024mad",),
        lambda loop: math.isinf(_number(loop, "synthetic_ratio", 0)),
    ),
    _chosen("loop", "retraining", "from_scratch", "alemohammad2024mad"),
    _chosen("loop", "real", "fresh", "alemohammad2024mad"),
    _chosen("loop", "memory", "fading", "gillman2024selfcorrecting"),
    _chosen("loop", "memory", "accumulate", "gerstgrasser2024inevitable"),
    _chosen("loop", "memory", "accumulate_subsample", "kazdan2025collapse"),
    _chosen("data set", "source", "BMLmovi", "ghorbani2021movi"),
    # The evaluation of the published loop on MNIST.
    _chosen("classifier", "architecture", "lenet", "lecun1998gradient", "gillman2024selfcorrecting"),
    Rule(
        "classifier",
        "AdamW",
        ("kingma2015adam", "loshchilov2019decoupled"),
        lambda options: options.get("name") == "trained" and options.get("weights") is None,
    ),
    Rule(
        "model",
        "human motion in a self-consuming loop",
        ("gillman2024selfcorrecting",),
        lambda options: options.get("name") == "motion_diffusion",
    ),
    _chosen("model", "schedule", "linear", "ho2020denoising"),
    _chosen("model", "schedule", "cosine", "nichol2021improved"),
    _chosen("model", "prediction", "v", "salimans2022progressive"),
    _chosen("model", "sampler", "ancestral", "ho2020denoising"),
    _chosen("model", "sampler", "ddim", "song2021denoising"),
    Rule(
        "model",
        "fewer sampling steps than timesteps",
        ("lin2024common",),
        lambda options: _number(options, "steps", math.inf) < _number(options, "timesteps", 0),
    ),
    Rule(
        "model",
        "classifier-free guidance",
        ("ho2022classifier",),
        lambda options: _number(options, "guidance_scale", 1) != 1 or (_biased(options) and _conditional(options)),
    ),
    Rule("model", "sampling bias", ("alemohammad2024mad",), _biased),
    _chosen("model", "coupling", "independent", "tong2024improving"),
    _chosen("model", "coupling", "exact_ot", "tong2024improving", "virtanen2020scipy"),
    _chosen("model", "coupling", "target", "lipman2023flow"),
    _chosen("model", "coupling", "variance_preserving", "albergo2023building"),
    _chosen("model", "solver", "dopri5", "dormand1980family", "chen2018neural"),
    Rule("model", "Adam", ("kingma2015adam",), lambda options: "learning_rate" in options),
    Rule(
        "model",
        "weight decay",
        ("loshchilov2019decoupled",),
        lambda options: _number(options, "weight_decay", 0) > 0,
    ),
    Rule(
        "stage",
        "flipped comparisons",
        ("wei2025adversarially",),
        lambda options: _number(options, "flipped", 0) > 0,
    ),
    _chosen("corrector", "method", "soft", "todorov2012mujoco"),
    _chosen("corrector", "method", "physics", "todorov2012mujoco"),
)
