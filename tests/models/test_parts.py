"""Batches and chunks that go through the network in parts, and sampling in half precision."""

from __future__ import annotations

import torch
from conftest import TinyModel, fit, tiny_data, tiny_loop
from torch import Tensor

from sc_loops import FlowMatching, GenerativeModel, RealData, Samples, TimeMLP, UNet


class Regression(TinyModel):
    """Without noise, so that parts of a batch may be compared with the whole."""

    def __init__(self, **options: object) -> None:
        torch.manual_seed(0)
        super().__init__(**options)
        self.parts: list[int] = []

    def loss(self, batch: Samples) -> Tensor:
        self.parts.append(len(batch))
        return (self.network(batch.x) - batch.x.flip(1)).square().mean()


def test_the_gradients_of_parts_add_up_to_that_of_the_batch(tmp_path) -> None:
    models = {n: Regression(network_batch=n) for n in (None, 16, 5)}
    for n, model in models.items():
        fit(tiny_loop(tmp_path / str(n), generations=1), model)
    whole, fitting, parts = models.values()
    assert set(whole.parts) == set(fitting.parts) == {16}
    assert set(parts.parts) == {5, 1}  # 16 = 5 + 5 + 5 + 1
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), fitting.parameters(), strict=True))
    for ours, theirs in zip(parts.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_the_loss_of_parts_is_that_of_the_batch(tmp_path) -> None:
    loops = [tiny_loop(tmp_path / str(n), generations=0) for n in (16, 3)]
    for loop, n in zip(loops, (16, 3), strict=True):
        fit(loop, Regression(network_batch=n))
    whole, parts = ([row["train/loss"] for row in loop.run.training_rows()] for loop in loops)
    torch.testing.assert_close(torch.tensor(parts), torch.tensor(whole))


def flow(network, data: RealData, **options: object) -> GenerativeModel:
    torch.manual_seed(0)
    return FlowMatching(data, network=network(data), solver="euler", steps=4, **options)


def pictures() -> RealData:
    x = torch.randint(256, (8, 3, 8, 8), dtype=torch.uint8)
    return RealData(Samples(x), Samples(x), "images")


def small_unet(data: RealData) -> UNet:
    return UNet(
        data,
        channels=32,
        residual_blocks=1,
        channel_multipliers=(1,),
        scale_shift=True,
        attention_resolutions=(),
        head_channels=32,
    )


def test_sampling_in_half_precision_is_near_and_leaves_the_model_as_it_was() -> None:
    for network, data in ((TimeMLP, tiny_data()), (small_unet, pictures())):
        full, half = flow(network, data), flow(network, data, sampling_precision="bf16-true")
        for model in (full, half):
            for number, weight in enumerate(model.parameters()):
                torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(number))
        names, weights = list(half.state_dict()), [w.clone() for w in half.parameters()]
        before = half.network
        with full.averaged():
            expected = full.sample(torch.Generator().manual_seed(3), 6)
        with half.averaged():
            assert {w.dtype for w in half.network.parameters()} == {torch.bfloat16}
            twin = half.network
            x = half.sample(torch.Generator().manual_seed(3), 6)
        assert x.dtype == torch.float32
        assert 0 < (x - expected).norm() / expected.norm() < 0.02
        assert half.network is before
        assert list(half.state_dict()) == names
        assert all(torch.equal(a, b) for a, b in zip(half.parameters(), weights, strict=True))
        # Another generation: other weights, the same twin, so that a compiled one is compiled once.
        with torch.no_grad():
            for weight in half.parameters():
                weight.mul_(1.1)
        half._average.reset(list(half.parameters()))
        with half.averaged():
            assert half.network is twin
            for twins, weight in zip(twin.parameters(), before.parameters(), strict=True):
                assert torch.equal(twins, weight.bfloat16())
