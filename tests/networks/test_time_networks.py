"""The networks: shapes, the null class, what depends on what, and what is refused."""

import copy

import pytest
import torch
from torchcfm.models.unet.nn import GroupNorm32

from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue
from sc_loops.networks.mlp import TimeMLP, sinusoids
from sc_loops.networks.unet import UNet
from sc_loops.samples import Samples


def data(*shape, classes=3):
    samples = Samples(torch.zeros(4, *shape), torch.zeros(4, dtype=torch.int64) if classes else None)
    kind = "points" if len(shape) == 1 else "images"
    return RealData(samples, samples, kind, tuple("abcdefgh"[:classes]))


SMALL = {
    "channels": 32,
    "residual_blocks": 1,
    "channel_multipliers": (1, 2),
    "attention_resolutions": (4,),
    "head_channels": 16,
    "dropout": 0.0,
}


def mlp(class_conditional=False, shape=(2,), **options):
    return TimeMLP(data(*shape), class_conditional=class_conditional, **options)


def unet(class_conditional=False, shape=(1, 8, 8), **options):
    network = UNet(data(*shape), class_conditional=class_conditional, **{**SMALL, **options})
    for parameter in network.parameters():
        if not parameter.any():  # layers that start at 0, where nothing could be seen
            torch.nn.init.normal_(parameter, std=0.1)
    return network


def inputs(network, n=6):
    return torch.rand(n), torch.randn(n, *network.shape), torch.randint(3, (n,))


@pytest.mark.parametrize("make", [mlp, unet])
def test_no_class_is_the_null_class(make):
    network = make(class_conditional=True).eval()
    t, x, y = inputs(network)
    null = torch.full_like(y, 3)
    assert network(t, x, y).shape == x.shape
    assert torch.equal(network(t, x), network(t, x, null))
    changed = (network(t, x, y) - network(t, x)).flatten(1).abs().amax(1)
    assert (changed > 1e-4).all()


@pytest.mark.parametrize("make", [mlp, unet])
def test_an_unconditional_network_ignores_classes(make):
    network = make().eval()
    t, x, y = inputs(network)
    assert torch.equal(network(t, x, y), network(t, x))


@pytest.mark.parametrize("make", [mlp, unet])
def test_every_sample_has_its_own_time(make):
    network = make().eval()
    t, x, _ = inputs(network)
    together = network(t, x)
    alone = torch.cat([network(t[i : i + 1], x[i : i + 1]) for i in range(len(t))])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert (network(t / 2, x) - together).abs().max() > 1e-3


@pytest.mark.parametrize("make", [mlp, unet])
def test_classes_need_a_labelled_data_set(make):
    shape = make().shape
    cls = TimeMLP if make is mlp else UNet
    with pytest.raises(InvalidValue, match="no classes"):
        cls(data(*shape, classes=0), class_conditional=True)


def test_time_features_are_their_formula():
    t = torch.tensor([0.0, 0.3, 1.0])
    features = sinusoids(t, torch.tensor([1.0, 7.0]))
    expected = [[(w * u).sin() for w in (1, 7)] + [(w * u).cos() for w in (1, 7)] for u in t]
    torch.testing.assert_close(features, torch.tensor(expected))
    frequencies = mlp(time_features=6, time_scale=100.0).frequencies
    torch.testing.assert_close(frequencies, torch.tensor([100.0, 10.0, 1.0]))


def test_the_mlp_takes_samples_of_any_shape():
    network = mlp(shape=(2, 3, 5))
    t, x, _ = inputs(network)
    assert network(t, x).shape == (6, 2, 3, 5)


def test_the_unet_takes_cifar_and_can_do_without_attention_levels():
    network = unet(shape=(3, 32, 32), channel_multipliers=(1, 1, 1, 2), attention_resolutions=())
    t, x, _ = inputs(network, n=2)
    assert network(t, x).shape == (2, 3, 32, 32)


def test_attention_is_where_the_resolution_says():
    def blocks(**options):
        return sum("qkv.weight" in name for name, _ in unet(**options).named_parameters())

    assert blocks(attention_resolutions=()) == 1  # the middle always has one
    assert blocks(attention_resolutions=(4,)) == 1 + 1 + 2  # one block down, two up
    assert blocks(attention_resolutions=(8,)) == 1 + 1 + 2
    assert blocks(attention_resolutions=(8, 4)) == 1 + 2 + 4


