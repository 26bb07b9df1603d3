"""A motion diffusion model trained and sampled as the published code does it, and as this project does.

    OMP_NUM_THREADS=1 python -m benchmarks.motion_speed [--batch 4] [--prompts 5] [--width 512] [--rounds 3]

Both have the published network (8 layers of width 512, 17.88 M parameters) and motions of 40 to 196 frames.

The published way (Tevet et al. 2023, and the loop of Gillman et al. 2024 around it): a text encoder of the size of
CLIP ViT-B/32's, here with random weights, runs on 77 tokens in every training and every denoising step; every motion
is padded to 196 frames and attention sees the padding; 1000 denoising steps; prompts fill whole batches of 64.

Ours: captions are encoded once, before the run, and looked up, which is not in the times below and costs what one of
the published denoising steps spends on text; padding is masked, and cut off where no motion of a batch has such
frames; 50 denoising steps; no prompt is made up.

Favourable to the published way: captions are tokenised beforehand, and its layers are torch's, with their fast
inference path, which its code predates. Guidance is off, as in the published loop.

Counts are exact, for 65 prompts in batches of 64. Times are of the full network on fewer motions (--batch, --prompts)
and, for the whole of sampling, of a fiftieth of each way's denoising steps: 20 against 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from benchmarks.measure import Cost, cpu_ratio, interleaved, milliseconds, quiet, timed, wall_ratio
from sc_loops import RealData, Samples
from sc_loops.data.motions import Motions
from sc_loops.models.motion_diffusion import MotionDiffusion
from sc_loops.networks.mlp import sinusoids
from sc_loops.networks.motion_transformer import MotionTransformer
from sc_loops.networks.network import Network
from sc_loops.networks.text import TextEncoder
from sc_loops.sampling.diffusion import ancestral_step
from sc_loops.sampling.schedule import cosine_schedule

FEATURES, TOKENS, VOCABULARY = 263, 77, 49_408
PUBLISHED, OURS = "published", "ours"
STEPS = {PUBLISHED: 1000, OURS: 50}
PUBLISHED_BATCH, PROMPTS = 64, 65


@dataclass(frozen=True)
class Setting:
    """Sizes of a measurement."""

    batch: int = 4
    prompts: int = 5
    frames: int = 196
    width: int = 512
    layers: int = 8
    text_layers: int = 12


class RandomText(TextEncoder):
    """Embeddings that were computed before."""

    width = 512

    def embed(self) -> Tensor:
        return torch.randn(len(self.motions), self.width)

    def identity(self) -> list[str | int | float]:
        return []


class Published(nn.Module):
    """The published network around its text encoder."""

    frequencies: Tensor
    positions: Tensor

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        config = CLIPTextConfig(num_hidden_layers=setting.text_layers)
        self.clip = CLIPTextModelWithProjection(config).requires_grad_(False).eval()
        width = setting.width
        frequencies = 10_000 ** -(torch.arange(width // 2) / (width // 2))
        self.register_buffer("frequencies", frequencies)
        self.register_buffer("positions", sinusoids(torch.arange(setting.frames + 1.0), frequencies))
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.text = nn.Linear(512, width)
        self.enter, self.leave = nn.Linear(FEATURES, width), nn.Linear(width, FEATURES)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.1, "gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, setting.layers, enable_nested_tensor=False)

    def forward(self, t: Tensor, x: Tensor, tokens: Tensor) -> Tensor:
        with torch.no_grad():
            texts = self.clip(input_ids=tokens).text_embeds
        token = self.time(sinusoids(t.float(), self.frequencies)) + self.text(texts)
        hidden = torch.cat([token[:, None], self.enter(x)], dim=1) + self.positions
        return self.leave(self.encoder(hidden)[:, 1:])

    def train(self, mode: bool = True) -> Published:
        super().train(mode)
        self.clip.eval()
        return self


class Counted(Network):
    """A network that costs nothing and counts the motions that go through it."""

    def __init__(self, data: RealData) -> None:
        super().__init__(data, class_conditional=True)
        self.motions = 0

    def forward(self, t: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        self.motions += len(x)
        return torch.zeros_like(x)


def motion_data(clips: int, frames: int) -> RealData:
    """Noise with three captions a clip and lengths between a fifth of ``frames`` and all of them."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(max(1, frames // 5), frames + 1, (clips,), generator=generator).tolist()
    names = [str(i) for i in range(clips)]
    captions = [[f"{name} {i}" for i in range(3)] for name in names]
    motions, rows = Motions.of_clips(names, captions, lengths, torch.zeros(FEATURES), torch.ones(FEATURES))
    x = torch.randn(clips, frames, FEATURES, generator=generator) * motions.mask(rows, frames)[..., None]
    samples = Samples(x, rows)
    return RealData(samples, samples, "motions", motions=motions)


def tokens_of(n: int) -> Tensor:
    """``(n, 77)``: captions as CLIP's tokenizer leaves them, its end token last."""
    tokens = torch.randint(VOCABULARY - 2, (n, TOKENS))
    tokens[:, -1] = VOCABULARY - 1
    return tokens


