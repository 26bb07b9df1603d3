"""Flow matching on a Gaussian, where the velocity, its loss and the samples are known in closed form."""

import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue
from sc_loops.models.flow_matching import FlowMatching
from sc_loops.networks.mlp import TimeMLP
from sc_loops.networks.network import Network
from sc_loops.samples import Samples

MEAN, STD = torch.tensor([0.5, -1.0]), torch.tensor([0.6, 1.5])
COUPLINGS = ["independent", "exact_ot", "target", "variance_preserving"]


def gaussian_data(n=4, classes=0):
    generator = torch.Generator().manual_seed(0)
    x = MEAN + STD * torch.randn(n, 2, generator=generator)
    labels = torch.arange(n) % classes if classes else None
    return RealData(Samples(x, labels), Samples(x, labels), "points", tuple("abcdefgh"[:classes]))


def levels(coupling, t):
    """a, b and their derivatives in x_t = a x_1 + b x_0, for noise x_0 independent of x_1."""
    if coupling == "variance_preserving":
        angle = math.pi / 2 * t
        return angle.sin(), angle.cos(), math.pi / 2 * angle.cos(), -math.pi / 2 * angle.sin()
    return t, 1 - t, torch.ones_like(t), -torch.ones_like(t)


class Optimal(Network):
    """E[u_t | x_t] for x_1 ~ N(MEAN, STD^2) and independent noise."""

    def __init__(self, coupling):
        super().__init__(gaussian_data())
        self.coupling = coupling

    def forward(self, t, x, y=None):
        a, b, da, db = levels(self.coupling, t[:, None])
        gain = (a * da * STD**2 + b * db) / (a**2 * STD**2 + b**2)
        return da * MEAN + gain * (x - a * MEAN)


def optimal_model(coupling, **options):
    return FlowMatching(gaussian_data(), network=Optimal(coupling), coupling=coupling, **options).eval()


@pytest.mark.parametrize("coupling", ["independent", "target", "variance_preserving"])
@pytest.mark.parametrize(
    ("solver", "steps"), [("euler", 400), ("midpoint", 32), ("heun", 32), ("rk4", 16), ("dopri5", 1)]
)
def test_the_optimal_velocity_carries_noise_to_the_gaussian(coupling, solver, steps):
    model, n = optimal_model(coupling, solver=solver, steps=steps), 20000
    x = model.sample(torch.Generator().manual_seed(1), n)
    torch.testing.assert_close(x.mean(0), MEAN, rtol=0, atol=4 * float(STD.max()) / n**0.5)
    torch.testing.assert_close(x.std(0), STD, rtol=4 / (2 * n) ** 0.5 + 0.005, atol=0)
    assert float(torch.corrcoef(x.T)[0, 1]) == pytest.approx(0, abs=4 / n**0.5)


@pytest.mark.parametrize("coupling", ["independent", "target", "variance_preserving"])
def test_the_loss_of_the_optimal_velocity_is_the_variance_it_cannot_explain(coupling):
    t = (torch.arange(10000, dtype=torch.float64)[:, None] + 0.5) / 10000
    a, b, da, db = levels(coupling, t)
    variance = STD.double() ** 2
    covariance = a * da * variance + b * db
    expected = (da**2 * variance + db**2 - covariance**2 / (a**2 * variance + b**2)).mean()
    torch.manual_seed(1)  # not that of the data, whose noise this would be
    loss = optimal_model(coupling).loss(gaussian_data(100000).train)
    assert float(loss) == pytest.approx(float(expected), rel=0.02)


def path_of(coupling, n=64, **options):
    data = gaussian_data(n, classes=3)
    network = TimeMLP(data, width=8, depth=1, class_conditional=True)
    model = FlowMatching(data, network=network, coupling=coupling, **options)
    return data.train, *model.path(data.train.x, data.train.condition)


def rows(found, among):
    """For each row of ``found`` the row of ``among`` that it is."""
    distance = (found[:, None] - among).norm(dim=2)
    assert distance.amin(1).max() < 1e-3
    return distance.argmin(1)


