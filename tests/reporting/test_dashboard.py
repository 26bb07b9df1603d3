from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fabricated import fabricate, row

from sc_loops.reporting.dashboard import WandbDashboard, on_generation_axis
from sc_loops.reporting.report import write_report
from sc_loops.run import Run


def records(path: Path) -> Iterator[Any]:
    """The records of an offline run: a 7-byte header, then LevelDB's log format in blocks of 32 KiB."""
    from wandb.proto import wandb_internal_pb2

    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        whole, at = whole + data[at + 7 : at + 7 + size], at + 7 + size
        if kind in (1, 4):  # complete, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def mirror(run: Run, generations: int, dashboard: WandbDashboard) -> None:
    dashboard.run_started(run, generations, 0)
    for t, each in enumerate(run.rows()):
        for training in run.training_rows()[2 * t : 2 * t + 2]:
            dashboard.training_row(run, training)
        dashboard.generation_finished(run, each)
    dashboard.run_finished(run)
    dashboard.closed()


def test_an_offline_run_holds_the_history_on_two_axes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = fabricate(tmp_path / "my run", generations=2)
    run.config_path.write_text("seed: 7\n")
    write_report(run)
    mirror(run, 2, WandbDashboard(tags=("test",)))
    assert capfd.readouterr() == ("", "")

    (path,) = run.path.glob("wandb/offline-run-*/*.wandb")
    found = list(records(path))
    (about, *_) = [r.run for r in found if r.WhichOneof("record_type") == "run"]
    assert (about.display_name, about.project, list(about.tags)) == ("my run", "sc_loops", ["test"])
    config = {item.key: json.loads(item.value_json) for item in about.config.update}
    assert config["seed"] == 7
    assert config["facts"]["choices"] == 4

    axes = {r.metric.name or r.metric.glob_name: r.metric.step_metric for r in found if r.HasField("metric")}
    assert axes["train/*"] == "train/step"
    assert {axes[key] for key in ("reward/mean", "wasserstein_2", "mean_loss", "samples")} == {"generation"}

    history = []
    for record in found:
        if record.HasField("history"):
            items = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
            history.append(items)
    generations = [h for h in history if "reward/mean" in h]
    assert [h["generation"] for h in generations] == [0, 1, 2]
    assert [h["reward/mean"] for h in generations] == pytest.approx([0.0, 0.25, 0.5], abs=1e-9)
    assert all(h["samples/_type"] == "image-file" and sum(h["reward/histogram/values"]) == 400 for h in generations)
    assert not any("train/loss" in h for h in generations)
    steps = [h for h in history if "train/loss" in h]
    assert [h["train/step"] for h in steps] == [5, 10, 15, 20, 25, 30]
    assert not any("generation" in h for h in steps)
    assert len([h for h in history if "report/path" in h]) == 1
    (html,) = path.parent.glob("files/media/html/*.html")
    assert "Key numbers" in html.read_text()


def test_the_wandb_run_is_the_same_whenever_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    seen: list[dict[str, Any]] = []

    def init(**options: Any) -> Any:
        seen.append(options)
        raise ConnectionError("no network")

    monkeypatch.setattr(wandb, "init", init)
    here, there = fabricate(tmp_path / "a", generations=0), fabricate(tmp_path / "b", generations=0)
    monkeypatch.chdir(tmp_path)
    for run in (here, Run("a"), there):
        WandbDashboard(mode="online", group="seeds").run_started(run, 0, 0)
    assert seen[0]["id"] == seen[1]["id"] != seen[2]["id"]
    assert (seen[0]["name"], seen[0]["group"], seen[0]["resume"], seen[0]["mode"]) == (
        "a",
        "seeds",
        "allow",
        "online",
    )


@pytest.mark.parametrize("fails", ["init", "log", "finish"])
def test_a_failing_wandb_is_said_once_and_ends_nothing(
    fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import wandb

    class Broken:
        calls: list[str] = []  # noqa: RUF012

        def __getattr__(self, name: str) -> Any:
            def act(*args: Any, **options: Any) -> None:
                self.calls.append(name)
                if name == fails:
                    raise RuntimeError("the service\nis gone")

            return act

    def init(**options: Any) -> Broken:
        if fails == "init":
            raise RuntimeError("the service\nis gone")
        return Broken()

    monkeypatch.setattr(wandb, "init", init)
    run = fabricate(tmp_path / "run", generations=2)
    mirror(run, 2, WandbDashboard())
    out, err = capfd.readouterr()
    assert out == ""
    assert err == "dashboard: off from here on (RuntimeError: the service is gone)\n"
    assert Broken.calls.count("log") == {"init": 0, "log": 1, "finish": 9}[fails]
    Broken.calls.clear()


def test_a_generations_loss_does_not_land_on_the_axis_of_steps() -> None:
    logged = on_generation_axis(row(1))
    assert logged["mean_loss"] == row(1)["train/loss"]
    assert not any(key.startswith("train/") for key in logged)
