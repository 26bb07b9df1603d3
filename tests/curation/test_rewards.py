"""The rewards against their formulas, and what a wrong reward is told."""

import pytest
import torch

from sc_loops.curation.rewards import (
    BoundedReward,
    ClassifierConfidence,
    ClassProbability,
    ClippedDistance,
    checked,
)
from sc_loops.errors import InvalidValue, RunError, UsageError
from sc_loops.networks.classifier import Classifier


class SoftmaxOfCoordinates(Classifier):
    """q = softmax(x)."""

    class_names = ("airplane", "automobile", "bird")
    feature_name = "coordinates"

    def probabilities(self, x):
        return x.softmax(dim=1)

    def features(self, x):
        return x


X = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [5.0, -1.0, 0.0]])


def test_clipped_distance():
    reward = ClippedDistance(center=[1.0, 0.0], radius=1.0, scale=10.0)
    x = torch.tensor([[1.0, 0.0], [1.0, 1.0], [4.0, 4.0]])
    torch.testing.assert_close(reward(x), torch.tensor([0.0, 0.0, -40.0]))
    assert reward.supremum == 0.0


def test_class_probability_and_confidence():
    q = X.softmax(dim=1)
    torch.testing.assert_close(ClassProbability(SoftmaxOfCoordinates(), target=2, scale=3.0)(X), 3 * q[:, 2])
    confidence = ClassifierConfidence(SoftmaxOfCoordinates(), scale=5.0)
    torch.testing.assert_close(confidence(X), 5 * q.max(dim=1).values)
    assert confidence.supremum == 5.0


def test_which_rewards_have_a_known_supremum():
    assert isinstance(ClippedDistance(center=[0.0]), BoundedReward)
    assert isinstance(ClassProbability(SoftmaxOfCoordinates(), target=0), BoundedReward)
    assert not isinstance(lambda x: x[:, 0], BoundedReward)


def test_impossible_values():
    with pytest.raises(InvalidValue, match=r"0 \(airplane\), 1 \(automobile\), 2 \(bird\)"):
        ClassProbability(SoftmaxOfCoordinates(), target=3)
    with pytest.raises(InvalidValue, match="radius"):
        ClippedDistance(center=[0.0], radius=-1.0)
    with pytest.raises(InvalidValue, match="scale"):
        ClassifierConfidence(SoftmaxOfCoordinates(), scale=0.0)


def test_checked_passes_good_values_on_without_gradients():
    weight = torch.ones(3, requires_grad=True)
    values = checked(lambda x: (x * weight).sum(dim=1).double(), X, "reward", RunError)
    torch.testing.assert_close(values, X.sum(dim=1))
    assert values.dtype == torch.float32
    assert not values.requires_grad


@pytest.mark.parametrize("error", [UsageError, RunError])
@pytest.mark.parametrize(
    ("reward", "found"),
    [
        (lambda x: x, r"shape \(3, 3\)"),
        (lambda x: x.mean(), r"shape \(\)"),
        (lambda x: x[:, 0].long(), "torch.int64"),
        (lambda x: x[:, 0].tolist(), "a list"),
        (lambda x: x[:, 0].log(), "1 of 3 are NaN or infinite"),
        (lambda x: torch.full((3,), 1e300, dtype=torch.float64), "3 of 3"),
        (ClippedDistance(center=[0.0, 0.0]), "ValueError: center has 2 coordinates, a sample has 3"),
    ],
)
def test_checked_says_what_a_wrong_reward_returned(reward, found, error):
    with pytest.raises(error, match=found) as caught:
        checked(reward, X, "the reward", error)
    assert caught.value.where == "the reward"
    assert "(N, *shape) to (N,)" in caught.value.do


def test_checked_chains_what_the_reward_raised():
    def broken(x):
        raise KeyError("q")

    with pytest.raises(RunError) as caught:
        checked(broken, X, "the reward", RunError)
    assert isinstance(caught.value.__cause__, KeyError)
