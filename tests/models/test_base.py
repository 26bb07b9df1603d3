"""What the base promises every generative model: evaluation mode, the noise of a step, the optimizer."""

import pytest
import torch
from torch import nn

from sc_loops.errors import InvalidValue
from sc_loops.models.base import GenerativeModel


class Toy(GenerativeModel):
    """A model with a part that is frozen in evaluation mode; ``rank`` stands in for a process's."""

    rank = 0

    def __init__(self, **options):
        super().__init__(**options)
        self.layers = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5), nn.Linear(2, 2))
        self.layers[1].eval()

    @property
    def global_rank(self):
        return self.rank

    def loss(self, batch):
        return self.layers(torch.randn_like(batch.x)).square().mean()

    def sample(self, generator, n, condition=None):
        return self.layers(torch.randn(n, 2, generator=generator))


def modes(model):
    return [m.training for m in model.modules()]


@pytest.mark.parametrize("fails", [False, True])
def test_averaged_evaluates_the_average_without_gradients_and_restores_everything(fails):
    model = Toy()
    with model.averaged():  # an average that was never updated is the weights
        pass
    own = [p.detach().clone() for p in model.parameters()]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    trained, before = [p.detach().clone() for p in model.parameters()], modes(model)
    try:
        with model.averaged():
            assert not any(modes(model))
            assert not torch.is_grad_enabled()
            assert all(torch.equal(p, o) for p, o in zip(model.parameters(), own, strict=True))
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    assert modes(model) == before
    assert torch.is_grad_enabled()
    assert all(torch.equal(p, t) for p, t in zip(model.parameters(), trained, strict=True))


def noise(*, seed=1, generation=2, step=3, rank=0):
    model = Toy()
    model.rank = rank
    model.begin_generation(seed=seed, generation=generation)
    model.on_train_batch_start(None, step)
    return torch.randn(4).tolist()


def test_a_step_repeated_has_the_same_noise_and_any_other_another():
    assert noise() == noise()
    others = [noise(), noise(seed=9), noise(generation=9), noise(step=9), noise(rank=9)]
    assert len({tuple(n) for n in others}) == 5


def test_begin_generation_changes_only_what_it_is_given():
    model = Toy(learning_rate=1e-3, warmup_steps=5)
    model.begin_generation(seed=0, generation=1)
    assert (model._rate, model._warmup) == (1e-3, 5)
    model.begin_generation(seed=0, generation=2, learning_rate=1e-4, warmup_steps=0)
    assert (model._rate, model._warmup) == (1e-4, 0)
    model.begin_generation(seed=0, generation=3)
    assert (model._rate, model._warmup) == (1e-3, 5)


def test_a_generation_may_have_its_own_average():
    model = Toy(ema_decay=0.9999)
    decays = []
    for decay in (None, 0.99, None):
        model.begin_generation(seed=0, generation=1, ema_decay=decay)
        decays.append(model._average.decay)
    assert decays == [0.9999, 0.99, 0.9999]


def test_the_optimizer_has_the_options_and_only_trainable_weights():
    model = Toy(learning_rate=0.1, betas=(0.5, 0.6), weight_decay=0.7)
    model.layers[0].bias.requires_grad_(False)
    optimizer = model.configure_optimizers()
    (group,) = optimizer.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.1, (0.5, 0.6), 0.7)
    assert len(group["params"]) == 3


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("learning_rate", 0.0),
        ("warmup_steps", -1),
        ("betas", (0.9, 1.0)),
        ("weight_decay", -1.0),
        ("ema_decay", 1.0),
    ],
)
def test_impossible_options_are_refused(option, value):
    with pytest.raises(InvalidValue, match=option):
        Toy(**{option: value})
