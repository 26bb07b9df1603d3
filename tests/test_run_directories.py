"""Which directory a run gets, which command continues it, and what is drawn of it again."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import TINY, generations

from sc_loops.cli import main, train
from sc_loops.errors import UsageError
from sc_loops.run import Run
from sc_loops.run_choice import choose_run


def runs(here: Path) -> list[str]:
    return sorted(path.name for path in (here / "runs").iterdir())


def test_a_run_is_continued_finished_and_started_afresh(here, tiny) -> None:
    status, _, _ = tiny()
    assert status == 0
    assert runs(here) == ["tiny"]
    assert generations("runs/tiny") == [0, 1]
    assert yaml.safe_load(Run("runs/tiny").config_path.read_text())["loop"]["generations"] == 1
    assert (here / "runs/tiny/env.json").exists()

    pools = {path: path.stat().st_mtime_ns for path in (here / "runs/tiny/pools").rglob("*.safetensors")}
    status, printed, _ = tiny()
    assert status == 0
    first = printed.splitlines()[0]
    assert first.startswith("runs/tiny is finished")
    assert first.endswith("Report: runs/tiny/report.html")

    # What changes nothing of what was computed continues the same run; what is there stays.
    status, _, _ = tiny("loop.generations=2", "trainer.timeout_minutes=9", "loop.log_every=1", "wandb.project=x")
    assert status == 0
    assert runs(here) == ["tiny"]
    assert generations("runs/tiny") == [0, 1, 2]
    assert pools.items() <= {p: p.stat().st_mtime_ns for p in (here / "runs/tiny/pools").rglob("*")}.items()

    # What matters goes elsewhere, under a name that the same overrides find again, in whatever order.
    status, _, _ = tiny("seed=1", "loop.first.steps=2", "loop.generations=0")
    assert status == 0
    (other,) = set(runs(here)) - {"tiny"}
    assert other.startswith("tiny-")
    status, printed, _ = tiny("loop.first.steps=2", "seed=1", "loop.generations=0")
    assert printed.startswith(f"runs/{other} is finished")

    status, _, _ = tiny("--fresh", "loop.generations=0")
    assert status == 0
    assert set(runs(here)) == {"tiny", other, "tiny-2"}
    assert generations("runs/tiny-2") == [0]

    # A recipe that was edited is another experiment.
    (here / "tiny.yaml").write_text(TINY.replace("synthetic_ratio: 0.5", "synthetic_ratio: 0.25"))
    status, _, errors = tiny()
    assert status == 2
    assert "loop.synthetic_ratio: 0.5 then, 0.25 now" in errors
    assert "--fresh" in errors
    assert set(runs(here)) == {"tiny", other, "tiny-2"}
    assert tiny("--fresh", "--dry-run")[0] == 0


def chosen(here: Path, stem: str, *, fresh: bool = False, **given: Any) -> str:
    """The directory of the run of ``stem``, where it then leaves its config."""
    resolved = {"name": None, "output": str(here), **given}
    run = choose_run(resolved, resolved, stem, fresh=fresh)
    run.path.mkdir(exist_ok=True)
    run.config_path.write_text(yaml.safe_dump(resolved))
    return run.name


def test_a_run_of_a_config_whose_name_ends_in_a_number_is_not_one_that_was_started_afresh(tmp_path: Path) -> None:
    assert chosen(tmp_path, "toy-2", seed=2) == "toy-2"
    assert chosen(tmp_path, "toy", seed=1) == "toy"
    assert chosen(tmp_path, "toy", seed=1) == "toy"  # where both are there
    assert chosen(tmp_path, "toy-2", seed=2) == "toy-2"
    assert chosen(tmp_path, "toy", seed=1, fresh=True) == "toy-3"
    assert chosen(tmp_path, "toy", seed=1) == "toy-3"
    assert chosen(tmp_path, "toy-2", seed=2) == "toy-2"
    with pytest.raises(UsageError, match="seed: 1 then, 3 now"):
        chosen(tmp_path, "toy", seed=3)


def test_a_run_with_a_name_of_its_own_is_no_other_one(tmp_path: Path) -> None:
    """Also where the configs are the same, to see whether the numbers are."""
    for name in ("a-2", "a", "a-2", "a"):
        assert chosen(tmp_path, "toy", name=name) == name
    assert chosen(tmp_path, "toy", name="a", fresh=True) == "a-3"
    assert chosen(tmp_path, "toy", name="a") == "a-3"


def test_one_that_was_started_afresh_is_found_when_the_first_is_deleted(tmp_path: Path) -> None:
    assert [chosen(tmp_path, "toy", fresh=fresh) for fresh in (False, True, False)] == ["toy", "toy-2", "toy-2"]
    shutil.rmtree(tmp_path / "toy")
    assert chosen(tmp_path, "toy") == "toy-2"
    (tmp_path / "toy-2" / "config.yaml").unlink()  # it may be anybody's
    assert chosen(tmp_path, "toy") == "toy"


def test_a_run_of_a_version_with_fewer_options_is_continued(here, tiny) -> None:
    assert tiny("loop.synthetic_ratio=1")[0] == 0
    (path,) = (here / "runs").glob("tiny-*/config.yaml")
    recorded = yaml.safe_load(path.read_text())
    for section, option in (("first", "ema_decay"), ("later", "horizontal_flips")):
        del recorded["loop"][section][option]
    del recorded["model"]["sampling_precision"]
    path.write_text(yaml.safe_dump(recorded))
    status, out, _ = tiny("loop.synthetic_ratio=1", "loop.generations=2")
    assert status == 0
    assert "resuming" in out
    recorded["loop"]["first"]["steps"] = 7
    path.write_text(yaml.safe_dump(recorded))
    status, _, errors = tiny("loop.synthetic_ratio=1", "loop.generations=3")
    assert status == 2
    assert "loop.first.steps: 7 then, 3 now" in errors


def test_a_run_from_before_classifiers_had_a_seed_has_that_of_the_run(tmp_path, capsys) -> None:
    command = ["--config", "moons_curated", f"output={tmp_path}", "name=old", "seed=3", "classifier.epochs=1"]
    command += [
        "data.size=100",
        "data.test_size=20",
        "loop.generations=0",
        "loop.first={steps: 2}",
        "loop.samples=20",
    ]
    command += ["wandb.mode=disabled"]
    assert train([*command, "classifier.seed=3"]) == 0
    path = tmp_path / "old" / "config.yaml"
    as_written_then, removed = re.subn(r"^  seed: 3\n", "", path.read_text(), flags=re.MULTILINE)
    assert removed == 1
    path.write_text(as_written_then)
    assert train([*command, "classifier.seed=3"]) == 0
    assert train(command) == 2
    assert "classifier.seed: 3 then, 0 now" in capsys.readouterr().err


def test_a_name_and_an_output_are_used(here, tiny) -> None:
    status, _, _ = tiny("name=mine", "output=elsewhere", "loop.generations=0")
    assert status == 0
    assert generations("elsewhere/mine") == [0]
    assert not (here / "runs").exists()


def test_generations_are_those_of_pools_and_not_of_what_lies_beside_them(tmp_path: Path) -> None:
    for name in ("0000", "0000.bak", "0002", "3-old", "12345", "7"):
        (tmp_path / "pools" / name).mkdir(parents=True)
    assert Run(tmp_path).generations() == [0, 2, 12345]


@pytest.mark.skipif(not os.path.exists("/proc/self"), reason="needs a directory that even root cannot write to")
def test_an_output_that_cannot_be_written(tiny) -> None:
    status, _, errors = tiny("output=/proc/runs")
    assert status == 2
    assert errors.startswith("error: output")


def test_the_report_is_drawn_again(here, tiny, capfd) -> None:
    assert tiny("loop.generations=0", "--fresh")[0] == 0
    page = Run("runs/tiny").report_path
    page.unlink()
    assert main(["report", "runs/tiny"]) == 0
    assert capfd.readouterr().out.strip() == str(page)
    assert page.stat().st_size > 1000


@pytest.mark.parametrize("path", [".", "absent", "tiny.yaml"])
def test_the_report_of_what_is_no_run(here, capfd, path: str) -> None:
    assert main(["report", path]) == 2
    assert "the directory of a run" in capfd.readouterr().err
