"""Self-consuming generative models: train, sample, curate or correct, and train again.

The public names live in the modules listed here and are imported when they are first used, so that
``import sc_loops`` and ``--help`` stay quick.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "SelfConsumingLoop": "sc_loops.loop",
    "LoopDataModule": "sc_loops.data.module",
    "Training": "sc_loops.data.mixture",
    "RealData": "sc_loops.data.real",
    "two_moons": "sc_loops.data.points",
    "gaussian_mixture": "sc_loops.data.points",
    "gaussian": "sc_loops.data.points",
    "digits": "sc_loops.data.digits",
    "mnist": "sc_loops.data.mnist",
    "cifar10": "sc_loops.data.cifar10",
    "image_archive": "sc_loops.data.image_files",
    "image_folder": "sc_loops.data.image_files",
    "Samples": "sc_loops.samples",
    "GenerativeModel": "sc_loops.models.base",
    "ClosedFormModel": "sc_loops.models.closed_form",
    "DDPM": "sc_loops.models.ddpm",
    "FlowMatching": "sc_loops.models.flow_matching",
    "EDM": "sc_loops.models.edm",
    "Network": "sc_loops.networks.network",
    "TimeMLP": "sc_loops.networks.mlp",
    "UNet": "sc_loops.networks.unet",
    "Classifier": "sc_loops.networks.classifier",
    "TrainedClassifier": "sc_loops.networks.classifiers",
    "NearestMean": "sc_loops.networks.classifiers",
    "VGG11": "sc_loops.networks.vgg",
    "Gaussian": "sc_loops.models.gaussian",
    "KDE": "sc_loops.models.kde",
    "Curate": "sc_loops.curation.k_choice",
    "PluralCurate": "sc_loops.curation.plural",
    "Correct": "sc_loops.correction.stage",
    "Corrector": "sc_loops.correction.corrector",
    "ReportingCorrector": "sc_loops.correction.corrector",
    "Keep": "sc_loops.disk",
    "Improvement": "sc_loops.improving.improvement",
    "SIMS": "sc_loops.improving.sims",
    "Neon": "sc_loops.improving.neon",
    "Stage": "sc_loops.curation.stage",
    "Reward": "sc_loops.curation.reward",
    "ClippedDistance": "sc_loops.curation.rewards",
    "ClassProbability": "sc_loops.curation.rewards",
    "ClassifierConfidence": "sc_loops.curation.rewards",
    "Evaluation": "sc_loops.evaluation.evaluation",
    "Metric": "sc_loops.evaluation.metric",
    "InceptionDistances": "sc_loops.evaluation.inception",
    "Observer": "sc_loops.reporting.observer",
    "Terminal": "sc_loops.reporting.terminal",
    "HtmlReport": "sc_loops.reporting.report",
    "WandbDashboard": "sc_loops.reporting.dashboard",
    "Run": "sc_loops.run",
    "UsageError": "sc_loops.errors",
    "RunError": "sc_loops.errors",
    "Stopped": "sc_loops.errors",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sc_loops' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
