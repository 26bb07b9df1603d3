"""One generation's synthetic samples, chunk by chunk: sample, score, transform, observe.

``Synthesis`` knows nothing of Lightning's trainer, ranks or files: ``make(model, t, chunk)`` is a pure function of
the model's weights, the seed, the generation and the chunk, and returns what the pool writes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Literal

import torch
from torch import Tensor, nn

from sc_loops.curation.applied import applied
from sc_loops.curation.reward import Reward
from sc_loops.curation.rewards import checked
from sc_loops.curation.stage import Stage, StageLike, can_take, inputs_of, outputs_of
from sc_loops.data.held_pool import HeldPool
from sc_loops.data.mixture import synthetic_count
from sc_loops.data.pixels import as_float, as_stored
from sc_loops.data.pool import Chunk, Pool
from sc_loops.data.real import RealData
from sc_loops.errors import RunError, UsageError, require
from sc_loops.evaluation.evaluation import Evaluation
from sc_loops.models.base import GenerativeModel
from sc_loops.models.own_methods import sampled
from sc_loops.networks.network import Network
from sc_loops.randomness import generator_for, seed_global
from sc_loops.samples import Observation, Samples

Conditions = Literal["real", "uniform", "in_turn"]
MOST_CHUNKS = 1_000_000  # of a generation, each a file


@dataclass
class Stopwatch:
    """Seconds spent in each phase, on ``samples`` samples; ``on_start`` is told of a phase when it begins."""

    samples: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    on_start: Callable[[str], None] = lambda phase: None

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        self.on_start(phase)
        started = perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + perf_counter() - started


class Synthesis:
    """How the samples of every generation are made.

    Args:
        data: the real data, for the shape of a sample and the frequencies of conditions.
        reward: scores each raw sample once, for curation and evaluation; or None.
        stages: applied in order, each with its own generator.
        evaluation: observes each chunk.
        conditions: classes of a conditional model's samples: drawn from the ``real`` frequencies, ``uniform``, or
            those of the real samples ``in_turn``, each once before any comes again.
        seed: the run's.
    """

    def __init__(
        self,
        data: RealData,
        reward: Reward | None,
        stages: Sequence[StageLike],
        evaluation: Evaluation,
        *,
        conditions: Conditions,
        seed: int,
    ) -> None:
        self.data, self.reward, self.stages, self.evaluation = data, reward, stages, evaluation
        self.conditions, self.seed = conditions, seed

    def make(
        self, model: GenerativeModel, generation: int, chunk: Chunk, clock: Stopwatch
    ) -> tuple[Samples, dict[str, Observation]]:
        """The samples that chunk leaves in the pool, and what was observed of the raw ones.

        Raises:
            RunError: the model, the reward or a stage gave something that is not finite or not what it should be.
        """
        where = f"generation {generation}, chunk {chunk.index}"

        def generator(purpose: str) -> torch.Generator:
            return generator_for(self.seed, purpose, generation, chunk.index, device=model.device)

        def seed(purpose: str) -> None:
            """For what draws from global generators, and may be a user's: other draws than the generator's."""
            seed_global(self.seed, f"global {purpose}", generation, chunk.index)

        with clock("sampling"), counted_evaluations(model) as evaluations:
            condition = self.draw_conditions(model, generation, chunk, generator("condition"))
            seed("sample")
            given = None if condition is None else condition.clone()  # what is kept is what was drawn
            x = sampled(model, generator("sample"), chunk.size, given, f" in {where}")
            self._check_samples(x, chunk.size, where)  # waits for the device, so it belongs to the sampling
            x = as_float(self._stored(x, condition))  # what is scored and measured is what is kept
        index = torch.arange(chunk.start, chunk.start + chunk.size, device=x.device)
        raw = Samples(x, condition, {"index": index})
        if self.reward is not None:
            with clock("scoring"):
                seed("reward")
                raw = raw.with_columns(reward=checked(self.reward, x, f"the reward in {where}", error=RunError))
        with clock("curating"):
            kept, noted, active = raw, {}, 0
            for number, stage in enumerate(self.stages):
                # A stage that does nothing does not change what the others draw either.
                draws, name = generator(f"stage {active}"), f"stage {number}"
                seed(f"stage {active}")
                kept, noted[name] = applied(stage, kept, draws, f"{name} in {where}", RunError)
                active += not (isinstance(stage, Stage) and stage.is_identity)
        with clock("evaluating"):
            seed("evaluate")
            observed = self.evaluation.observe(raw.clone(), kept)  # a metric may change raw samples in place
        observed |= {name: note for name, note in noted.items() if note}
        observed["loop"] = {"network_evaluations": torch.tensor([evaluations.total])}
        return replace(kept, x=self._stored(kept.x, kept.condition)), observed

    def summarise(self, pool: Pool | HeldPool) -> dict[str, float]:
        """The numbers of a generation: what was measured, and what the stages say of their work. Of several stages of
        one kind, the keys of all but the first end in the stage's number."""
        seed_global(self.seed, "global summarise", pool.manifest["generation"])
        summary = self.evaluation.summarise(pool)
        for number, stage in enumerate(self.stages):
            observations = pool.observations(f"stage {number}")
            if isinstance(stage, Stage) and observations:
                found = stage.summarise(observations)
                summary |= {f"{key}/{number}" if key in summary else key: value for key, value in found.items()}
        return summary

    def check(self, model: GenerativeModel) -> None:
        """Raise ``UsageError`` for a conditional model without labels, or under captions that are held out, and for
        conditions of a model that has none."""
        ignored = not model.conditional and self.conditions != "real"
        require(not ignored, "conditions", self.conditions, "real, since the model is not conditional")
        held_out = model.conditional and self.conditions == "uniform" and self.data.motions is not None
        expected = "real or in_turn: uniform would sample under held-out captions too"
        require(not held_out, "conditions", self.conditions, expected)
        if model.conditional and self.data.train.condition is None:
            raise UsageError(
                "model",
                found=f"a class-conditional model on '{self.data.name}', which has no labels",
                expected="labelled data, or a network with class_conditional=false",
            )

    def preview(self, model: GenerativeModel, generation: int, n: int) -> Samples:
        """n samples from the same noise in every generation, the classes of a conditional model in turn.

        Raises:
            RunError: see ``make``.
        """
        where = f"generation {generation}, preview"
        condition = None
        if model.conditional:
            condition = torch.arange(n, device=model.device) % self.data.num_classes
            if self.data.motions is not None:  # captions of the clips that are trained on
                assert self.data.train.condition is not None
                condition = self.data.train.condition.to(model.device)[condition % len(self.data.train)]
        seed_global(self.seed, "global preview")
        generator = generator_for(self.seed, "preview", device=model.device)
        x = sampled(model, generator, n, condition, f" in {where}")
        self._check_samples(x, n, where)
        return Samples(self._stored(x, condition), condition)

    def _stored(self, x: Tensor, condition: Tensor | None) -> Tensor:
        motions = self.data.motions
        if motions is not None and condition is not None:  # a model of other data knows no lengths
            x = x * motions.mask(condition, x.shape[1]).to(x.device)[..., None]
        return as_stored(x, like=self.data.train.x)

    def draw_conditions(
        self, model: GenerativeModel, generation: int, chunk: Chunk, generator: torch.Generator
    ) -> Tensor | None:
        """The conditions ``(N,)`` of ``chunk``, or None for an unconditional model."""
        if not model.conditional:
            return None
        n, device = chunk.size, model.device
        if self.conditions == "uniform":
            return torch.randint(self.data.num_classes, (n,), generator=generator, device=device)
        labels = self.data.train.condition
        assert labels is not None  # checked when the loop was set up
        labels = labels.to(device)
        if self.conditions == "in_turn":
            return labels[self._in_turn(generation, chunk).to(device)]
        return labels[torch.randint(len(labels), (n,), generator=generator, device=device)]

    def _in_turn(self, generation: int, chunk: Chunk) -> Tensor:
        """Which real samples' turn it is in ``chunk``: a fresh order for every pass over them, on the CPU so that it
        is the same everywhere."""
        real, end = len(self.data.train), chunk.start + chunk.size
        passes = range(chunk.start // real, -(-end // real))
        orders = [
            torch.randperm(real, generator=generator_for(self.seed, "in turn", generation, number))
            for number in passes
        ]
        return torch.cat(orders)[chunk.start - passes[0] * real :][: chunk.size]

    def _check_samples(self, x: Tensor, n: int, where: str) -> None:
        expected = (n, *self.data.shape)
        is_tensor = isinstance(x, Tensor)
        pixels = is_tensor and x.dtype == torch.uint8 and len(self.data.shape) == 3
        if not is_tensor or tuple(x.shape) != expected or not (x.is_floating_point() or pixels):
            raise RunError(
                f"the model's samples in {where}",
                found=f"{x.dtype} of shape {tuple(x.shape)}" if is_tensor else f"a {type(x).__name__}",
                expected=f"floats of shape {expected}: n samples shaped like the real data",
                do="correct the model's sample() method",
            )
        bad = int((~torch.isfinite(x)).flatten(1).any(1).sum())
        if bad:
            raise RunError(
                f"the model's samples in {where}",
                found=f"{bad} of {n} samples hold NaN or infinity",
                expected="finite samples",
                do="lower the learning rate, clip gradients (trainer.gradient_clip_val) or take more sampling steps",
            )


def plan_chunks(
    *,
    real: int,
    synthetic_ratio: float,
    stages: Sequence[StageLike],
    samples: int | None,
    chunk_size: int,
) -> list[Chunk]:
    """The chunks of raw samples that a generation draws.

    Unless ``samples`` is given, as many are drawn as leave floor(λ n) samples in the pool, and n for λ = 0 (which
    needs none, but has something to evaluate) and for λ = inf.

    Raises:
        InvalidValue: a chunk is too small for the stages, or there are too many of them.
    """
    drawn = samples
    if samples is None:
        fixed = synthetic_ratio in (0, math.inf)
        wanted = real if fixed else max(1, synthetic_count(real, synthetic_ratio))
        chunks, rest = divmod(wanted, max(1, outputs_of(stages, chunk_size)))
        samples = chunks * chunk_size + inputs_of(stages, rest)
    option, value = ("synthetic_ratio", synthetic_ratio) if drawn is None else ("samples", drawn)
    few = f"so few samples that at most {MOST_CHUNKS} chunks hold them; raise chunk_size for more"
    require(samples <= MOST_CHUNKS * chunk_size, option, value, few)
    starts = range(0, samples, chunk_size)
    planned = [Chunk(i, start, min(chunk_size, samples - start)) for i, start in enumerate(starts)]
    for option, chunk in (("chunk_size", planned[0]), ("samples", planned[-1])):
        require(
            can_take(stages, chunk.size),
            option,
            chunk_size if option == "chunk_size" else samples,
            "chunks that the stages can work on: K-choice needs as many samples as choices, and chunk "
            f"{chunk.index} holds {chunk.size}",
        )
    return planned


@dataclass
class EvaluationCount:
    """How many samples went through a network."""

    total: int = 0


@contextmanager
def counted_evaluations(model: nn.Module) -> Iterator[EvaluationCount]:
    """Count the samples that pass through the busiest child module of ``model`` (its network).

    A call on a batch of 2N, as guidance makes, counts 2N; so total / N is the network evaluations per sample. A
    network may count more than once: see ``Network.evaluations``.
    """
    count = EvaluationCount()
    rows: dict[nn.Module, int] = {}

    def hook(module: nn.Module, args: tuple[object, ...], output: object) -> None:
        if isinstance(output, Tensor):
            each = module.evaluations if isinstance(module, Network) else 1
            rows[module] = rows.get(module, 0) + each * output.shape[0]
            count.total = max(rows.values())

    handles = [child.register_forward_hook(hook) for child in model.children()]
    try:
        yield count
    finally:
        for handle in handles:
            handle.remove()
