"""``Ideal``: the corrector of the theory, which replaces a sample by a draw from the target."""

from __future__ import annotations

import torch
from torch import Tensor

from sc_loops.correction.targets import Target
from sc_loops.errors import InvalidValue
from sc_loops.samples import Samples


class Ideal:
    """Replaces samples by draws from ``target``. As a stage of strength γ it *is* the idealised correction
    π_γ p = (p + γ p*)/(1 + γ) of Gillman et al. 2024 (arXiv 2402.07087), with p* the target.

    Args:
        target: what is drawn from: ``gaussian``, ``fitted_gaussian``, ``real_samples``, or any callable
            ``(generator, n, condition) -> (n, *shape)``.
    """

    def __init__(self, *, target: Target) -> None:
        self.target = target

    def __call__(self, samples: Samples, generator: torch.Generator) -> Tensor:
        x = self.target(generator, len(samples), samples.condition)
        if not isinstance(x, Tensor) or x.shape != samples.x.shape or not bool(x.isfinite().all()):
            found = f"a tensor of shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
            raise InvalidValue(
                "target",
                found=f"{found} of {len(samples)} draws" if isinstance(x, Tensor) else found,
                expected=f"finite draws of shape {tuple(samples.x.shape)}",
                do="a target maps (generator, n, condition) to (n, *shape)",
            )
        return x
