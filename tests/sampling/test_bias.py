"""What a sampling bias asks of a sampler: guidance for a conditional network, less noise for another."""

from __future__ import annotations

import inspect
import math

import pytest
import torch

from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue
from sc_loops.models.ddpm import DDPM
from sc_loops.models.edm import EDM
from sc_loops.models.flow_matching import FlowMatching
from sc_loops.networks.mlp import TimeMLP
from sc_loops.samples import Samples
from sc_loops.sampling.bias import Guiding

LABELS = torch.arange(6) % 2
DATA = RealData(Samples(torch.zeros(6, 2), LABELS), Samples(torch.zeros(6, 2), LABELS), "points", ("a", "b"))
PLAIN, CONDITIONAL = (TimeMLP(DATA, width=4, depth=1, class_conditional=known) for known in (False, True))


@pytest.mark.parametrize("w", [0.25, 1.0, 3.0])
def test_a_conditional_network_is_guided_as_in_the_paper(w):
    """b = 1/(1 + w), where w is the paper's and that of Ho and Salimans."""
    guiding = Guiding.of(CONDITIONAL, 0.1, 1.0, 1 / (1 + w))
    assert guiding.scale == pytest.approx(1 + w, rel=1e-15)
    assert guiding.noise == 1


@pytest.mark.parametrize("b", [1e-6, 0.3, 0.999])
def test_another_network_gets_noise_of_the_variance_b(b):
    guiding = Guiding.of(PLAIN, 0.1, 1.0, b)
    assert guiding.scale == 1
    noise = guiding.draw((20000,), torch.Generator().manual_seed(0))
    assert float(noise.var()) == pytest.approx(b, rel=4 * math.sqrt(2 / 20000))


@pytest.mark.parametrize(("network", "scale"), [(PLAIN, 1.0), (CONDITIONAL, 1.0), (CONDITIONAL, 2.5)])
def test_without_a_bias_nothing_changes(network, scale):
    guiding = Guiding.of(network, 0.0, scale, 1.0)
    assert guiding == (scale, 1.0)
    drawn, expected = (torch.Generator().manual_seed(3) for _ in range(2))
    assert torch.equal(guiding.draw((50, 2), drawn), torch.randn((50, 2), generator=expected))


@pytest.mark.parametrize("b", [0.0, -0.5, 1.5, math.nan, math.inf, -math.inf, 5e-324])
@pytest.mark.parametrize("network", [PLAIN, CONDITIONAL], ids=["plain", "conditional"])
def test_a_bias_outside_its_range_is_refused(network, b):
    with pytest.raises(InvalidValue) as error:
        Guiding.of(network, 0.1, 1.0, b)
    assert error.value.where == "sampling_bias"


@pytest.mark.parametrize(
    ("network", "dropout", "scale", "b", "where", "says"),
    [
        (CONDITIONAL, 0.1, 2.0, 0.5, "sampling_bias", "guidance_scale is 2"),
        (CONDITIONAL, 0.1, 0.0, 0.5, "sampling_bias", "guidance_scale is 0"),
        (CONDITIONAL, 0.0, 1.0, 0.5, "sampling_bias", "condition_dropout is 0"),
        (PLAIN, 0.1, 2.0, 0.5, "guidance_scale", "not class-conditional"),
        (PLAIN, 1.1, 1.0, 1.0, "condition_dropout", "number in"),
        (PLAIN, 0.5, 1.0, 1.0, "condition_dropout", "not class-conditional"),
        (PLAIN, 0.1, math.inf, 1.0, "guidance_scale", "number >= 0"),
    ],
)
def test_what_does_not_go_together_is_refused(network, dropout, scale, b, where, says):
    with pytest.raises(InvalidValue, match=says) as error:
        Guiding.of(network, dropout, scale, b)
    assert error.value.where == where


@pytest.mark.parametrize("model", [DDPM, EDM, FlowMatching])
def test_a_network_without_classes_takes_the_default_of_every_model(model):
    default = inspect.signature(model).parameters["condition_dropout"].default
    assert Guiding.of(PLAIN, default, 1.0, 1.0) == (1.0, 1.0)


def test_a_network_without_classes_needs_no_dropout():
    assert Guiding.of(PLAIN, 0.0, 1.0, 0.25) == (1.0, 0.5)
