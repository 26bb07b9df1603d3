from __future__ import annotations

import io
from pathlib import Path

import pytest
from fabricated import fabricate, row
from rich.console import Console

from sc_loops.reporting import terminal
from sc_loops.reporting.terminal import Pace, Terminal, banner, status_line
from sc_loops.reporting.wording import change, count, duration, exact, number, symbol


def test_the_status_line() -> None:
    lines = [status_line(row(0), None, generations=10, width=200).plain]
    lines += [status_line(row(t), row(t - 1), generations=10, width=200).plain for t in (1, 2)]
    assert lines == [
        "gen  0/10  loss  0.512  2000 real +    0 syn  seen 0.31 M  8000 samples in   4.1 s    16 nfe"
        "  reward   0.00           e^r   1.18           W2  0.217             12.3 s",
        "gen  1/10  loss  0.412  2000 real + 2000 syn  seen 0.62 M  8000 samples in   4.1 s    16 nfe"
        "  reward  0.250 (+0.250)  e^r   1.51 (+0.33)   W2  0.237 (+0.020)    12.3 s",
        "gen  2/10  loss  0.312  2000 real + 2000 syn  seen 0.93 M  8000 samples in   4.1 s    16 nfe"
        "  reward  0.500 (+0.250)  e^r   1.94 (+0.43)   W2  0.257 (+0.020)    12.3 s",
    ]


@pytest.mark.parametrize("width", [140, 100, 60])
def test_a_narrow_line_keeps_the_telling_columns_in_place(width: int) -> None:
    shares = {"class_share/0": 0.25, "class_share/1": 0.75, "recall/f": 0.5}
    lines = [
        status_line(row(t, **shares), row(t - 1), generations=10, class_names=["a", "tiger"], width=width).plain
        for t in (1, 2, 3)
    ]
    assert all(len(line) <= width for line in lines)
    assert len({line.index("12.3 s") for line in lines}) == 1
    assert all("e^r" in line or width < 80 for line in lines)
    assert ("class tiger  75 %" in lines[0]) == (width >= 140)


def test_a_row_with_next_to_nothing_is_a_line() -> None:
    assert status_line({"generation": 3}, None, generations=10).plain == "gen  3/10"


def test_the_banner_says_what_is_known(tmp_path: Path) -> None:
    facts = {
        "real_items": 1347, "parameters": 1_200_000, "batch_size": 64, "device": "cpu",
        "classifier/test_accuracy": 0.981, "class_names": ["0", "1"], "synthetic_ratio": float("inf"),
    }  # fmt: skip
    run = fabricate(tmp_path / "run", generations=0, facts=facts)
    assert banner(run, generations=6, start=2).plain.splitlines()[1:] == [
        "sc_loops  run",
        f"  run         {run.path}",
        "  data        made up · 1347 real items · 2 classes",
        "  loop        generations 0 to 6 · λ = ∞ · K = 4 choices · 400 samples per generation",
        "  model       1.2 M parameters · batch size 64",
        "  device      cpu",
        "  classifier  98.1 % test accuracy",
        "  resuming    at generation 2",
    ]


def test_the_banner_names_the_checkpoint_that_a_run_goes_on_from(tmp_path: Path) -> None:
    """Inside generation 0, too: a long pre-training that seems to start over is frightening."""
    run = fabricate(tmp_path / "run", generations=0)
    assert "resuming" not in banner(run, generations=6, start=0).plain
    path = run.saved.step(0, 500)
    run.checkpoints.mkdir(exist_ok=True)
    with run.saved.writing(path, 5) as temporary:
        temporary.write_bytes(b"state")
    run.saved.seal(temporary, path)
    line = "resuming    at generation 0 · from generation-0000-step-0000000500.ckpt"
    assert line in banner(run, generations=6, start=0).plain
    assert "resuming" not in banner(run, generations=6, start=7).plain  # it is finished


def watch(run_path: Path, observer: Terminal) -> None:
    run = fabricate(run_path, generations=0, facts={"generations": 2})
    observer.run_started(run, 2, 1)
    for done in (1, 2, 3):
        observer.progress(1, "training", done, 3, "steps")
    observer.progress(1, "sampling", 0, 400, "samples")
    observer.generation_finished(run, row(1))
    observer.run_finished(run)
    observer.closed()
    observer.closed()


