"""SIMS' shift of the classes' shares: the composition against enumeration, and the choice of samples."""

import pytest
import torch
from tiny_flows import DATA, MixtureVelocity, drawn, evaluation, synthesis, trained, unlabelled

from sc_loops import FlowMatching, NearestMean, Samples
from sc_loops.errors import InvalidValue, RunError
from sc_loops.improving.shares import chosen, composition, counts, total_variation
from sc_loops.improving.sims import SIMS, Extrapolated

GRID = torch.linspace(-10, 10, 2001, dtype=torch.float64)


def classes_of(distance):
    """``(2, grid)``: two Gaussian classes of standard deviation 1 whose means are so far apart."""
    density = torch.exp(-((GRID - torch.tensor([[-distance / 2], [distance / 2]])) ** 2) / 2)
    return density / density.sum(dim=1, keepdim=True)


def shares_of_sims(base, chosen_shares, omega, distance):
    """The classes' shares of p^(1+ω) / q^ω by enumeration; a point is of the class whose mean is nearer."""
    of_class = classes_of(distance)
    quotient = (base @ of_class) ** (1 + omega) / (chosen_shares @ of_class) ** omega
    left = quotient[GRID < 0].sum() + quotient[GRID == 0].sum() / 2
    return torch.stack([left, quotient.sum() - left]) / quotient.sum()


@pytest.mark.parametrize("distance", [2, 4, 9])
@pytest.mark.parametrize("omega", [0.5, 3.0])
def test_to_first_order_the_quotient_of_densities_has_the_wanted_shares(omega, distance):
    base, errors = torch.tensor([0.7, 0.3], dtype=torch.float64), []
    for size in (0.02, 0.002):
        wanted = base - size * torch.tensor([1.0, -1.0])
        found = shares_of_sims(base, composition(base, wanted, omega)[0], omega, distance)
        at_wanted = shares_of_sims(wanted, wanted, omega, distance)  # of overlapping classes, not the wanted shares
        errors.append(float((found - at_wanted).abs().max()))
    assert errors[0] < 0.002
    assert errors[1] < errors[0] / 80


@pytest.mark.parametrize(("wanted", "omega"), [(0.5, 1.0), (0.5, 4.0), (0.6, 0.5), (0.8, 1.0)])
def test_a_sampler_with_exact_predictions_gives_the_wanted_shares(wanted, omega):
    base, wanted = torch.tensor([0.7, 0.3]), torch.tensor([wanted, 1 - wanted])
    shares, part = composition(base, wanted, omega)
    assert part == 1
    network = Extrapolated(MixtureVelocity(base.tolist()))
    network.auxiliary.shares.data = shares
    network.omega.fill_(omega)
    left = [
        float((drawn(FlowMatching(unlabelled(), network=n, steps=16), 4000)[:, 0] < 0).float().mean())
        for n in (network.base, network)
    ]
    assert left[1] - left[0] == pytest.approx(float(wanted[0] - base[0]), abs=0.015)


def test_it_is_the_opposite_bias_times_one_over_omega():
    base = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    wanted = torch.tensor([0.4, 0.34, 0.26], dtype=torch.float64)
    shares, part = composition(base, wanted, 0.5)
    torch.testing.assert_close(shares, base - (wanted - base) / 0.5)
    assert part == 1
    torch.testing.assert_close(composition(base, base, 0.1)[0], base)


def test_no_share_is_negative_and_only_a_part_of_the_shift_may_be_had():
    base, wanted = torch.tensor([0.7, 0.3]), torch.tensor([0.1, 0.9])
    shares, part = composition(base, wanted, 1.0)
    torch.testing.assert_close(shares, torch.tensor([1.0, 0.0]))
    assert part == pytest.approx(0.5)
    torch.testing.assert_close(base - 1.0 * (shares - base), base + part * (wanted - base))
    assert composition(base, wanted, 2.0)[1] == pytest.approx(1.0)


def test_a_class_that_never_comes_stays_away():
    base, wanted = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.3, 0.2, 0.5])
    shares, part = composition(base, wanted, 1.0)
    torch.testing.assert_close(shares, torch.tensor([0.4, 0.6, 0.0]))  # as for 0.6 : 0.4 of the two
    assert part == 1
    assert composition(base, torch.tensor([0.0, 0.0, 1.0]), 1.0) == (base, 0.0)


def test_counts_add_up_and_are_near():
    shares = torch.tensor([0.335, 0.335, 0.33])
    for n in (1, 2, 10, 101):
        found = counts(shares, n)
        assert found.sum() == n
        assert ((found - n * shares).abs() < 1).all()
    assert counts(torch.tensor([0.25, 0.75]), 8).tolist() == [2, 6]


def chunks(sizes):
    """Samples whose x is their number; every fourth is of class 1."""
    start = 0
    for size in sizes:
        yield Samples(torch.arange(start, start + size).float()[:, None])
        start += size


def of_class(samples):
    return (samples.x[:, 0] % 4 == 0).long()


