"""Fine-tuning on the model's own samples: against plain AdamW, without a trace, and the same again."""

import copy

import numpy as np
import pytest
import torch
from tiny_flows import DATA, assert_same, everything, synthesis, trained
from torch import nn

from sc_loops import GenerativeModel, Training
from sc_loops.errors import RunError
from sc_loops.improving.auxiliary import fine_tuned, undisturbed
from sc_loops.models.ema import WeightAverage
from sc_loops.randomness import seed_for, seed_global


class Plain(GenerativeModel):
    """The mean of the data, with a running statistic and dropout; its loss draws from numpy and torch."""

    def __init__(self, **options):
        super().__init__(**{"learning_rate": 0.05, "ema_decay": 0.9, **options})
        self.mean = nn.Parameter(torch.tensor([3.0, -2.0]))
        self.layers = nn.Sequential(nn.BatchNorm1d(2, affine=False), nn.Dropout(0.1))
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)

    def loss(self, batch):
        noise = torch.randn_like(batch.x) + float(np.random.rand()) + 0.01 * self.layers(batch.x)
        return (batch.x + 0.1 * noise - self.mean).square().mean()

    def sample(self, generator, n, condition=None):
        return self.mean + torch.randn(n, 2, generator=generator)


def tuned(model, steps=12, batch_size=20, **options):
    training = Training(steps=steps, **{k: v for k, v in options.items() if k == "learning_rate"})
    synthesis_options = {k: v for k, v in options.items() if k != "learning_rate"}
    return fine_tuned(model, DATA.train, training, batch_size, synthesis(**synthesis_options))


def after_a_step(model):
    """``model`` with gradients and weights that are not its average."""
    model._place_average()
    model.loss(DATA.train).backward()
    with torch.no_grad():
        for weight in model._trainable:
            weight.add_(0.1)
    return model


