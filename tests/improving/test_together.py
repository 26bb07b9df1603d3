"""An improvement of the user's that changes nothing of what is sampled ends the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import fit, tiny_loop
from tiny_flows import DATA, assert_same, evaluation, everything, synthesis, trained
from torch import Tensor

from sc_loops import GenerativeModel, Improvement, Run
from sc_loops.errors import RunError
from sc_loops.improving.neon import Neon

SMALL = {"samples": 60, "steps": 6, "batch_size": 20}


class OfTheLastStep(Improvement):
    """Neon on the weights of the last step, in the place of which the averaged ones are sampled."""

    @contextmanager
    def extrapolated(self, model: GenerativeModel, auxiliary: dict[str, Tensor], omega: float) -> Iterator[None]:
        base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict({k: (1 + omega) * base[k] - omega * auxiliary[k] for k in base})
        try:
            yield
        finally:
            model.load_state_dict(base)


@pytest.mark.parametrize("searched", [False, True])
def test_what_has_no_effect_is_named(searched: bool, tmp_path: Path) -> None:
    options = {"omega": None, "omegas": (0.5,), "search_samples": 30} if searched else {"omega": 0.5}
    improvement, model = OfTheLastStep(DATA, **SMALL, **options), trained()
    before = everything(model)

    def improve() -> None:
        improvement.prepare(model, tmp_path / "made", evaluation(), synthesis())
        with improvement.applied(model):
            pass

    with pytest.raises(RunError, match=r"with omega = 0\.5, averaged weights, .* the base's") as error:
        improve()
    assert error.value.where == "the improvement OfTheLastStep"
    assert_same(before, everything(model))


def test_omega_0_is_the_base(tmp_path: Path) -> None:
    improvement, model = OfTheLastStep(DATA, **SMALL, omega=0.0), trained()
    improvement.prepare(model, tmp_path / "made", evaluation(), synthesis())
    digest = model.weights_digest()
    with improvement.applied(model):
        assert model.weights_digest() == digest


def test_the_run_ends_and_goes_on_with_one_that_works(tmp_path: Path) -> None:
    def loop(kind: type[Improvement]) -> object:
        improvement = kind(DATA, samples=40, steps=4, batch_size=20, omega=1.0)
        return tiny_loop(tmp_path, generations=1, stages=[], improvement=improvement)

    with pytest.raises(RunError, match="the improvement OfTheLastStep"):
        fit(loop(OfTheLastStep), data=DATA)
    assert Run(tmp_path).rows() == []
    fit(loop(Neon), data=DATA)
    assert [row["improvement/omega"] for row in Run(tmp_path).rows()] == [1.0, 1.0]
