"""The component ``physics``: vectors in, vectors out, a report for each motion."""

from __future__ import annotations

import logging
import math
import sys

import numpy as np
import pytest
import torch

from sc_loops import RealData, Samples
from sc_loops.correction.corrector import ReportingCorrector
from sc_loops.correction.physics import corrector as module
from sc_loops.correction.physics.corrector import Physics
from sc_loops.correction.physics.outcome import CHANGED, STATUSES
from sc_loops.correction.stage import Correct
from sc_loops.data.points import two_moons
from sc_loops.data.procedural import procedural_motions
from sc_loops.errors import InvalidValue, UsageError
from sc_loops.motion.physical_errors import physical_errors
from sc_loops.motion.representation import decode


@pytest.fixture(scope="module")
def data() -> RealData:
    return procedural_motions(size=16, test_size=10, max_frames=60)


@pytest.fixture(scope="module")
def spoilt(data: RealData) -> Samples:
    """Motions of which 0 is clean, 1 to 7 sink by 5 cm, 8 has NaN, and 9 is 3 m too high and broken."""
    motions = data.motions
    assert motions is not None
    x, condition = data.test.x.clone(), data.test.condition
    vectors = motions.vectors(x.double())
    joints = torch.arange(4, 67, 3) + 1
    for row in (1, 2, 3, 4, 5, 6, 7):
        vectors[row][:, [3, *joints.tolist()]] -= 0.05
    vectors[8, 2, 5] = math.nan
    noise = torch.randn(vectors[9].shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    vectors[9] += 3 * noise
    x = motions.normalised(vectors).float()
    x[~motions.mask(condition, x.shape[1])] = 0
    return Samples(x, condition, {"index": torch.arange(10)})


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_it_is_a_reporting_corrector(data: RealData) -> None:
    assert isinstance(Physics(data, method="kinematic"), ReportingCorrector)


def test_what_becomes_of_each_motion(data: RealData, spoilt: Samples) -> None:
    done, success = Physics(data, method="kinematic", workers=1)(spoilt, generator())
    status = [STATUSES[i] for i in done.columns["status"].tolist()]
    assert status[0] == "valid"
    assert set(status[1:8]) == {"kinematic"}
    assert status[8] == "rejected"
    assert status[9] == "kept"
    assert success.tolist() == [True] * 8 + [False] * 2
    for row in (0, 8, 9):  # bit by bit, NaN included
        assert torch.equal(done.x[row].view(torch.int32), spoilt.x[row].view(torch.int32))
    before, after = done.columns["error_before"], done.columns["error_after"]
    assert (after[1:8] < before[1:8]).all()
    assert after[0] == before[0]
    assert before[8].isnan()
    assert done.columns["track_mm"].isnan().all()  # nothing was simulated
    parts = sum(done.columns[f"{name}_before"] for name in ("penetration", "floating", "skating"))
    torch.testing.assert_close(parts, before, equal_nan=True)
    vectors = data.motions.vectors(done.x[1, : int(data.motions.lengths_of(done.condition[1:2]))].double())
    errors = physical_errors(decode(vectors, extended=True).numpy())
    for name in ("skating", "jerk", "self_penetration"):  # of the motion that is in the pool
        assert float(done.columns[f"{name}_after"][1]) == pytest.approx(getattr(errors, name), abs=1e-2)
    assert {name: column.dtype for name, column in done.columns.items()} == dict(Physics.reports)


def test_what_was_corrected_decodes_to_feet_on_the_floor_and_padding_stays(data: RealData, spoilt: Samples) -> None:
    done, _ = Physics(data, method="kinematic", workers=1)(spoilt, generator())
    motions = data.motions
    assert motions is not None
    mask = motions.mask(spoilt.condition, spoilt.x.shape[1])
    assert not done.x[~mask].any()
    for row in range(1, 8):
        length = int(mask[row].sum())
        joints = decode(motions.vectors(done.x[row, :length].double()))
        assert joints[..., 1].min() > -0.005


@pytest.mark.parametrize(
    "method", [*(pytest.param(m, marks=pytest.mark.slow) for m in ("kinematic", "soft")), "physics"]
)
def test_neither_the_number_of_processes_nor_a_second_pass_changes_anything(
    data: RealData, spoilt: Samples, method: str
) -> None:
    if method != "kinematic":
        pytest.importorskip("mujoco")
    alone, _ = Physics(data, method=method, workers=1)(spoilt, generator())
    crew = Physics(data, method=method, workers=2)
    together, success = crew(spoilt, generator())
    again, _ = crew(Samples(together.x, spoilt.condition), generator())
    crew.close()
    for one, other in ((alone.x, together.x), (together.x, again.x)):
        assert torch.equal(one.view(torch.int32), other.view(torch.int32))
    for name, column in alone.columns.items():
        assert torch.equal(column.nan_to_num(-1.0), together.columns[name].nan_to_num(-1.0))
    status = [STATUSES[i] for i in together.columns["status"].tolist()]
    assert set(status[1:8]) <= CHANGED
    assert method in status
    assert all(STATUSES[i] == "valid" for i in again.columns["status"][success].tolist())


def test_threads_of_torch_do_not_matter(data: RealData, spoilt: Samples) -> None:
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 4):
            torch.set_num_threads(count)
            found.append(Physics(data, method="kinematic", workers=1)(spoilt, generator())[0].x[:8])
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*found)