def test_it_is_adamw_from_the_average_with_an_average_of_its_own():
    model = after_a_step(Plain(weight_decay=0.1, betas=(0.8, 0.9)))
    state, mean_loss = tuned(model, batch_size=len(DATA.train))
    mean = nn.Parameter(torch.tensor([3.0, -2.0]))  # the average, which was not moved
    reference, average, losses = Plain(), WeightAverage(0.9), []
    reference.mean = mean
    average.reset([mean])
    optimizer = torch.optim.AdamW([mean], lr=0.05, betas=(0.8, 0.9), weight_decay=0.1)
    order = torch.Generator()
    for step in range(12):
        order.manual_seed(seed_for(seed_for(3, "auxiliary", 1), "order", 1, step))
        seed_global(3, "auxiliary", 1, step)
        loss = reference.loss(DATA.train[torch.randperm(len(DATA.train), generator=order)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update([mean])
        losses.append(float(loss.detach()))
    torch.testing.assert_close(state["mean"], average.shadow[0])
    assert mean_loss == pytest.approx(sum(losses) / 12)
    assert not torch.equal(state["layers.0.running_mean"], model.layers[0].running_mean)  # the auxiliary's own


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_of_the_model_or_of_chance_is_changed(fails):
    model = after_a_step(Plain())
    model.layers[1].eval()
    before, modes = everything(model), [m.training for m in model.modules()]
    gradient = model.mean.grad
    torch.manual_seed(1)
    np.random.seed(1)
    expected = (torch.rand(2).tolist(), float(np.random.rand()))
    torch.manual_seed(1)
    np.random.seed(1)

    def tell(phase, done, total):
        if fails and done == 3:
            raise SystemExit  # as a signal does

    try:
        tuned(model, tell=tell)
    except SystemExit:
        assert fails
    assert (torch.rand(2).tolist(), float(np.random.rand())) == expected
    assert_same(everything(model), before)
    assert model.mean.grad is gradient
    assert [m.training for m in model.modules()] == modes


def test_it_is_a_function_of_the_average_the_seed_and_the_generation():
    first = tuned(after_a_step(Plain()))[0]
    torch.rand(3)
    again = tuned(Plain())[0]  # neither weights that are not averaged nor what was drawn before matter
    assert torch.equal(again["mean"], first["mean"])
    for change in ({"seed": 4}, {"generation": 2}, {"learning_rate": 0.01}):
        assert not torch.equal(tuned(Plain(), **change)[0]["mean"], first["mean"])


def test_parts_of_a_batch_add_up():
    class Quiet(Plain):
        def loss(self, batch):
            return (batch.x - self.mean).square().mean()

    whole, parts = (tuned(Quiet(network_batch=rows))[0]["mean"] for rows in (None, 7))
    torch.testing.assert_close(whole, parts)


def test_it_goes_towards_what_it_is_trained_on():
    state, _ = tuned(Plain(), steps=150)
    torch.testing.assert_close(state["mean"], DATA.train.x.mean(dim=0) + 0.05, atol=0.1, rtol=0)  # 0.05: of the noise


def test_frozen_weights_stay_and_gradients_do_not_reach_hooks():
    model, seen = Plain(), []
    model.mean.register_post_accumulate_grad_hook(seen.append)  # as DDP's
    state, _ = tuned(model)
    assert torch.equal(state["frozen"], model.frozen)
    assert not seen


def test_flows_that_are_paired_find_their_noise():
    class Paired(Plain):
        def pairing(self):
            return lambda x, generator: (x + 1, torch.arange(len(x)))

        def loss(self, batch):
            assert torch.equal(batch.columns["noise"], batch.x + 1)
            return super().loss(batch)

    tuned(Paired(), steps=3)


def test_weights_that_are_not_finite_are_refused():
    class Diverging(Plain):
        def loss(self, batch):
            return super().loss(batch) * float("inf")

    model = Diverging()
    model._place_average()
    before = everything(model)
    with pytest.raises(RunError, match="learning_rate"):
        tuned(model)
    assert_same(everything(model), before)


def test_samples_depend_on_the_purpose_and_not_on_what_was_drawn_before():
    model = trained()
    drawn = {p: [c.x for c in synthesis().chunks(model, 100, p)] for p in ("a", "b", "a")}
    assert [len(x) for x in drawn["a"]] == [40, 40, 20]
    again = [c.x for c in synthesis().chunks(model, 100, "a")]
    assert all(torch.equal(x, y) for x, y in zip(drawn["a"], again, strict=True))
    assert not torch.equal(drawn["a"][0], drawn["b"][0])
    assert not torch.equal(drawn["a"][0], drawn["a"][1])
    assert torch.cat([c.columns["index"] for c in synthesis().chunks(model, 100, "a")]).tolist() == list(range(100))


def test_undisturbed_gives_the_average_without_gradients():
    model = after_a_step(Plain())
    with torch.no_grad(), undisturbed(model) as weights:
        assert torch.is_grad_enabled()
        assert [w.grad for w in weights] == [None]
        assert torch.equal(weights[0], model._average.shadow[0])


def test_it_is_no_copy_of_the_model():
    model = Plain()
    model.trainer_stand_in = object()

    def fail(*args):
        raise AssertionError

    Plain.__deepcopy__ = fail
    try:
        with pytest.raises(AssertionError):
            copy.deepcopy(model)
        tuned(model, steps=2)
    finally:
        del Plain.__deepcopy__


def test_float16_is_left_for_full_precision_and_bfloat16_is_not():
    def in_autocast(dtype):
        model = trained()
        with torch.autocast("cpu", dtype=dtype):
            model.loss(DATA.train).backward()  # autocast keeps casts of weights that are not the auxiliary's
            return tuned(model, steps=4)[1]

    plain = tuned(trained(), steps=4)[1]
    assert in_autocast(torch.float16) == plain  # which would want a gradient scaler
    found = in_autocast(torch.bfloat16)
    assert found != plain
    assert found == pytest.approx(plain, rel=2e-3)
