"""Models in closed form: options that they can make nothing of, and what they cannot be fitted to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sc_loops import Run, Samples, gaussian
from sc_loops.data.mixture import Training
from sc_loops.disk import Keep
from sc_loops.errors import InvalidValue, RunError
from sc_loops.experiment import build, resolved_config
from sc_loops.models.closed_form import check_training, require_no_clipping
from sc_loops.models.flow_matching import FlowMatching
from sc_loops.models.gaussian import Gaussian
from sc_loops.networks.mlp import TimeMLP
from sc_loops.processes import Processes
from sc_loops.start import carry_out

ONCE = Training(passes=1)
ON_A_LINE = Samples(torch.tensor([[0.0, 5.0], [1.0, 5.0], [5.0, 5.0]]))


@pytest.mark.parametrize("option", [{"decay": True}, {"learning_rate": 1e-3}, {"warmup_steps": 5}, {"passes": 2}])
@pytest.mark.parametrize("place", ["first", "later"])
def test_what_needs_gradient_steps_is_refused(option: dict[str, Any], place: str) -> None:
    training = {"first": ONCE, "later": ONCE, place: Training(**{"passes": 1, **option})}
    model = Gaussian(gaussian())
    with pytest.raises(InvalidValue, match=next(iter(option))) as error:
        check_training(model, training["first"], training["later"], Keep(), processes=1)
    assert error.value.where == place
    check_training(model, ONCE, Training(steps=1), Keep(), processes=1)


def test_there_are_no_gradients_to_clip() -> None:
    data = gaussian()
    with pytest.raises(InvalidValue, match="no gradients") as error:
        require_no_clipping(Gaussian(data), 1.0)
    assert error.value.where == "gradient_clip_val"
    require_no_clipping(Gaussian(data), None)
    require_no_clipping(FlowMatching(data, network=TimeMLP(data, width=4, depth=1)), 1.0)


def test_a_singular_covariance_can_be_fitted_and_nothing_else() -> None:
    model = Gaussian(gaussian(), regularisation=0)
    model.fit(ON_A_LINE)
    torch.testing.assert_close(model.covariance, torch.tensor([[14 / 3, 0.0], [0.0, 0.0]], dtype=torch.float64))
    for use in (model.loss, lambda items: model.fit_parts([items]), lambda items: model.sample(torch.Generator(), 3)):
        with pytest.raises(RunError, match="no longer positive definite") as error:
            use(ON_A_LINE)
        assert "model.regularisation" in error.value.do


def test_replicas_that_collapsed_are_counted() -> None:
    model = Gaussian(gaussian(dimensions=6), regularisation=0, replicas=3)
    wide = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    model.fit(Samples(torch.cat([ON_A_LINE.x, wide, ON_A_LINE.x], dim=1)))
    with pytest.raises(RunError, match="in 2 of 3 replicas"):
        model.sample(torch.Generator(), 3)


def test_a_run_that_collapses_says_what_to_do(tmp_path: Path) -> None:
    """Two items in two dimensions, in generation 0 already."""
    options = ["model.regularisation=0", "data.size=2", "loop.stages=[]", "loop.generations=1"]
    run, resolved = Run(tmp_path / "run"), resolved_config("gaussian_self_correction", options)
    experiment = build(resolved, run)
    experiment.prepare(Processes())
    with pytest.raises(RunError, match=r"set model\.regularisation"):
        carry_out(experiment, run, resolved, Processes(), observers=[])
