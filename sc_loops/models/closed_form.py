"""``ClosedFormModel``: a generative model that is fitted without gradient steps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from sc_loops.data.mixture import Training
from sc_loops.disk import Keep
from sc_loops.errors import require
from sc_loops.models.base import GenerativeModel
from sc_loops.models.own_methods import blaming_method
from sc_loops.samples import Samples


class ClosedFormModel(GenerativeModel):
    """A model whose training is one step, which sees all items of the generation at once.

    A subclass implements ``fit``, ``loss`` and ``sample``, and keeps what it fits in buffers. The budget of a
    generation in the config is one pass; batch size, learning rate and average do not apply. One process trains it.
    """

    def __init__(self) -> None:
        super().__init__(ema_decay=0.0)
        self.automatic_optimization = False

    @abstractmethod
    def fit(self, items: Samples) -> None:
        """Fit the model to ``items``, from scratch: what was fitted before does not matter."""

    def fit_parts(self, parts: Sequence[Samples]) -> Tensor:
        """Fit the model to the items of all ``parts``, from scratch; the loss on them. A model that need not see them
        together may override this, and know parts that it has seen by their tensors."""
        items = Samples.concatenate(parts)
        self.fit(items)
        return self.loss(items)

    def training_step(self, batch: Samples | list[Samples], batch_idx: int) -> Tensor:
        parts = batch if isinstance(batch, list) else [batch]
        with blaming_method(self, "fit", f" in generation {self._generation}"):
            return self.fit_parts([part.as_float() for part in parts])

    def configure_optimizers(self) -> Any:
        return None


def check_training(model: GenerativeModel, first: Training, later: Training, keep: Keep, processes: int) -> None:
    """Raise ``InvalidValue`` for options of which a model in closed form, or one that is not, can make nothing."""
    if not isinstance(
        model, ClosedFormModel
    ):  # whose checkpoints inside a generation need the pool before it on disk
        expected = "null: only the generations of a model in closed form, as gaussian, can be held in memory"
        hold = keep.hold_seconds
        require(hold is None, "keep.hold_seconds", hold, expected, "leave it out; keep.last bounds the disk")
        return
    for name, training in (("first", first), ("later", later)):
        budget = {k: v for k, v in vars(training).items() if v and k != "horizontal_flips"}
        once = budget in ({"passes": 1}, {"steps": 1})
        expected = "{passes: 1}: a model in closed form sees all items once, at once, and has no learning rate"
        require(once, name, budget, expected)
    require_one_process(model, processes)


def require_one_process(model: GenerativeModel, processes: int) -> None:
    """Raise ``InvalidValue`` where several processes would train a model in closed form."""
    alone = processes == 1 or not isinstance(model, ClosedFormModel)
    do = "set trainer.devices=1, and trainer.accelerator=cpu where a GPU is not worth it"
    require(alone, "devices", processes, "one process, which fits the model", do)


def require_no_clipping(model: GenerativeModel, gradient_clip_val: float | None) -> None:
    """Raise ``InvalidValue`` where gradients would be clipped of a model in closed form, which has none."""
    none = gradient_clip_val is None or not isinstance(model, ClosedFormModel)
    require(none, "gradient_clip_val", gradient_clip_val, "null: a model in closed form has no gradients")
