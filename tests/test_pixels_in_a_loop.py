"""A loop over 8-bit images: what is scored, measured and mixed is what is kept on disk."""

from __future__ import annotations

import torch
from conftest import fit, tiny_loop
from torch import Tensor

from sc_loops import FlowMatching, HtmlReport, RealData, Samples, UNet
from sc_loops.data.pixels import as_float
from sc_loops.data.pool import Pool
from sc_loops.reporting.observers import Observers


def pictures(n: int = 40) -> RealData:
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(256, (n + 20, 1, 4, 4), dtype=torch.uint8, generator=generator)
    return RealData(Samples(x[:n]), Samples(x[n:]), "images", name="pictures")


def brightness(x: Tensor) -> Tensor:
    assert x.dtype == torch.float32
    return x.flatten(1).mean(1)


def model(data: RealData) -> FlowMatching:
    torch.manual_seed(0)
    network = UNet(
        data,
        channels=32,
        residual_blocks=1,
        channel_multipliers=(1,),
        scale_shift=True,
        attention_resolutions=(),
        head_channels=32,
    )
    return FlowMatching(data, network=network, steps=2)


def test_samples_are_kept_as_the_pixels_that_were_scored(tmp_path) -> None:
    data = pictures()
    loop = tiny_loop(tmp_path, generations=2, synthetic_ratio=0.5, reward=brightness, stages=[], chunk_size=30)
    loop.observers = Observers([HtmlReport()])
    fit(loop, model(data), data=data)
    rows = loop.run.rows()
    assert [row["synthetic_items"] for row in rows] == [0, 20, 20]
    for generation in range(3):
        pool = Pool(loop.run.pool(generation).path)
        for kept in (pool.samples(), pool.preview):
            assert kept.x.dtype == torch.uint8
        rewards = pool.samples().columns["reward"]
        assert torch.equal(rewards, brightness(as_float(pool.samples().x)))
        torch.testing.assert_close(rewards.mean().item(), rows[generation]["reward/mean"])
    assert loop.run.report_path.read_text().count("<img") > 3  # real ones and those of three generations


def test_a_stage_may_change_pixels(tmp_path) -> None:
    def inverted(samples: Samples, generator: torch.Generator) -> Samples:
        return Samples(-samples.x, samples.condition)

    data = pictures()
    plain = tiny_loop(tmp_path / "plain", generations=0, stages=[], reward=None)
    changed = tiny_loop(tmp_path / "changed", generations=0, stages=[inverted], reward=None)
    for loop in (plain, changed):
        fit(loop, model(data), data=data)
    x, y = (loop.run.pool(0).samples().x for loop in (plain, changed))
    assert torch.equal(y, 255 - x)
