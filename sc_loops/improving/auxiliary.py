"""The auxiliary of an improvement: the model itself, fine-tuned on its own samples and then put back as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sc_loops.data.mixture import MixtureLoader, Training
from sc_loops.data.pool import Chunk
from sc_loops.errors import RunError
from sc_loops.models.base import GenerativeModel
from sc_loops.models.ema import WeightAverage
from sc_loops.models.own_methods import sampled
from sc_loops.randomness import generator_for, global_generators_kept, seed_for, seed_global
from sc_loops.samples import Samples


@dataclass(frozen=True)
class SelfSynthesis:
    """How an improvement draws a model's samples. They are not those of the generation's pool: all that is random has
    a purpose of its own.

    Attributes:
        seed: the run's.
        generation: t.
        chunk_size: samples made at once; with the seed, it determines them.
        draw: the conditions of a chunk, with a generator on the model's device, or None for an unconditional model.
        tell: told of a phase, and how many of how many samples or steps of it are done. Called often; what it raises
            ends the work, and leaves the model as it was.
    """

    seed: int
    generation: int
    chunk_size: int
    draw: Callable[[Chunk, torch.Generator], Tensor | None]
    tell: Callable[[str, int, int], None] = lambda phase, done, total: None

    def chunks(self, model: GenerativeModel, n: int, purpose: str) -> Iterator[Samples]:
        """``n`` samples of ``model`` as it is, with the column ``index``, chunk by chunk on its device. Those of one
        ``purpose`` are drawn from the same noise, whatever the model's weights."""
        for number, start in enumerate(range(0, n, self.chunk_size)):
            chunk = Chunk(number, start, min(self.chunk_size, n - start))
            condition = self.draw(chunk, self._generator(f"{purpose} condition", number, model))
            seed_global(self.seed, f"global {purpose} sample", self.generation, number)
            draws = self._generator(f"{purpose} sample", number, model)
            x = sampled(model, draws, chunk.size, condition, f" for the {purpose} of generation {self.generation}")
            self.tell(purpose, start + chunk.size, n)
            yield Samples(x, condition, {"index": torch.arange(start, start + chunk.size, device=x.device)})

    def _generator(self, purpose: str, chunk: int, model: GenerativeModel) -> torch.Generator:
        return generator_for(self.seed, purpose, self.generation, chunk, device=model.device)


def fine_tuned(
    model: GenerativeModel, items: Samples, training: Training, batch_size: int, synthesis: SelfSynthesis
) -> tuple[dict[str, Tensor], float]:
    """The auxiliary: the averaged weights of ``model`` fine-tuned on ``items``.

    It is trained with the model's loss, by AdamW with new moments and a constant learning rate, in the modes that the
    model has, and is averaged as the model is (``WeightAverage`` with the model's ``ema_decay``, from the averaged
    weights). Autocast to float16 is off, since it wants a gradient scaler; otherwise it is the caller's. One process
    does it alone. The model is afterwards bit for bit what it was: see ``undisturbed``.

    Returns:
        The state dict of the model with the auxiliary's averaged weights, on the CPU, and the mean loss.

    Raises:
        RunError: the auxiliary's weights are not finite.
    """
    seed, generation = synthesis.seed, synthesis.generation
    loader = MixtureLoader(
        items,
        batch_size=batch_size,
        steps=training.optimizer_steps(len(items), batch_size),
        seed=seed_for(seed, "auxiliary", generation),  # an order of its own
        generation=generation,
        pairing=model.pairing(),
        device=model.device,
    )
    rate = model.learning_rate if training.learning_rate is None else training.learning_rate
    with undisturbed(model) as weights, autocast_anew(model.device, float16=False):
        optimizer = torch.optim.AdamW(weights, lr=rate, betas=model._betas, weight_decay=model._weight_decay)
        average, losses = WeightAverage(model.ema_decay), torch.zeros((), device=model.device)
        average.reset(weights)
        for step, batch in enumerate(loader):
            seed_global(seed, "auxiliary", generation, step)
            losses += _give_gradients(model, weights, batch.as_float())
            optimizer.step()
            average.update(weights)
            synthesis.tell("auxiliary", step + 1, len(loader))
        _require_finite(average.shadow, generation)
        with torch.no_grad():
            torch._foreach_copy_([w.detach() for w in weights], average.shadow)
        state = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    return state, float(losses) / len(loader)


@contextmanager
def undisturbed(model: GenerativeModel) -> Iterator[list[nn.Parameter]]:
    """Within the context the weights that ``model`` trains, which are given, hold their average and have no
    gradients. Afterwards, also on an error, its weights, gradients and buffers and the global generators are what
    they were."""
    model._place_average()
    weights = model._trainable
    gradients = [weight.grad for weight in weights]
    buffers = [(m, name, b, b.clone()) for m in model.modules() for name, b in m._buffers.items() if b is not None]
    with global_generators_kept(), model._average.swapped_in(weights), torch.enable_grad():
        for weight in weights:
            weight.grad = None
        try:
            yield weights
        finally:
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = gradient
            with torch.no_grad():
                for module, name, buffer, own in buffers:
                    module._buffers[name] = buffer.copy_(own)


def _give_gradients(model: GenerativeModel, weights: list[nn.Parameter], batch: Samples) -> Tensor:
    """Put the gradients of the loss of ``batch`` in the place of the ``weights``' own; the loss, detached.

    They do not go through ``backward``, by which DDP would exchange them.
    """
    parts = [batch] if model.network_batch is None else batch.split(model.network_batch)
    for weight in weights:
        weight.grad = None
    done = torch.zeros((), device=model.device)
    for part in parts:
        loss = model.loss(part) * (len(part) / len(batch))
        with torch.autocast(model.device.type, enabled=False):
            gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        for weight, gradient in zip(weights, gradients, strict=True):
            if gradient is not None:
                weight.grad = gradient if weight.grad is None else weight.grad + gradient
        done += loss.detach()
    return done


def autocast_anew(device: torch.device, *, float16: bool = True) -> torch.autocast:
    """Autocast as the caller has it, but every cast is made anew: those that it keeps would not know of weights that
    change in place. Without ``float16`` it is off where it casts to that."""
    kind = device.type
    dtype = torch.get_autocast_dtype(kind)
    enabled = torch.is_autocast_enabled(kind) and (float16 or dtype != torch.float16)
    return torch.autocast(kind, dtype=dtype, enabled=enabled, cache_enabled=False)


def _require_finite(average: list[Tensor], generation: int) -> None:
    if not all(bool(torch.isfinite(tensor).all()) for tensor in average):
        raise RunError(
            f"the improvement of generation {generation}",
            found="an auxiliary whose weights are NaN or infinite",
            expected="finite weights",
            do="lower the improvement's learning_rate",
        )
