"""Diffusion of motions, where the best network and its samples are known, and by formulas written out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sc_loops.data.motions import Motions
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue
from sc_loops.models.motion_diffusion import MotionDiffusion
from sc_loops.models.motion_losses import foot_loss, masked_mse, position_loss, velocity_loss
from sc_loops.motion.representation import decode
from sc_loops.networks.mlp import TimeMLP
from sc_loops.networks.motion_transformer import MotionTransformer
from sc_loops.networks.network import Network
from sc_loops.networks.text_encoders import LatentSemantic
from sc_loops.samples import Samples
from sc_loops.sampling.schedule import cosine_schedule

LENGTHS, FRAMES = [4, 2, 6], 7
ROWS = torch.tensor([0, 2, 3])  # of first captions
ROW_LENGTHS = torch.tensor([4, 4, 2, 6])
M = 4
T = 50
SCHEDULE = cosine_schedule(T)


def motion_data(std: float = 1.0) -> RealData:
    captions = [["walks", "strolls"], ["waves"], ["turns around"]]
    names = ["a", "b", "c"]
    motions, rows = Motions.of_clips(names, captions, LENGTHS, torch.zeros(263), torch.full((263,), std))
    x = torch.randn(3, FRAMES, 263, generator=torch.Generator().manual_seed(0))
    samples = Samples(x * motions.mask(rows, FRAMES)[..., None], rows)
    return RealData(samples, samples, "motions", motions=motions)


class Known(Network):
    """A function of (t, x, y) instead of a network; what it was called with is kept."""

    def __init__(self, data: RealData, function) -> None:
        super().__init__(data, class_conditional=True)
        self.function, self.times, self.classes, self.frames = function, [], [], []
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, t: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        self.times.append(float(t[0]))
        self.classes.append(y)
        self.frames.append(x.shape[1])
        return self.function(t, x, y) + self.weight

    def null(self, y: Tensor) -> Tensor:
        return y % M + M


def known_model(function, **options) -> MotionDiffusion:
    data = motion_data()
    return MotionDiffusion(data, network=Known(data, function), **{"timesteps": T, **options}).eval()


def transformer_model(*, data: RealData | None = None, **options) -> MotionDiffusion:
    torch.manual_seed(0)
    data = data or motion_data()
    network = MotionTransformer(
        data, LatentSemantic(data, width=4), width=32, layers=2, heads=2, feedforward=32, dropout=0.0
    )
    return MotionDiffusion(data, network=network, **{"timesteps": T, **options})


@torch.no_grad()
def drawn(model: MotionDiffusion, rows: list[int], seed: int = 0) -> Tensor:
    return model.sample(torch.Generator().manual_seed(seed), len(rows), torch.tensor(rows))


SAMPLERS = [{}, {"steps": 5}, {"sampler": "ddim"}, {"sampler": "ddim", "steps": 10, "eta": 1.0}]


@pytest.mark.parametrize("options", SAMPLERS)
def test_of_one_data_point_the_sample_is_that_point(options) -> None:
    point = torch.randn(FRAMES, 263, generator=torch.Generator().manual_seed(1))
    model = known_model(lambda t, x, y: point[: x.shape[1]].expand_as(x), **options)
    x = drawn(model, [3, 2, 0, 1, 2])
    for motion, length in zip(x, [6, 2, 4, 4, 2], strict=True):
        torch.testing.assert_close(motion[:length], point[:length])
        assert not motion[length:].any()
    whole = model.sample(torch.Generator().manual_seed(0), 2)  # without captions all frames are there
    torch.testing.assert_close(whole, point.expand(2, FRAMES, 263))


@pytest.mark.parametrize("options", [{"timesteps": 400}, {"timesteps": 400, "sampler": "ddim"}])
def test_the_optimal_network_samples_the_gaussian(options) -> None:
    mean, std = 0.5, 0.6
    schedule = cosine_schedule(400)

    def optimal(t: Tensor, x: Tensor, y: Tensor) -> Tensor:
        alpha_bar = schedule[(t * 400).round().long()].float()[:, None, None]
        return mean + alpha_bar.sqrt() * std**2 * (x - alpha_bar.sqrt() * mean) / (alpha_bar * std**2 + 1 - alpha_bar)

    x = drawn(known_model(optimal, guidance_scale=1.0, **options), [3] * 40)[:, :6].flatten()
    assert float(x.mean()) == pytest.approx(mean, abs=4 * std / len(x) ** 0.5 + 0.01)
    assert float(x.std()) == pytest.approx(std, rel=0.04)


def test_the_loss_is_the_masked_error_of_noised_motions() -> None:
    model = known_model(lambda t, x, y: 0.3 * x)
    batch = motion_data().train
    torch.manual_seed(3)
    value = model.loss(batch)
    torch.manual_seed(3)
    rows = model._motions.another_caption(batch.condition)
    torch.rand(3)  # which texts are dropped
    t, epsilon = torch.randint(T, (3,)), torch.randn_like(batch.x)
    expected = 0.0
    for i in range(3):
        length = int(ROW_LENGTHS[rows[i]])
        x0, alpha_bar = batch.x[i, :length], float(SCHEDULE[t[i]])
        noised = math.sqrt(alpha_bar) * x0 + math.sqrt(1 - alpha_bar) * epsilon[i, :length]
        expected += float((0.3 * noised - x0).square().mean()) / 3
    assert value.item() == pytest.approx(expected, rel=1e-5)
    assert model.network.frames == [6]  # none is longer


def test_each_step_has_another_caption_and_a_dropped_text_keeps_the_length() -> None:
    model = known_model(lambda t, x, y: x, condition_dropout=0.3)
    batch = motion_data().train
    for _ in range(400):
        model.loss(batch)
    classes = torch.stack(model.network.classes)
    assert torch.equal(ROW_LENGTHS[classes % M], ROW_LENGTHS[ROWS].expand(400, 3))
    dropped = (classes >= M).float().mean()
    assert float(dropped) == pytest.approx(0.3, abs=4 * 0.46 / 1200**0.5)
    second = (classes[:, 0] % M == 1).float().mean()
    assert float(second) == pytest.approx(0.5, abs=4 * 0.5 / 400**0.5)


def test_padding_has_no_influence_on_loss_and_gradients() -> None:
    model = transformer_model(position_weight=0.1, velocity_weight=0.1, foot_weight=0.1)
    batch = motion_data().train
    mask = model._motions.mask(batch.condition, FRAMES)[..., None]
    values, gradients = [], []
    for x in (batch.x, torch.where(mask, batch.x, 50.0)):
        model.zero_grad()
        torch.manual_seed(4)
        loss = model.loss(Samples(x, batch.condition))
        loss.backward()
        values.append(loss.detach())
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_the_lengths_of_others_have_no_influence_on_a_sample() -> None:
    model = transformer_model(steps=6).eval()
    beside_a_long_one, beside_a_short_one = drawn(model, [0, 3, 2]), drawn(model, [0, 2, 2])
    torch.testing.assert_close(beside_a_long_one[[0, 2]], beside_a_short_one[[0, 2]], rtol=1e-4, atol=1e-5)
    assert torch.equal(drawn(model, [0, 3, 2]), beside_a_long_one)
    assert not torch.equal(drawn(model, [0, 3, 2], seed=1), beside_a_long_one)
    assert not torch.equal(drawn(model, [1, 3, 2])[0], beside_a_long_one[0])  # another caption of the same clip


@pytest.mark.parametrize(("scale", "classes"), [(1.0, [3, 0]), (2.5, [3, 0, 7, 4]), (0.0, [3, 0, 7, 4])])
def test_guidance_goes_from_no_text_towards_the_text(scale: float, classes: list[int]) -> None:
    # Ones under a text, zeros without: what is sampled is the scale itself.
    model = known_model(lambda t, x, y: (y < M).float()[:, None, None].expand_as(x), guidance_scale=scale, steps=4)
    x = drawn(model, [3, 0])
    torch.testing.assert_close(x[0, :6], torch.full((6, 263), scale))
    assert all(y.tolist() == classes for y in model.network.classes)
    assert len(model.network.classes) == 4


def test_without_text_there_is_no_guidance_to_pay_for() -> None:
    data = motion_data()
    network = MotionTransformer(data, None, width=8, layers=1, heads=1, feedforward=8)
    rows = []
    network.register_forward_hook(lambda _, args, __: rows.append(len(args[0])))
    drawn(MotionDiffusion(data, network=network, timesteps=T, steps=3, guidance_scale=2.5).eval(), [0, 1])
    assert rows == [2, 2, 2]


def test_the_timesteps_visited() -> None:
    model = known_model(lambda t, x, y: x, steps=5, guidance_scale=1.0)
    drawn(model, [0])
    assert [round(t * T) for t in model.network.times] == [49, 39, 29, 19, 9]
    assert set(model.network.frames) == {4}


def test_it_learns() -> None:
    data = motion_data()
    model = transformer_model(data=data, learning_rate=3e-3)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    batch = Samples.concatenate([data.train] * 8)
    losses = []
    for step in range(120):
        torch.manual_seed(step)
        optimizer.zero_grad()
        loss = model.loss(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    # Three motions of independent numbers of variance 1: from knowing nothing to knowing them.
    assert sum(losses[:5]) / 5 > 0.9
    assert sum(losses[-5:]) / 5 < 0.25


def test_the_losses_of_joints_by_their_formulas() -> None:
    generator = torch.Generator().manual_seed(5)
    predicted, target = (torch.randn(3, FRAMES, 22, 3, generator=generator) for _ in range(2))
    contacts = (torch.rand(3, FRAMES, 4, generator=generator) > 0.5).float()
    mask = torch.arange(FRAMES) < torch.tensor([[4], [2], [6]])
    position, velocity, foot = 0.0, 0.0, 0.0
    for i, length in enumerate([4, 2, 6]):
        p, q = predicted[i, :length], target[i, :length]
        position += float((p - q).pow(2).sum()) / (length * 22) / 3
        for k in range(length - 1):
            difference = (p[k + 1] - p[k]) - (q[k + 1] - q[k])
            velocity += float(difference.pow(2).sum()) / 22 / (length - 1) / 3
            for number, joint in enumerate((7, 10, 8, 11)):
                moved = float((p[k + 1, joint] - p[k, joint]).pow(2).sum())
                foot += moved * float(contacts[i, k, number]) / 4 / (length - 1) / 3
    assert position_loss(predicted, target, mask).item() == pytest.approx(position, rel=1e-5)
    assert velocity_loss(predicted, target, mask).item() == pytest.approx(velocity, rel=1e-5)
    assert foot_loss(predicted, contacts, mask).item() == pytest.approx(foot, rel=1e-5)
    one_frame = torch.arange(FRAMES) < torch.ones(3, 1)
    assert velocity_loss(predicted, target, one_frame) == 0
    assert masked_mse(predicted.flatten(2), predicted.flatten(2), mask) == 0


@pytest.mark.parametrize("option", ["position_weight", "velocity_weight", "foot_weight"])
def test_a_perfect_prediction_has_no_loss_of_joints(option: str) -> None:
    data = motion_data(std=0.1)
    batch = data.train
    # The foot loss of a perfect prediction is that of the data: 0 where no foot is said to rest.
    batch.x[..., 259:] = -1.0
    perfect = Known(data, lambda t, x, y: batch.x[:, : x.shape[1]])
    model = MotionDiffusion(data, network=perfect, timesteps=T, **{option: 3.0})
    assert model.loss(batch).item() == pytest.approx(0, abs=1e-9)


def test_the_weighted_sum_is_in_metres_of_decoded_joints() -> None:
    data = motion_data(std=0.1)
    batch = data.train
    shifted = Known(data, lambda t, x, y: 1.1 * batch.x[:, : x.shape[1]])
    weights = {"position_weight": 2.0, "velocity_weight": 3.0, "foot_weight": 5.0}
    mask = data.motions.mask(batch.condition, FRAMES)
    joints, target = decode(0.11 * batch.x), decode(0.1 * batch.x)
    contacts = (0.1 * batch.x[..., 259:] > 0.5).float()
    expected = (
        masked_mse(1.1 * batch.x, batch.x, mask)
        + 2 * position_loss(joints, target, mask)
        + 3 * velocity_loss(joints, target, mask)
        + 5 * foot_loss(joints, contacts, mask)
    )
    value = MotionDiffusion(data, network=shifted, timesteps=T, **weights).loss(batch)
    torch.testing.assert_close(value.detach(), expected)


def test_the_state_is_the_network_alone() -> None:
    model = transformer_model()
    assert model.conditional
    assert all(name.startswith("network.") for name in model.state_dict())


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("sampler", "euler"),
        ("timesteps", 0),
        ("steps", 0),
        ("steps", T + 1),
        ("eta", -0.1),
        ("condition_dropout", 1.1),
        ("guidance_scale", -1.0),
        ("position_weight", -1.0),
        ("velocity_weight", math.inf),
        ("foot_weight", math.nan),
        ("learning_rate", 0.0),
    ],
)
def test_impossible_options_are_refused(option: str, value: object) -> None:
    with pytest.raises(InvalidValue) as error:
        known_model(lambda t, x, y: x, **{option: value})
    assert error.value.where == option


def test_other_data_and_networks_are_refused() -> None:
    points = RealData(Samples(torch.zeros(3, 2)), Samples(torch.zeros(3, 2)), "points")
    with pytest.raises(InvalidValue, match="motions"):
        MotionDiffusion(points, network=TimeMLP(points))
    data = motion_data()
    with pytest.raises(InvalidValue, match="motion_transformer"):
        MotionDiffusion(data, network=TimeMLP(data))