def test_time_scale_multiplies_the_time():
    network, other = unet(time_scale=1000.0).eval(), unet(time_scale=500.0).eval()
    other.load_state_dict(network.state_dict())
    t, x, _ = inputs(network)
    torch.testing.assert_close(other(t, x), network(t / 2, x))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("channels", 48),
        ("channel_multipliers", (1, 1, 1, 1, 1)),
        ("attention_resolutions", (16,)),
        ("head_channels", 24),
        ("dropout", 1.0),
        ("residual_blocks", 0),
        ("time_scale", 0.0),
        ("patch_size", 0),
        ("compile", "sometimes"),
    ],
)
def test_impossible_unets_are_refused(option, value):
    with pytest.raises(InvalidValue, match=option):
        unet(**{option: value})


def test_heads_must_divide_the_channels():
    assert unet(heads=4, head_channels=-1)
    with pytest.raises(InvalidValue, match="heads"):
        unet(heads=3, head_channels=-1)


def test_points_are_no_images():
    with pytest.raises(InvalidValue, match="UNet for samples of shape"):
        UNet(data(2))


@pytest.mark.parametrize(("option", "value"), [("width", 0), ("depth", 0), ("time_features", 7), ("time_scale", 0.5)])
def test_impossible_mlps_are_refused(option, value):
    with pytest.raises(InvalidValue, match=option):
        mlp(**{option: value})


def test_group_norm_is_torchs_own_and_the_same_function():
    """torchcfm's casts to float32 and back and so needs float32 weights."""
    network = unet()
    kinds = {type(module) for module in network.modules()}
    assert torch.nn.GroupNorm in kinds
    assert GroupNorm32 not in kinds
    theirs = copy.deepcopy(network)
    for module in theirs.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.__class__ = GroupNorm32
    t, x, _ = inputs(network)
    assert torch.equal(network(t, x), theirs(t, x))


@pytest.mark.parametrize("make", [mlp, unet])
def test_half_precision_weights_compute_nearly_the_same(make):
    network = make(class_conditional=True).eval()
    t, x, y = inputs(network)
    expected = network(t, x, y)
    for weight in network.parameters():
        weight.data = weight.data.bfloat16()
    output = network(t, x, y)
    assert output.dtype == torch.float32
    assert 0 < (output - expected).norm() / expected.norm() < 0.03


def test_the_layout_in_memory_changes_nothing_but_the_layout():
    network, other = unet(), unet(channels_last=True)
    other.load_state_dict(network.state_dict())
    assert other.unet.input_blocks[0][0].weight.is_contiguous(memory_format=torch.channels_last)
    t, x, _ = inputs(network)
    torch.testing.assert_close(other(t, x), network(t, x), rtol=1e-4, atol=1e-5)


def test_patches_are_channels_of_a_smaller_image():
    network = unet(shape=(3, 16, 16), patch_size=2, attention_resolutions=(8,))
    t, x, _ = inputs(network)
    inner = network.unet(1000 * t, torch.nn.functional.pixel_unshuffle(x, 2))
    assert inner.shape == (6, 12, 8, 8)
    assert torch.equal(network(t, x), torch.nn.functional.pixel_shuffle(inner, 2))
    with pytest.raises(InvalidValue, match="patch_size"):
        unet(shape=(3, 16, 16), patch_size=3)


def test_thirty_two_channels_see_time_and_class_only_by_scale_and_shift():
    """A normalisation of 32 groups takes away what is added to each of 32 channels (docs/log.md)."""
    network = unet(class_conditional=True, channel_multipliers=(1,), attention_resolutions=(), scale_shift=True)
    t, x, y = inputs(network.eval())
    changed = [network(1 - t, x, y) - network(t, x, y), network(t, x, (y + 1) % 3) - network(t, x, y)]
    assert all((c.flatten(1).abs().amax(1) > 1e-3).all() for c in changed)
    with pytest.raises(InvalidValue, match="scale_shift"):
        unet(channel_multipliers=(1,), attention_resolutions=())
