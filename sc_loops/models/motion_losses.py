"""What a model of motions is trained for: the error of its vectors, and of the joints that these stand for."""

from __future__ import annotations

from torch import Tensor

from sc_loops.motion.representation import FEET


def masked_mse(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """The mean over motions of the mean squared error over their own frames and features.

    Args:
        predicted, target: ``(N, T, D)``.
        mask: ``(N, T)`` bool: which frames are there.
    """
    return _mean((predicted - target).square(), mask)


def position_loss(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """The mean squared distance of joints, in m² (Tevet et al. 2023, Equation 3).

    Args:
        predicted, target: joints ``(N, T, J, 3)``, metres.
        mask: ``(N, T)`` bool.
    """
    return _mean((predicted - target).square().sum(-1), mask)


def velocity_loss(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """The mean squared difference of the joints' steps from frame to frame, in m² (Tevet et al. 2023, Equation 5)."""
    return _mean((predicted.diff(dim=1) - target.diff(dim=1)).square().sum(-1), mask[:, 1:])


def foot_loss(predicted: Tensor, contacts: Tensor, mask: Tensor) -> Tensor:
    """The mean squared step, in m², of feet that should rest (Tevet et al. 2023,
    Equation 4).

    Args:
        contacts: ``(N, T, 4)``: 1 where a foot, in the order of ``FEET``, rests until the next frame, else 0.
    """
    steps = predicted[:, :, FEET].diff(dim=1).square().sum(-1)
    return _mean(steps * contacts[:, :-1], mask[:, 1:])


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over N of the mean of ``values (N, T, K)`` over a motion's frames and K; 0 for one without frames."""
    frames = mask.sum(1).clamp(min=1)
    return ((values.mean(-1) * mask).sum(1) / frames).mean()
