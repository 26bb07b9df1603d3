"""A network whose output has not the shape of its samples is named, instead of being broadcast."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import tiny_data
from torch import Tensor, nn

from sc_loops import DDPM, EDM, FlowMatching, Network, Samples
from sc_loops.errors import RunError

DATA = tiny_data()


class Narrow(Network):
    """Gives ``columns`` of its samples, or something that is no tensor."""

    def __init__(self, columns: int | None) -> None:
        super().__init__(DATA)
        self.scale, self._columns = nn.Parameter(torch.ones(())), columns

    def forward(self, t: Tensor, x: Tensor, y: Tensor | None = None) -> Any:
        return (x,) if self._columns is None else self.scale * x[:, : self._columns]


@pytest.mark.parametrize("model", [DDPM, EDM, FlowMatching])
@pytest.mark.parametrize(("columns", "found"), [(1, "shape (60, 1)"), (0, "shape (60, 0)"), (None, "a tuple")])
def test_the_loss_says_what_the_network_gave(model: Any, columns: int | None, found: str) -> None:
    with pytest.raises(RunError) as caught:
        model(DATA, network=Narrow(columns)).loss(Samples(DATA.train.x))
    assert caught.value.where == "the network Narrow"
    assert found in caught.value.found
    assert "shape (60, 2)" in caught.value.expected


@pytest.mark.parametrize("model", [DDPM, EDM, FlowMatching])
def test_an_output_of_the_samples_shape_has_a_loss(model: Any) -> None:
    assert model(DATA, network=Narrow(2)).loss(Samples(DATA.train.x)).isfinite()