@pytest.mark.parametrize("sizes", [[40, 40, 40], [7] * 20, [120]])
def test_the_first_of_each_class_are_chosen_in_the_composition(sizes):
    wanted = torch.tensor([0.95, 0.05])
    items, row = chosen(chunks(sizes), of_class, 20, wanted, 1.0)
    base, taken = (torch.tensor([row[f"improvement/{n}_share/{k}"] for k in range(2)]) for n in ("base", "chosen"))
    expected = counts(composition(base, wanted, 1.0)[0], 20)
    assert torch.bincount(of_class(items), minlength=2).tolist() == expected.tolist() == (20 * taken).round().tolist()
    assert base[1] == pytest.approx(0.25, abs=0.05)
    assert taken[1] > 0.4  # much of what little is wanted of
    everything = torch.arange(200).float()[:, None]
    labels = of_class(Samples(everything))
    first = torch.cat([everything[labels == k][:m] for k, m in enumerate(expected.tolist())])
    assert torch.equal(items.x, first.sort(dim=0).values)


def test_no_more_chunks_are_made_than_needed_and_too_few_is_an_error():
    source = chunks([10] * 100)
    chosen(source, of_class, 10, torch.tensor([0.9, 0.1]), 1.0)
    assert next(source).x[0] <= 40
    with pytest.raises(RunError, match="shares"):
        chosen(chunks([10, 10]), of_class, 10, torch.tensor([1.0, 0.0]), 0.25)


def classifier(data=DATA):
    made = NearestMean(data)
    made.prepare(None)
    return made


def test_the_auxiliary_is_trained_on_the_composition(tmp_path):
    model, knows = trained(), classifier()
    sims = SIMS(DATA, knows, samples=50, steps=2, batch_size=10, omega=2.0, shares=(0.3, 0.7))
    row = sims.prepare(model, tmp_path / "s.safetensors", evaluation(), synthesis())
    base, taken = ([row[f"improvement/{name}_share/{k}"] for k in range(2)] for name in ("base", "chosen"))
    shares, part = composition(torch.tensor(base), torch.tensor([0.3, 0.7]), 2.0)
    expected = counts(shares, 50) / 50
    assert row["improvement/shift"] == pytest.approx(part, abs=1e-6)
    assert taken == pytest.approx(expected.tolist())
    assert (taken[0] > base[0]) == (base[0] > 0.3)
    with model.averaged():
        items, _ = sims.self_synthesised(model, synthesis())
    shares = knows.probabilities(items.x).argmax(dim=1).float().mean()
    assert float(shares) == pytest.approx(taken[1], abs=1e-6)


def test_what_came_of_it_is_measured_of_the_improved_model(tmp_path):
    """By hand: the classes of samples drawn with the auxiliary that was written."""
    model, knows = trained(), classifier()
    options = {"samples": 50, "steps": 4, "batch_size": 10, "omega": 2.0, "search_samples": 90}
    sims = SIMS(DATA, knows, **options, shares=(0.3, 0.7))
    row = sims.prepare(model, tmp_path / "s.safetensors", evaluation(), synthesis())
    with sims.applied(model), model.averaged():
        x = torch.cat([chunk.x for chunk in synthesis().chunks(model, 90, "improved shares")])
    second = float(knows.probabilities(x).argmax(dim=1).double().mean())
    assert row["improvement/improved_share/1"] == pytest.approx(second)
    assert row["improvement/total_variation/improved"] == pytest.approx(abs(second - 0.7))
    assert row["improvement/total_variation/base"] == pytest.approx(
        abs(row["improvement/base_share/1"] - 0.7), abs=1e-6
    )


def test_total_variation():
    p, q = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.2, 0.3, 0.5])
    largest = max(float((p - q)[[i for i in range(3) if mask >> i & 1]].sum()) for mask in range(8))
    assert total_variation(p, q) == pytest.approx(largest)  # over all sets of classes, of their share
    assert total_variation(p, p) == 0
    assert total_variation(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])) == 1


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"shares": (0.5, 0.6)}, "shares"),
        ({"shares": (1.5, -0.5)}, "shares"),
        ({"shares": (0.2, 0.3, 0.5)}, "2 numbers"),
        ({"omega": None}, "omega"),
        ({"omega": -0.5}, "omega"),
    ],
)
def test_impossible_shares_are_refused(options, match):
    with pytest.raises(InvalidValue, match=match):
        SIMS(DATA, classifier(), **{"samples": 10, "steps": 1, "omega": 1.0, "shares": (0.5, 0.5), **options})


def test_shares_need_a_classifier_and_a_model_without_classes():
    with pytest.raises(InvalidValue, match="classifier"):
        SIMS(DATA, samples=10, steps=1, omega=1.0, shares=(0.5, 0.5))
    sims = SIMS(DATA, classifier(), samples=10, steps=1, omega=1.0, shares=(0.5, 0.5))
    sims.check(trained(), evaluation())
    with pytest.raises(InvalidValue, match="class_conditional"):
        sims.check(trained(network={"class_conditional": True}), evaluation())
