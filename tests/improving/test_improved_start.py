"""A loop whose models are improved, and that begins with a generation 0 from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from improved_runs import SMALL, looped, pools, rows
from tiny_flows import DATA, trained

from sc_loops import SIMS, Neon

SEARCH = {"omegas": (0.5,), "search_samples": 20}


def counted_from(first: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """``row`` with what was seen since ``first``."""
    return {k: v - first[k] if k.endswith("items_seen") and k in first else v for k, v in row.items()}


@pytest.mark.parametrize(("kind", "omega"), [(SIMS, {"omega": 1.5}), (Neon, SEARCH)])
def test_a_run_that_starts_from_generation_0_of_another_is_that_run(tmp_path: Path, kind: Any, omega: Any) -> None:
    """Weights, average and moments are those of the checkpoint, and all that is random is a function of the seed."""
    whole = looped(tmp_path / "whole", kind(DATA, **SMALL, **omega), generations=1)
    start = str(whole.checkpoint(0))
    started = looped(tmp_path / "started", kind(DATA, **SMALL, **omega), start=start, generations=1)
    assert pools(started) == pools(whole)
    for t in (0, 1):
        assert started.improvement(t).read_bytes() == whole.improvement(t).read_bytes()
    (zero, one), (own_zero, own_one) = rows(whole), rows(started)
    assert own_zero["items_seen"] == 0
    assert counted_from(own_zero, own_one) == counted_from(zero, one)
    measured = {k for k in zero if not k.startswith(("train/", "items_seen", "real_", "synthetic_"))}
    assert {k: own_zero[k] for k in measured} == {k: zero[k] for k in measured}
    assert "improvement/omega" in measured


def test_a_started_run_with_an_improvement_continues_to_the_same_end(tmp_path: Path) -> None:
    start = str(looped(tmp_path / "first", None, generations=0).checkpoint(0))
    whole = looped(tmp_path / "whole", Neon(DATA, **SMALL, omega=1.5), start=start, generations=1)
    for generations in (0, 1):
        parts = looped(tmp_path / "p", Neon(DATA, **SMALL, omega=1.5), start=start, generations=generations)
    assert pools(parts) == pools(whole)
    assert rows(parts) == rows(whole)


@pytest.mark.parametrize("kind", [SIMS, Neon])
def test_weights_without_an_average_are_improved_as_they_are(tmp_path: Path, kind: Any) -> None:
    model = trained()
    torch.save(model.state_dict(), tmp_path / "plain.pt")
    content = torch.load(looped(tmp_path / "first", None, generations=0).checkpoint(0), weights_only=True)
    average = {"updates": 0, "shadow": [p.detach().clone() for p in model.parameters()]}
    torch.save({**content, "state_dict": model.state_dict(), "ema": average}, tmp_path / "same.ckpt")
    plain, same = (
        looped(tmp_path / name, kind(DATA, **SMALL, omega=1.5), start=str(tmp_path / file), generations=0)
        for name, file in (("plain", "plain.pt"), ("same", "same.ckpt"))
    )
    assert pools(plain) == pools(same)
