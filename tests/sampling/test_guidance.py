"""Classifier-free guidance against its formula, on a network whose predictions are known."""

import pytest
import torch

from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue
from sc_loops.networks.network import Network
from sc_loops.samples import Samples
from sc_loops.sampling.guidance import guided, in_parts, training_labels

SAMPLES = Samples(torch.zeros(4, 2), torch.tensor([0, 1, 2, 0]))
DATA = RealData(SAMPLES, SAMPLES, "points", ("a", "b", "c"))


class OfClass(Network):
    """Predicts x + 10 t + 100 (class); remembers the batch sizes it saw."""

    def __init__(self, class_conditional=True):
        super().__init__(DATA, class_conditional=class_conditional)
        self.batches = []

    def forward(self, t, x, y=None):
        self.batches.append(len(x))
        return x + 10 * t[:, None] + 100 * self.labels(y, x)[:, None]


X, T, Y = torch.randn(5, 2), torch.rand(5), torch.tensor([0, 1, 2, 1, 0])


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0])
def test_guidance_is_its_formula_in_one_call(scale):
    network = OfClass()
    expected = X + 10 * T[:, None] + 100 * (3 + scale * (Y - 3))[:, None]
    torch.testing.assert_close(guided(network, T, X, Y, scale), expected)
    assert network.batches == [10]


def test_scale_one_is_conditional_and_no_class_unconditional_at_single_cost():
    network = OfClass()
    assert torch.equal(guided(network, T, X, Y, 1.0), network(T, X, Y))
    assert torch.equal(guided(network, T, X, None, 7.0), network(T, X, None))
    torch.testing.assert_close(guided(network, T, X, Y, 0.0), network(T, X, None))
    assert network.batches == [5, 5, 5, 5, 10, 5]


def test_condition_dropout_leaves_the_null_class_at_its_rate():
    labels = torch.arange(3).repeat(10000)
    kept = training_labels(OfClass(), labels, 0.2)
    dropped = kept == 3
    assert torch.equal(kept[~dropped], labels[~dropped])
    assert dropped.float().mean() == pytest.approx(0.2, abs=0.01)  # four standard errors
    assert torch.equal(training_labels(OfClass(), labels, 0.0), labels)


def test_unlabelled_batches():
    assert training_labels(OfClass(class_conditional=False), Y, 0.5) is None
    with pytest.raises(InvalidValue, match="class_conditional"):
        training_labels(OfClass(), None, 0.1)


@pytest.mark.parametrize(
    ("rows", "one_shape", "calls"),
    [
        (None, False, [5]),
        (None, True, [5]),
        (5, True, [5]),
        (2, False, [2, 2, 1]),
        (2, True, [2, 2, 2]),
        (8, False, [5]),
        (8, True, [8]),
    ],
)
def test_parts_change_nothing_and_have_one_size_where_it_matters(rows, one_shape, calls):
    network = OfClass()
    network.one_shape = one_shape
    assert torch.equal(in_parts(network, T, X, Y, rows), network(T, X, Y))
    assert torch.equal(in_parts(network, T, X, None, rows), network(T, X))
    assert network.batches == [*calls, 5, *calls, 5]


def test_guidance_in_parts_is_guidance():
    assert torch.equal(guided(OfClass(), T, X, Y, 2.0, rows=3), guided(OfClass(), T, X, Y, 2.0))
