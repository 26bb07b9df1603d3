"""The transformer of motions: published size, torch's own layers as oracle, and no influence of padding."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from sc_loops.data.motions import Motions
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue
from sc_loops.models.half import HalfPrecisionTwins
from sc_loops.networks.motion_transformer import MotionTransformer
from sc_loops.networks.text import TextEncoder
from sc_loops.samples import Samples

LENGTHS = [9, 5, 12, 1]
M = 4
SMALL = {"width": 32, "layers": 2, "heads": 4, "feedforward": 48}


def motion_data(frames: int = 12, lengths: list[int] = LENGTHS) -> RealData:
    captions = [[f"caption {i}"] for i in range(len(lengths))]
    names = [str(i) for i in range(len(lengths))]
    motions, rows = Motions.of_clips(names, captions, lengths, torch.zeros(263), torch.ones(263))
    x = torch.randn(len(lengths), frames, 263, generator=torch.Generator().manual_seed(0))
    samples = Samples(x * motions.mask(rows, frames)[..., None], rows)
    return RealData(samples, samples, "motions", motions=motions)


class RandomText(TextEncoder):
    """Random embeddings, which are asked for once."""

    def __init__(self, data: RealData, width: int = 6) -> None:
        super().__init__(data)
        self.width, self.calls = width, 0

    def embed(self) -> Tensor:
        self.calls += 1
        return torch.randn(len(self.motions), self.width, generator=torch.Generator().manual_seed(1))

    def identity(self) -> list[str | int | float]:
        return [self.width]


def transformer(data: RealData | None = None, *, text: bool = True, **options: float) -> MotionTransformer:
    torch.manual_seed(0)
    data = data or motion_data()
    return MotionTransformer(data, RandomText(data) if text else None, **{**SMALL, **options}).eval()


def inputs(frames: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.rand(M, generator=generator), torch.randn(M, frames, 263, generator=generator), torch.arange(M)


def trainable(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def test_the_published_size_has_the_published_number_of_parameters() -> None:
    data = motion_data(196)
    assert trainable(MotionTransformer(data, RandomText(data, 512))) == 17_880_327
    assert trainable(MotionTransformer(data, None)) == 17_880_327 - 513 * 512


def torch_layer(layer: nn.Module, width: int, heads: int, feedforward: int) -> nn.TransformerEncoderLayer:
    theirs = nn.TransformerEncoderLayer(width, heads, feedforward, 0.0, "gelu", batch_first=True)
    pairs = {
        "self_attn.in_proj_": layer.attend,
        "self_attn.out_proj.": layer.attended,
        "linear1.": layer.feedforward[0],
        "linear2.": layer.feedforward[3],
        "norm1.": layer.first_norm,
        "norm2.": layer.second_norm,
    }
    theirs.load_state_dict({f"{k}{n}": getattr(m, n) for k, m in pairs.items() for n in ("weight", "bias")})
    return theirs.train()  # whose inference path is another computation


def test_a_layer_computes_what_torchs_does() -> None:
    layer = transformer().layers[1]
    for weight in layer.parameters():
        nn.init.normal_(weight, std=0.3)
    theirs = torch_layer(layer, 32, 4, 48)
    x, valid = torch.randn(M, 12, 32), torch.arange(12) < torch.tensor(LENGTHS)[:, None]
    expected = theirs(x, src_key_padding_mask=~valid)
    torch.testing.assert_close(layer(x, valid[:, None, None])[valid], expected[valid], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer(x, None), theirs(x), rtol=1e-4, atol=1e-5)


def test_the_weights_start_as_torchs_do() -> None:
    ours, theirs = transformer(width=256).layers[0], nn.TransformerEncoderLayer(256, 4, 48)
    for our, their in (
        (ours.attend.weight, theirs.self_attn.in_proj_weight),
        (ours.attended.bias, theirs.norm1.bias),
    ):
        assert our.std().item() == pytest.approx(their.std().item(), rel=0.02)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("gradients", [False, True])
def test_padding_has_no_influence(training: bool, gradients: bool) -> None:
    network = transformer(dropout=0.0).train(training)
    t, x, y = inputs()
    with torch.set_grad_enabled(gradients):
        whole = network(t, x, y)
        other = x.clone()
        for i, length in enumerate(LENGTHS):
            assert not whole[i, length:].any()
            other[i, length:] = 100 * torch.randn(12 - length, 263)
            alone = network(t[i : i + 1], x[i : i + 1, :length], y[i : i + 1])
            torch.testing.assert_close(whole[i, :length], alone[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(network(t, other, y), whole, rtol=1e-4, atol=1e-5)


def test_the_null_class_has_the_length_and_no_text() -> None:
    network = transformer()
    t, x, y = inputs()
    null = network.null(y)
    assert null.tolist() == [4, 5, 6, 7]
    assert torch.equal(network.null(null), null)
    output = network(t, x, null)
    for i, length in enumerate(LENGTHS):
        assert not output[i, length:].any()
        # Of what no class means, a motion cut to its length sees the same.
        without = network(t[i : i + 1], x[i : i + 1, :length])
        torch.testing.assert_close(output[i, :length], without[0], rtol=1e-4, atol=1e-5)
    assert (network(t, x, y) - output).abs().amax((1, 2)).min() > 1e-3


def test_without_text_a_class_is_a_length() -> None:
    data = motion_data(lengths=[9, 9, 5, 9])
    network = transformer(data, text=False)
    t, x, y = inputs()
    assert torch.equal(network.null(y), y)
    assert torch.equal(network(t, x, y), network(t, x, torch.tensor([1, 3, 2, 0])))


def test_embeddings_are_asked_for_once_and_are_no_weights() -> None:
    network = transformer()
    t, x, y = inputs()
    text = network._captions._text
    first = network(t, x, y)
    twin = copy.deepcopy(network)
    assert torch.equal(twin(t, x, y), first)
    assert text.calls == 1
    assert not any("embed" in name or "caption" in name for name in network.state_dict())
    assert sum(p.numel() for p in network.state_dict().values()) == trainable(network)


def test_time_and_every_frame_matter() -> None:
    network = transformer()
    t, x, y = inputs()
    t = torch.full_like(t, 0.5)
    here = network(t, x, y)
    assert (network(t + 0.001, x, y) - here).abs().max() > 1e-5  # one of a thousand timesteps
    moved = x.clone()
    moved[0, 8] += 1
    assert (network(t, moved, y) - here)[0, :9].abs().amax(1).min() > 1e-5
    turned = network(t[:1], x[:1, :9].flip(1), y[:1])
    assert (turned.flip(1) - here[:1, :9]).abs().max() > 1e-3  # frames have places


def test_times_are_the_published_timesteps() -> None:
    network = transformer()
    seen = []
    network.time.register_forward_hook(lambda _, args, __: seen.append(args[0]))
    network(torch.tensor([0.137]), torch.zeros(1, 12, 263))
    step = 137 * 10000 ** -(torch.arange(0, 32, 2) / 32)
    torch.testing.assert_close(seen[0][0], torch.cat([step.sin(), step.cos()]), rtol=0, atol=1e-4)


def test_half_precision_weights_give_nearly_the_same() -> None:
    model = nn.Module()
    model.network = transformer()
    t, x, y = inputs()
    with torch.no_grad():
        exact = model.network(t, x, y)
        with HalfPrecisionTwins().in_place_of(model):
            half = model.network(t, x, y)
    assert half.dtype == torch.float32
    assert float((half - exact).norm() / exact.norm()) < 0.02


@pytest.mark.parametrize(
    ("option", "value"),
    [("width", 31), ("width", 0), ("heads", 5), ("heads", 0), ("layers", 0), ("feedforward", 0), ("dropout", 1.0)],
)
def test_impossible_options_are_refused(option: str, value: float) -> None:
    with pytest.raises(InvalidValue) as error:
        transformer(**{option: value})
    assert error.value.where == option


def test_other_data_is_refused() -> None:
    points = RealData(Samples(torch.zeros(3, 2)), Samples(torch.zeros(3, 2)), "points")
    with pytest.raises(InvalidValue, match="motions"):
        MotionTransformer(points, None)
    with pytest.raises(InvalidValue, match="text"):
        MotionTransformer(motion_data(), RandomText(motion_data(lengths=[3, 4])))
