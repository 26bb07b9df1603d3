"""DDPM on a Gaussian, where the best network, the best loss and the samples are known in closed form."""

import pytest
import torch

from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue
from sc_loops.models.ddpm import DDPM
from sc_loops.networks.mlp import TimeMLP
from sc_loops.networks.network import Network
from sc_loops.samples import Samples
from sc_loops.sampling.diffusion import prediction_target
from sc_loops.sampling.schedule import cosine_schedule, linear_schedule

MEAN, STD = torch.tensor([0.5, -1.0]), torch.tensor([0.6, 1.5])
T = 100
SCHEDULES = {"linear": linear_schedule(T, 1e-3, 0.2), "cosine": cosine_schedule(T)}


def gaussian_data(n=4, classes=0):
    generator = torch.Generator().manual_seed(0)
    x = MEAN + STD * torch.randn(n, 2, generator=generator)
    labels = torch.arange(n) % classes if classes else None
    return RealData(Samples(x, labels), Samples(x, labels), "points", tuple("abcdefgh"[:classes]))


class Optimal(Network):
    """The conditional expectation of the target given x_t, where x_0 ~ N(MEAN, STD^2)."""

    def __init__(self, schedule, prediction):
        super().__init__(gaussian_data())
        self.alpha_bar, self.prediction = SCHEDULES[schedule], prediction

    def forward(self, t, x, y=None):
        alpha_bar = self.alpha_bar[(t * T).round().long()][:, None]
        alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        deviation = (x.double() - alpha * MEAN) / (alpha_bar * STD**2 + 1 - alpha_bar)
        x0, epsilon = MEAN + alpha * STD**2 * deviation, sigma * deviation
        return prediction_target(self.prediction, x0, epsilon, alpha, sigma).float()


def optimal_model(schedule="linear", prediction="epsilon", **options):
    return DDPM(
        gaussian_data(),
        network=Optimal(schedule, prediction),
        timesteps=T,
        schedule=schedule,
        beta_start=1e-3,
        beta_end=0.2,
        prediction=prediction,
        **options,
    ).eval()


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    ("options", "tolerance"),  # a hundred steps leave the samples of the small variance some 5 % narrow
    [
        ({"variance": "fixed_large"}, 0.04),
        ({"variance": "fixed_small"}, 0.06),
        ({"sampler": "ddim"}, 0.04),
        ({"sampler": "ddim", "eta": 1.0}, 0.06),
        ({"sampler": "ddim", "steps": 50, "eta": 0.5}, 0.06),
    ],
)
def test_the_optimal_network_samples_the_gaussian(schedule, prediction, options, tolerance):
    model = optimal_model(schedule, prediction, **options)
    n = 20000
    x = model.sample(torch.Generator().manual_seed(1), n)
    torch.testing.assert_close(x.mean(0), MEAN, rtol=0, atol=4 * float(STD.max()) / n**0.5 + tolerance / 2)
    torch.testing.assert_close(x.std(0), STD, rtol=tolerance, atol=0)
    assert float(torch.corrcoef(x.T)[0, 1]) == pytest.approx(0, abs=4 / n**0.5)


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_loss_of_the_optimal_network_is_the_variance_it_cannot_explain(schedule, prediction):
    alpha_bar = SCHEDULES[schedule][:, None]
    total, variance = alpha_bar * STD**2 + 1 - alpha_bar, STD.double() ** 2
    expected = {
        "epsilon": alpha_bar * variance / total,  # 1 - sigma^2 / total
        "x0": variance * (1 - alpha_bar) / total,
        "v": variance / total,  # v and x are both linear in (x0, epsilon) and det of that map is 1
    }[prediction].mean()
    torch.manual_seed(1)  # not that of the data, whose noise this would be
    model = optimal_model(schedule, prediction)
    loss = model.loss(gaussian_data(100000).train)
    assert float(loss) == pytest.approx(float(expected), rel=0.02)


def model_of_three_classes(**options):
    torch.manual_seed(0)
    data = gaussian_data(classes=3)
    network = TimeMLP(data, width=16, depth=2, class_conditional=True)
    return DDPM(data, network=network, timesteps=T, steps=5, **options).eval()


def drawn(model, condition=None, seed=7, n=12):
    with torch.no_grad():
        return model.sample(torch.Generator().manual_seed(seed), n, condition)


@pytest.mark.parametrize("options", [{}, {"sampler": "ddim", "eta": 0.5}, {"guidance_scale": 2.0}])
def test_samples_are_a_function_of_the_generator(options):
    model, labels = model_of_three_classes(**options), torch.arange(12) % 3
    first = drawn(model, labels)
    torch.manual_seed(99)  # the global generator plays no part
    assert torch.equal(first, drawn(model, labels))
    assert not torch.equal(first, drawn(model, labels, seed=8))


def test_guidance_scales_one_and_zero():
    plain, labels = model_of_three_classes(), torch.arange(12) % 3
    assert not torch.allclose(drawn(plain, labels), drawn(plain))
    none = model_of_three_classes(guidance_scale=0.0)
    torch.testing.assert_close(drawn(none, labels), drawn(plain))
    nearly = model_of_three_classes(guidance_scale=1 + 1e-7)  # goes through the formula
    torch.testing.assert_close(drawn(nearly, labels), drawn(plain, labels), rtol=1e-4, atol=1e-5)


def test_clip_bounds_the_samples():
    assert drawn(model_of_three_classes()).abs().max() > 0.3
    assert drawn(model_of_three_classes(clip=0.3)).abs().max() <= 0.3


def test_the_number_of_evaluations_is_the_number_of_steps():
    calls = []
    for model in (optimal_model(steps=9), optimal_model()):
        model.network.register_forward_hook(lambda _, args, __: calls.append(round(float(args[0][0]) * T)))
        model.sample(torch.Generator().manual_seed(0), 3)
    assert len(calls) == 9 + T
    assert calls[0] == T - 1
    assert calls[9:] == list(range(T - 1, -1, -1))


def test_the_state_is_the_network_alone():
    model = model_of_three_classes()
    assert all(name.startswith("network.") for name in model.state_dict())
    assert all(buffer.is_floating_point() for buffer in model.buffers())
    assert model.conditional
    assert not optimal_model().conditional


def test_a_class_conditional_network_needs_labels():
    with pytest.raises(InvalidValue, match="class_conditional"):
        model_of_three_classes().loss(gaussian_data(classes=0).train)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("schedule", "quadratic"),
        ("prediction", "noise"),
        ("sampler", "euler"),
        ("variance", "learned"),
        ("timesteps", 0),
        ("beta_start", 0.0),
        ("beta_end", 1.0),
        ("beta_end", 1e-5),
        ("steps", 0),
        ("steps", 1001),
        ("eta", 1.5),
        ("clip", 0.0),
        ("condition_dropout", 1.1),
        ("guidance_scale", -1.0),
        ("guidance_scale", 2.0),
        ("learning_rate", 0.0),
    ],
)
def test_impossible_options_are_refused(option, value):
    data = gaussian_data()
    with pytest.raises(InvalidValue) as error:
        DDPM(data, network=TimeMLP(data), **{option: value})
    assert error.value.where == option
