"""Models that users wrote are tried on real items: what would end a run is refused, and nothing is changed."""

from __future__ import annotations

import copy
import random
import threading
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TinyModel, tiny_data
from torch import Tensor, nn

from sc_loops import FlowMatching, GenerativeModel, Network, Samples, TimeMLP, UsageError
from sc_loops.models.closed_form import ClosedFormModel
from sc_loops.models.trial import try_model

DATA, CPU = tiny_data(), torch.device("cpu")


class Own(TinyModel):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.unused = nn.Parameter(torch.zeros(1))


class Vector(Own):
    def loss(self, batch: Samples) -> Tensor:
        return self.network(batch.x).square().mean(1)


class Float(Own):
    def loss(self, batch: Samples) -> Any:
        return super().loss(batch).item()


class Detached(Own):
    def loss(self, batch: Samples) -> Tensor:
        return super().loss(batch).detach()


class NotFinite(Own):
    def loss(self, batch: Samples) -> Tensor:
        return super().loss(batch) / 0


class OfNothing(Own):
    def loss(self, batch: Samples) -> Tensor:
        return batch.x.mean().requires_grad_()


class Raising(Own):
    def loss(self, batch: Samples) -> Tensor:
        raise ZeroDivisionError("in the loss")


class SampleRaises(Own):
    def sample(self, generator: torch.Generator, n: int, condition: Tensor | None = None) -> Tensor:
        raise KeyError("nothing")


class Signature(Own):
    def sample(self, n: int) -> Tensor:  # type: ignore[override]
        return torch.zeros(n, 2)


class Few(Own):
    def sample(self, generator: torch.Generator, n: int, condition: Tensor | None = None) -> Tensor:
        return torch.zeros(n - 1, 2)


class NaN(Own):
    def sample(self, generator: torch.Generator, n: int, condition: Tensor | None = None) -> Tensor:
        return torch.full((n, 2), torch.nan)


class Integers(Own):
    def sample(self, generator: torch.Generator, n: int, condition: Tensor | None = None) -> Tensor:
        return torch.zeros(n, 2, dtype=torch.int64)


class NoWeights(Own):
    def __init__(self) -> None:
        super().__init__()
        self.requires_grad_(False)


class Several(Own):
    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.parameters()), torch.optim.Adam(self.parameters())]


class NoOptimizer(Own):
    def configure_optimizers(self) -> Any:
        return None


class BadPairing(Own):
    def pairing(self) -> Any:
        return lambda x, generator: 1 / 0


@pytest.mark.parametrize(
    ("model", "where", "found"),
    [
        (Vector, "Vector.loss, tried on 8 real items", "a tensor of shape (8,)"),
        (Float, "Float.loss", "a float"),
        (Detached, "Detached.loss", "without a gradient"),
        (NotFinite, "NotFinite.loss", "a loss of inf"),
        (OfNothing, "OfNothing.loss", "no weight of the model has a part in"),
        (Raising, "Raising.loss", "ZeroDivisionError: in the loss"),
        (SampleRaises, "SampleRaises.sample, tried on 8 real items", "KeyError: 'nothing'"),
        (Signature, "Signature.sample", "TypeError"),
        (Few, "Few.sample", "shape (7, 2), where it is to be (8, 2)"),
        (NaN, "NaN.sample", "8 of 8 samples that hold NaN"),
        (Integers, "Integers.sample", "torch.int64"),
        (NoWeights, "the model", "NoWeights, which has no weights"),
        (Several, "Several.configure_optimizers", "2 optimizers"),
        (NoOptimizer, "NoOptimizer.configure_optimizers", "None"),
        (BadPairing, "BadPairing.pairing", "ZeroDivisionError"),
    ],
)
def test_a_model_that_would_fail_is_refused(model: type[GenerativeModel], where: str, found: str) -> None:
    with pytest.raises(UsageError) as caught:
        try_model(model(), DATA, CPU)
    assert caught.value.where.startswith(where)
    assert found in caught.value.found
    assert caught.value.do


class WrongShape(Network):
    def __init__(self) -> None:
        super().__init__(DATA)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, t: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.scale * x[:, :1]


class WrongSignature(WrongShape):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return self.scale * x


