"""A loop that begins with a KDE from a file, which has other items than this run's data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import fit
from safetensors.torch import save_file

from sc_loops import Run, SelfConsumingLoop, Training, gaussian
from sc_loops.disk import Keep
from sc_loops.errors import UsageError
from sc_loops.models.kde import KDE
from sc_loops.models.starts import read_start
from sc_loops.samples import Samples


def kde_loop(path: Path, size: int, **options: Any) -> Run:
    """A loop of a KDE on ``size`` real points."""
    data = gaussian(dimensions=2, size=size)
    chosen: dict[str, Any] = {
        "generations": 2,
        "synthetic_ratio": 1.0,
        "first": Training(passes=1),
        "later": Training(passes=1),
        "chunk_size": 25,
        **options,
    }
    fit(SelfConsumingLoop(Run(path), **chosen), KDE(data, bandwidth=0.3), data=data)
    return Run(path)


def items_of(run: Run, generation: int) -> torch.Tensor:
    return torch.load(run.checkpoint(generation), weights_only=True)["state_dict"]["items"]


def rows(run: Run) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if "second" not in k} for row in run.rows()]


def pools(run: Run) -> dict[str, bytes]:
    return {str(p.relative_to(run.path)): p.read_bytes() for p in run.path.glob("pools/*/chunk-*")}


@pytest.mark.parametrize(("size", "suffix"), [(30, ".ckpt"), (90, ".safetensors")])
def test_a_kde_of_more_or_fewer_items_is_generation_0(tmp_path: Path, size: int, suffix: str) -> None:
    """Every sample is near an item of the file; what follows is fitted to this run's own real points."""
    first = kde_loop(tmp_path / "first", 60, generations=0)
    start = first.checkpoint(0)
    items = items_of(first, 0)
    if suffix == ".safetensors":
        start = tmp_path / "start.safetensors"
        save_file({"items": items}, start)
    run = kde_loop(tmp_path / "run", size, start=str(start), chunk_size=size)
    again = kde_loop(tmp_path / "again", 60, start=str(start), samples=size, chunk_size=size)
    x = run.pool(0).samples().x
    assert len(x) == size
    assert torch.equal(x, again.pool(0).samples().x)
    assert torch.cdist(x, items).min(dim=1).values.max() < 6 * 0.3
    assert [row["generation"] for row in run.rows()] == [0, 1, 2]
    assert rows(run)[0]["items_seen"] == 0
    real = gaussian(dimensions=2, size=size).train.x
    expected = torch.cat([real, run.pool(0).samples().x])
    assert torch.equal(items_of(run, 1).sort(dim=0).values, expected.sort(dim=0).values)


def test_a_started_kde_continues_from_its_own_checkpoint(tmp_path: Path) -> None:
    start = str(kde_loop(tmp_path / "first", 60, generations=0).checkpoint(0))
    whole = kde_loop(tmp_path / "whole", 30, generations=3, start=start)
    kde_loop(tmp_path / "parts", 30, generations=0, start=start)
    kde_loop(tmp_path / "parts", 30, generations=1, start=start)
    parts = kde_loop(tmp_path / "parts", 30, generations=3, start=start)
    assert pools(parts) == pools(whole)
    assert rows(parts) == rows(whole)


def test_a_started_kde_that_is_held_in_memory(tmp_path: Path) -> None:
    start = str(kde_loop(tmp_path / "first", 60, generations=0).checkpoint(0))
    options = {"generations": 3, "start": start, "memory": "accumulate"}
    plain = kde_loop(tmp_path / "plain", 30, **options)
    held = kde_loop(tmp_path / "held", 30, **options, keep=Keep(last=1, hold_seconds=60.0))
    assert rows(held) == rows(plain)


def test_a_kde_of_other_points_is_refused(tmp_path: Path) -> None:
    other = KDE(gaussian(dimensions=3, size=60))
    other.fit(Samples(torch.randn(60, 3)))
    torch.save(other.state_dict(), tmp_path / "start.pt")
    with pytest.raises(UsageError) as caught:
        read_start(KDE(gaussian(dimensions=2, size=60)), tmp_path / "start.pt")
    assert "items" in caught.value.found
    assert "3" in caught.value.found
    assert "data" in str(caught.value.do)
    assert "network" not in caught.value.found
