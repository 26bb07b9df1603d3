"""The weight average against a plain Python loop."""

import pytest
import torch

from sc_loops.errors import InvalidValue
from sc_loops.models.ema import WeightAverage


def weights():
    return [torch.nn.Parameter(torch.randn(3, 2)), torch.nn.Parameter(torch.randn(4))]


def test_it_is_the_recursion_with_warm_up():
    parameters, average = weights(), WeightAverage(0.5)
    average.reset(parameters)
    expected = [p.flatten().tolist() for p in parameters]
    for n in range(30):
        with torch.no_grad():
            for parameter in parameters:
                parameter.normal_()
        average.update(parameters)
        d = min(0.5, (1 + n) / (10 + n))
        for shadow, parameter in zip(expected, parameters, strict=True):
            shadow[:] = [d * s + (1 - d) * w for s, w in zip(shadow, parameter.flatten().tolist(), strict=True)]
    for shadow, plain in zip(average.shadow, expected, strict=True):
        torch.testing.assert_close(shadow.flatten(), torch.tensor(plain), rtol=1e-5, atol=1e-6)


def test_the_warm_up_is_over_when_the_docstring_says():
    decay = 0.9
    over = round((10 * decay - 1) / (1 - decay))
    one = [torch.nn.Parameter(torch.zeros(1))]
    steps = {}
    for n in (over - 1, over, 500):
        average = WeightAverage(decay)
        average.load_state_dict({"updates": n, "shadow": [torch.ones(1)]})
        average.update(one)
        steps[n] = float(average.shadow[0])
    assert steps[over - 1] < decay - 1e-4
    assert steps[over] == pytest.approx(decay)
    assert steps[500] == pytest.approx(decay)


def test_decay_zero_is_the_weights_themselves():
    parameters, average = weights(), WeightAverage(0.0)
    average.reset([torch.zeros_like(p) for p in parameters])
    average.update(parameters)
    for shadow, parameter in zip(average.shadow, parameters, strict=True):
        torch.testing.assert_close(shadow, parameter.detach())


@pytest.mark.parametrize("fails", [False, True])
def test_swapping_in_restores_the_weights_also_after_an_error(fails):
    parameters, average = weights(), WeightAverage(0.9)
    average.reset([torch.full_like(p, 7.0) for p in parameters])
    own = [p.detach().clone() for p in parameters]
    try:
        with average.swapped_in(parameters):
            assert all((p == 7).all() for p in parameters)
            with torch.no_grad():
                parameters[0].add_(1)  # what happens to the weights inside must not reach the average
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    assert all(torch.equal(p, o) for p, o in zip(parameters, own, strict=True))
    assert all((s == 7).all() for s in average.shadow)


def test_a_loaded_average_goes_on_as_if_never_saved_and_shares_no_memory():
    parameters, average, copy = weights(), WeightAverage(0.9), WeightAverage(0.9)
    average.reset(parameters)
    average.update([p * 2 for p in parameters])
    copy.load_state_dict(average.state_dict())
    before = copy.shadow[0].clone()
    average.update([p * 3 for p in parameters])
    assert torch.equal(copy.shadow[0], before)
    copy.update([p * 3 for p in parameters])
    assert all(torch.equal(a, b) for a, b in zip(average.shadow, copy.shadow, strict=True))
    assert copy.updates == 2


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_impossible_decays_are_refused(decay):
    with pytest.raises(InvalidValue, match="ema_decay"):
        WeightAverage(decay)
