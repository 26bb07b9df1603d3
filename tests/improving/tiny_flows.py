"""What the tests of improvements share: flows whose predictions are known, and a small one that is trained."""

from __future__ import annotations

from typing import Any

import torch
from conftest import tiny_data
from torch import Tensor, nn

from sc_loops import FlowMatching, RealData, Samples, TimeMLP
from sc_loops.evaluation.evaluation import Evaluation
from sc_loops.improving.auxiliary import SelfSynthesis
from sc_loops.networks.network import Network

DATA = tiny_data()


def unlabelled(data: RealData = DATA) -> RealData:
    return RealData(Samples(data.train.x), Samples(data.test.x), "points", (), "tiny")


class GaussianVelocity(Network):
    """The velocity of straight paths from N(0, 1) to N(mean, std²) in each coordinate: E[x_1 - x_0 | x_t = x]."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__(unlabelled())
        self.mean, self.std = nn.Parameter(torch.tensor(mean)), nn.Parameter(torch.tensor(std))

    def forward(self, t: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        t = t[:, None]
        variance = (1 - t).square() + (t * self.std).square()
        return self.mean + (t * self.std.square() - (1 - t)) / variance * (x - t * self.mean)


class MixtureVelocity(Network):
    """The velocity of straight paths from N(0, I) to two classes of ``shares``, N(±centre, std²) in the first
    coordinate, beside N(0, 1) in the second."""

    def __init__(self, shares: list[float], centre: float = 2.0, std: float = 0.5) -> None:
        super().__init__(unlabelled())
        self.shares, self.std = nn.Parameter(torch.tensor(shares)), std
        self.register_buffer("centres", torch.tensor([-centre, centre]))

    def forward(self, t: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        t, first, second = t[:, None], x[:, :1], x[:, 1:]
        variance = (1 - t).square() + (t * self.std) ** 2
        away = first - t * self.centres
        probability = torch.softmax(self.shares.log() - away.square() / (2 * variance), dim=1)
        of_class = self.centres + (t * self.std**2 - (1 - t)) / variance * away
        of_second = (2 * t - 1) / ((1 - t).square() + t.square()) * second
        return torch.cat([(probability * of_class).sum(dim=1, keepdim=True), of_second], dim=1)


def trained(network: dict[str, Any] | None = None, **options: Any) -> FlowMatching:
    """A flow over ``DATA`` whose weights differ from their average, as after training."""
    torch.manual_seed(0)
    chosen = {"width": 16, "depth": 2, "time_features": 4, **(network or {})}
    settings = {"coupling": "independent", "steps": 2, "learning_rate": 1e-2, **options}
    model = FlowMatching(DATA, network=TimeMLP(DATA, **chosen), **settings)
    model._place_average()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.01 * torch.randn(weight.shape, generator=generator))
    return model


def synthesis(data: RealData = DATA, conditional: bool = False, **options: Any) -> SelfSynthesis:
    def draw(chunk: Any, generator: torch.Generator) -> Tensor | None:
        return torch.randint(data.num_classes, (chunk.size,), generator=generator) if conditional else None

    return SelfSynthesis(**{"seed": 3, "generation": 1, "chunk_size": 40, "draw": draw, **options})


def evaluation(data: RealData = DATA) -> Evaluation:
    return Evaluation(data, None, None, samples=50)


def drawn(model: Any, n: int = 30, condition: Tensor | None = None) -> Tensor:
    """Samples of the model as the loop draws them."""
    with model.averaged():
        return model.sample(torch.Generator().manual_seed(7), n, condition)


def everything(model: Any) -> dict[str, Tensor]:
    """All that an improvement must leave as it was: weights, buffers, gradients and average."""
    state = {name: tensor.clone() for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
    grads = {f"{n}.grad": p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return state | grads | {f"shadow {i}": t.clone() for i, t in enumerate(model._average.shadow)}


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.equal(tensor, right[name]), name
