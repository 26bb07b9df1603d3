"""``PluralCurate``: curation by people who do not want the same."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sc_loops.curation.k_choice import Curate
from sc_loops.curation.reward import Reward
from sc_loops.curation.rewards import checked
from sc_loops.errors import RunError, require
from sc_loops.samples import Observation, Samples

LIMIT = 20_000  # samples of a generation whose rewards are kept, for the theory, whose recursion starts from them


class PluralCurate(Curate):
    """K-choice in which each comparison is decided by one of several rewards, drawn by their shares.

    The expected tilting is Σ_i w_i H_K[r_i] (``theory.plural_curation_step``): what one group does not want another
    one keeps, so a single preference does not take over (Zhao et al. 2025, arXiv 2511.09002; Falahati et al. 2026,
    arXiv 2605.07724). Each reward is computed on every sample. The column ``reward``, where there is one, stays that
    of the experiment.

    Records, of the samples that it chooses from and of each reward r_i by its number i, ``plural_reward/<i>``, the
    mean of r_i, and ``plural_exp_reward/<i>``, that of e^{r_i}; and ``nash_welfare``, Σ w_i log E[e^{r_i}].

    Args:
        rewards: the rewards.
        shares: w_i >= 0 of the comparisons, one for each reward, with sum 1; by default all the same.
        choices, kept: see ``Curate``.
    """

    def __init__(
        self,
        *,
        rewards: list[Reward],
        shares: list[float] | None = None,
        choices: int,
        kept: int | None = None,
    ) -> None:
        require(len(rewards) >= 1, "rewards", rewards, "at least one reward")
        super().__init__(rewards[0], choices=choices, kept=kept)
        shares = [1 / len(rewards)] * len(rewards) if shares is None else shares
        require(len(shares) == len(rewards), "shares", shares, f"one number for each of the {len(rewards)} rewards")
        possible = all(share >= 0 for share in shares) and math.isclose(sum(shares), 1, abs_tol=1e-6)
        require(possible, "shares", shares, "numbers >= 0 that sum to 1")
        self.rewards, self.shares = rewards, shares

    def observed(self, samples: Samples, generator: torch.Generator) -> tuple[Samples, Observation]:
        kept, rewards = self._choose(samples, generator)
        r = rewards.cpu().double()
        first = samples.columns["index"].cpu() < LIMIT
        return kept, {
            "count": torch.tensor(len(samples)),
            "means": torch.stack([r.mean(dim=1), r.exp().mean(dim=1)]),
            "values": rewards.T.cpu()[first].contiguous(),
        }

    def observed_bytes(self, inputs: int) -> int:
        return 4 * len(self.rewards) * min(inputs, LIMIT)

    def summarise(self, observations: Sequence[Observation]) -> dict[str, float]:
        counts = torch.stack([o["count"] for o in observations]).double()
        means, exp_means = torch.tensordot(counts / counts.sum(), torch.stack([o["means"] for o in observations]), 1)
        deciding = [(w, float(m)) for w, m in zip(self.shares, exp_means, strict=True) if w > 0]
        return {
            **{f"plural_reward/{i}": float(mean) for i, mean in enumerate(means)},
            **{f"plural_exp_reward/{i}": float(mean) for i, mean in enumerate(exp_means)},
            "nash_welfare": sum(w * math.log(mean) if mean > 0 else -math.inf for w, mean in deciding),
        }

    def _scored(self, samples: Samples) -> tuple[Samples, Tensor]:
        """The samples as they are and all rewards ``(M, N)``."""
        scores = [checked(reward, samples.x, "a reward of plural_choice", RunError) for reward in self.rewards]
        return samples, torch.stack(scores)

    def _judged(self, rewards: Tensor, candidates: Tensor, generator: torch.Generator) -> Tensor:
        weights = torch.tensor(self.shares, dtype=torch.float64, device=rewards.device)
        judges = torch.multinomial(weights, len(candidates), replacement=True, generator=generator)
        return rewards[judges[:, None], candidates]
