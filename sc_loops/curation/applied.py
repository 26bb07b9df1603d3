"""``applied``: what a stage makes of a chunk, held against what is asked of it; and the trial of all before a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sc_loops.curation.reward import Reward
from sc_loops.curation.rewards import checked
from sc_loops.curation.stage import Stage, StageLike, inputs_of, outputs_of
from sc_loops.data.real import RealData
from sc_loops.errors import Complaint, RunError, UsageError, within
from sc_loops.randomness import generator_for, global_generators_kept, seed_global
from sc_loops.samples import Observation, Samples

TRIED = 8  # real samples, or as many more as a stage needs


def applied(
    stage: StageLike, samples: Samples, generator: torch.Generator, where: str, error: type[Complaint]
) -> tuple[Samples, Observation]:
    """What ``stage`` makes of ``samples``, with x of their type, and what is to be recorded of it.

    Args:
        stage: is called with a copy, so that it may change that in place.
        samples: one chunk, with the column ``index``.
        generator: on the device of ``samples``.
        where: what the message names as its place.
        error: raised when the stage raises (which it is chained to) or returns something else: ``UsageError`` before
            a run, ``RunError`` within.
    """
    given = samples.clone()
    note: Observation = {}
    try:
        if isinstance(stage, Stage):
            kept, note = stage.observed(given, generator)
        else:
            kept = stage(given, generator)
    except RunError as problem:
        place = f"{problem.where} of {where}"
        raise error(place, found=problem.found, expected=problem.expected, do=problem.do) from problem
    except Complaint:
        raise
    except Exception as problem:
        raise error(
            where,
            found=f"it raised {type(problem).__name__}: {problem}",
            expected="a stage maps (Samples, generator) to Samples",
            do="correct the stage; one that needs more samples than it got says so in Stage.fewest",
        ) from problem
    return _as_asked(stage, samples, kept, where, error), note


def _as_asked(stage: StageLike, samples: Samples, kept: object, where: str, error: type[Complaint]) -> Samples:
    """What is kept of ``kept``, which ``stage`` made of ``samples``; ``error`` where it may not be that."""

    def require(condition: bool, found: str, expected: str, do: str = "correct the stage") -> None:
        if not condition:
            raise error(where, found=found, expected=expected, do=do)

    n, shape = len(samples), ", ".join(map(str, samples.x.shape[1:]))
    expected = f"Samples with x of shape (N, {shape})"
    if not isinstance(kept, Samples) or not isinstance(kept.x, Tensor):
        found = f"x that is a {type(kept.x).__name__}" if isinstance(kept, Samples) else f"a {type(kept).__name__}"
        raise error(where, found=found, expected=expected, do="correct the stage")
    require(kept.x.shape[1:] == samples.x.shape[1:], f"x of shape {tuple(kept.x.shape)}", expected)
    require(kept.x.is_floating_point(), f"x of {kept.x.dtype}", f"x of floats, as it came in: {samples.x.dtype}")
    kept = replace(kept, x=kept.x.to(samples.x.dtype))
    require(bool(torch.isfinite(kept.x).all()), "NaN or infinity in x", "finite samples")
    require((samples.condition is None) == (kept.condition is None), "conditions lost or added", "as they came in")
    if samples.condition is not None and kept.condition is not None:
        same = kept.condition.shape == kept.x.shape[:1] and kept.condition.dtype == samples.condition.dtype
        found = f"a condition of {kept.condition.dtype} and shape {tuple(kept.condition.shape)}"
        require(same, found, f"{samples.condition.dtype} of shape ({len(kept)},), as it came in")
    says = outputs_of([stage], n)
    require(
        len(kept) == says or (isinstance(stage, Stage) and stage.varies),
        f"{len(kept)} samples of {n}",
        f"{says}, as its outputs({n}) says" if isinstance(stage, Stage) else f"{n}: a function keeps the number",
        "subclass Stage, and say in outputs and inputs how many come out, so that the loop can draw as many as the "
        "pool needs; where which samples go in decides that, set varies = True",
    )
    if "index" not in kept.columns:
        found = f"{len(kept)} samples of {n} without the column 'index'"
        require(len(kept) == n, found, "the columns of what was kept", "select with samples[positions]")
        kept = kept.with_columns(index=samples.columns["index"])
    return kept


def check_stages(
    stages: Sequence[StageLike],
    data: RealData,
    reward: Reward | None = None,
    *,
    conditional: bool = False,
    device: torch.device | str = "cpu",
) -> None:
    """Try ``stages`` in turn on a few real samples, as in a run whose ``reward`` has scored them.

    A stage with a ``check`` of its own is only asked that; the next one gets what it would have got. So it does where
    a stage leaves too few.

    Args:
        stages: prepared, and loaded if they are to use a cache.
        data: where the samples are from.
        reward: of the run.
        conditional: whether samples have conditions, which those of an unconditional model have not.
        device: of the run's samples.

    Raises:
        UsageError: one cannot work; the message names it.
    """
    tried = [stage for stage in stages if not _checks_itself(stage)]
    n = max([TRIED, *(inputs_of(tried[:i], _fewest(stage)) for i, stage in enumerate(tried))])
    with global_generators_kept(), torch.no_grad():
        seed_global(0, "trial")
        real = samples = _some(data, n, conditional).to(device)
        if tried and reward is not None:
            scores = checked(reward, real.x, f"the reward, tried on {n} real samples", UsageError)
            real = samples = real.with_columns(reward=scores)
        for number, stage in enumerate(stages):
            with within(f"stages.{number}"):
                if isinstance(stage, Stage) and _checks_itself(stage):
                    stage.check(replace(real[:TRIED].clone(), columns={}))
                    continue
                samples = samples if len(samples) >= _fewest(stage) else real
                generator = generator_for(0, "trial", number, device=real.x.device)
                where = f"stage {number}, tried on {len(samples)} real samples"
                samples, _ = applied(stage, samples, generator, where, UsageError)


def _some(data: RealData, n: int, conditional: bool) -> Samples:
    """``n`` real samples as floats, with the column ``index``; of fewer some come again."""
    index = torch.arange(n)
    some = data.train[index % len(data.train)].as_float()
    return replace(some, condition=some.condition if conditional else None, columns={"index": index})


def _checks_itself(stage: StageLike) -> bool:
    return isinstance(stage, Stage) and type(stage).check is not Stage.check


def _fewest(stage: StageLike) -> int:
    """The fewest samples that ``stage`` is called with."""
    return max(1, stage.fewest) if isinstance(stage, Stage) else 1
