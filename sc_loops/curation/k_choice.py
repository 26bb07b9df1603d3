"""K-choice: the curation of Ferbach et al. 2024, "Self-consuming generative models with curated data provably
optimize human preferences" (arXiv 2407.09499)."""

from __future__ import annotations

import torch
from torch import Tensor

from sc_loops.curation.reward import Reward
from sc_loops.curation.rewards import checked
from sc_loops.curation.stage import Stage
from sc_loops.errors import InvalidValue, RunError, require
from sc_loops.samples import Samples


class Curate(Stage):
    """Shows K samples at a time and keeps one of them with probability softmax(r) (Ferbach et al. 2024, Eq. 1-2).

    The rewards are the column ``reward`` of the samples where the same reward has scored them already, and
    are computed otherwise. What is kept carries its condition and all columns along.

    Args:
        reward: scores the samples.
        choices: K, how many candidates one comparison sees. 1 keeps at random.
        kept: how many samples a generation keeps of those it draws. If not given, the samples are dealt out
            at random into disjoint groups of K, so one in K is kept, and at most K - 1 of a chunk are left
            over. If given, each comparison draws its K candidates from its chunk, without replacement within
            the comparison and independently of the others, so a sample may be kept more than once; the chunks
            keep exactly ``kept`` together, as long as no earlier stage removed samples.
        flipped: in [0, 1], the share of comparisons that an adversary flips: they keep by softmax(-r), which of two
            candidates is the other one (Wei and Zhang 2025, arXiv 2505.09768).

    A chunk of fewer than K samples is a ``RunError``.
    """

    def __init__(self, reward: Reward, *, choices: int, kept: int | None = None, flipped: float = 0.0) -> None:
        require(choices >= 1, "choices", choices, "an integer of at least 1")
        require(kept is None or kept >= 1, "kept", kept, "an integer of at least 1")
        require(0 <= flipped <= 1, "flipped", flipped, "a share of the comparisons, in [0, 1]")
        self.reward, self.choices, self.kept, self.flipped = reward, choices, kept, flipped
        self.fewest = choices
        self.varies = kept is not None  # by one, with the part of the generation that a chunk is
        self._total: int | None = None
        self._owns_column = True

    def prepare(self, total: int | None, scored_by: Reward | None) -> None:
        self._total, self._owns_column = total, scored_by in (None, self.reward)
        if self.kept is not None:
            expected = f"at most the number of samples drawn, {self._drawn()}"
            require(self.kept <= self._drawn(), "kept", self.kept, expected)

    def outputs(self, inputs: int) -> int:
        if self.kept is None:
            return inputs // self.choices
        return inputs * self.kept // self._drawn()

    def inputs(self, outputs: int) -> int:
        if self.kept is None:
            return outputs * self.choices
        return -(-outputs * self._drawn() // self.kept)

    def __call__(self, samples: Samples, generator: torch.Generator) -> Samples:
        return self._choose(samples, generator)[0]

    def _choose(self, samples: Samples, generator: torch.Generator) -> tuple[Samples, Tensor]:
        """The samples that are kept, and what ``_scored`` found of all."""
        if len(samples) < self.choices:
            raise RunError(
                "k_choice",
                found=f"a chunk of {len(samples)} samples",
                expected=f"at least choices = {self.choices} samples in every chunk",
                do="draw samples in chunks that are a multiple of choices, or lower choices",
            )
        samples, rewards = self._scored(samples)
        if self.kept is None:
            candidates = disjoint_groups(len(samples), self.choices, generator)
        else:
            count = self._quota(samples.columns["index"])
            candidates = random_subsets(len(samples), self.choices, count, generator)
        seen = self._judged(rewards, candidates, generator)
        winners = luce_choice(seen, generator)
        return samples[candidates.gather(1, winners[:, None]).squeeze(1)], rewards

    def _judged(self, rewards: Tensor, candidates: Tensor, generator: torch.Generator) -> Tensor:
        """``(M, K)``: by what each comparison keeps one of its ``candidates (M, K)``, of all rewards ``(N,)``."""
        seen = rewards[candidates]
        if not self.flipped:
            return seen
        flips = torch.rand(len(seen), 1, generator=generator, device=seen.device) < self.flipped
        return torch.where(flips, -seen, seen)

    def _scored(self, samples: Samples) -> tuple[Samples, Tensor]:
        """The samples and their rewards, which are the column ``reward`` unless that is another reward's."""
        if self._owns_column and "reward" in samples.columns:
            return samples, samples.columns["reward"]
        reward = checked(self.reward, samples.x, "the reward of k_choice", RunError)
        return (samples.with_columns(reward=reward) if self._owns_column else samples), reward

    def _quota(self, index: Tensor) -> int:
        """How many samples a chunk keeps: raw sample i stands for floor((i+1) M/N) - floor(i M/N) of the M of
        N that are kept, so all chunks together keep M, however the generation is cut."""
        kept, total = self.kept or 0, self._drawn()
        return int(((index + 1) * kept // total - index * kept // total).sum())

    def _drawn(self) -> int:
        if self._total is None:
            raise InvalidValue(
                "kept",
                found=repr(self.kept),
                expected="a known number of samples to keep from",
                do="set loop.samples to the number of samples drawn in a generation, or leave kept out",
            )
        return self._total


def luce_choice(reward: Tensor, generator: torch.Generator) -> Tensor:
    """The positions ``(M,)`` kept from ``reward (M, K)``: k with probability softmax(r)_k.

    Ferbach et al. 2024, Eq. 2, drawn by the Gumbel-max trick: argmax of r_k plus independent Gumbel noise.
    """
    uniform = torch.rand(reward.shape, generator=generator, device=generator.device)
    return (reward - (-uniform.log()).log()).argmax(dim=1)


def disjoint_groups(n: int, size: int, generator: torch.Generator) -> Tensor:
    """``n // size`` disjoint groups ``(M, size)`` of positions below n, in random order."""
    order = torch.randperm(n, generator=generator, device=generator.device)
    return order[: n // size * size].reshape(-1, size)


def random_subsets(n: int, size: int, count: int, generator: torch.Generator) -> Tensor:
    """``count`` independent, uniform subsets ``(count, size)`` of the positions below n.

    Floyd's algorithm (Bentley and Floyd 1987) on all subsets at once: with j = n - size, ..., n - 1, add a
    uniform t <= j, or j itself where t is in the subset already. Its cost does not depend on n. The order
    within a subset is not random.
    """
    subsets = torch.empty(count, size, dtype=torch.long, device=generator.device)
    for i, j in enumerate(range(n - size, n)):
        t = torch.randint(j + 1, (count,), generator=generator, device=generator.device)
        taken = (subsets[:, :i] == t[:, None]).any(dim=1)
        subsets[:, i] = torch.where(taken, j, t)
    return subsets
