"""The names that a config may use, by family, and how a name becomes a class or function.

A family is the base class with which constructors annotate a component; ``name`` in a component's section is one
of the names here or the user's own ``package.module:Class``. Modules are imported when they are named.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from sc_loops.correction.corrector import Corrector
from sc_loops.correction.targets import Target
from sc_loops.curation.reward import Reward
from sc_loops.curation.stage import Stage
from sc_loops.data.real import RealData
from sc_loops.errors import UsageError, nearest
from sc_loops.evaluation.metric import Metric
from sc_loops.improving.improvement import Improvement
from sc_loops.models.base import GenerativeModel
from sc_loops.networks.classifier import Classifier
from sc_loops.networks.network import Network
from sc_loops.networks.text import TextEncoder

FAMILIES: dict[Any, dict[str, str]] = {
    RealData: {
        "two_moons": "sc_loops.data.points:two_moons",
        "gaussian_mixture": "sc_loops.data.points:gaussian_mixture",
        "gaussian": "sc_loops.data.points:gaussian",
        "digits": "sc_loops.data.digits:digits",
        "mnist": "sc_loops.data.mnist:mnist",
        "cifar10": "sc_loops.data.cifar10:cifar10",
        "image_archive": "sc_loops.data.image_files:image_archive",
        "image_folder": "sc_loops.data.image_files:image_folder",
        "humanml3d": "sc_loops.data.humanml3d:humanml3d",
        "procedural_motions": "sc_loops.data.procedural:procedural_motions",
    },
    TextEncoder: {
        "clip": "sc_loops.networks.clip:ClipText",
        "latent_semantic": "sc_loops.networks.text_encoders:LatentSemantic",
        "actions": "sc_loops.networks.text_encoders:Actions",
    },
    Classifier: {
        "trained": "sc_loops.networks.classifiers:TrainedClassifier",
        "nearest_mean": "sc_loops.networks.classifiers:NearestMean",
        "vgg11_bn": "sc_loops.networks.vgg:VGG11",
    },
    Reward: {
        "clipped_distance": "sc_loops.curation.rewards:ClippedDistance",
        "class_probability": "sc_loops.curation.rewards:ClassProbability",
        "classifier_confidence": "sc_loops.curation.rewards:ClassifierConfidence",
    },
    Network: {
        "mlp": "sc_loops.networks.mlp:TimeMLP",
        "unet": "sc_loops.networks.unet:UNet",
        "motion_transformer": "sc_loops.networks.motion_transformer:MotionTransformer",
    },
    GenerativeModel: {
        "ddpm": "sc_loops.models.ddpm:DDPM",
        "flow_matching": "sc_loops.models.flow_matching:FlowMatching",
        "edm": "sc_loops.models.edm:EDM",
        "motion_diffusion": "sc_loops.models.motion_diffusion:MotionDiffusion",
        "gaussian": "sc_loops.models.gaussian:Gaussian",
        "kde": "sc_loops.models.kde:KDE",
    },
    Target: {
        "gaussian": "sc_loops.correction.targets:GaussianTarget",
        "fitted_gaussian": "sc_loops.correction.targets:FittedGaussian",
        "real_samples": "sc_loops.correction.targets:RealSamples",
    },
    Corrector: {
        "ideal": "sc_loops.correction.ideal:Ideal",
        "kmeans": "sc_loops.correction.kmeans:NearestCentre",
        "physics": "sc_loops.correction.physics.corrector:Physics",
    },
    Stage: {
        "k_choice": "sc_loops.curation.k_choice:Curate",
        "plural_choice": "sc_loops.curation.plural:PluralCurate",
        "correct": "sc_loops.correction.stage:Correct",
    },
    Improvement: {
        "sims": "sc_loops.improving.sims:SIMS",
        "neon": "sc_loops.improving.neon:Neon",
    },
    Metric: {
        "inception": "sc_loops.evaluation.inception:InceptionDistances",
        "gaussian_distance": "sc_loops.evaluation.gaussian:GaussianDistance",
        "motion_text": "sc_loops.evaluation.motion_text:MotionText",
        "t2m": "sc_loops.evaluation.t2m:T2M",
    },
}

# In these families a plain function is the component itself; in the others it makes the component.
FUNCTIONS = (Reward, Stage, Corrector, Target)


def find(family: Any, name: str, where: str) -> Callable[..., Any]:
    """The class or function that ``name`` stands for in ``family``."""
    path = FAMILIES[family].get(name, name)
    module_name, colon, attribute = path.partition(":")
    if not colon:
        raise UsageError(
            where,
            found=repr(name),
            expected=f"{one_of(family)}, or your own as 'package.module:Name'",
            do=nearest(name, FAMILIES[family]),
        )
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise UsageError(
            where,
            found=f"{name!r}: importing {module_name!r} failed with {type(error).__name__}: {error}",
            expected="a module that can be imported from here",
            do="install it, or run from the directory that holds it",
        ) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        public = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise UsageError(
            where,
            found=f"{attribute!r}, which {module_name} does not have",
            expected="the name of a class or function in that module",
            do=nearest(attribute, public),
        )
    return found


def one_of(family: Any) -> str:
    """``a reward``, ``an improvement``."""
    name = family_name(family)
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def family_name(family: Any) -> str:
    words = {RealData: "data set", GenerativeModel: "model", TextEncoder: "text encoder"}
    return words.get(family, family.__name__.lower())