@pytest.mark.parametrize(("coupling", "replacement"), [*((c, False) for c in COUPLINGS), ("exact_ot", True)])
def test_paths_lead_to_the_data_and_classes_follow(coupling, replacement):
    torch.manual_seed(1)
    real, t, xt, ut, y = path_of(coupling, ot_with_replacement=replacement)
    a, b, da, db = levels(coupling, t[:, None])
    x1 = (db * xt - b * ut) / (a * db - b * da)  # x_t = a x1 + b x0 and u_t = da x1 + db x0, solved
    index = rows(x1, real.x)
    assert torch.equal(y, real.condition[index])
    assert (t.min() >= 0) & (t.max() <= 1)
    if not replacement:
        assert sorted(index.tolist()) == list(range(64))
    if coupling not in ("exact_ot", "independent"):
        return
    x0 = xt - t[:, None] * ut
    costs = torch.cdist(x0, x1).square().double().numpy()
    if replacement:  # pairs drawn from a plan: what they join is still optimal among themselves
        assert len(set(index.tolist())) < 64
    best = costs[linear_sum_assignment(costs)].mean()
    assert (costs.diagonal().mean() == pytest.approx(best, rel=1e-4)) == (coupling == "exact_ot")


def test_a_block_is_coupled_by_itself():
    """Each block's pairs are the best within it, and the best of the whole batch cost less."""
    torch.manual_seed(1)
    real, t, xt, ut, _ = path_of("exact_ot", ot_block=16)
    x0, x1 = xt - t[:, None] * ut, xt + (1 - t[:, None]) * ut
    costs = torch.cdist(x0, x1).square().double().numpy()
    for k in range(0, 64, 16):
        assert sorted(rows(x1[k : k + 16], real.x).tolist()) == list(range(k, k + 16))
        block = costs[k : k + 16, k : k + 16]
        assert block.trace() == pytest.approx(block[linear_sum_assignment(block)].sum(), rel=1e-4)
    assert costs.trace() > 1.01 * costs[linear_sum_assignment(costs)].sum()


def test_sigma_widens_the_path():
    torch.manual_seed(1)
    real, t, xt, ut, _ = path_of("independent", n=4000, sigma=0.5)
    residual = xt + (1 - t[:, None]) * ut - real.x  # x_t - t x_1 - (1 - t) x_0 = sigma epsilon
    assert float(residual.std()) == pytest.approx(0.5, rel=0.04)


def model_of_three_classes(**options):
    torch.manual_seed(0)
    data = gaussian_data(classes=3)
    network = TimeMLP(data, width=16, depth=2, class_conditional=True)
    return FlowMatching(data, network=network, steps=3, **options).eval()


def drawn(model, condition=None, seed=7, n=12):
    with torch.no_grad():
        return model.sample(torch.Generator().manual_seed(seed), n, condition)


@pytest.mark.parametrize("options", [{}, {"solver": "dopri5"}, {"guidance_scale": 2.0}])
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
    free, clipped = drawn(model_of_three_classes()), drawn(model_of_three_classes(clip=0.3))
    assert free.abs().max() > 0.3
    assert torch.equal(clipped, free.clamp(-0.3, 0.3))


def test_the_state_is_the_network_alone():
    model = model_of_three_classes()
    assert all(name.startswith("network.") for name in model.state_dict())
    assert model.conditional
    assert not optimal_model("independent").conditional


def test_a_class_conditional_network_needs_labels():
    with pytest.raises(InvalidValue, match="class_conditional"):
        model_of_three_classes().loss(gaussian_data(classes=0).train)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("coupling", "optimal"),
        ("solver", "leapfrog"),
        ("sigma", -0.1),
        ("ot_block", 0),
        ("steps", 0),
        ("tolerance", 0.0),
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
        FlowMatching(data, network=TimeMLP(data), **{option: value})
    assert error.value.where == option


@pytest.mark.parametrize("options", [{"coupling": "independent"}, {"ot_with_replacement": True}])
def test_blocks_are_for_permutations(options):
    data = gaussian_data()
    with pytest.raises(InvalidValue, match="ot_block"):
        FlowMatching(data, network=TimeMLP(data), ot_block=8, **options)


def test_replacement_is_for_exact_ot_alone():
    data = gaussian_data()
    with pytest.raises(InvalidValue, match="ot_with_replacement"):
        FlowMatching(data, network=TimeMLP(data), coupling="target", ot_with_replacement=True)
