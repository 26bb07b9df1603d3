from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
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


def wait_for_the_service() -> None:
    """An offline run may be finished a little before its file is written."""
    import wandb

    wandb.teardown()


def mirror(run: Run, generations: int, dashboard: WandbDashboard) -> None:
    """Have the dashboard watch the record of ``run`` grow anew."""
    lines = run.metrics_path.read_text().splitlines(keepends=True)
    run.metrics_path.write_text("".join(line for line in lines if "fact" in json.loads(line)))
    dashboard.run_started(run, generations, 0)
    for line in lines:
        row = json.loads(line)
        if "fact" not in row:
            run.metrics_path.write_text(run.metrics_path.read_text() + line)
            (dashboard.generation_finished if "generation" in row else dashboard.training_row)(run, row)
    dashboard.run_finished(run)
    dashboard.closed()


def test_an_offline_run_holds_the_history_on_two_axes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = fabricate(tmp_path / "my run", generations=2)
    run.config_path.write_text("seed: 7\n")
    write_report(run)
    mirror(run, 2, WandbDashboard(tags=("test",)))
    assert capfd.readouterr() == ("", "")

    wait_for_the_service()
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
    for run in (here, there, here):
        WandbDashboard(mode="online", group="seeds").run_started(run, 0, 0)
    moved = Run(shutil.move(here.path, tmp_path / "moved"))
    WandbDashboard(mode="online").run_started(moved, 0, 0)
    again = fabricate(tmp_path / "a", generations=0)
    WandbDashboard(mode="online").run_started(again, 0, 0)
    first, other, continued, elsewhere, anew = [options["id"] for options in seen]
    assert first == continued == elsewhere
    assert len({first, other, anew}) == 3
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


def history(path: Path) -> list[int]:
    return [r.history.step.num for r in records(path) if r.HasField("history")]


def test_going_on_offline_continues_the_id_and_the_steps(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run", generations=1)
    mirror(run, 1, WandbDashboard())
    time.sleep(1.1)  # the directory of an offline run is named after the second
    dashboard = WandbDashboard()
    dashboard.run_started(run, 2, 2)
    run.record(row(2))
    dashboard.generation_finished(run, run.rows()[-1])
    dashboard.closed()

    wait_for_the_service()
    paths = sorted(run.path.glob("wandb/offline-run-*/*.wandb"))
    assert len(paths) == 2
    (first,), (second,) = ([r.run.run_id for r in records(p) if r.HasField("run")][:1] for p in paths)
    assert first == second == (run.path / "wandb" / "run-id.txt").read_text().strip()
    before, after = (history(path) for path in paths)
    assert before == sorted(before)
    assert after == [run.metrics_path.read_bytes().count(b"\n")]
    assert after[0] > before[-1]


REAL = """
import os, pathlib, signal, sys, time
sys.path[:0] = {paths!r}
from fabricated import fabricate, row
from sc_loops.reporting import dashboard as module
module._PATIENCE = 3.0
run, failure = fabricate(pathlib.Path({run!r}), generations=1), {failure!r}
if failure == "import":
    sys.modules["wandb"] = None
dashboard = module.WandbDashboard()
dashboard.run_started(run, 3, 0)
if failure.startswith("SIG"):
    stats = [p.read_text().split() for p in pathlib.Path("/proc").glob("[0-9]*/stat")]
    (service,) = [int(s[0]) for s in stats if s[1] == "(wandb-core)" and s[3] == str(os.getpid())]
    print(service, flush=True)
    os.kill(service, getattr(signal, failure))
    time.sleep(0.5)
for t in (2, 3):
    run.record(row(t))
    dashboard.generation_finished(run, row(t))
dashboard.run_finished(run)
dashboard.closed()
print("went on")
"""


def real_process(run: Path, failure: str) -> subprocess.CompletedProcess[str]:
    paths = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]
    code = REAL.format(paths=paths, run=str(run), failure=failure)
    out, err = run.with_suffix(".out"), run.with_suffix(".err")
    # Files, not pipes: a service that was stopped would keep a pipe open.
    environment = {k: v for k, v in os.environ.items() if k != "WANDB_SERVICE"}  # or it would use this process's
    with out.open("w") as stdout, err.open("w") as stderr:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, stdout=stdout, stderr=stderr, env=environment, timeout=60)
    return subprocess.CompletedProcess([], done.returncode, out.read_text(), err.read_text())


@pytest.mark.parametrize("failure", ["SIGKILL", pytest.param("SIGSTOP", marks=pytest.mark.slow), "import"])
def test_a_real_failure_is_one_line_and_exit_status_0(failure: str, tmp_path: Path) -> None:
    done = real_process(tmp_path / "run", failure)
    if failure == "SIGSTOP":
        os.kill(int(done.stdout.split()[0]), signal.SIGKILL)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("went on\n")
    assert done.stderr.startswith("dashboard: off from here on (")
    # wandb itself may add that it could not finish, once the service that did not answer is given up.
    assert done.stderr.count("\n") == 1 + (failure == "SIGSTOP") * done.stderr.count("wandb: ERROR")


def test_a_full_disk_ends_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "run" / "wandb"
    disk.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk is not permitted here")
    try:
        done = real_process(tmp_path / "run", "none")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "went on\n"
    assert done.stderr.startswith("dashboard: off from here on (OSError: [Errno 28]")
    assert done.stderr.count("\n") == 1
