"""``FlowMatching``: a velocity field learnt by conditional flow matching, sampled by solving an ODE."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torchcfm.conditional_flow_matching import (
    ConditionalFlowMatcher,
    TargetConditionalFlowMatcher,
    VariancePreservingConditionalFlowMatcher,
)

from sc_loops.data.real import RealData
from sc_loops.errors import require
from sc_loops.models.base import GenerativeModel, SamplingPrecision
from sc_loops.models.weighting import weighted_mean
from sc_loops.networks.network import Network, predicted
from sc_loops.samples import Pairing, Samples
from sc_loops.sampling.bias import Guiding
from sc_loops.sampling.coupling import optimal_permutation
from sc_loops.sampling.guidance import guided, training_labels
from sc_loops.sampling.solvers import Solver, solve

Coupling = Literal["independent", "exact_ot", "target", "variance_preserving"]

MATCHERS = {
    "independent": ConditionalFlowMatcher,
    "exact_ot": ConditionalFlowMatcher,  # of items that are paired already
    "target": TargetConditionalFlowMatcher,
    "variance_preserving": VariancePreservingConditionalFlowMatcher,
}


class FlowMatching(GenerativeModel):
    """Conditional flow matching (Lipman et al. 2023, Tong et al. 2024) with torchcfm's probability paths.

    Noise is at t = 0 and data at t = 1; the loss is the mean squared error of the velocity.

    Args:
        network: predicts the velocity.
        coupling: how noise x_0 and data x_1 are paired and joined: ``independent`` (I-CFM) and ``exact_ot``
            (OT-CFM: paired by optimal transport in the batch) of Tong et al. 2024, both on straight lines;
            ``target`` (Lipman et al. 2023); ``variance_preserving`` (Albergo and Vanden-Eijnden 2023).
        sigma: width of the path around its mean.
        ot_with_replacement: for ``exact_ot``, draw pairs from the plan with replacement, as published, which
            leaves about 37 % of a batch out for duplicates. Otherwise the plan, a permutation, is used.
        ot_block: for ``exact_ot``, couple within blocks of this many items of a batch; None is the whole batch.
            Cheaper, and a weaker coupling, so another method: paths cross more. A block of 1 is ``independent``.
        solver: see ``sc_loops.sampling.solvers``.
        steps: of a solver with fixed steps.
        tolerance: of ``dopri5``, relative and absolute.
        clip: clamp the samples to [-clip, clip] when they are done; for images 1.
        condition_dropout: probability of training without the class.
        guidance_scale: of classifier-free guidance (Ho and Salimans 2022); 1 is none, at half the cost.
        sampling_bias: b in (0, 1], 1 is none: with a conditional network the guidance scale 1/b, else all noise times
            sqrt(b), see ``Guiding``. Alemohammad et al. 2024 call it λ; it is not the synthetic ratio.
        learning_rate, warmup_steps, betas, weight_decay, ema_decay, network_batch, sampling_precision: see
            ``GenerativeModel``.
    """

    def __init__(
        self,
        data: RealData,
        *,
        network: Network,
        coupling: Coupling = "exact_ot",
        sigma: float = 0.0,
        ot_with_replacement: bool = False,
        ot_block: int | None = None,
        solver: Solver = "midpoint",
        steps: int = 8,
        tolerance: float = 1e-5,
        clip: float | None = None,
        condition_dropout: float = 0.1,
        guidance_scale: float = 1.0,
        sampling_bias: float = 1.0,
        learning_rate: float = 2e-4,
        warmup_steps: int = 0,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        ema_decay: float = 0.999,
        network_batch: int | None = None,
        sampling_precision: SamplingPrecision = "as_trained",
    ) -> None:
        super().__init__(
            learning_rate=learning_rate,
            warmup_steps=warmup_steps,
            betas=betas,
            weight_decay=weight_decay,
            ema_decay=ema_decay,
            network_batch=network_batch,
            sampling_precision=sampling_precision,
        )
        for option, chosen, choices in (
            ("coupling", coupling, get_args(Coupling)),
            ("solver", solver, get_args(Solver)),
        ):
            require(chosen in choices, option, chosen, f"one of {', '.join(choices)}")
        require(0 <= sigma < math.inf, "sigma", sigma, "a number >= 0")
        require(
            coupling == "exact_ot" or not ot_with_replacement,
            "ot_with_replacement",
            ot_with_replacement,
            f"false, since coupling is {coupling}",
        )
        require(ot_block is None or ot_block >= 1, "ot_block", ot_block, "an integer >= 1, or null")
        require(
            ot_block is None or (coupling == "exact_ot" and not ot_with_replacement),
            "ot_block",
            ot_block,
            "null, unless coupling is exact_ot without replacement",
        )
        require(1 <= steps <= 10**5, "steps", steps, "an integer in 1..100000")
        require(0 < tolerance < math.inf, "tolerance", tolerance, "a number > 0")
        require(clip is None or clip > 0, "clip", clip, "a number > 0, or null")
        self._guiding = Guiding.of(network, condition_dropout, guidance_scale, sampling_bias)
        self.sampling_bias = sampling_bias
        self.network = network
        self.conditional = network.class_conditional
        self._shape = data.shape
        self._exact_ot, self._with_replacement, self._ot_block = coupling == "exact_ot", ot_with_replacement, ot_block
        # Optimal pairs join noise and data as if all items counted the same: weights would hardly change the flow.
        self.weighted = coupling != "exact_ot"
        self._matcher = MATCHERS[coupling](sigma)
        self._solver, self._steps, self._tolerance, self._clip = solver, steps, tolerance, clip
        self._condition_dropout = condition_dropout

    def pairing(self) -> Pairing | None:
        return self._pair if self._exact_ot else None

    def _pair(self, x1: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x0 = torch.randn(x1.shape, generator=generator)
        order = optimal_permutation(x0, x1, self._ot_block)
        if self._with_replacement:  # the plan has the weight 1/N on each pair of the permutation
            drawn = torch.randint(len(x1), (len(x1),), generator=generator)
            x0, order = x0[drawn], order[drawn]
        return x0, order

    def path(
        self, x1: Tensor, y: Tensor | None, x0: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """For data ``x1`` of classes ``y``: times ``(N,)``, places x_t and velocities u_t ``(N, *shape)``,
        and the classes of the data these lead to. ``x0`` is the noise that the data were paired with, if they were.
        """
        if x0 is None and self._exact_ot:
            generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
            x0, order = (part.to(x1.device) for part in self._pair(x1.cpu(), generator))
            x1, y = x1[order], None if y is None else y[order]
        x0 = torch.randn_like(x1) if x0 is None else x0
        t = torch.rand(len(x1), device=x1.device)
        return *self._matcher.sample_location_and_conditional_flow(x0, x1, t=t), y

    def loss(self, batch: Samples) -> Tensor:
        y = training_labels(self.network, batch.condition, self._condition_dropout)
        t, xt, ut, y = self.path(batch.x, y, batch.columns.get("noise"))
        return weighted_mean(F.mse_loss(predicted(self.network, t, xt, y), ut, reduction="none"), batch)

    def sample(self, generator: torch.Generator, n: int, condition: Tensor | None = None) -> Tensor:
        y = condition if self.conditional else None
        x = self._guiding.draw((n, *self._shape), generator)

        def velocity(t: Tensor, x: Tensor) -> Tensor:
            return guided(self.network, t.expand(n), x, y, self._guiding.scale, self.network_batch)

        x = solve(velocity, x, method=self._solver, steps=self._steps, tolerance=self._tolerance)
        return x if self._clip is None else x.clamp(-self._clip, self._clip)
