"""``Improvement``: what is done to a trained model before it is sampled.

A generation's model, the base, is fine-tuned on samples of its own. That leads away from the real data, so the way
back leads towards them: what is sampled is (1 + ω) base - ω auxiliary, in predictions (``sims``) or in weights
(``neon``). The next generation trains from the base, which is never changed.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import torch
from torch import Tensor

from sc_loops.data.files import damage, read_metadata, read_tensors, write_tensors
from sc_loops.data.mixture import Training
from sc_loops.data.pixels import as_stored
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue, RunError, require
from sc_loops.evaluation.evaluation import Evaluation
from sc_loops.evaluation.metric import Metric
from sc_loops.improving.auxiliary import SelfSynthesis, autocast_anew, fine_tuned
from sc_loops.improving.search import curve_of, find_metric, lowest, measurable, recorded, search
from sc_loops.models.base import GenerativeModel
from sc_loops.models.closed_form import ClosedFormModel
from sc_loops.run import Row
from sc_loops.samples import Samples

OMEGAS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
LEAST, MOST = -1.0, 20.0  # ω; -1 is the auxiliary itself


class Improvement(ABC):
    """An auxiliary and ω of every generation, and how the base is extrapolated by them.

    The search samples the model for each ω from the same noise and takes the ω with the lowest ``search_metric``. ω =
    0, the base, is always among them, so what is chosen is no worse than the base by that measure. It is compared
    with the held-out data, as the generations are: of the number that they report for the chosen ω, a little is due
    to the choice.

    Args:
        data: the real data, in whose type samples are kept.
        samples: n_s, how many samples of its own the base is fine-tuned on.
        steps: optimizer steps of the fine-tuning; or
        passes: passes over the n_s samples (may be fractional).
        batch_size: items of one step.
        learning_rate: of the fine-tuning, constant; None is the model's.
        omega: ω in [-1, 20]. 0 is the base, -1 the auxiliary; None searches it anew in every generation.
        omegas: what the search tries, beside 0.
        search_samples: samples drawn for each ω.
        search_metric: the key of a row that is to be low; None is the first Fréchet, Wasserstein or energy distance
            that the evaluation has.

    Attributes:
        omega: as given, or as found for the generation that was prepared last.
    """

    omega: float | None

    def __init__(
        self,
        data: RealData,
        *,
        samples: int,
        steps: int | None = None,
        passes: float | None = None,
        batch_size: int = 256,
        learning_rate: float | None = None,
        omega: float | None = None,
        omegas: tuple[float, ...] = OMEGAS,
        search_samples: int = 2000,
        search_metric: str | None = None,
    ) -> None:
        require(1 <= samples <= 10**8, "samples", samples, "an integer in 1..100000000")
        require(1 <= batch_size <= 10**7, "batch_size", batch_size, "an integer in 1..10000000")
        within = f"a number in [{LEAST:g}, {MOST:g}]"
        require(omega is None or LEAST <= omega <= MOST, "omega", omega, f"{within}, or null to search it")
        possible = len(omegas) > 0 and all(LEAST <= tried <= MOST for tried in omegas)
        require(possible, "omegas", omegas, f"numbers in [{LEAST:g}, {MOST:g}], at least one")
        require(2 <= search_samples <= 10**7, "search_samples", search_samples, "an integer in 2..10000000")
        self.data, self.omega = data, omega
        self._samples, self._batch_size = samples, batch_size
        self._training = Training(steps=steps, passes=passes, learning_rate=learning_rate)
        self._given, self._omegas = omega, sorted({0.0, *omegas})
        self._search_samples, self._search_metric = search_samples, search_metric
        self._metric: tuple[Metric, str] | None = None
        self._auxiliary: dict[str, Tensor] = {}

    # What a kind of improvement is.

    @abstractmethod
    def extrapolated(
        self, model: GenerativeModel, auxiliary: dict[str, Tensor], omega: float
    ) -> AbstractContextManager[None]:
        """Within the context ``model.averaged()`` samples, and ``model.weights_digest()`` tells of, the base
        extrapolated by ``omega``, which is not 0; afterwards, also on an error, the model is what it was.

        What is sampled is the average, see ``model.averages_changed``, and not the weights of ``model.state_dict()``,
        which are those of the last step. An improvement that leaves the digest as it is ends the run.

        Args:
            auxiliary: a state dict of the model, with the auxiliary's averaged weights.
        """

    def self_synthesised(self, model: GenerativeModel, synthesis: SelfSynthesis) -> tuple[Samples, Row]:
        """What to fine-tune on, n_s of the samples of ``model`` as it is; and what to record of it."""
        return Samples.concatenate(list(self.kept(model, self._samples, synthesis))), {}

    def kept(
        self, model: GenerativeModel, n: int, synthesis: SelfSynthesis, purpose: str = "self-synthesis"
    ) -> Iterator[Samples]:
        """``n`` samples of ``model`` as it is, chunk by chunk, in the type and place in which real ones are.

        Raises:
            RunError: they are not finite.
        """
        for chunk in synthesis.chunks(model, n, purpose):
            if not torch.isfinite(chunk.x).all():
                raise RunError(
                    f"the model's samples for the improvement of generation {synthesis.generation}",
                    found="NaN or infinity",
                    expected="finite samples",
                    do="lower the learning rate, clip gradients or take more sampling steps",
                )
            yield Samples(as_stored(chunk.x, like=self.data.train.x), chunk.condition).to("cpu")

    def options(self) -> Row:
        """All that the auxiliary and the search depend on beside the model, as JSON can hold it."""
        training = {k: v for k, v in vars(self._training).items() if k in ("steps", "passes", "learning_rate")}
        searched = [self._omegas, self._search_samples, self._search_metric]
        return {
            "samples": self._samples,
            **training,
            "batch_size": self._batch_size,
            "omega": self._given if self._given is not None else searched,
        }

    def described(self) -> str:
        """In a few words, as ``SIMS, ω = 2``."""
        return f"{type(self).__name__}, ω {'searched' if self._given is None else f'= {self._given:g}'}"

    # What the loop calls.

    def check(self, model: GenerativeModel, evaluation: Evaluation) -> None:
        """Find, before any work is done, what cannot work.

        Raises:
            InvalidValue: the model has no weights to fine-tune, or there is nothing by which ω could be searched.
        """
        closed = isinstance(model, ClosedFormModel)
        self._require_model(not closed, model, "a model that is trained by gradient steps: it has no auxiliary else")
        trains = any(weight.requires_grad for weight in model.parameters())
        self._require_model(trains, model, "a model with weights to train")
        some = self._given is not None or bool(measurable(evaluation))
        do = "images have a distance with a classifier, or with the metric inception"
        require(some, "omega", self._given, "a number: nothing is measured by which it could be searched", do)

    def check_search(self, evaluation: Evaluation) -> None:
        """Find the metric of the search, when ``evaluation`` is prepared and before the first generation is trained.

        Raises:
            InvalidValue: there is none of that name, or no distance.
        """
        if self._given is None and self._metric is None:
            self._metric = find_metric(evaluation, self.data, self._search_metric)

    def prepare(self, model: GenerativeModel, path: Path, evaluation: Evaluation, synthesis: SelfSynthesis) -> Row:
        """Make the auxiliary of the trained ``model`` and choose ω, which is what takes long, and write them to
        ``path``; or read them from there, where the file is whole and was made of the same weights with the same
        options. One process makes it; in another it is read.

        Returns:
            ``improvement/omega``, ``improvement/loss``, the mean of the fine-tuning, ``improvement/items_seen`` by
            it, and with a search what ``recorded`` says of every ω.

        Raises:
            RunError: samples or weights that are not finite, no ω that could be measured, or one that has no effect.
        """
        if not self.is_made(model, path, synthesis):
            with autocast_anew(model.device):
                auxiliary, row = self._make(model, evaluation, synthesis)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_tensors(path, auxiliary, made_of=self._digest(model, synthesis), row=json.dumps(row))
        self._auxiliary, row = read_tensors(path), json.loads(read_metadata(path)["row"])
        self.omega = row["improvement/omega"]
        return row

    def is_made(self, model: GenerativeModel, path: Path, synthesis: SelfSynthesis) -> bool:
        """Whether ``path`` is whole and holds what ``prepare`` would make."""
        return damage(path) is None and read_metadata(path).get("made_of") == self._digest(model, synthesis)

    def applied(self, model: GenerativeModel) -> AbstractContextManager[None]:
        """Within the context ``model`` is sampled improved, by what was prepared last.

        Raises:
            RunError: ω is not 0, and yet ``model.weights_digest()`` is the base's.
        """
        assert self.omega is not None
        return self._at(model, self._auxiliary, self.omega)

    @contextmanager
    def _at(self, model: GenerativeModel, auxiliary: dict[str, Tensor], omega: float) -> Iterator[None]:
        if omega == 0:
            yield
            return
        base = model.weights_digest()
        with self.extrapolated(model, auxiliary, omega):
            self._require_effect(model.weights_digest() != base, omega)
            yield

    def _make(
        self, model: GenerativeModel, evaluation: Evaluation, synthesis: SelfSynthesis
    ) -> tuple[dict[str, Tensor], Row]:
        with model.averaged():
            items, row = self.self_synthesised(model, synthesis)
        auxiliary, loss = fine_tuned(model, items, self._training, self._batch_size, synthesis)
        seen = self._batch_size * self._training.optimizer_steps(len(items), self._batch_size)
        row |= {"improvement/loss": loss, "improvement/items_seen": seen}
        if self._given is not None:
            return auxiliary, {"improvement/omega": self._given, **row}
        self.check_search(evaluation)
        assert self._metric is not None
        metric, key = self._metric
        found = search(
            model,
            lambda omega: self._at(model, auxiliary, omega),
            self._omegas,
            self._search_samples,
            metric,
            self.data,
            synthesis,
        )
        chosen = lowest(curve_of(found, key), key)
        return auxiliary, {"improvement/omega": chosen, **row, **recorded(found, key)}

    def _digest(self, model: GenerativeModel, synthesis: SelfSynthesis) -> str:
        parts = [type(self).__name__, model.weights_digest(), self.options()]
        numbers = [synthesis.seed, synthesis.generation, synthesis.chunk_size]
        return hashlib.sha256(json.dumps([*parts, *numbers], sort_keys=True).encode()).hexdigest()[:32]

    def _require_effect(self, changed: bool, omega: float) -> None:
        if not changed:
            raise RunError(
                f"the improvement {type(self).__name__}",
                found=f"with omega = {omega:g}, averaged weights, frozen ones and buffers that are the base's",
                expected="extrapolated() to change what model.averaged() samples",
                do="change the averages with model.averages_changed(), and not the weights; or fine-tune for longer "
                "or at a higher rate, if the auxiliary is still the base",
            )

    def _require_model(self, possible: bool, model: GenerativeModel, expected: str) -> None:
        if not possible:
            name = type(self).__name__.lower()
            raise InvalidValue("name", found=f"{name}, of a model {type(model).__name__}", expected=expected)