def test_a_log_has_lines_and_no_bars(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    watch(tmp_path / "run", Terminal())
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "━" not in out
    assert "\r" not in out
    line = next(line for line in out.splitlines() if line.startswith("gen"))
    assert line.startswith("gen 1/2  loss  0.412")
    assert "reward  0.250 (+0.250)" in line  # against generation 0, which was on disk
    assert line.endswith("12.3 s left")
    assert len(line) <= terminal.WIDTH
    assert out.rstrip().endswith(f"done  run  {tmp_path / 'run'}")


def test_a_terminal_names_generation_and_phase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(terminal, "monotonic", lambda: float(next(clock)))
    observer, out = Terminal(), io.StringIO()
    observer._console = Console(file=out, force_terminal=True, width=120, highlight=False)
    drawn: list[str] = []
    real_stop = observer._stop

    def stop() -> None:
        if observer._progress is not None:
            shown = Console(file=io.StringIO(), width=120, record=True)
            shown.print(observer._progress.get_renderable())
            drawn.append(shown.export_text())
        real_stop()

    monkeypatch.setattr(observer, "_stop", stop)
    watch(tmp_path / "run", observer)
    assert "generation 1/2" in drawn[0]
    assert "sampling" in drawn[0]
    assert "0 of 400 samples" in drawn[0]
    assert out.getvalue().endswith("\n")
    assert "\x1b[?25h" in out.getvalue()  # the cursor is shown again


def test_closing_before_the_start_is_fine() -> None:
    Terminal().closed()


def test_the_pace_is_items_over_time_and_starts_anew_with_each_kind_of_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(terminal, "monotonic", lambda: now[0])
    pace = Pace()
    assert pace.rate(0, 10, "steps") is None
    now[0] = 102.0
    assert pace.rate(0, 50, "steps") == pytest.approx(20.0)
    now[0] = 110.0
    assert pace.rate(0, 50, "steps") == pytest.approx(20.0)  # nothing new was done
    assert pace.rate(0, 0, "samples") is None
    now[0] = 114.0
    assert pace.rate(0, 2000, "samples") == pytest.approx(500.0)
    assert pace.rate(1, 5, "steps") is None


def test_numbers_are_written_for_people() -> None:
    assert [number(v) for v in (0.3123, 45.12, 2.0, 1234.5, 8000, 1.2e-5, 0.0, None, float("inf"))] == [
        "0.312", "45.1", "2.00", "1234", "8 000", "1.2e-05", "0.00", "–", "∞",
    ]  # fmt: skip
    assert [change(*pair) for pair in ((2.31, 2.06), (45.1, 42.1), (0.1, None), (5, 7))] == [
        "+0.25", "+3.0", "", "-2",
    ]  # fmt: skip
    assert [count(v) for v in (8000, 50_000, 310_000, 12_000_000, 2e9)] == [
        "8000", "50 k", "0.31 M", "12 M", "2 G",
    ]  # fmt: skip
    assert [duration(v) for v in (4.12, 84, 4700, 200_000)] == ["4.1 s", "1.4 min", "1.3 h", "2.3 d"]
    assert [exact(v) for v in (1.0, 0.25, float("inf"), 4, "cpu")] == ["1", "0.25", "∞", "4", "cpu"]


def test_metrics_have_names() -> None:
    assert symbol("exp_reward/mean") == "E[eʳ]"
    assert symbol("frechet_distance/inception") == "FD inception"
    assert symbol("class_share/1", ["cat", "dog"]) == "share of dog"
    assert symbol("class_share/7", ["cat"]) == "share of class 7"
    assert symbol("seconds/training") == "training s"
    assert symbol("my/own") == "my/own"


def test_a_start_is_named_and_is_no_resuming(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run", generations=0, facts={"start": "weights.pt"})
    shown = banner(run, generations=6, start=1).plain
    assert "  start       generation 0 is weights.pt\n" in shown
    assert "resuming" not in shown
    run.checkpoints.mkdir(exist_ok=True)
    run.last_checkpoint.touch()
    assert "resuming    at generation 1" in banner(run, generations=6, start=1).plain