def sample_as_published(
    network: Callable[..., Tensor], prompts: Tensor, frames: int, batch: int, steps: int
) -> Tensor:
    """Motions for tokenised ``prompts (N, 77)``, in batches that are filled up with the last prompt."""
    levels = cosine_schedule(STEPS[PUBLISHED]).tolist()
    made = []
    filled = torch.cat([prompts, prompts[-1:].expand(-len(prompts) % batch, -1)])
    for part in filled.split(batch):
        x = torch.randn(batch, frames, FEATURES)
        for t in range(steps - 1, -1, -1):
            x0 = network(torch.full((batch,), t), x, part)
            previous = levels[t - 1] if t else 1.0
            x = ancestral_step(x, x0, levels[t], previous, torch.randn_like(x), "fixed_small")
        made.append(x)
    return torch.cat(made)[: len(prompts)]


def counts() -> dict[str, int]:
    """Motions that go through the network for 65 prompts, in the number of steps that each way takes."""
    data = motion_data(PROMPTS, 2)
    theirs, ours = Counted(data), Counted(data)
    sample_as_published(theirs, tokens_of(PROMPTS), 2, PUBLISHED_BATCH, STEPS[PUBLISHED])
    model = MotionDiffusion(data, network=ours, steps=STEPS[OURS], guidance_scale=1.0)
    model.sample(torch.Generator(), PROMPTS, data.train.condition)
    return {PUBLISHED: theirs.motions, OURS: ours.motions}


def our_model(setting: Setting, data: RealData) -> MotionDiffusion:
    network = MotionTransformer(
        data,
        RandomText(data),
        width=setting.width,
        layers=setting.layers,
        feedforward=2 * setting.width,
    )
    return MotionDiffusion(data, network=network, steps=STEPS[OURS], guidance_scale=1.0)


def trainers(setting: Setting) -> dict[str, Callable[[], Cost]]:
    """A training step of each way, on the same batch."""
    data = motion_data(setting.batch, setting.frames)
    batch, levels = data.train, cosine_schedule(STEPS[PUBLISHED]).float()
    published, ours = Published(setting).train(), our_model(setting, data).train()
    assert data.motions is not None
    assert batch.condition is not None
    mask = data.motions.mask(batch.condition, setting.frames)[..., None]

    def published_loss() -> Tensor:
        t = torch.randint(STEPS[PUBLISHED], (len(batch),))
        level = levels[t].view(-1, 1, 1)
        noised = level.sqrt() * batch.x + (1 - level).sqrt() * torch.randn_like(batch.x)
        errors = (published(t, noised, tokens_of(len(batch))) - batch.x).square() * mask
        return (errors.sum((1, 2)) / (mask.sum((1, 2)) * FEATURES)).mean()

    def step_of(module: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], Cost]:
        weights = [p for p in module.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=1e-4, weight_decay=0.0, fused=True)

        def step() -> Cost:
            with timed() as watch:
                optimizer.zero_grad()
                loss().backward()
                optimizer.step()
            return watch.cost

        return step

    return {PUBLISHED: step_of(published, published_loss), OURS: step_of(ours, lambda: ours.loss(batch))}


def samplers(setting: Setting, divisor: int) -> dict[str, Callable[[], Cost]]:
    """Sampling for the prompts by each way, in its number of steps divided by ``divisor``."""
    data = motion_data(setting.prompts, setting.frames)
    published, ours = Published(setting).eval(), our_model(setting, data).eval()
    # The first steps of a sampler cost what all the others do.
    ours._visited = ours._visited[: STEPS[OURS] // divisor]
    prompts, steps = tokens_of(setting.prompts), STEPS[PUBLISHED] // divisor

    def by(sample: Callable[[], Tensor], times: int = 1) -> Callable[[], Cost]:
        def way() -> Cost:
            with torch.no_grad(), timed() as watch:
                for _ in range(times):
                    sample()
            return Cost(watch.cost.cpu / times, watch.cost.wall / times)

        return way

    def sample_ours() -> Tensor:
        return ours.sample(torch.Generator(), setting.prompts, data.train.condition)

    return {
        PUBLISHED: by(lambda: sample_as_published(published, prompts, setting.frames, setting.batch, steps)),
        OURS: by(sample_ours, times=10),  # so that a busy machine disturbs both
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("batch", 4), ("prompts", 5), ("width", 512), ("layers", 8), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    chosen = parser.parse_args()
    quiet()
    torch.manual_seed(0)
    setting = Setting(batch=chosen.batch, prompts=chosen.prompts, width=chosen.width, layers=chosen.layers)

    found = counts()
    print(f"{'':<58}{PUBLISHED:>12}{OURS:>9}{'ratio':>8}")
    row = f"network evaluations, {PROMPTS} prompts"
    print(f"{row:<58}{found[PUBLISHED]:>12,}{found[OURS]:>9,}{found[PUBLISHED] / found[OURS]:>8.1f}")
    row = "captions encoded for them (ours: once in a run)"
    print(f"{row:<58}{found[PUBLISHED]:>12,}{PROMPTS:>9,}{found[PUBLISHED] / PROMPTS:>8.0f}")

    def report(what: str, costs: dict[str, list[Cost]]) -> None:
        theirs, ours = costs[PUBLISHED], costs[OURS]
        seconds = (
            f"{milliseconds(theirs) / 1e3:>12.2f}{milliseconds(ours) / 1e3:>9.2f}{cpu_ratio(theirs, ours):>8.1f}"
        )
        print(f"{what:<58}{seconds}   wall {wall_ratio(theirs, ours):.1f}")

    report(f"a training step, {setting.batch} motions, cpu s", interleaved(trainers(setting), chosen.rounds))
    whole = interleaved(samplers(setting, 50), 1)
    report(f"sampling {setting.prompts} in 20 and 1 of 1000 and 50 steps, cpu s", whole)


if __name__ == "__main__":
    main()
