"""``Stage``: one transformation between sampling and the pool."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from sc_loops.curation.reward import Reward
from sc_loops.errors import within
from sc_loops.samples import Observation, Samples


class Stage(ABC):
    """A callable from Samples and a random generator to Samples, applied to one chunk at a time.

    A plain function of the same signature that keeps the number of samples is a stage too; a class is
    needed only to say how many come out, so that the loop can draw as many samples as the pool needs. Another number
    than that is refused.

    What it is given is a copy, which it may change in place. ``x`` is float32, and kept as that if other floats come
    out. The condition comes out as it came in: None, or of the same type. A stage draws at random from the generator,
    which is seeded for each chunk, as the global generators of torch, numpy and Python are. It remembers nothing from
    one chunk to the next, which another process may transform. Before a run, stages are tried in turn on a few real
    samples; see ``check``.

    Attributes:
        fewest: the fewest samples that a chunk may hold.
        varies: whether how many come out depends on which samples go in, and not on their number alone: ``outputs``
            then says about how many.
        is_identity: whether it gives back what it gets, with the options that it has.
    """

    fewest: int = 1
    varies: bool = False
    is_identity: bool = False

    @abstractmethod
    def __call__(self, samples: Samples, generator: torch.Generator) -> Samples:
        """Transform one chunk, without gradients. ``generator`` lives on the device of ``samples``.

        Their columns are ``index`` (the number of the raw sample within its generation) and, if the loop has a
        reward, ``reward``, with what stages before this one left of them. A stage that changes x drops the reward,
        and one that changes how many samples there are selects with ``samples[positions]``, which keeps columns.
        """

    def prepare(self, total: int | None, scored_by: Reward | None) -> None:  # noqa: B027 (most need none)
        """Called once before the loop starts.

        Args:
            total: the number of raw samples of a generation where the config gives one, else None.
            scored_by: the reward whose scores the raw samples carry as the column ``reward``, if any.
        """

    def load(self, cache: Path) -> None:  # noqa: B027 (most need none)
        """Do what is expensive once, before the loop starts; what takes long is kept in the directory ``cache``. A
        stage that is called without does without the cache."""

    def check(self, real: Samples) -> None:  # noqa: B027 (most need none)
        """Try the stage on a few ``real`` samples, before the loop starts.

        A stage that does not override this is called with real samples, 8 or as many more as the stages need, and
        must return what it must in a run. Override it where that takes long or says little.

        Raises:
            UsageError: it cannot work.
        """

    def observed(self, samples: Samples, generator: torch.Generator) -> tuple[Samples, Observation]:
        """What calling the stage returns, and what is to be recorded of it: small tensors, as a metric's are."""
        return self(samples, generator), {}

    def observed_bytes(self, inputs: int) -> int:
        """About how many bytes of disk the records of ``inputs`` samples of a generation take, beyond what each chunk
        takes; 0 where that is little."""
        return 0

    def summarise(self, observations: Sequence[Observation]) -> dict[str, float]:
        """The numbers of a generation, from what was observed in its chunks, in order."""
        return {}

    def outputs(self, inputs: int) -> int:
        """How many samples come out of a chunk of ``inputs``; about how many, if that ``varies``."""
        return inputs

    def inputs(self, outputs: int) -> int:
        """The fewest samples that must go in for ``outputs`` to come out."""
        return outputs


StageLike = Stage | Callable[[Samples, torch.Generator], Samples]


def outputs_of(stages: Sequence[StageLike], inputs: int) -> int:
    """How many of ``inputs`` raw samples come out of all ``stages``."""
    for stage in stages:
        inputs = stage.outputs(inputs) if isinstance(stage, Stage) else inputs
    return inputs


def stages_observed_bytes(stages: Sequence[StageLike], chunks: Sequence[int]) -> int:
    """About how many bytes of disk ``stages`` record of one generation's raw samples, in chunks of these sizes."""
    counts = (sum(outputs_of(stages[:number], size) for size in chunks) for number in range(len(stages)))
    pairs = zip(stages, counts, strict=True)
    return sum(stage.observed_bytes(count) for stage, count in pairs if isinstance(stage, Stage))


def can_take(stages: Sequence[StageLike], inputs: int) -> bool:
    """Whether a chunk of ``inputs`` raw samples is large enough for each of ``stages`` in turn."""
    for number, stage in enumerate(stages):
        if isinstance(stage, Stage) and outputs_of(stages[:number], inputs) < stage.fewest:
            return False
    return True


def inputs_of(stages: Sequence[StageLike], outputs: int) -> int:
    """The fewest raw samples of which ``outputs`` come out of all ``stages``."""
    for stage in reversed(stages):
        outputs = stage.inputs(outputs) if isinstance(stage, Stage) else outputs
    return outputs


def prepare_stages(stages: Sequence[StageLike], total: int | None, scored_by: Reward | None) -> None:
    """Prepare ``stages`` for ``total`` raw samples that ``scored_by`` has scored; see ``Stage.prepare``."""
    for number, stage in enumerate(stages):
        if isinstance(stage, Stage):
            with within(f"stages.{number}"):
                stage.prepare(total, scored_by)
