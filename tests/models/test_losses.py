"""The log of the losses: what is read when, what is left out, and that an interruption changes nothing."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sc_loops.errors import RunError
from sc_loops.models.losses import MOST_BAD, LossLog

NAN, INF = math.nan, math.inf


def read(log: LossLog, losses: list[float], *, last: bool = True) -> list[float | None]:
    return [log.add(torch.tensor(v), last=last and n == len(losses)) for n, v in enumerate(losses, start=1)]


def test_the_mean_is_read_every_few_steps_and_at_the_last() -> None:
    log = LossLog("loss", every=3)
    assert read(log, [1.0, 2.0, 3.0, 4.0, 6.0]) == [None, None, 2.0, None, 5.0]
    assert log.mean == 16 / 5


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_loss_that_is_not_finite_stops_with_where_and_what_to_do(bad: float) -> None:
    log = LossLog("the loss of generation 4", every=2)
    with pytest.raises(RunError, match="generation 4, steps 3 to 4") as error:
        read(log, [1.0, 2.0, 3.0, bad])
    assert "gradient_clip_val" in error.value.do
    assert "loop.nonfinite=skip" in error.value.do


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_skipping_leaves_it_out_of_every_mean(bad: float) -> None:
    log = LossLog("loss", every=3, skip=True)
    assert read(log, [1.0, bad, 3.0, bad, bad, 8.0]) == [None, None, 2.0, None, None, 8.0]
    assert log.mean == 4.0


def test_skipping_stops_where_nothing_is_left() -> None:
    """A finite loss now and then is enough; ``MOST_BAD`` steps in a row without one are not."""
    log = LossLog("loss", every=2, skip=True)
    for _ in range(MOST_BAD):
        read(log, [NAN, INF, 1.0, NAN])
    with pytest.raises(RunError, match="finite losses"):
        read(log, [NAN] * MOST_BAD)
    assert log.mean == 1.0


def test_skipping_a_step_that_is_read_alone_does_not_stop() -> None:
    log = LossLog("loss", every=1, skip=True)
    assert read(log, [1.0, NAN, 3.0])[::2] == [1.0, 3.0]
    assert log.mean == 2.0


def test_skipping_counts_the_finite_losses_of_all_processes() -> None:
    """The other process always has a loss of 3, but for a NaN in its last step."""

    def mean_with_the_other(both: torch.Tensor) -> torch.Tensor:
        return (both + torch.tensor([[3.0, 3.0, 0.0], [1.0, 1.0, 0.0]])) / 2

    log = LossLog("loss", every=3, reduce=mean_with_the_other, skip=True)
    assert read(log, [1.0, NAN, 4.0])[-1] == (2.0 + 3.0 + 4.0) / 3


losses = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40)


@given(losses, st.integers(1, 9), st.data())
def test_interrupted_anywhere_it_reads_the_same_to_the_last_bit(values: list[float], every: int, data) -> None:
    skip = data.draw(st.booleans())
    if skip:  # at most one in a reading is left out, so that something is left
        values = [NAN if every > 1 and n % every == 0 and n + 1 < len(values) else v for n, v in enumerate(values)]
    whole = LossLog("loss", every=every, skip=skip)
    expected = read(whole, values)

    cut = data.draw(st.integers(0, len(values)))
    before, after = LossLog("loss", every=every, skip=skip), LossLog("loss", every=every, skip=skip)
    found = read(before, values[:cut], last=cut == len(values))
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    found += read(after, values[cut:])
    assert found == expected
    assert after.mean == whole.mean
    assert str(after.state_dict()) == str(whole.state_dict())  # as text, in which NaN equals NaN


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_an_interruption_does_not_round(dtype: torch.dtype) -> None:
    values = torch.rand(7, generator=torch.Generator().manual_seed(0)).to(dtype)
    whole, before, after = (LossLog("loss", every=7) for _ in range(3))
    for value in values[:4]:
        before.add(value, last=False)
    after.load_state_dict(before.state_dict())
    for value in values[4:]:
        resumed = after.add(value, last=False)
    assert resumed == [whole.add(value, last=False) for value in values][-1]
