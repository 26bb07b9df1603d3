"""What goes wrong in a loop: refused before anything is trained, or ended or passed over with a sound state saved."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import TinyModel, first_coordinate, fit, tiny_loop
from stopped_loops import weights
from torch import Tensor

from sc_loops import Curate, Run, Samples, Stage
from sc_loops.errors import RunError, UsageError


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda x: x, "shape"),
        (lambda x: x[:, 0] * math.nan, "NaN"),
        (lambda x: x[:, 5], "IndexError"),
        (lambda x: 3, "int"),
    ],
)
def test_a_broken_reward_is_found_before_anything_is_trained(tmp_path, reward, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        fit(tiny_loop(tmp_path, reward=reward))
    assert message in caught.value.found
    assert not Run(tmp_path).rows()


def test_choices_beyond_the_chunk_are_refused(tmp_path) -> None:
    with pytest.raises(UsageError, match="chunk"):
        fit(tiny_loop(tmp_path, stages=[Curate(first_coordinate, choices=51)], chunk_size=50))


class SaysNothing(Stage):
    """Chooses some, and loses their columns."""

    varies = True

    def __call__(self, samples: Samples, generator: torch.Generator) -> Samples:
        return Samples(samples.x[::2])


def test_stages_that_drop_columns_or_misalign_them(tmp_path) -> None:
    def forget(samples: Samples, generator: torch.Generator) -> Samples:
        return Samples(samples.x, samples.condition)

    fit(tiny_loop(tmp_path / "a", generations=1, stages=[forget, Curate(first_coordinate, choices=2)]))
    assert Run(tmp_path / "a").pool(1).samples().columns.keys() == {"index", "reward"}
    for stage, message in [
        (lambda s, g: Samples(s.x[::2]), "4 samples of 8"),
        (SaysNothing(), "without the column 'index'"),
        (lambda s, g: Samples(s.x[::2], None, s.columns), "the same length"),
        (lambda s, g: Samples(s.x, torch.zeros(len(s), dtype=torch.int64)), "conditions"),
        (lambda s, g: s.x, "Tensor"),
    ]:
        with pytest.raises(UsageError, match=message):
            fit(tiny_loop(tmp_path / message.replace(" ", "_"), generations=0, stages=[stage]))


def test_a_step_that_is_not_finite_is_skipped_and_counted(tmp_path) -> None:
    class Sometimes(TinyModel):
        def loss(self, batch: Samples) -> Tensor:
            bad = self._generation == 1 and self.trainer.global_step == 10
            return super().loss(batch) * (math.nan if bad else 1)

    model = fit(tiny_loop(tmp_path, nonfinite="skip"), Sometimes())
    assert [row["skipped_steps"] for row in Run(tmp_path).rows()] == [0, 1, 0, 0]
    assert all(bool(w.isfinite().all()) for w in weights(model))


def test_no_poisoned_state_is_ever_saved(tmp_path) -> None:
    """Weights that become infinite in the last step, whose loss was still finite."""

    class Late(TinyModel):
        def on_train_batch_end(self, outputs, batch, batch_idx) -> None:
            if self._generation == 1 and batch_idx == 11:
                with torch.no_grad():
                    self.network.weight.mul_(math.inf)

    with pytest.raises(RunError, match="generation 1"):
        fit(tiny_loop(tmp_path, checkpoint_steps=1), Late())
    saved = list(Run(tmp_path).checkpoints.glob("*.ckpt"))
    assert saved
    for path in saved:
        assert all(bool(w.isfinite().all()) for w in torch.load(path, weights_only=True)["state_dict"].values())


def test_a_model_that_samples_nan_ends_the_run_with_its_state_saved(tmp_path) -> None:
    class Broken(TinyModel):
        def sample(self, generator, n, condition=None) -> Tensor:
            return super().sample(generator, n, condition) * (math.nan if self._generation == 2 else 1)

    with pytest.raises(RunError, match="generation 2"):
        fit(tiny_loop(tmp_path), Broken())
    assert [row["generation"] for row in Run(tmp_path).rows()] == [0, 1]
    assert Run(tmp_path).checkpoint(2).exists()
    assert not Run(tmp_path).pool(2).finished


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path) -> None:
    class Broken(TinyModel):
        def loss(self, batch: Samples) -> Tensor:
            return super().loss(batch) * (math.nan if self._generation == 1 else 1)

    with pytest.raises(RunError, match="training loss of generation 1"):
        fit(tiny_loop(tmp_path), Broken())
    assert [row["generation"] for row in Run(tmp_path).rows()] == [0]
