"""A corrector that says what it did: its columns in the pool, its numbers in the row."""

from __future__ import annotations

import math
from typing import ClassVar

import pytest
import torch
from conftest import fit, tiny_loop

from sc_loops import Run, Samples
from sc_loops.correction.corrector import unpicked
from sc_loops.correction.stage import Correct
from sc_loops.errors import RunError


class Shift:
    """Moves by 1, fails where the first coordinate is positive, and tells how far points were from 0."""

    reports: ClassVar = {"how": torch.int64, "norm": torch.float32, "done": torch.bool}

    def __call__(self, samples: Samples, generator: torch.Generator) -> tuple[Samples, torch.Tensor]:
        success = samples.x[:, 0] <= 0
        how = torch.where(success, 3, 7)
        columns = {"how": how, "norm": samples.x.norm(dim=1), "done": success, "private": how}
        return Samples(samples.x + 1, samples.condition, columns), success

    def observe(self, columns: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.stack([torch.tensor(float(len(columns["how"]))), columns["norm"].sum()]).double()

    def summarise(self, sums: torch.Tensor) -> dict[str, float]:
        count, norm = sums.tolist()
        return {"correction/norm": norm / count if count else math.nan}


class Silent(Shift):
    def __call__(self, samples: Samples, generator: torch.Generator) -> Samples:
        return Samples(samples.x, samples.condition, {"how": torch.zeros(len(samples))})


def samples(n: int = 1000) -> Samples:
    return Samples(torch.randn(n, 2, generator=torch.Generator().manual_seed(1)), None, {"index": torch.arange(n)})


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("on_failure", ["keep", "drop"])
def test_columns_are_those_of_the_picked_and_filled_elsewhere(on_failure: str) -> None:
    before = samples()
    after, note = Correct(corrector=Shift(), strength=1.0, on_failure=on_failure).observed(before, generator())
    assert set(after.columns) == {"index", "how", "norm", "done"}
    picked = after.columns["how"] >= 0
    origin = before.x[after.columns["index"]]
    assert torch.equal(after.columns["norm"][picked], origin[picked].norm(dim=1))
    assert after.columns["norm"][~picked].isnan().all()
    assert not after.columns["done"][~picked].any()
    assert (after.columns["how"][~picked] == -1).all()
    if on_failure == "keep":
        assert torch.equal(after.columns["how"][picked] == 3, origin[picked][:, 0] <= 0)
        told = Correct(corrector=Shift(), strength=1.0).summarise([note])
        assert told["correction/norm"] == pytest.approx(float(origin[picked].norm(dim=1).mean()), rel=1e-5)
    else:
        assert (after.columns["how"][picked] == 3).all()


def test_numbers_of_chunks_are_those_of_the_whole() -> None:
    stage = Correct(corrector=Shift(), strength=math.inf)
    whole = stage.summarise([stage.observed(samples(), generator())[1]])
    parts = [stage.observed(part, generator())[1] for part in samples().split(170)]
    assert stage.summarise(parts) == pytest.approx(whole)


def test_a_chunk_of_which_none_is_picked_has_the_columns_too() -> None:
    after = Correct(corrector=Shift(), strength=1e-9)(samples(5), generator())
    assert torch.equal(after.columns["how"], torch.full((5,), -1))
    assert unpicked(2, Shift.reports, torch.device("cpu"))["done"].tolist() == [False, False]


def test_a_reporter_may_fail_on_all() -> None:
    stage = Correct(corrector=Shift(), strength=math.inf)
    right = Samples(torch.ones(20, 2), None, {"index": torch.arange(20)})
    after, note = stage.observed(right, generator())
    assert torch.equal(after.x, right.x)
    assert stage.summarise([note])["correction/failed_share"] == 1


def test_a_missing_column_is_told() -> None:
    stage = Correct(corrector=Silent(), strength=math.inf)
    with pytest.raises(RunError, match=r"no columns \(1000,\) of how torch.int64, norm torch.float32, done"):
        stage(samples(), generator())


def test_a_loop_keeps_the_columns_and_the_numbers(tmp_path) -> None:
    fit(tiny_loop(tmp_path, stages=[Correct(corrector=Shift(), strength=1.0)], generations=1))
    run = Run(tmp_path)
    found = run.pool(1).samples().columns
    assert set(found) >= {"how", "norm", "done"}
    picked = found["how"] >= 0
    assert run.rows()[-1]["correction/norm"] == pytest.approx(float(found["norm"][picked].mean()), rel=1e-5)
