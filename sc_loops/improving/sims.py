"""``SIMS``: extrapolation in predictions (Alemohammad et al. 2024, arXiv 2408.16333)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sc_loops.data.real import RealData
from sc_loops.errors import require
from sc_loops.evaluation.evaluation import Evaluation
from sc_loops.improving.auxiliary import SelfSynthesis
from sc_loops.improving.improvement import OMEGAS, Improvement, Row
from sc_loops.improving.shares import chosen, shifted
from sc_loops.models.base import GenerativeModel
from sc_loops.models.half import HalfPrecisionTwins
from sc_loops.networks.classifier import Classifier
from sc_loops.networks.network import Network
from sc_loops.samples import Samples
from sc_loops.sampling.guidance import extrapolate

MOST_CANDIDATES = 20  # samples drawn for each that is chosen


class Extrapolated(Network):
    """(1 + ω) base - ω auxiliary, at the same t, x and class; it counts for the evaluations of both.

    Args:
        base: the network itself, whose parameters stay those that its model averages.

    Attributes:
        auxiliary: a frozen network of the same architecture.
        omega: ω, ``()`` float32, a buffer: it and the auxiliary's weights are told by ``weights_digest``.
    """

    omega: Tensor

    def __init__(self, base: Network) -> None:
        nn.Module.__init__(self)  # there is no data to take a shape from
        self.shape, self.num_classes, self.class_conditional = base.shape, base.num_classes, base.class_conditional
        self.one_shape, self.evaluations = base.one_shape, 2 * base.evaluations
        self.base, self.auxiliary = base, copy.deepcopy(base).requires_grad_(False)
        for weight in self.auxiliary.parameters():
            weight.grad = None
        self.register_buffer("omega", torch.zeros((), device=next(base.parameters()).device))

    def forward(self, t: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        return extrapolate(self.auxiliary(t, x, y), self.base(t, x, y), 1 + self.omega)

    def null(self, y: Tensor) -> Tensor:
        return self.base.null(y)


class SIMS(Improvement):
    """Self-improvement with synthetic data (Alemohammad et al. 2024, arXiv 2408.16333): samples with the prediction
    (1 + ω) base - ω auxiliary of two networks, whatever they predict, at twice the evaluations. It needs a model
    whose ``network`` is a ``Network``.

    Published settings: 100k samples for 50k images of CIFAR-10, 20 % of the base's training.

    With ``shares``, D_s is chosen among more samples so that the shares of the classes move towards them (the paper's
    distribution shift; ``composition`` says how, and how far to trust it). It records ``improvement/base_share/<k>``
    and ``improvement/chosen_share/<k>``, by the classifier, of the base's samples and of those that were chosen, and
    ``improvement/shift``, which part of the wanted shift these are chosen for: less than 1 where ω is too small. What
    came of it, by ``search_samples`` samples of other noise, is ``improvement/improved_share/<k>``, and
    ``improvement/total_variation/base`` and ``/improved`` are the distances of both from the wanted shares, in [0, 1]
    and, of n samples that have the wanted shares w, about Σ sqrt(w (1 - w) / (2 π n)).

    Args:
        data: see ``Improvement``.
        classifier: tells the classes for ``shares``.
        shares: wanted share of each class, >= 0 and adding up to 1. They need an ``omega`` > 0, on which the choice
            depends, and a model without classes: with them, the shares are those of the conditions.
        samples, steps, passes, batch_size, learning_rate, omega, omegas, search_samples, search_metric: see
            ``Improvement``.
    """

    def __init__(
        self,
        data: RealData,
        classifier: Classifier | None = None,
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
        shares: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__(
            data,
            samples=samples,
            steps=steps,
            passes=passes,
            batch_size=batch_size,
            learning_rate=learning_rate,
            omega=omega,
            omegas=omegas,
            search_samples=search_samples,
            search_metric=search_metric,
        )
        self._shares, self._classifier = shares, classifier
        self._pair: Extrapolated | None = None
        self._twins = HalfPrecisionTwins()
        if shares is None:
            return
        require(classifier is not None, "shares", shares, "null: there is no classifier to tell classes", "add one")
        classes = len(classifier.class_names) if classifier is not None else 0
        require(len(shares) == classes, "shares", shares, f"{classes} numbers, one for each class")
        whole = min(shares) >= 0 and abs(sum(shares) - 1) <= 1e-6
        found = f"{shares}, which add up to {sum(shares):g}"
        require(whole, "shares", found, "numbers >= 0 that add up to 1")
        positive = omega is not None and omega > 0
        require(positive, "omega", omega, "a number > 0, since shares are given: what is chosen depends on it")

    def options(self) -> Row:
        return {**super().options(), "shares": self._shares}

    def check(self, model: GenerativeModel, evaluation: Evaluation) -> None:
        super().check(model, evaluation)
        has_network = isinstance(getattr(model, "network", None), Network)
        self._require_model(has_network, model, "a model whose network is a Network, or the improvement neon")
        free = self._shares is None or not model.conditional
        do = "leave them out and set the conditions of the samples, or take network.class_conditional=false"
        require(free, "shares", self._shares, "null: a class-conditional model's shares are its conditions'", do)

    def self_synthesised(self, model: GenerativeModel, synthesis: SelfSynthesis) -> tuple[Samples, Row]:
        if self._shares is None:
            return super().self_synthesised(model, synthesis)
        assert self.omega is not None
        candidates = self.kept(model, MOST_CANDIDATES * self._samples, synthesis)
        wanted = torch.tensor(self._shares)
        return chosen(candidates, self._classes, self._samples, wanted, self.omega)

    def _make(
        self, model: GenerativeModel, evaluation: Evaluation, synthesis: SelfSynthesis
    ) -> tuple[dict[str, Tensor], Row]:
        auxiliary, row = super()._make(model, evaluation, synthesis)
        if self._shares is None:
            return auxiliary, row
        assert self._given is not None
        with self._at(model, auxiliary, self._given), model.averaged():
            samples = self.kept(model, self._search_samples, synthesis, "improved shares")
            labels = torch.cat([self._classes(chunk) for chunk in samples])
        return auxiliary, {**row, **shifted(row, labels, torch.tensor(self._shares))}

    def _classes(self, samples: Samples) -> Tensor:
        assert self._classifier is not None
        return self._classifier.probabilities(samples.as_float().x).argmax(dim=1)

    @contextmanager
    def extrapolated(self, model: GenerativeModel, auxiliary: dict[str, Tensor], omega: float) -> Iterator[None]:
        base, twins = model._modules["network"], model._twins
        assert isinstance(base, Network)
        if self._pair is None or self._pair.base is not base:
            self._pair, self._twins = Extrapolated(base), HalfPrecisionTwins()  # made once: a compiled one stays so
        weights = {k.removeprefix("network."): v for k, v in auxiliary.items() if k.startswith("network.")}
        self._pair.auxiliary.load_state_dict(weights)
        self._pair.omega.fill_(omega)
        self._pair.to(model.device)
        model._modules["network"], model._twins = self._pair, self._twins
        try:
            yield
        finally:
            model._modules["network"], model._twins = base, twins