def test_the_stage_puts_the_report_into_pool_and_row(data: RealData, spoilt: Samples) -> None:
    stage = Correct(corrector=Physics(data, method="kinematic", workers=1), strength=math.inf)
    after, note = stage.observed(spoilt[:9], generator())
    row = stage.summarise([note])
    assert row["correction/status/valid"] == pytest.approx(1 / 9)
    assert row["correction/status/kinematic"] == pytest.approx(7 / 9)
    assert row["correction/status/rejected"] == row["correction/failed_share"] == pytest.approx(1 / 9)
    assert row["correction/error_before"] == pytest.approx(float(after.columns["error_before"][:8].mean()), rel=1e-5)
    assert row["correction/error_after"] < row["correction/error_before"]
    half = Correct(corrector=Physics(data, method="kinematic", workers=1), strength=1.0)
    status = half(spoilt, torch.Generator().manual_seed(3)).columns["status"]
    assert (status == -1).any()
    assert (status >= 0).any()


def test_a_clip_over_which_a_process_died_is_kept(data: RealData, spoilt: Samples, monkeypatch) -> None:
    crew = Physics(data, method="kinematic", workers=2)
    monkeypatch.setattr(crew._workers, "map", lambda jobs, lost: [lost(job, "it was killed") for job in jobs])
    done, success = crew(spoilt, generator())
    assert not success.any()
    assert torch.equal(done.x[:8], spoilt.x[:8])
    assert {STATUSES[i] for i in done.columns["status"].tolist()} == {"kept"}


def test_without_mujoco_the_kinematic_method_works_and_the_others_say_what_to_install(
    data: RealData, spoilt: Samples, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, "mujoco", None)
    done, _ = Physics(data, method="kinematic", workers=1)(spoilt[:3], generator())
    assert done.columns["status"].tolist() == [STATUSES.index(s) for s in ("valid", "kinematic", "kinematic")]
    with pytest.raises(UsageError, match=r'pip install -e "\.\[motion\]"'):
        Physics(data, method="soft")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"workers": 0}, "workers"),
        ({"policy": "nonsense"}, "module:function"),
        ({"policy": "__main__:print"}, "can be imported"),
        ({"policy": "no_such_module:function"}, "no_such_module"),
        ({"policy": f"{__name__}:nothing"}, "nothing"),
    ],
)
def test_bad_options(data: RealData, options: dict, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Physics(data, method="kinematic", **options)


def broken_policy(joints: np.ndarray) -> np.ndarray:
    raise KeyError("checkpoint")


def helpful_policy(joints: np.ndarray) -> np.ndarray:
    return joints


def test_a_policy_that_does_for_no_motion_is_told_once(data: RealData, spoilt: Samples, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        Physics(data, method="kinematic", workers=1, policy=f"{__name__}:helpful_policy")(spoilt[:4], generator())
        assert not caplog.messages
        corrector = Physics(data, method="kinematic", workers=1, policy=f"{__name__}:broken_policy")
        for _ in range(2):
            done, _ = corrector(spoilt[:4], generator())
    assert [STATUSES[i] for i in done.columns["status"].tolist()] == ["valid", *["kinematic"] * 3]
    assert len(caplog.messages) == 1
    assert "none of 3 motions" in caplog.messages[0]
    assert "policy: KeyError: 'checkpoint'" in caplog.messages[0]


def test_other_data_and_samples_without_captions_are_refused(data: RealData) -> None:
    with pytest.raises(InvalidValue, match="motions"):
        Physics(two_moons())
    with pytest.raises(InvalidValue, match="condition"):
        Physics(data, method="kinematic", workers=1)(Samples(data.test.x), generator())


def test_its_toe_height_is_that_of_the_real_motions(data: RealData) -> None:
    assert abs(Physics(data, method="kinematic")._toe_height) < 0.005  # made in code with toes at 0
    assert tuple(Physics.reports)[1:] == module.NUMBERS
