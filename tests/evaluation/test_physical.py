"""The metric ``physical``: means over the motions, beside those of the real ones."""

from __future__ import annotations

import math

import pytest
import torch

from sc_loops import RealData, Samples
from sc_loops.data.points import two_moons
from sc_loops.data.procedural import procedural_motions
from sc_loops.errors import InvalidValue
from sc_loops.evaluation import physical
from sc_loops.evaluation.physical import NUMBERS, PhysicalErrorsOfMotions, errors_of
from sc_loops.motion.physical_errors import physical_errors
from sc_loops.motion.representation import decode


@pytest.fixture(scope="module")
def data() -> RealData:
    return procedural_motions(size=8, test_size=6, max_frames=60)


def sunk(data: RealData, metres: float) -> Samples:
    assert data.motions is not None
    vectors = data.motions.vectors(data.test.x.double())
    heights = [3, *(torch.arange(4, 67, 3) + 1).tolist()]
    vectors[..., heights] -= metres
    x = data.motions.normalised(vectors).float()
    return Samples(x, data.test.condition, {"index": torch.arange(len(x))})


def test_numbers_are_means_of_single_motions(data: RealData) -> None:
    metric, samples = PhysicalErrorsOfMotions(data), sunk(data, 0.05)
    found = metric.summarise([metric.observe(part) for part in samples.split(4)])
    assert set(found) == {f"physical/{name}{end}" for name in NUMBERS for end in ("", "/real")}
    expected = []
    for x, length in zip(samples.x, data.motions.lengths_of(samples.condition).tolist(), strict=True):
        joints = decode(data.motions.vectors(x[:length].double())).numpy()
        expected.append([getattr(physical_errors(joints), name) for name in NUMBERS])
    for name, value in zip(NUMBERS, torch.tensor(expected).mean(dim=0).tolist(), strict=True):
        assert found[f"physical/{name}"] == pytest.approx(value, rel=1e-6, abs=1e-9)
    assert found["physical/error"] == pytest.approx(
        sum(found[f"physical/{name}"] for name in ("penetration", "floating", "skating"))
    )


def test_the_real_ones_measure_as_themselves(data: RealData) -> None:
    metric = PhysicalErrorsOfMotions(data)
    found = metric.summarise([metric.observe(data.test.with_columns(index=torch.arange(len(data.test))))])
    for name in NUMBERS:
        assert found[f"physical/{name}"] == found[f"physical/{name}/real"]


def test_only_the_first_count_and_what_is_not_finite_does_not(data: RealData) -> None:
    samples = sunk(data, 0.05)
    samples.x[1, 3, 5] = math.nan
    first = PhysicalErrorsOfMotions(data, limit=2)
    only = PhysicalErrorsOfMotions(data)
    alone = only.summarise([only.observe(samples[:1])])
    found = first.summarise([first.observe(samples)])
    for name in NUMBERS:
        assert found[f"physical/{name}"] == alone[f"physical/{name}"]
    none = first.summarise([first.observe(samples[5:])])
    assert set(none) == {f"physical/{name}/real" for name in NUMBERS}


def test_motions_are_decoded_one_at_a_time(data: RealData, monkeypatch) -> None:
    """Those of HumanML3D's test part, at once, take gigabytes."""
    seen: list[tuple[int, ...]] = []

    def watched(vectors: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(vectors.shape))
        return decode(vectors)

    monkeypatch.setattr(physical, "decode", watched)
    errors_of(data.test, data.motions)
    lengths = data.motions.lengths_of(data.test.condition).tolist()
    assert seen == [(length, 263) for length in lengths]


def test_other_data_is_refused() -> None:
    with pytest.raises(InvalidValue, match="motions"):
        PhysicalErrorsOfMotions(two_moons())
