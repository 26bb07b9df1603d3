"""The theory that is drawn where choices are flipped or follow several rewards, on made-up runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import first_coordinate, fit, tiny_loop
from torch import Tensor

from sc_loops.curation.plural import PluralCurate
from sc_loops.data.pool import Chunk
from sc_loops.reporting import history
from sc_loops.reporting.curation_panels import contested, plural_panels
from sc_loops.reporting.history import expected_rewards, generation_rows
from sc_loops.reporting.report import write_report
from sc_loops.run import Run
from sc_loops.samples import Samples

SHARES = [0.3, 0.7]


def deciding(n: int) -> Tensor:
    """Two rewards ``(N, 2)`` of N samples."""
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 4.0])


def made_up(path: Path, n: int = 200, **facts: Any) -> Run:
    """A run whose generation 0 kept two rewards of its n samples, the measured one being their sum."""
    run, r = Run(path), deciding(n)
    run.record({"fact": True, "choices": 2, "synthetic_ratio": math.inf, **facts})

    def make(chunk: Chunk) -> tuple[Samples, dict[str, dict[str, Tensor]]]:
        part = r[chunk.start : chunk.start + chunk.size]
        observed = {"reward": {"values": part.sum(1)}, "stage 0": {"values": part}}
        return Samples(torch.zeros(1, 2)), observed

    chunks = [Chunk(0, 0, n // 2), Chunk(1, n // 2, n - n // 2)]
    for _ in run.pool(0).fill(chunks, make):
        pass
    run.pool(0).finish(0, chunks)
    return run


def chosen(r: np.ndarray) -> np.ndarray:
    """2 p(x) E_y[e^r(x) / (e^r(x) + e^r(y))] of equally likely samples, written out."""
    return (2 / (1 + np.exp(r[None, :] - r[:, None]))).mean(1) / len(r)


@pytest.mark.parametrize("flipped", [0.25, 0.5])
def test_the_flipped_choices_are_in_the_theory(tmp_path: Path, flipped: float) -> None:
    r = deciding(200).sum(1).double().numpy()
    expected = expected_rewards(made_up(tmp_path, flipped=flipped), 1)["reward/mean"]
    after = (1 - flipped) * chosen(r) + flipped * chosen(-r)
    assert expected == pytest.approx([r.mean(), after @ r], abs=1e-6)
    assert (flipped == 0.5) == (abs(expected[1] - expected[0]) < 1e-9)


def test_several_rewards_have_their_theory_and_so_has_the_measured_one(tmp_path: Path) -> None:
    r = deciding(200).double().numpy().T
    after = SHARES[0] * chosen(r[0]) + SHARES[1] * chosen(r[1])
    expected = expected_rewards(made_up(tmp_path, shares=SHARES), 1)
    measured = r.sum(0)
    assert expected["reward/mean"] == pytest.approx([measured.mean(), after @ measured], abs=1e-6)
    for i in range(2):
        assert expected[f"plural_reward/{i}"] == pytest.approx([r[i].mean(), after @ r[i]], abs=1e-6)
        means = [np.exp(r[i]).mean(), after @ np.exp(r[i])]
        assert expected[f"plural_exp_reward/{i}"] == pytest.approx(means, rel=1e-6)
    welfare = SHARES @ np.log([np.exp(r).mean(1), np.exp(r) @ after]).T
    assert expected["nash_welfare"] == pytest.approx(welfare, rel=1e-6)


def second_coordinate(x: Tensor) -> Tensor:
    return x[:, 1]


def test_in_a_loop_the_theory_starts_from_what_was_measured(tmp_path: Path) -> None:
    stage = PluralCurate(rewards=[first_coordinate, second_coordinate], choices=2)
    loop = tiny_loop(tmp_path, generations=1, stages=[stage], reward=second_coordinate)
    fit(loop)
    row, expected = generation_rows(loop.run)[0], expected_rewards(loop.run, 1)
    assert row["plural_reward/1"] == pytest.approx(row["reward/mean"], abs=1e-6)
    shown = ["reward/mean", "exp_reward/var", "plural_reward/0", "plural_exp_reward/1", "nash_welfare"]
    assert {key: expected[key][0] for key in shown} == pytest.approx({key: row[key] for key in shown}, rel=1e-4)
    page = write_report(loop.run).read_text()
    assert "<h3>Mean of each reward</h3>" in page
    assert "<h3>Nash welfare</h3>" in page


def test_few_atoms_stand_for_many_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made_up(tmp_path, n=4000, shares=SHARES)
    all_of_them = expected_rewards(run, 4)
    monkeypatch.setattr(history, "MAX_ATOMS", 1000)
    for key in ("reward/mean", "plural_reward/0", "plural_reward/1"):  # the others hang on a few large e^r
        assert expected_rewards(run, 4)[key] == pytest.approx(all_of_them[key], abs=0.08), key


def test_without_the_rewards_of_generation_0_nothing_is_expected(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.record({"fact": True, "choices": 2, "synthetic_ratio": 1.0, "shares": SHARES})
    assert expected_rewards(run, 2) == {}


def test_a_panel_has_every_reward_and_its_theory() -> None:
    rows = [{"generation": t, "plural_reward/0": 0.1 * t, "plural_reward/1": -0.1 * t} for t in range(3)]
    [(title, figure, caption)] = plural_panels(rows, {"plural_reward/0": np.arange(3) * 0.1})
    lines = figure.axes[0].get_lines()
    assert (title, caption) == ("Mean of each reward", "All that decide a share of the choices. Dashed: theory.")
    assert [line.get_label() for line in lines if not line.get_label().startswith("_")] == ["reward 0", "reward 1"]
    assert [tuple(line.get_ydata()) for line in lines[::2]] == [(0, 0.1, 0.2), (0, -0.1, -0.2)]
    assert plural_panels([{"generation": 0, "reward/mean": 1.0}], {}) == []


@pytest.mark.parametrize(
    ("facts", "says"),
    [({"choices": 2}, ""), ({"flipped": 0.25}, "share of 0.25"), ({"shares": [1 / 3, 2 / 3]}, "are 0.333, 0.667.")],
)
def test_the_report_says_who_chooses(facts: dict[str, Any], says: str) -> None:
    assert says in contested(facts)
    assert bool(contested(facts)) == bool(says)
