"""Repeated evaluation of a generation, kept on disk after every repeat."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sc_loops.data.files import checksum, read_json, write_json
from sc_loops.data.motions import Motions
from sc_loops.errors import RunError, require
from sc_loops.evaluating.opened import Generation
from sc_loops.evaluation.classes import ClassShares
from sc_loops.evaluation.metric import Metric
from sc_loops.evaluation.motion_evaluator import MotionEvaluator
from sc_loops.evaluation.retrieval import multimodality
from sc_loops.evaluation.rewards import RewardStatistics
from sc_loops.models.base import GenerativeModel
from sc_loops.randomness import generator_for
from sc_loops.samples import Samples

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """How much is sampled.

    Attributes:
        repeats: how often.
        samples: of each repeat; None is one for each held-out clip.
        captions: held-out captions for the multimodality, at most; 0 leaves it out.
        motions: of each of these captions.
    """

    repeats: int = 20
    samples: int | None = None
    captions: int = 100
    motions: int = 30

    def __post_init__(self) -> None:
        require(self.repeats >= 1, "--repeats", self.repeats, "an integer of at least 1")
        require(self.samples is None or self.samples >= 2, "--samples", self.samples, "an integer of at least 2")
        require(self.captions >= 0, "--captions", self.captions, "an integer of at least 0")
        require(self.motions >= 2, "--motions", self.motions, "an integer of at least 2")


def evaluate(generation: Generation, amounts: Amounts) -> tuple[Path, Record]:
    """Evaluate ``generation`` as often as ``amounts`` says, beginning where an earlier command with the same options
    stopped.

    Returns:
        The file and its content: ``repeats``, a dictionary of metrics for each; ``multimodality``, by space the mean
        over captions, its standard error and their number; what was evaluated.

    Raises:
        RunError: the model gave motions that are not finite, or the file cannot be written.
    """
    about = _about(generation, amounts)
    suffix = f"-{about['config'][:6]}" if generation.changed else ""
    path = generation.run.path / f"evaluation-{generation.number}{suffix}.json"
    record: Record = {**about, "repeats": [], "multimodality": {}}
    with suppress(OSError, ValueError):  # absent or damaged
        found = read_json(path)
        if {key: found.get(key) for key in about} == about:
            record = found
    lacking = range(len(record["repeats"]), amounts.repeats)
    spreads = amounts.captions > 0 and bool(_evaluators(generation)) and not record["multimodality"]
    if not lacking and not spreads:
        return path, record
    with generation.model() as model:
        for repeat in lacking:
            record["repeats"].append(_measured(generation, model, about["samples"], repeat))
            write_json(path, record)
            print(f"repeat {repeat + 1} of {amounts.repeats}", file=sys.stderr, flush=True)
        if spreads:
            record["multimodality"] = _multimodality(generation, model, amounts)
            write_json(path, record)
    return path, record


def _about(generation: Generation, amounts: Amounts) -> Record:
    """What the numbers depend on; not how many repeats there are, so that more can be added."""
    resolved = generation.resolved
    sections = {key: resolved[key] for key in ("seed", "data", "text", "model", "evaluation")}
    # A chunk has its own noise.
    sections |= {"chunk_size": resolved["loop"]["chunk_size"], "precision": resolved["trainer"]["precision"]}
    return {
        "generation": generation.number,
        "checkpoint": checksum(generation.run.checkpoint(generation.number)),
        "config": hashlib.sha256(json.dumps(sections, sort_keys=True).encode()).hexdigest()[:16],
        "samples": amounts.samples or len(generation.experiment.data.test),
        "captions": amounts.captions,
        "motions": amounts.motions,
    }


def _metrics(generation: Generation) -> list[Metric]:
    """Those of the config that need nothing but the samples."""
    metrics = generation.experiment.evaluation.metrics
    return [metric for metric in metrics if not isinstance(metric, (ClassShares, RewardStatistics))]


def _evaluators(generation: Generation) -> list[MotionEvaluator]:
    return [metric for metric in _metrics(generation) if isinstance(metric, MotionEvaluator)]


def _measured(generation: Generation, model: GenerativeModel, samples: int, repeat: int) -> dict[str, float]:
    """The metrics of one repeat: each held-out clip in turn, in random order, under one of its captions at random."""
    data, metrics = generation.experiment.data, _metrics(generation)
    assert data.motions is not None
    assert data.test.condition is not None
    draws = generator_for(generation.experiment.seed, "motion-evaluate captions", generation.number, repeat)
    passes = -(-samples // len(data.test))
    order = torch.cat([torch.randperm(len(data.test), generator=draws) for _ in range(passes)])[:samples]
    condition = _any_caption(data.motions, data.test.condition[order], draws)
    observed: dict[str, list[dict[str, Tensor]]] = {metric.name: [] for metric in metrics}
    for chunk in _sampled(generation, model, condition, repeat):
        for metric in metrics:
            observation = metric.observe(chunk)
            observed[metric.name].append({name: tensor.cpu() for name, tensor in observation.items()})
    return {k: v for metric in metrics for k, v in metric.summarise(observed[metric.name]).items()}


def _multimodality(generation: Generation, model: GenerativeModel, amounts: Amounts) -> dict[str, list[float]]:
    """For each space the mean, its standard error and the number of captions: see ``retrieval.multimodality``."""
    data, evaluators = generation.experiment.data, _evaluators(generation)
    assert data.test.condition is not None
    draws = generator_for(generation.experiment.seed, "motion-evaluate multimodality", generation.number)
    rows = data.test.condition[torch.randperm(len(data.test), generator=draws)[: amounts.captions]]
    condition = rows.repeat_interleave(amounts.motions)
    features: dict[str, list[Tensor]] = {evaluator.name: [] for evaluator in evaluators}
    for chunk in _sampled(generation, model, condition, -1):
        for evaluator in evaluators:
            features[evaluator.name].append(evaluator.features_of(chunk).cpu())
    captions = evaluators[0].captions_of(condition)
    return {space: list(multimodality(torch.cat(own), captions)) for space, own in features.items()}


def _sampled(generation: Generation, model: GenerativeModel, condition: Tensor, repeat: int) -> Iterator[Samples]:
    """Motions under captions of rows ``condition (N,)``, a chunk of the run's size at a time."""
    loop, start = generation.experiment.loop, 0
    for number, rows in enumerate(condition.split(loop.chunk_size)):
        draws = generator_for(loop.seed, "motion-evaluate", generation.number, repeat, number, device=model.device)
        x = model.sample(draws, len(rows), rows.to(model.device) if model.conditional else None)
        if not torch.isfinite(x).all():
            found = "motions that hold NaN or infinity"
            raise RunError(f"generation {generation.number}", found=found, expected="finite motions")
        index = torch.arange(start, start + len(rows), device=model.device)
        yield Samples(x.float(), rows.to(model.device), {"index": index})
        start += len(rows)


def _any_caption(motions: Motions, rows: Tensor, draws: torch.Generator) -> Tensor:
    """``(N,)``: for each of ``rows (N,)`` that of a caption of the same clip, each as likely."""
    count = motions.count[rows]
    return motions.first[rows] + (torch.rand(len(rows), generator=draws) * count).long().clamp(max=count - 1)
