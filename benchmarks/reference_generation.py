"""One generation of a self-consuming flow in the plain style of published code, as the baseline.

Every step is the obvious one: torch's ``DataLoader`` over single items, torchcfm's optimal-transport matcher (it
draws pairs from the plan with replacement), Adam, torchdyn's ``NeuralODE`` over a hundred times as in torchcfm's
tutorial on points, and K-choice as a Python loop over numpy. Nothing of sc_loops is used here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, TensorDataset
from torchcfm.conditional_flow_matching import ExactOptimalTransportConditionalFlowMatcher
from torchdyn.core import NeuralODE


@dataclass(frozen=True)
class Setting:
    """Sizes of a generation: ``samples`` raw samples of which one in ``choices`` is kept."""

    samples: int = 8192
    choices: int = 2
    passes: int = 8
    batch_size: int = 256
    learning_rate: float = 1e-3


class FieldOfTime(nn.Module):
    """A velocity with the signature that torchdyn calls, counting its evaluations."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.evaluations = network, 0

    def forward(self, t: Tensor, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        self.evaluations += 1
        return self.network(t.expand(len(x)), x)


def train(network: nn.Module, real: Tensor, synthetic: Tensor, setting: Setting) -> None:
    items = ConcatDataset([TensorDataset(real), TensorDataset(synthetic)])
    loader = DataLoader(items, batch_size=setting.batch_size, shuffle=True, drop_last=True)
    optimizer = torch.optim.Adam(network.parameters(), lr=setting.learning_rate)
    matcher = ExactOptimalTransportConditionalFlowMatcher(sigma=0.0)
    for _ in range(setting.passes):
        for (x1,) in loader:
            optimizer.zero_grad()
            t, xt, ut = matcher.sample_location_and_conditional_flow(torch.randn_like(x1), x1)
            loss = torch.mean((network(t, xt) - ut) ** 2)
            loss.backward()
            optimizer.step()


@torch.no_grad()
def sample(network: nn.Module, n: int) -> tuple[Tensor, int]:
    """n points, and how often the network was evaluated."""
    field = FieldOfTime(network)
    ode = NeuralODE(field, solver="dopri5", sensitivity="adjoint", atol=1e-4, rtol=1e-4)
    trajectory = ode.trajectory(torch.randn(n, 2), t_span=torch.linspace(0, 1, 100))
    return trajectory[-1], field.evaluations


def curate(x: Tensor, reward: Callable[[Tensor], Tensor], choices: int) -> Tensor:
    """One of each ``choices`` samples, with probability softmax of the rewards."""
    points, kept = x.numpy(), []
    for start in range(0, len(points) - choices + 1, choices):
        group = points[start : start + choices]
        rewards = reward(torch.from_numpy(group)).numpy().astype(np.float64)
        weights = np.exp(rewards - rewards.max())
        kept.append(group[np.random.choice(choices, p=weights / weights.sum())])
    return torch.from_numpy(np.stack(kept))


def generation(
    network: nn.Module,
    real: Tensor,
    synthetic: Tensor,
    reward: Callable[[Tensor], Tensor],
    setting: Setting,
    path: Path,
) -> int:
    """Train, sample, curate and write the kept; returns how often the network was evaluated to sample."""
    train(network, real, synthetic, setting)
    x, evaluations = sample(network, setting.samples)
    torch.save({"pool": curate(x, reward, setting.choices), "network": network.state_dict()}, path)
    return evaluations
