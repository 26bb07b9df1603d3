"""What makes a command continue a run: where data lies does not matter, wherever in the config that is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sc_loops import config
from sc_loops.errors import UsageError
from sc_loops.experiment import completed, resolved_config
from sc_loops.run import Run
from sc_loops.run_choice import choose_run, is_free, require_same, significant
from sc_loops.sweeping.plan import make_plan

MNIST = {"name": "mnist", "root": "a", "download": True, "train_size": None}
FOLDER = {"name": "image_folder", "root": "a", "size": None}


def within(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Configs that name ``data`` in several places."""
    return [
        {"data": data},
        {"classifier": {"name": "trained", "trained_on": data}},
        {"evaluation": {"metrics": [{"name": "motion_text", "trained_on": data}]}},
        {"loop": {"stages": [{"name": "correct", "corrector": {"name": "my_own:Towards", "target": {"of": data}}}]}},
    ]


@pytest.mark.parametrize("place", range(4))
def test_data_that_can_be_downloaded_may_lie_anywhere(place: int) -> None:
    here = within(MNIST)[place]
    assert significant(here) == significant(within({**MNIST, "root": "b", "download": False})[place])
    assert significant(here) != significant(within({**MNIST, "train_size": 10})[place])
    assert significant(here) != significant(within({**MNIST, "name": "cifar10"})[place])


@pytest.mark.parametrize("place", range(4))
def test_a_folder_of_ones_own_is_known_by_its_path(place: int) -> None:
    assert significant(within(FOLDER)[place]) != significant(within({**FOLDER, "root": "b"})[place])


def test_a_run_with_a_classifier_of_more_data_continues_where_its_data_was_moved_to(tmp_path: Path) -> None:
    """The classifier's data lies where the run's does: ``trained_on: {root: ${data.root}}``."""
    recipe = resolved_config("mnist_small_baseline", [])
    here, there = (
        resolved_config("mnist_small_baseline", [f"data.root={tmp_path / name}", f"output={tmp_path}"])
        for name in ("here", "there")
    )
    assert here["classifier"]["trained_on"]["root"] == str(tmp_path / "here")
    runs = [choose_run(resolved, recipe, "mnist", fresh=False) for resolved in (here, there)]
    assert [run.name for run in runs] == ["mnist", "mnist"]
    run = Run(tmp_path / "mnist")
    run.path.mkdir()
    run.config_path.write_text(config.to_yaml(here))
    require_same(run, there, completed)
    other = resolved_config("mnist_small_baseline", ["classifier.trained_on.train_size=500"])
    with pytest.raises(UsageError, match=r"classifier\.trained_on\.train_size: null then, 500 now"):
        require_same(run, other, completed)


@pytest.mark.parametrize(
    ("key", "free"),
    [
        ("data.root", True),
        ("data.download", True),
        ("data.train_size", False),
        ("data", False),
        ("classifier.trained_on.root", True),
        ("classifier.trained_on", False),
        ("wandb", True),
        ("wandb.mode", True),
        ("loop.keep.last", True),
        ("loop.generations", True),
        ("loop", False),
        ("seed", False),
    ],
)
def test_which_keys_are_free(key: str, free: bool) -> None:
    resolved = {
        "seed": 0,
        "data": MNIST,
        "classifier": {"name": "trained", "trained_on": MNIST},
        "loop": {"generations": 3, "synthetic_ratio": 1.0, "keep": {"last": 2}},
        "wandb": {"mode": "offline"},
    }
    assert is_free(key, resolved) == free


def test_a_sweep_continues_where_its_data_was_moved_to(tmp_path: Path) -> None:
    def directory(recipe: str, *overrides: str) -> str:
        given = [f"output={tmp_path}", *overrides]
        return make_plan(recipe, given, {"loop.synthetic_ratio": ["0", "1"]}, [], fresh=False).directory.name

    plain = directory("mnist_small_baseline")
    assert directory("mnist_small_baseline", f"data.root={tmp_path}", "data.download=false") == plain
    assert directory("mnist_small_baseline", "data.train_size=500") != plain
