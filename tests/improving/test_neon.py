"""Neon: its formula, its identities, and that it leaves no trace."""

import pytest
import torch
from tiny_flows import DATA, assert_same, drawn, everything, trained
from torch import nn

from sc_loops import GenerativeModel
from sc_loops.improving.neon import Neon
from sc_loops.synthesis import counted_evaluations


def neon(**options):
    return Neon(DATA, **{"samples": 60, "steps": 5, "omega": 1.0, **options})


class Normalised(GenerativeModel):
    """A model that is no flow, with running statistics and a frozen layer."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2).requires_grad_(False))

    def loss(self, batch):
        return (self.layers(torch.randn_like(batch.x)) - batch.x).square().mean()

    def sample(self, generator, n, condition=None):
        return self.layers(torch.randn(n, 2, generator=generator))


def moved(model, by=0.25):
    with model.averaged():
        return {k: v + by if v.is_floating_point() else v + 1 for k, v in model.state_dict().items()}


@pytest.mark.parametrize("omega", [-1.0, -0.5, 2.0])
@pytest.mark.parametrize("make", [trained, Normalised])
def test_weights_are_extrapolated_and_buffers_are_the_base_s(make, omega):
    model = make()
    model._place_average()
    with model.averaged():
        base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    auxiliary = moved(model)
    trainable = {name for name, weight in model.named_parameters() if weight.requires_grad}
    with neon().extrapolated(model, auxiliary, omega), model.averaged():
        for name, tensor in model.state_dict().items():
            expected = (1 + omega) * base[name] - omega * auxiliary[name] if name in trainable else base[name]
            torch.testing.assert_close(tensor, expected)


@pytest.mark.parametrize("omega", [-1.0, 0.5, 20.0])
def test_an_auxiliary_equal_to_the_base_changes_nothing(omega):
    model = trained()
    before, digest = drawn(model), model.weights_digest()
    with model.averaged():
        auxiliary = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with neon().extrapolated(model, auxiliary, omega):
        assert torch.equal(drawn(model), before)
        assert model.weights_digest() == digest


def test_omega_minus_1_is_the_auxiliary():
    model, other = trained(), trained()
    auxiliary = moved(model)
    other.load_state_dict(auxiliary)
    other._average.shadow = []
    with neon().extrapolated(model, auxiliary, -1.0):
        assert torch.equal(drawn(model), drawn(other))


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_afterwards_what_it_was(fails):
    model = Normalised()
    model._place_average()
    before, digest = everything(model), model.weights_digest()
    try:
        with neon().extrapolated(model, moved(model), 0.5):
            assert model.weights_digest() != digest
            drawn(model)
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    assert_same(everything(model), before)
    assert model.weights_digest() == digest


def test_the_digest_tells_of_omega():
    model, digests = trained(), set()
    for omega in (0.5, 0.6, 0.5):
        with neon().extrapolated(model, moved(model), omega):
            digests.add(model.weights_digest())
    assert len(digests) == 2


def test_it_costs_no_evaluations():
    model, counts = trained(solver="euler"), []
    for omega in (None, 0.5):
        context = neon().extrapolated(model, moved(model), omega) if omega else torch.no_grad()
        with context, model.averaged(), counted_evaluations(model) as count:
            model.sample(torch.Generator().manual_seed(0), 6)
        counts.append(count.total)
    assert counts == [12, 12]
