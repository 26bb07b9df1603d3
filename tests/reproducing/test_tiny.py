"""The project's claims at tiny size: every recipe runs, and everything that is read off it is there."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from sc_loops.cli import main
from sc_loops.reproducing.claims import Claim
from sc_loops.reproducing.claims_file import read_claims
from sc_loops.reproducing.tiny import GENERATIONS, SEEDS, cut

CHEAP = "moons_curated"
DATA = Path(os.environ.get("SC_LOOPS_DATA", Path(__file__).resolve().parents[2] / "../shared/data"))


def reproduce(output: Path, *names: str, roots: tuple[str, ...] = ()) -> dict[str, dict]:
    """What ``--tiny`` measures of the claims ``names``."""
    where = [f"--data-root={root}" for root in roots]
    status = main(["reproduce", "--tiny", "--only", ",".join(names), "--output", str(output), "--jobs", "1", *where])
    assert status == 0
    results = json.loads((output / "papers.json").read_text(encoding="utf-8"))
    assert results.keys() == set(names)
    return results


def require_whole(claim: Claim, result: dict) -> None:
    """Every quantity was read of every arm and seed."""
    claims = read_claims().by_name
    assert not result["failed"]
    assert [arm["setting"] for arm in result["arms"]] == [dict(setting) for setting in claim.settings]
    for arm in result["arms"]:
        assert set(arm["numbers"]) == {quantity.id for quantity in claim.quantities(claims)}
        assert all(len(values) == len(arm["seeds"]) <= SEEDS for values in arm["numbers"].values())
        assert all(isinstance(value, float) for values in arm["numbers"].values() for value in values)


def test_a_cheap_one(tmp_path) -> None:
    require_whole(read_claims().by_name[CHEAP], reproduce(tmp_path, CHEAP)[CHEAP])
    text = (tmp_path / "papers.md").read_text(encoding="utf-8")
    assert f"share of the preferred moon in generations 0, {GENERATIONS}: " in text


def small() -> list[Claim]:
    return [claim for claim in read_claims().by_name.values() if claim.size == "small" and claim.name != CHEAP]


@pytest.mark.slow
@pytest.mark.parametrize("claim", small(), ids=lambda claim: claim.name)
def test_every_small_one(claim, tmp_path) -> None:
    mnist = DATA / "mnist"
    if "mnist" in claim.recipe and not mnist.is_dir():
        pytest.skip(f"no MNIST in {mnist}; SC_LOOPS_DATA says where the data is")
    roots = (f"mnist={mnist}",) if mnist.is_dir() else ()
    require_whole(claim, reproduce(tmp_path, claim.name, roots=roots)[claim.name])


def test_what_is_cut() -> None:
    content = {
        "seed": 7,
        "batch_size": 256,
        "data": {"name": "mnist", "train_size": None, "test_size": 50},
        "loop": {"generations": 12, "synthetic_ratio": math.inf, "stages": [{"name": "k_choice", "kept": 1200}]},
        "model": {"steps": None, "network": {"channel_multipliers": [1, 2, 2], "channels": 64}},
        "improvement": {"omegas": [0.5, 1.0, 2.0], "steps": 400},
    }
    small = cut(content)
    assert small["seed"] == 7
    assert small["data"] == {"name": "mnist", "train_size": 200, "test_size": 50}
    assert small["loop"]["generations"] == GENERATIONS
    assert small["loop"]["synthetic_ratio"] == math.inf
    assert small["loop"]["stages"][0]["kept"] <= 50
    assert small["model"] == {"steps": None, "network": {"channel_multipliers": [1], "channels": 32}}
    assert len(small["improvement"]["omegas"]) == 2
    assert cut(small) == small
