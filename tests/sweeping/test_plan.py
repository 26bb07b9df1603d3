"""Which runs a sweep has, where they lie, and what is refused before any of them starts."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import yaml
from conftest import TINY

from sc_loops.cli import train
from sc_loops.errors import UsageError
from sc_loops.experiment import resolved_config
from sc_loops.run import Run
from sc_loops.sweeping.command import jobs_of, places_of
from sc_loops.sweeping.plan import Plan, make_plan, reached

RATIOS = {"loop.synthetic_ratio": ["0.5", "1"]}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


def plan(
    axes: dict[str, list[str]] = RATIOS, seeds: tuple[int, ...] = (0, 1), *overrides: str, fresh: bool = False
) -> Plan:
    return make_plan("tiny.yaml", overrides, axes, list(seeds), fresh=fresh)


def names(of: Plan) -> list[str]:
    return [member.name for member in of.members]


def test_the_product_one_seed_after_the_other() -> None:
    axes = {**RATIOS, "loop.stages.0.choices": ["2", "3", "4"]}
    made = plan(axes, (5, 3))
    product = itertools.product((5, 3), (0.5, 1.0), (2, 3, 4))
    found = [
        (member.seed, member.resolved["loop"]["synthetic_ratio"], member.resolved["loop"]["stages"][0]["choices"])
        for member in made.members
    ]
    assert found == list(product)
    assert names(made)[:2] == ["synthetic_ratio=0.5,choices=2,seed=5", "synthetic_ratio=0.5,choices=3,seed=5"]


def test_a_member_is_the_run_of_its_overrides_in_its_place() -> None:
    made = plan(RATIOS, (7,), "loop.first.steps=2")
    for member, ratio in zip(made.members, ("0.5", "1"), strict=True):
        alone = resolved_config("tiny.yaml", ["loop.first.steps=2", f"loop.synthetic_ratio={ratio}", "seed=7"])
        alone |= {"name": member.name, "output": str(made.directory)}
        alone["wandb"]["group"] = made.directory.name
        assert member.resolved == alone
        assert member.run.path == made.directory / member.name


def test_what_follows_the_seed_does_so_for_each_seed(here: Path) -> None:
    """As it does where each run is resolved for itself: numbers, and texts made of the seed."""
    edited = TINY.replace("size: 200", 'size: "${seed}"').replace(
        "mode: disabled", 'mode: disabled, tags: ["s${seed}"]'
    )
    for text in (edited, edited.replace("s${seed}", "s")):
        (here / "tiny.yaml").write_text(text + "seed: 200\n")
        for member in plan({}, (200, 201, 202, 203)).members:
            alone = resolved_config("tiny.yaml", [f"seed={member.seed}"])
            ours = ("name", "output", "wandb")
            assert {k: v for k, v in member.resolved.items() if k not in ours} == {
                k: v for k, v in alone.items() if k not in ours
            }
            assert member.resolved["wandb"]["tags"] == alone["wandb"]["tags"]


def test_without_seeds_the_configs_own_is_used_and_named() -> None:
    assert names(plan(RATIOS, (), "seed=3")) == ["synthetic_ratio=0.5,seed=3", "synthetic_ratio=1,seed=3"]


def test_seeds_alone_are_a_sweep() -> None:
    assert names(plan({}, (0, 1))) == ["seed=0", "seed=1"]


def test_the_directory_stays_where_values_seeds_and_free_options_change() -> None:
    first = plan()
    others = [
        plan({"loop.synthetic_ratio": ["inf"]}, (9,)),
        plan(RATIOS, (0, 1), "loop.generations=2", "wandb.project=other"),
        plan(RATIOS, (0, 1), "trainer.accelerator=cpu"),
    ]
    assert {made.directory for made in others} == {first.directory}
    assert first.directory.parent == Path("runs")
    assert first.directory.name.startswith("tiny-sweep-")
    assert names(first) == names(others[1])


def test_the_directory_changes_with_the_keys_and_the_other_overrides() -> None:
    three = plan(RATIOS, (0,), "loop.first.steps=3", "batch_size=10").directory
    again = plan(RATIOS, (0,), "batch_size=10", "loop.first.steps=3").directory
    assert three == again
    others = [
        plan().directory,
        plan({"loop.later.steps": ["1", "2"]}).directory,
        plan(RATIOS, (0,), "loop.first.steps=4", "batch_size=10").directory,
    ]
    assert len({three, *others}) == 4


def test_a_name_and_an_output_of_ones_own() -> None:
    assert plan(RATIOS, (0,), "name=mine", "output=elsewhere").directory == Path("elsewhere/mine")


def test_fresh_is_beside_what_is_there(here: Path) -> None:
    first = plan(fresh=True).directory
    first.mkdir(parents=True)
    assert plan().directory == first
    second = plan(fresh=True).directory
    assert second == first.with_name(f"{first.name}-2")
    second.mkdir()
    assert plan().directory == second


def test_a_name_with_a_number_is_not_continued_under_the_name_without() -> None:
    numbered = plan(RATIOS, (0,), "name=mine-2").directory
    numbered.mkdir(parents=True)
    assert plan(RATIOS, (0,), "name=mine").directory == numbered.with_name("mine")


def test_a_group_of_ones_own_stays() -> None:
    assert plan(RATIOS, (0,), "wandb.group=mine").members[0].resolved["wandb"]["group"] == "mine"


def test_a_run_is_finished_when_the_row_of_its_last_generation_is_there() -> None:
    made = plan(RATIOS, (0,), "loop.generations=3")
    first, second = (member.run for member in made.members)
    first.path.mkdir(parents=True)
    for generation in range(3):
        first.record({"generation": generation})
    second.path.mkdir()
    second.record({"generation": 3})
    second.metrics_path.write_bytes(second.metrics_path.read_bytes()[:-3])  # cut short
    assert made.pending() == list(made.members)
    first.record({"generation": 3})
    for number in range(3000):  # the row of the last generation need not be in the last lines
        first.record({"step": number, "train/loss": 0.123456789, "train/learning_rate": 0.1})
    assert made.pending() == [made.members[1]]
    assert reached(first, 3)
    assert not reached(first, 4)


# Bad input.


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("loop.stages.0.choises", "2,3", "did you mean 'choices'?"),
        ("loop.generatoins", "2,3", "did you mean 'generations'?"),
        ("loop.stages.3.choices", "2,3", "position '3' of a list of 1"),
        ("loop.synthetic_ratio", "0.5,much", "'much'"),
        ("model.network", "mlp,mpl", "did you mean 'mlp'?"),
        # Found by a constructor, in the second run.
        ("loop.synthetic_ratio", "0.5,-1", "λ >= 0"),
        ("loop.stages.0.choices", "2,0", "choices"),
        # Equal runs.
        ("loop.synthetic_ratio", "0.1,0.10", "synthetic_ratio=0.1,seed=0"),
        ("loop.log_every", "1,2", "equal runs"),
        ("trainer.accelerator", "cpu,auto", "equal runs"),
    ],
)
@pytest.mark.parametrize("dry", [True, False])
def test_a_sweep_over_what_does_not_work(here: Path, capfd, key: str, value: str, message: str, dry: bool) -> None:
    status = train(["--config", "tiny.yaml", "--sweep", f"{key}={value}", *["--dry-run"] * dry])
    printed = capfd.readouterr()
    assert status == 2
    assert printed.err.startswith(f"error: --sweep {key}=")
    assert message in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "where", "message"),
    [
        (["--jobs", "2"], "--jobs", "nothing to sweep"),
        (["--seeds", "0..1", "--jobs", "0"], "--jobs", ">= 1"),
        (["--seeds", "0..1", "seed=3"], "--seeds 0..1", "seed=3 beside it"),
        (["--seeds", "0..x"], "--seeds 0..x", "0..29"),
        (["--seeds", "0..9999", "--sweep", "loop.synthetic_ratio=0,1"], "--sweep", "20000 runs"),
        (["--seeds", "0..1", "trainer.devices=2"], "trainer.devices", "one device each"),
        (["--seeds", "0..1", "trainer.num_nodes=2"], "trainer.devices", "one device each"),
        (["--seeds", "0..1", "batch_size=fast"], "batch_size", "an integer"),
        (["--seeds", "0..1", "loop.generations=-1"], "loop.generations (in the run seed=0)", "0..1000000"),
        (["--seeds", "0..1", "output=tiny.yaml"], "output", "a file"),
    ],
)
def test_other_bad_input(here: Path, capfd, arguments: list[str], where: str, message: str) -> None:
    assert train(["--config", "tiny.yaml", *arguments]) == 2
    errors = capfd.readouterr().err
    assert errors.startswith(f"error: {where}\n")
    assert message in errors
    assert not (here / "runs").exists()


def test_under_a_launcher(monkeypatch, capfd) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert train(["--config", "tiny.yaml", "--seeds", "0..1"]) == 2
    assert "without torchrun" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("accelerator", "visible", "jobs", "gpus"),
    [
        ("cpu", "", None, [None] * 5),
        ("auto", "", None, ["0", "1", "2"]),
        ("gpu", "4,6,7", 5, ["4", "6", "7", "4", "6"]),
    ],
)
def test_workers_take_gpus_in_turn(monkeypatch, accelerator: str, visible: str, jobs: int | None, gpus: list) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.setattr("sc_loops.sweeping.command.usable_cores", lambda: 5)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    members = plan({}, tuple(range(9)), f"trainer.accelerator={accelerator}").members
    places = places_of(members, jobs_of(jobs, members))
    assert [place.gpu for place in places] == gpus
    assert {place.threads for place in places} == {5 // len(gpus)}


def test_a_disk_too_small_for_all_runs_together(monkeypatch, capfd) -> None:
    monkeypatch.setattr("sc_loops.sweeping.checks.free_bytes", lambda path: 10**5)
    assert train(["--config", "tiny.yaml", "--seeds", "0..9"]) == 2
    assert "what the 10 runs take" in capfd.readouterr().err


def test_runs_of_a_recipe_that_was_edited(here: Path) -> None:
    member = plan().members[1]
    member.run.path.mkdir(parents=True)
    member.run.config_path.write_text(yaml.safe_dump(member.resolved))
    plan()
    (here / "tiny.yaml").write_text(TINY.replace("first: {steps: 3}", "first: {steps: 4}"))
    with pytest.raises(UsageError, match=r"loop\.first\.steps: 3 then, 4 now") as raised:
        plan()
    assert raised.value.where == str(member.run.path)


# The dry run.


def test_the_dry_run_prints_the_plan(here: Path, capfd) -> None:
    arguments = [
        "--config",
        "tiny.yaml",
        "--sweep",
        "loop.synthetic_ratio=0.5,inf",
        "--seeds",
        "0..9",
        "--jobs",
        "64",
    ]
    assert train([*arguments, "--dry-run"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("20 runs in runs/tiny-sweep-")
    assert lines[1] == "  loop.synthetic_ratio = 0.5, inf"
    assert lines[2] == "  10 seeds: 0, 1, 2, 3, 4, 5, 6, 7, ..."
    assert lines[3] == "  20 at a time"
    assert not (here / "runs").exists()


def test_finished_runs_are_skipped_without_building_anything(here: Path, capfd, monkeypatch) -> None:
    made = plan(RATIOS, (0, 1))
    for member in made.members:
        member.run.path.mkdir(parents=True)
        member.run.record({"generation": 1})
        member.run.config_path.write_text(yaml.safe_dump(member.resolved))
    shown: list[Run] = []

    def compared(runs: list[Run], out: Path, *, title: str) -> Path:
        shown.extend(runs)
        return out / "comparison.html"

    monkeypatch.setattr("sc_loops.comparing.page.write_comparison", compared)
    monkeypatch.setattr("sc_loops.sweeping.checks.build", None)
    monkeypatch.setattr("sc_loops.sweeping.command.Crew", None)
    assert train(["--config", "tiny.yaml", "--sweep", "loop.synthetic_ratio=0.5,1", "--seeds", "0,1"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert "4 runs" in lines[0]
    assert "4 are finished" in lines[0]
    assert lines[-1] == str(made.directory / "comparison.html")
    assert [run.path for run in shown] == [member.run.path for member in made.members]
    asked = json.loads((made.directory / "sweep.json").read_text())
    assert asked["sweep"] == RATIOS
    assert asked["seeds"] == [0, 1]
    assert asked["runs"] == names(made)