class Right(WrongShape):
    def forward(self, t: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.scale * x


@pytest.mark.parametrize(
    ("network", "where", "found"),
    [(WrongShape, "the network WrongShape", "shape (8, 1)"), (WrongSignature, "FlowMatching.loss", "forward()")],
)
def test_a_network_in_a_model_of_ours_is_tried_in_its_loss(network: type[Network], where: str, found: str) -> None:
    with pytest.raises(UsageError) as caught:
        try_model(FlowMatching(DATA, network=network()), DATA, CPU)
    assert caught.value.where.startswith(where)
    assert found in caught.value.found


def test_what_is_ours_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sampling of a model of ours may take long: with a foreign network only its loss is tried."""
    calls: list[str] = []
    loss = FlowMatching.loss
    monkeypatch.setattr(FlowMatching, "loss", lambda self, batch: calls.append("loss") or loss(self, batch))
    monkeypatch.setattr("sc_loops.models.flow_matching.solve", lambda *args, **options: calls.append("sample"))
    try_model(FlowMatching(DATA, network=TimeMLP(DATA, width=8, depth=1)), DATA, CPU)
    assert not calls
    try_model(FlowMatching(DATA, network=Right()), DATA, CPU)
    assert calls == ["loss"]


class Touching(Own):
    """Changes all that it can reach: buffers, frozen weights, modes, attributes, global generators, its items."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.frozen = nn.Parameter(torch.zeros(2), requires_grad=False)
        self.register_buffer("seen", torch.zeros(2))
        self.count, self.data = 0, DATA

    def loss(self, batch: Samples) -> Tensor:
        self.count += 1
        self.seen = self.seen + 1
        self.norm.eval()
        with torch.no_grad():
            self.frozen += 1
            self.network.weight += 1
        random.random(), np.random.rand()
        x = batch.x.clone()
        batch.x.zero_()
        return super().loss(Samples(self.norm(x)))


def test_the_trial_leaves_everything_as_it_was() -> None:
    model, x = Touching(), DATA.train.x.clone()
    model.network.weight.grad = torch.ones(2, 2)
    state, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    with torch.random.fork_rng():
        generators = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
        try_model(model, DATA, CPU)
        assert torch.equal(torch.get_rng_state(), generators[0])
        assert random.getstate() == generators[1]
        assert (np.random.get_state()[1] == generators[2]).all()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes
    assert (model.count, model.samplings, model._average.shadow, model._trainable) == (0, 0, [], [])
    assert torch.equal(model.network.weight.grad, torch.ones(2, 2))
    assert torch.equal(DATA.train.x, x)


class AsksForItsTrainer(Own):
    def loss(self, batch: Samples) -> Tensor:
        return super().loss(batch) / self.trainer.max_epochs


class CannotBeCopied(Raising):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class Adversarial(Raising):
    """By hand, with two optimizers and a step of its own, which does not ask for the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any: ...

    def configure_optimizers(self) -> Any:
        return Several.configure_optimizers(self)  # type: ignore[arg-type]


class Paired(Own):
    def pairing(self) -> Any:
        return lambda x, generator: (torch.randn(x.shape, generator=generator), torch.arange(len(x)).flip(0))

    def loss(self, batch: Samples) -> Tensor:
        return (self.network(batch.columns["noise"]) - batch.x).square().mean()


class Conditional(Own):
    conditional = True

    def sample(self, generator: torch.Generator, n: int, condition: Tensor | None = None) -> Tensor:
        assert condition is not None
        assert condition.tolist() == DATA.train.condition[:n].tolist()  # type: ignore[index]
        assert not self.training
        assert not torch.is_grad_enabled()
        return super().sample(generator, n)


class Fitted(ClosedFormModel):
    def fit(self, items: Samples) -> None:
        raise ValueError("too few")

    def loss(self, batch: Samples) -> Tensor:
        raise ValueError

    def sample(self, generator: torch.Generator, n: int, condition: Tensor | None = None) -> Tensor:
        raise ValueError


class Scheduled(Own):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters())
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 5)]


@pytest.mark.parametrize(
    "model", [Own, AsksForItsTrainer, CannotBeCopied, Adversarial, Paired, Conditional, Fitted, Scheduled]
)
def test_what_may_well_work_is_not_refused(model: type[GenerativeModel]) -> None:
    try_model(model(), DATA, CPU)
