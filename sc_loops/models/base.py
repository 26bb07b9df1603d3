"""What every generative model shares: two abstract methods, and the one place of optimizer, schedule and EMA."""

from __future__ import annotations

import copy
import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from lightning import LightningModule
from torch import Tensor, nn

from sc_loops.errors import RunError, UsageError, require
from sc_loops.models.ema import WeightAverage
from sc_loops.models.half import HalfPrecisionTwins
from sc_loops.models.own_methods import blaming_method, require_loss
from sc_loops.models.starts import read_start
from sc_loops.randomness import seed_global
from sc_loops.samples import Pairing, Samples

SamplingPrecision = Literal["as_trained", "bf16-true"]


class GenerativeModel(LightningModule, ABC):
    """A LightningModule that can be trained on ``Samples`` and sampled.

    A subclass implements ``loss`` and ``sample``; nothing else is required of it. Its constructor passes the
    options below on to this one. One with an optimizer of its own overrides ``configure_optimizers``; the learning
    rate is the loop's all the same: see ``optimizer_step``. A model that is not trained by gradients is a
    ``ClosedFormModel`` instead.

    What else training changes, such as running statistics, is kept in buffers (``register_buffer``). They are saved,
    and not averaged. Each of several processes updates them from its share of a batch; those of rank 0 are given to
    all before the next forward pass, and before the model is sampled.

    Args:
        learning_rate: Adam's. The loop may set another for generation 0 and for the later ones.
        warmup_steps: steps over which the learning rate rises linearly from 0, at the start of a generation.
        betas: Adam's.
        weight_decay: decoupled (AdamW); 0 is Adam.
        ema_decay: see ``WeightAverage``.
        network_batch: the most items that go through the network at once. In training, gradients of the parts of a
            batch add up; in sampling, a chunk is evaluated in parts of exactly this size. It bounds the memory. None
            is all at once. Parts draw their noise one after the other, so another value is another realisation of it.
        sampling_precision: ``as_trained`` samples in ``trainer.precision``; with ``bf16-true`` the network's weights
            are bfloat16 for sampling, where the state of the solver stays float32.

    Attributes:
        conditional: whether ``sample`` wants class labels. A subclass that does sets it.
        weighted: whether ``loss`` is a ``weighted_mean``, which ``loop.mixing=weight`` needs. A subclass sets it.
        sampling_bias: b in (0, 1], with which ``sample`` departs from what was learnt; 1 is none. Theories that take
            the model to be sampled as it was trained look at it.
        growing: names of the buffers that hold as many rows as there were items to fit; ``load_state_dict`` takes any
            number of them, and so does ``loop.start``. A subclass that has such sets it.
        skipped_steps: steps of this generation that were left out because a gradient was not finite.
    """

    conditional: bool = False
    weighted: bool = False
    sampling_bias: float = 1.0
    growing: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        learning_rate: float = 2e-4,
        warmup_steps: int = 0,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        ema_decay: float = 0.999,
        network_batch: int | None = None,
        sampling_precision: SamplingPrecision = "as_trained",
    ) -> None:
        super().__init__()
        require(0 < learning_rate < math.inf, "learning_rate", learning_rate, "a number > 0")
        require(warmup_steps >= 0, "warmup_steps", warmup_steps, "an integer >= 0")
        require(all(0 <= b < 1 for b in betas), "betas", betas, "two numbers in [0, 1)")
        require(0 <= weight_decay < math.inf, "weight_decay", weight_decay, "a number >= 0")
        possible = network_batch is None or network_batch >= 1
        require(possible, "network_batch", network_batch, "an integer >= 1, or null")
        known = sampling_precision in get_args(SamplingPrecision)
        require(known, "sampling_precision", sampling_precision, "as_trained or bf16-true")
        self.learning_rate, self.warmup_steps, self.ema_decay = learning_rate, warmup_steps, ema_decay
        self.network_batch, self._sampling_precision = network_batch, sampling_precision
        self._rate, self._warmup = learning_rate, warmup_steps  # of the generation that is trained
        self._decay_steps: int | None = None
        self._betas, self._weight_decay = betas, weight_decay
        self._average = WeightAverage(ema_decay)
        self._trainable: list[nn.Parameter] = []
        self._seed, self._generation = 0, 0
        self._skips, self.skipped_steps = False, 0
        self._has_gradients = False  # of the first parts of a batch
        self._twins = HalfPrecisionTwins()

    @staticmethod
    def of(module: LightningModule) -> GenerativeModel:
        """``module``, if it is one; else raises ``UsageError``."""
        if isinstance(module, GenerativeModel):
            if "_average" in vars(module):
                return module
            raise UsageError(
                "the model",
                found=f"{type(module).__name__}, whose constructor did not call that of GenerativeModel",
                expected="super().__init__(...) as the first thing that it does",
            )
        raise UsageError(
            "the model",
            found=f"a {type(module).__name__}",
            expected="a subclass of sc_loops.GenerativeModel, with loss(batch) and sample(generator, n, condition)",
        )

    @abstractmethod
    def loss(self, batch: Samples) -> Tensor:
        """The training loss of ``batch``, a scalar, the mean over its items. Random draws use torch's global
        generator, which is seeded before every step."""

    @abstractmethod
    def sample(self, generator: torch.Generator, n: int, condition: Tensor | None = None) -> Tensor:
        """n samples ``(n, *shape)`` on ``self.device``.

        Args:
            generator: on ``self.device``; the only source of randomness, so that a chunk can be made again.
            condition: ``(n,)`` int64 class labels on ``self.device``, or None for unconditional samples.
        """

    def pairing(self) -> Pairing | None:
        """What pairs a batch with noise beside the step before it, if anything does; ``loss`` then finds that noise
        in the column ``noise`` of the batch."""
        return None

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the context the model is in evaluation mode, without gradients, and holds its EMA weights, in the
        precision in which they are sampled."""
        self._place_average()
        was_training = [m for m in self.modules() if m.training]
        self.eval()
        half = self._sampling_precision == "bf16-true"
        try:
            with (
                torch.no_grad(),
                self._average.swapped_in(self._trainable),
                self._twins.in_place_of(self) if half else nullcontext(),  # filled with what was swapped in
            ):
                yield
        finally:
            for module in was_training:
                module.training = True

    @contextmanager
    def averages_changed(self, change: Callable[[str, Tensor], Tensor]) -> Iterator[None]:
        """Within the context the average of each weight that is trained is what ``change`` makes of its name, as in
        ``state_dict``, and its average: ``averaged`` samples that, and ``weights_digest`` tells of it. Afterwards,
        also on an error, it is what it was."""
        self._place_average()
        own = self._average.shadow
        names = [name for name, weight in self.named_parameters() if weight.requires_grad]
        self._average.shadow = [change(name, average) for name, average in zip(names, own, strict=True)]
        try:
            yield
        finally:
            self._average.shadow = own

    @contextmanager
    def holding(self, checkpoint: dict[str, Any]) -> Iterator[None]:
        """Within the context the model holds the weights and the average of a Lightning checkpoint; afterwards, also
        on an error, its own."""
        weights, average = copy.deepcopy(self.state_dict()), self._average.state_dict()
        try:
            self.load_state_dict(checkpoint["state_dict"])
            self._average.load_state_dict(checkpoint["ema"])
            yield
        finally:
            self.load_state_dict(weights)
            self._average.load_state_dict(average)

    def weights_digest(self) -> str:
        """A hash of all that samples depend on: the averaged weights, the frozen ones and the buffers."""
        self._place_average()
        fixed = [t for t in self.state_dict(keep_vars=True).values() if isinstance(t, Tensor) and not t.requires_grad]
        digest = hashlib.sha256()
        for tensor in [*self._average.shadow, *fixed]:
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()[:32]

    def require_finite(self, where: str) -> None:
        """Raises:
        RunError: a weight or an average is not finite; such a state must not be saved.
        """
        if not (_finite(list(self.parameters())) and _finite(self._average.shadow)):
            raise RunError(
                where,
                found="weights that are NaN or infinite",
                expected="finite weights",
                do="the same command continues from the checkpoint before it happened: lower the learning rate, "
                "clip gradients (trainer.gradient_clip_val) or set loop.nonfinite=skip",
            )

    def begin_generation(
        self,
        *,
        seed: int,
        generation: int,
        learning_rate: float | None = None,
        warmup_steps: int | None = None,
        ema_decay: float | None = None,
        decay_steps: int | None = None,
        nonfinite: Literal["stop", "skip"] = "stop",
    ) -> None:
        """Tell the model which generation it trains next, and the schedule of it where that is not its own.

        Args:
            decay_steps: the steps after which the learning rate, falling linearly, is 0; None leaves it constant.
            nonfinite: with ``skip``, a step whose gradients are not finite leaves weights, optimizer and average as
                they were, at the price of waiting for the device in every step. With ``stop`` the loop ends the
                run when it sees such a loss or such weights.
        """
        self._seed, self._generation = seed, generation
        self._skips, self.skipped_steps = nonfinite == "skip", 0
        self._rate = self.learning_rate if learning_rate is None else learning_rate
        self._warmup = self.warmup_steps if warmup_steps is None else warmup_steps
        self._decay_steps = decay_steps
        self._average.decay = self.ema_decay if ema_decay is None else ema_decay

    def restart(self, weights: dict[str, Tensor]) -> None:
        """Train from ``weights`` (a state dict) as if nothing had been learnt: new EMA, new optimizer state."""
        self.load_state_dict(weights)
        self._average.reset(self._weights())
        for optimizer in self.trainer.optimizers:
            optimizer.state.clear()

    def load_weights(self, path: Path) -> None:
        """Take weights, their average and the optimizer's moments from the file ``path``: see ``read_start``.

        Raises:
            UsageError: the file is missing, damaged or of another architecture.
        """
        start = read_start(self, path)
        self.load_state_dict(start.weights)
        self._average.load_state_dict(start.average)
        for optimizer in self._trainer.optimizers if self._trainer is not None else ():
            start.restore(optimizer)

    # What Lightning calls.

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over the weights that require gradients, with ``betas`` and ``weight_decay``.

        Override it to return another optimizer, exactly one. A scheduler beside it has no say in the learning rate
        unless ``optimizer_step`` is overridden too. ``sims`` and ``neon`` fine-tune with AdamW in any case.
        """
        weights = self._weights()
        trainer = self._trainer
        # A fused optimizer unscales the gradients itself, which leaves Lightning no place to clip them.
        clips = trainer is not None and bool(trainer.gradient_clip_val) and "mixed" in str(trainer.precision)
        return torch.optim.AdamW(
            weights,
            lr=self.learning_rate,
            betas=self._betas,
            weight_decay=self._weight_decay,
            fused=not clips,
        )

    def on_fit_start(self) -> None:
        self._place_average()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Noise that differs between ranks, steps and generations, and is the same when a step is repeated."""
        seed_global(self._seed, "train", self._generation, batch_idx, self.global_rank)
        average = self._average
        if batch_idx and not average.updates and average.shadow and self.global_step and not self.skipped_steps:
            raise RunError(
                f"{type(self).__name__}.optimizer_step",
                found="a step that left the average of the weights, from which samples come, as it was",
                expected="a call of self.update_average() after every step",
                do="add it to optimizer_step, where that is overridden, or leave optimizer_step to GenerativeModel",
            )

    def training_step(self, batch: Samples, batch_idx: int) -> Tensor:
        """The loss of ``batch``; of more items than ``network_batch``, all parts but the last are done with here."""
        batch = batch.as_float()
        parts = [batch] if self.network_batch is None else batch.split(self.network_batch)
        if len(parts) == 1:
            return self._checked_loss(batch, batch_idx)
        self.trainer.optimizers[0].zero_grad()
        self._has_gradients, done = True, torch.zeros((), device=self.device)
        for part in parts[:-1]:
            loss = self._checked_loss(part, batch_idx) * (len(part) / len(batch))
            # DDP exchanges gradients only in the backward pass that follows this method.
            with torch.autocast(self.device.type, enabled=False):
                self.trainer.strategy.backward(loss, None)
            done = done + loss.detach()
        return done + self._checked_loss(parts[-1], batch_idx) * (len(parts[-1]) / len(batch))

    def _checked_loss(self, batch: Samples, step: int) -> Tensor:
        where = f" in generation {self._generation}, step {step + 1}"
        with blaming_method(self, "loss", where):
            return require_loss(self.loss(batch), self, where)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """Called between ``training_step`` and its backward pass: gradients of the first parts stay."""
        if not self._has_gradients:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)
        self._has_gradients = False

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Set the learning rate, do one step, and update the average.

        ``lr`` of every parameter group becomes ``learning_rate`` of ``loop.first`` or ``loop.later``, or else the
        model's, times warm-up and decay, whatever the optimizer was given. A subclass that wants other rates, such
        as those of a scheduler of its own, overrides this method with one that calls
        ``optimizer.step(closure=optimizer_closure)`` and then ``self.update_average()``, since samples come from the
        average. It does without ``nonfinite: skip``.

        Args:
            epoch: of the trainer.
            batch_idx: the step within the generation, from 0.
            optimizer: to be stepped.
            optimizer_closure: computes loss and gradients; ``optimizer.step`` calls it.
        """
        rate = self._rate * min(1.0, (batch_idx + 1) / max(1, self._warmup))
        if self._decay_steps is not None:
            rate *= 1 - batch_idx / self._decay_steps
        for group in optimizer.param_groups:
            group["lr"] = rate
        skipped = self.skipped_steps
        closure = optimizer_closure
        # A gradient scaler (16-mixed) leaves out such steps by itself, and often, while it looks for its scale.
        if closure is not None and self._skips and getattr(self.trainer.precision_plugin, "scaler", None) is None:
            closure = self._dropping_bad_gradients(closure)
        super().optimizer_step(epoch, batch_idx, optimizer, closure)
        if self.skipped_steps == skipped:
            self.update_average()

    def update_average(self) -> None:
        """Move the average towards the weights, once after every step."""
        self._average.update(self._trainable)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["ema"] = self._average.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._average.load_state_dict(checkpoint["ema"])

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning notes the name of the running hook some 40 times a step, and each time torch would look whether
        # it is a weight. For a small network that is a twentieth of the step.
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def _dropping_bad_gradients(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        """``closure``, which leaves no gradients behind if any is not finite: the optimizer then has nothing to do.

        After backward the gradients are averaged over processes, so all of them decide alike.
        """

        def run() -> Any:
            result = closure()
            if not _finite([w.grad for w in self._trainable if w.grad is not None]):
                for weight in self._trainable:
                    weight.grad = None
                self.skipped_steps += 1
            return result

        return run

    def _place_average(self) -> None:
        """Start the average from the weights if there is none yet, and bring a loaded one to the device."""
        self._trainable = self._weights()  # looked up once, since walking through a network takes a while
        if not self._average.shadow:
            self._average.reset(self._trainable)
        # Laid out in memory as the weights are, which makes the one call that updates them a fast one.
        placed = zip(self._trainable, self._average.shadow, strict=True)
        self._average.shadow = [torch.empty_like(w, requires_grad=False).copy_(t) for w, t in placed]

    def _weights(self) -> list[nn.Parameter]:
        return [p for p in self.parameters() if p.requires_grad]


@torch.no_grad()
def _finite(tensors: Sequence[Tensor]) -> bool:
    """Whether all numbers are finite, by the largest of each tensor: a sum of squares could overflow."""
    largest = torch._foreach_norm([t for t in tensors if t.numel()], ord=math.inf) if tensors else ()
    return not largest or bool(torch.stack(largest).isfinite().all())
