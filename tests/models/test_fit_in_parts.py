"""A Gaussian that is fitted to items in parts, most of which it has seen."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from sc_loops import gaussian
from sc_loops.models.gaussian import Gaussian
from sc_loops.samples import Samples

R, D = 3, 2


def model(**options: Any) -> Gaussian:
    return Gaussian(gaussian(dimensions=R * D, size=30), replicas=R, **options)


def parts(count: int = 4) -> list[Samples]:
    """Parts of different sizes, apart from each other: most of the covariance is between them."""
    generator = torch.Generator().manual_seed(0)
    return [Samples(torch.randn(5 + 7 * i, R * D, generator=generator) + 3 * i) for i in range(count)]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many items are looked at, as it happens."""
    looked_at: list[int] = []
    each = Gaussian._each

    def note(self: Gaussian, x: Tensor) -> Iterator[Tensor]:
        looked_at.append(len(x))
        return each(self, x)

    monkeypatch.setattr(Gaussian, "_each", note)
    return looked_at


def same(a: Gaussian, b: Gaussian) -> bool:
    return torch.equal(a.mean, b.mean) and torch.equal(a.covariance, b.covariance)


@pytest.mark.parametrize("unbiased", [False, True])
def test_parts_are_fitted_as_their_items_together(unbiased: bool) -> None:
    apart, together = model(unbiased=unbiased), model(unbiased=unbiased)
    loss, items = apart.fit_parts(parts()), Samples.concatenate(parts())
    together.fit(items)
    torch.testing.assert_close(apart.mean, together.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(apart.covariance, together.covariance, rtol=1e-12, atol=1e-12)
    assert float(loss) == pytest.approx(float(together.loss(items)), rel=1e-12)  # which looks at every item


def test_only_new_parts_are_looked_at_and_the_fit_is_the_same_to_the_last_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grown, given = model(), parts()
    looked_at = counted(monkeypatch)
    for count in (2, 3, 4):
        grown.fit_parts(given[:count])
    assert looked_at == [len(part) for part in given]
    at_once = model()
    at_once.fit_parts(given)
    assert same(grown, at_once)


def test_other_first_parts_are_all_looked_at_again() -> None:
    one, given = model(), parts()
    one.fit_parts(given)
    for found in (given[1:], given[:2], [*parts()[:1], *given[1:]]):
        one.fit_parts(found)
        afresh = model()
        afresh.fit_parts([Samples(part.x.clone()) for part in found])
        assert same(one, afresh)


def test_what_is_loaded_into_a_model_does_not_enter_what_it_has_seen() -> None:
    one, given = model(), parts()
    one.fit_parts(given[:1])
    one.load_state_dict(model().state_dict())
    one.fit_parts(given)
    other = model()
    other.fit_parts(given)
    assert same(one, other)


def test_a_part_may_be_empty() -> None:
    """As real items are, where a subsample happens to hold none."""
    one, other = model(), model()
    one.fit_parts([Samples(torch.empty(0, R * D)), *parts()])
    other.fit_parts(parts())
    assert same(one, other)


def test_items_that_were_changed_in_place_are_seen_as_they_are() -> None:
    one, items = model(), parts(1)[0]
    one.fit(items)
    items.x.add_(1)
    one.fit(items)
    other = model()
    other.fit(Samples(items.x.clone()))
    assert same(one, other)


def test_a_model_that_has_seen_parts_is_copied_and_pickled() -> None:
    one, given = model(), parts()
    one.fit_parts(given[:2])
    for other in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert same(one, other)
        other.fit_parts(given)
    one.fit_parts(given)
    assert same(one, other)


def test_weighted_parts_are_fitted_by_their_weights() -> None:
    weighted = [part.with_columns(weight=torch.full((len(part),), 1.0 + i)) for i, part in enumerate(parts())]
    one, other = model(), model()
    one.fit_parts(weighted)
    other.fit_parts([part for i, part in enumerate(parts()) for _ in range(1 + i)])  # as often as they weigh
    torch.testing.assert_close(one.mean, other.mean)
    torch.testing.assert_close(one.covariance, other.covariance)
