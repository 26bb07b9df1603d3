"""``python -m sc_loops compare``: where it writes, what it prints, what it refuses with exit status 2."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up_runs import config, run_of

from sc_loops.comparing.command import compare, default_directory, title_of


def test_runs_of_one_directory_are_compared_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(run_of(tmp_path / f"r{s}", config(seed=s)).path) for s in range(2)]
    assert compare(runs) == 0
    page = tmp_path / "comparison.html"
    assert capsys.readouterr().out == f"{page}\n"
    assert "<h1>r0, r1</h1>" in page.read_text()
    assert (tmp_path / "comparison.csv").exists()


def test_out_names_the_directory_and_makes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(tmp_path / "run", config())
    assert compare([str(run.path), f"{run.path}/", "--out", str(tmp_path / "a" / "b")]) == 0
    assert "1 setting ·" in (tmp_path / "a" / "b" / "comparison.html").read_text()
    assert not (tmp_path / "comparison.html").exists()
    (tmp_path / "file").write_text("")
    assert compare([str(run.path), "--out", str(tmp_path / "file")]) == 2
    assert "a directory that can be made" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a directory that even root cannot write to")
def test_a_directory_that_cannot_be_written_to_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(tmp_path / "run", config())
    assert compare([str(run.path), "--out", "/proc"]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: /proc/comparison.csv")
    assert "expected: to write" in message
    assert "should not happen" not in message


def test_runs_of_several_directories_get_one_named_after_them_whatever_their_order() -> None:
    a, b, c = Path("x/a"), Path("y/b"), Path("y/c")
    assert default_directory([a, b]) == default_directory([b, a, b])
    assert default_directory([a, b]).parent == Path("runs")
    assert default_directory([a, b]) != default_directory([a, c])
    assert default_directory([b, c]) == Path("y")


def test_some_runs_of_a_directory_leave_the_comparison_of_all_alone(tmp_path: Path) -> None:
    a, b, c = (run_of(tmp_path / "sweep" / name, config(seed=i)).path for i, name in enumerate("abc"))
    assert default_directory([a, b, c]) == tmp_path / "sweep"
    assert default_directory([a, b]).parent == tmp_path / "sweep"
    assert default_directory([b, a]) == default_directory([a, b])
    assert len({default_directory(runs) for runs in ([a], [a, b], [a, c], [a, b, c])}) == 4


def test_many_runs_are_counted_in_the_title() -> None:
    assert title_of([Path(f"runs/sweep/{i}") for i in range(9)]) == "9 runs in sweep"
    assert title_of([Path("runs/a"), Path("runs/a/")]) == "a"
    seeds = [Path(f"runs/{name}/seed={seed}") for name in "abcde" for seed in range(2)]
    assert title_of(seeds[:4]) == "4 runs in a, b"  # not seed=0, seed=1, seed=0, seed=1
    assert title_of(seeds) == "10 runs"


def test_what_is_no_run_ends_with_a_message_and_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(tmp_path / "run", config())
    assert compare([str(run.path), str(tmp_path / "typo"), "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {tmp_path / 'typo'}")
    assert "expected: the directory of a run with at least one finished generation" in message
    assert "Traceback" not in message
    assert not (tmp_path / "out").exists()
