"""``Corrector``: a map from samples to samples that are more likely under the real distribution; and the check of
what it returns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from sc_loops.errors import Complaint
from sc_loops.samples import Samples


@runtime_checkable
class Corrector(Protocol):
    """A callable from Samples and a generator to what they become. Knows nothing of models; any function will do.

    It is called without gradients on samples that were picked to be corrected, on their device, with their
    ``x (N, *shape)`` and the ``condition`` they were sampled under. It returns one of

    * the corrected ``x``, of the same shape, or Samples with it;
    * a pair of either and a success mask ``(N,)`` bool; what happens where it is false is the stage's option.

    What it is given is a copy, which it may change in place. It draws at random from the generator, which is on the
    device of the samples and is seeded for each chunk, as the global generators of torch, numpy and Python are; it
    remembers nothing from one chunk to the next, which another process may correct. Before a run it is tried on a few
    real samples.
    """

    def __call__(self, samples: Samples, generator: torch.Generator, /) -> Any: ...


@runtime_checkable
class PreparedCorrector(Corrector, Protocol):
    """A corrector with something expensive to do first."""

    def prepare(self, cache: Path) -> None:
        """Do it once, before the loop starts; what takes long is kept in the directory ``cache``. A corrector that is
        called without does without the cache."""


@runtime_checkable
class ReportingCorrector(Corrector, Protocol):
    """A corrector that says of each sample what it did: it returns Samples (alone or in the pair) with columns.

    These go into the pool beside the samples. One that was not picked has nan there, -1 or false.

    Attributes:
        reports: the columns by name, each ``(N,)`` of this type.
    """

    reports: Mapping[str, torch.dtype]

    def observe(self, columns: dict[str, Tensor]) -> Tensor:
        """``(m,)`` float64, of the columns ``(k,)`` of a chunk's picked samples: what is added up over the chunks."""
        ...

    def summarise(self, sums: Tensor) -> dict[str, float]:
        """The numbers of a generation, ``correction/...``, from the sum of what ``observe`` returned."""
        ...


@dataclass(frozen=True, eq=False)
class Corrected:
    """What a corrector returned.

    Attributes:
        x: ``(N, *shape)`` float32.
        success: ``(N,)`` bool; x means nothing where it is false.
        columns: those of a ``ReportingCorrector``.
    """

    x: Tensor
    success: Tensor
    columns: dict[str, Tensor] = field(default_factory=dict)


def unpicked(n: int, reports: Mapping[str, torch.dtype], device: torch.device) -> dict[str, Tensor]:
    """The columns ``reports`` of ``n`` samples that were not corrected."""

    def fill(dtype: torch.dtype) -> float | int | bool:
        return math.nan if dtype.is_floating_point else False if dtype == torch.bool else -1

    return {name: torch.full((n,), fill(dtype), dtype=dtype, device=device) for name, dtype in reports.items()}


def corrected(
    corrector: Corrector, samples: Samples, generator: torch.Generator, where: str, error: type[Complaint]
) -> Corrected:
    """What ``corrector`` makes of ``samples``.

    Args:
        where: what the message names as its place.
        error: raised when the corrector raises (which it is chained to) or returns something else:
            ``UsageError`` before a run, ``RunError`` within.
    """
    shape = ", ".join(map(str, samples.x.shape))
    expected = f"x of shape ({shape}), finite where it succeeded, and optionally a success mask ({len(samples)},)"
    do = "a corrector maps (Samples, generator) to x, to Samples, or to a pair of either and a mask"

    def require(condition: bool, found: str) -> None:
        if not condition:
            raise error(where, found=found, expected=expected, do=do)

    try:
        with torch.no_grad():
            result = corrector(samples.clone(), generator)
    except Complaint:
        raise
    except Exception as problem:
        found = f"it raised {type(problem).__name__}: {problem}"
        raise error(where, found=found, expected=expected, do=do) from problem
    result, success = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    x = result.x if isinstance(result, Samples) else result
    require(isinstance(x, Tensor), f"a {type(x).__name__}")
    require(x.shape == samples.x.shape and x.is_floating_point(), f"x of shape {tuple(x.shape)}, {x.dtype}")
    if success is None:
        success = torch.ones(len(x), dtype=torch.bool, device=x.device)
    require(isinstance(success, Tensor), f"a {type(success).__name__} as the mask")
    require(
        success.shape == (len(x),) and success.dtype == torch.bool, f"a mask {tuple(success.shape)} {success.dtype}"
    )
    bad = int((~x.flatten(1).isfinite().all(dim=1) & success).sum())
    require(not bad, f"{bad} of {len(x)} samples with NaN or infinity, which count as corrected")
    columns: dict[str, Tensor] = {}
    if isinstance(corrector, ReportingCorrector):
        columns = result.columns if isinstance(result, Samples) else {}
        missing = [f"{k} {dtype}" for k, dtype in corrector.reports.items() if not _is(columns.get(k), dtype, len(x))]
        require(not missing, f"no columns ({len(x)},) of {', '.join(missing)}, which it says it reports")
        columns = {name: columns[name] for name in corrector.reports}
    return Corrected(x.float(), success, columns)


def _is(column: Tensor | None, dtype: torch.dtype, n: int) -> bool:
    return isinstance(column, Tensor) and column.shape == (n,) and column.dtype == dtype
