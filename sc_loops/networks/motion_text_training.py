"""Training a small motion-text evaluator on real motions and their captions."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

import torch
import torch.nn.functional as F
from torch import Tensor

from sc_loops.data.motions import Motions
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue
from sc_loops.networks.devices import work_device
from sc_loops.networks.motion_text_networks import PATCH, UNKNOWN, MotionTextNetwork, Vocabulary
from sc_loops.randomness import generator_for, seed_for

SHORTEST = 0.8  # the shortest part of a motion that is shown, of its length
HIDDEN_WORDS = 0.1  # the share of words that are shown as unknown, so that it is known what to make of such
RISE = 0.1  # the part of the training in which the learning rate rises


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train; see ``MotionText`` for what the options mean."""

    epochs: int
    batch_size: int
    learning_rate: float
    temperature: float


def training_captions(data: RealData) -> tuple[Motions, Tensor]:
    """The table of captions, and ``(n,)`` the row of the first caption of each training motion."""
    assert data.motions is not None
    assert data.train.condition is not None
    return data.motions, data.train.condition


def contrast(motions: Tensor, texts: Tensor, names: Tensor, temperature: float) -> Tensor:
    """InfoNCE both ways (van den Oord et al. 2018, Eq. 4; Radford et al. 2021) of points ``(B, d)`` of the sphere.

    All pairs of equal ``names (B,)`` belong together, each as likely (Khosla et al. 2020, Eq. 2): captions made of
    labels repeat in a batch.
    """
    logits = motions @ texts.T / temperature
    wanted = (names[:, None] == names).to(logits)
    wanted = wanted / wanted.sum(dim=1, keepdim=True)  # symmetric, so it serves both ways
    return (F.cross_entropy(logits, wanted) + F.cross_entropy(logits.T, wanted)) / 2


def train(network: MotionTextNetwork, data: RealData, vocabulary: Vocabulary, recipe: Recipe, seed: int) -> None:
    """Train ``network``, on the trainer's device, and say on the terminal how long it takes.

    The loss is ``contrast`` of the motions with one of their captions each.

    On the CPU the same arguments give the same weights. Global generators are left as they were.

    Raises:
        InvalidValue: the loss became NaN or infinite.
    """
    device = work_device()
    network.to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=1e-2, fused=True)
    batches = max(1, len(data.train) // recipe.batch_size)
    steps, began = recipe.epochs * batches, monotonic()
    print(f"training motion_text on {len(data.train)} motions of {data.name}: {recipe.epochs} epochs", flush=True)
    devices = [device] if device.type == "cuda" else []
    own_randomness = torch.random.fork_rng(devices=devices)
    with own_randomness, torch.autocast(device.type, enabled=False), torch.enable_grad():
        torch.default_generator.manual_seed(seed_for(seed, "motion_text dropout"))
        if devices:
            torch.cuda.manual_seed(seed_for(seed, "motion_text dropout"))
        for epoch in range(recipe.epochs):
            shown = _Shown(data, vocabulary, generator_for(seed, "motion_text", epoch))
            for number, index in enumerate(shown.order.tensor_split(batches)):
                for group in optimizer.param_groups:
                    group["lr"] = recipe.learning_rate * _rate((epoch * batches + number + 0.5) / steps)
                z, lengths, words, names = (t.to(device) for t in shown.batch(index))
                loss = contrast(network.motions(z, lengths), network.texts(words), names, recipe.temperature)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            if not bool(torch.isfinite(loss)):
                found = f"{recipe.learning_rate}, with which the loss became {float(loss.detach())}"
                raise InvalidValue("learning_rate", found=found, expected="a rate that converges", do="lower it")
    network.cpu().eval()
    print(f"  loss {float(loss.detach()):.3f} after {monotonic() - began:.0f} s", flush=True)


def _rate(progress: float) -> float:
    """The learning rate at ``progress`` in [0, 1] of the training, as a part of the highest: up, and down to 0."""
    return min(progress / RISE, (1 - progress) / (1 - RISE))


class _Shown:
    """What one epoch shows: of each motion a part at random, with one of its captions."""

    def __init__(self, data: RealData, vocabulary: Vocabulary, generator: torch.Generator) -> None:
        self._x, self._generator = data.train.x, generator
        self._motions, first = training_captions(data)
        self.order = torch.randperm(len(first), generator=generator)
        drawn = torch.rand(len(first), generator=generator) * self._motions.count[first]
        self._rows = first + drawn.long().clamp(max=self._motions.count[first] - 1)
        self._captions = [self._motions.captions[row] for row in self._rows.tolist()]
        numbers: dict[str, int] = {}
        self._names = torch.tensor([numbers.setdefault(c, len(numbers)) for c in self._captions])
        self._vocabulary = vocabulary

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of the motions ``index (B,)``: z ``(B, T, 263)``, lengths, words ``(B, L)`` and names of captions."""
        z, lengths = self._part(index)
        words = self._vocabulary.numbers([self._captions[i] for i in index.tolist()])
        hidden = torch.rand(words.shape, generator=self._generator) < HIDDEN_WORDS
        return z, lengths, torch.where(hidden & (words > 0), UNKNOWN, words), self._names[index]

    def _part(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """A part of each motion ``index``, moved to the beginning, and its length."""
        whole = self._motions.lengths[self._rows[index]]
        share, place = torch.rand(2, len(index), generator=self._generator)
        lengths = (whole * (SHORTEST + (1 - SHORTEST) * share)).long().clamp(min=min(PATCH, int(whole.min())))
        start = ((whole - lengths + 1) * place).long().clamp(max=whole - lengths)
        frames = torch.arange(int(lengths.max()))
        z = self._x[index[:, None], (start[:, None] + frames).clamp(max=self._x.shape[1] - 1)]
        return z * (frames < lengths[:, None])[..., None], lengths
