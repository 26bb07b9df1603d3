"""A loop that goes on: stopped anywhere it comes to the same end, from the checkpoints that it wrote and kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import fit, tiny_loop
from stopped_loops import Stop, StopAt, pool_bytes, rows_without_times, weights
from torch import Tensor

from sc_loops import Observer, Run
from sc_loops.disk import Keep
from sc_loops.errors import UsageError

Uninterrupted = Callable[..., tuple[Run, list[Tensor]]]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Uninterrupted:
    """The run, and the last weights, of a loop with these options that nothing stops; trained once."""

    @cache
    def whole(**options: Any) -> tuple[Run, list[Tensor]]:
        loop = tiny_loop(tmp_path_factory.mktemp("whole"), **options)
        model = fit(loop)
        return loop.run, weights(model)

    return whole


@pytest.mark.parametrize(
    "stop",
    [
        StopAt("progress", 0, "training", 4),
        StopAt("progress", 1, "training", 4),
        StopAt("progress", 1, "sampling", 0),
        StopAt("progress", 1, "sampling", 50),
        StopAt("progress", 2, "scoring", 100),
        StopAt("progress", 3, "writing", 150),
        StopAt("generation_finished", 1),
        StopAt("generation_finished", 3),
    ],
    ids=lambda s: f"{s.event}-{s.at}",
)
@pytest.mark.parametrize("retraining", ["finetune", "from_scratch"])
@pytest.mark.parametrize("checkpoint_steps", [None, 1, 3])
def test_stopped_anywhere_and_resumed_equals_uninterrupted(
    tmp_path, uninterrupted: Uninterrupted, stop: StopAt, retraining: str, checkpoint_steps: int | None
) -> None:
    options = {"samples": 200, "retraining": retraining, "checkpoint_steps": checkpoint_steps}
    run, final = uninterrupted(**options)
    with pytest.raises(Stop):
        fit(tiny_loop(tmp_path, observers=[stop], **options))
    resumed = fit(tiny_loop(tmp_path, **options))
    assert pool_bytes(Run(tmp_path), 3) == pool_bytes(run, 3)
    assert rows_without_times(Run(tmp_path)) == rows_without_times(run)
    assert Run(tmp_path).training_rows() == run.training_rows()
    for a, b in zip(weights(resumed), final, strict=True):
        assert torch.equal(a, b)


def test_training_goes_on_from_the_last_step_checkpoint(tmp_path) -> None:
    """Stopped after step 7 of 8, with a checkpoint every 3: steps 7 and 8 are trained, not all eight."""
    with pytest.raises(Stop):
        fit(tiny_loop(tmp_path, checkpoint_steps=3, observers=[StopAt("progress", 0, "training", 7)]))
    steps: list[int] = []

    class Note(Observer):
        def progress(self, generation, phase, done, total, unit) -> None:
            if (generation, phase) == (0, "training"):
                steps.append(done)

    fit(tiny_loop(tmp_path, checkpoint_steps=3, observers=[Note()]))
    assert steps == [7, 8]
    assert not list(Run(tmp_path).checkpoints.glob("*-step-*"))


def test_a_checkpoint_is_written_by_the_clock(tmp_path) -> None:
    with pytest.raises(Stop):
        fit(tiny_loop(tmp_path, checkpoint_minutes=1e-9, observers=[StopAt("progress", 0, "training", 7)]))
    assert Run(tmp_path).last_checkpoint.resolve().name == "generation-0000-step-0000000006.ckpt"


def test_what_is_kept_is_bounded_and_the_loop_comes_to_the_same_end(tmp_path) -> None:
    whole = fit(tiny_loop(tmp_path / "all", generations=5))
    few = fit(tiny_loop(tmp_path / "few", generations=5, keep=Keep(last=2, every=3)))
    for a, b in zip(weights(few), weights(whole), strict=True):
        assert torch.equal(a, b)
    run = Run(tmp_path / "few")
    assert [t for t in range(6) if run.checkpoint(t).exists()] == [0, 3, 4, 5]
    assert [t for t in range(6) if run.pool(t).has_samples] == [0, 3, 4, 5]
    assert [row["generation"] for row in run.rows()] == list(range(6))
    assert all(run.pool(t).preview is not None for t in range(6))


def test_a_metrics_file_cut_in_the_middle_of_a_line_is_read_as_far_as_it_goes(tmp_path) -> None:
    fit(tiny_loop(tmp_path, generations=1))
    run = Run(tmp_path)
    text = run.metrics_path.read_text()
    before = rows_without_times(run)
    run.metrics_path.write_text(text[: text.rindex('"samples"')])
    assert [row["generation"] for row in run.rows()] == [0]
    fit(tiny_loop(tmp_path, generations=1))
    assert rows_without_times(run) == before


def test_checkpoints_load_without_unpickling(tmp_path: Path) -> None:
    fit(tiny_loop(tmp_path, generations=1))
    written = list(Run(tmp_path).checkpoints.glob("*.ckpt"))
    assert written
    for path in written:
        assert torch.load(path, weights_only=True)["state_dict"]


def test_a_checkpoint_can_stand_in_for_generation_0(tmp_path) -> None:
    fit(tiny_loop(tmp_path / "pretrained", generations=0))
    start = str(Run(tmp_path / "pretrained").checkpoint(0))
    fit(tiny_loop(tmp_path / "started", generations=2, start=start))
    run = Run(tmp_path / "started")
    assert [row["generation"] for row in run.rows()] == [0, 1, 2]
    assert run.rows()[0]["items_seen"] == 0
    assert torch.equal(run.pool(0).samples().x, Run(tmp_path / "pretrained").pool(0).samples().x)


def test_a_wrong_start_is_refused(tmp_path) -> None:
    (tmp_path / "bad.ckpt").write_bytes(b"not a checkpoint")
    for path in ("absent.ckpt", "bad.ckpt"):
        with pytest.raises(UsageError, match="a checkpoint of a TinyModel"):
            fit(tiny_loop(tmp_path / "run", start=str(tmp_path / path)))
