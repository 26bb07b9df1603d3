"""Runs that differ in nothing but the seed are one setting; labels name what tells settings apart, and no more."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import config, run_of

from sc_loops.comparing.record import read
from sc_loops.comparing.settings import MISSING, Settings, replicates, settings_of, short
from sc_loops.errors import UsageError
from sc_loops.run import Run


def settings(tmp_path: Path, configs: dict[str, dict[str, Any] | None]) -> Settings:
    return settings_of(read([run_of(tmp_path / name, resolved, last=1) for name, resolved in configs.items()]))


def labels(found: Settings) -> list[str]:
    return [setting.label for setting in found.all]


def test_settings_are_ordered_by_value_and_seeds_within_them(tmp_path: Path) -> None:
    strengths = (math.inf, 0.3, 10.0, 2.0)
    configs = {
        f"run-{strength}-{seed}": config(seed=seed, strength=strength) for strength in strengths for seed in (1, 0)
    }
    found = settings(tmp_path, configs)
    assert labels(found) == ["γ = 0.3", "γ = 2", "γ = 10", "γ = ∞"]
    assert found.keys == ("loop.stages.0.strength",)
    assert found.numeric
    assert [[record.seed for record in setting.records] for setting in found.all] == [[0, 1]] * 4
    assert found.all[2].by_seed[1].name == "run-10.0-1"


def test_seeds_that_follow_the_seed_are_no_setting_but_others_are(tmp_path: Path) -> None:
    follows = {f"a{seed}": config(seed=seed) for seed in range(3)}
    assert len(settings(tmp_path, follows).all) == 1
    fixed = {f"b{seed}": config(seed=5, data={"name": "gaussian", "seed": seed}) for seed in range(3)}
    assert labels(settings(tmp_path, fixed)) == ["data.seed = 0", "data.seed = 1", "data.seed = 2"]


def test_choices_that_happen_to_equal_the_seed_are_a_setting(tmp_path: Path) -> None:
    loop = [{"generations": 3, "stages": [{"name": "k_choice", "choices": k}]} for k in (2, 4)]
    configs = {f"k{k}": config(seed=k, loop=part) for k, part in zip((2, 4), loop, strict=True)}
    found = settings(tmp_path, configs)
    assert labels(found) == ["K = 2", "K = 4"]
    assert replicates([r for s in found.all for r in s.records]) == {"seed", "data.seed"}


def test_what_does_not_change_a_run_names_no_setting(tmp_path: Path) -> None:
    configs = {
        "a": config(name="a", output="here", wandb={"project": "x", "group": "g", "tags": ["t"]}),
        "b": config(seed=1, name="b", output="there"),
    }
    found = settings(tmp_path, configs)
    assert found.keys == ()
    assert labels(found) == ["2 seeds"]


def test_copies_of_one_config_and_seed_are_told_apart_by_their_names(tmp_path: Path) -> None:
    configs = {"a": config(strength=1.0), "a-2": config(strength=1.0), "b": config(strength=2.0)}
    assert labels(settings(tmp_path, configs)) == ["γ = 1 (a)", "γ = 1 (a-2)", "γ = 2"]
    copies = {"c": config(), "c-2": config()}
    assert labels(settings(tmp_path, copies)) == ["c", "c-2"]


def test_runs_without_a_config_are_told_apart_by_their_names(tmp_path: Path) -> None:
    found = settings(tmp_path, {"a": None, "b": config(), "c": None})
    assert labels(found) == ["a", "b", "c"]
    assert found.keys == ()


def test_other_stages_and_models_have_a_dash_where_a_key_is_missing(tmp_path: Path) -> None:
    found = settings(
        tmp_path,
        {
            "corrected": config(strength=0.5, model={"name": "ddpm", "steps": 400}),
            "plain": config(strength=None, model={"name": "gaussian"}),
            "strong": config(strength=2.0, model={"name": "gaussian"}),
        },
    )
    assert labels(found) == ["no γ", "γ = 0.5", "γ = 2"]  # enough to tell them apart
    assert {"model.name", "model.steps", "loop.stages", "loop.stages.0.name"} <= set(found.keys)
    assert found.all[0].values["model.steps"] == MISSING
    assert found.all[1].values["model.steps"] == 400
    heads = dict(zip(found.keys, found.heads(), strict=True))
    assert heads["model.name"] == "model"
    assert heads["loop.stages.0.corrector.name"] == "corrector"
    assert heads["loop.stages"] == "stages"


def test_what_another_experiment_differs_in_is_told_first(tmp_path: Path) -> None:
    """And not by the number of steps alone, in which they differ too."""
    kinds = (("two_moons", "left"), ("digits", "zeros"), ("digits", "ones"))
    configs = {
        f"run{i}": config(data={"name": data}, reward={"name": reward}, loop={"first": {"steps": i}, "stages": []})
        for i, (data, reward) in enumerate(kinds)
    }
    assert labels(settings(tmp_path, configs)) == [f"data = {data}, reward = {reward}" for data, reward in kinds]


def test_settings_of_words_stay_in_the_order_they_were_named_in(tmp_path: Path) -> None:
    names = ("replace", "accumulate", "fading")
    configs = {name: config(loop={"generations": 3, "stages": [], "memory": name}) for name in names}
    found = settings(tmp_path, configs)
    assert labels(found) == [f"memory = {name}" for name in names]
    assert not found.numeric


def test_a_product_of_two_keys_is_labelled_by_both(tmp_path: Path) -> None:
    product = [(ratio, strength) for strength in (1.0, 0.0) for ratio in (0.5, 0.2)]
    configs = {f"{ratio}-{strength}": config(ratio=ratio, strength=strength) for ratio, strength in product}
    expected = ["λ = 0.2, γ = 0", "λ = 0.2, γ = 1", "λ = 0.5, γ = 0", "λ = 0.5, γ = 1"]
    assert labels(settings(tmp_path, configs)) == expected


@pytest.mark.parametrize(
    ("key", "keys", "expected"),
    [
        ("loop.stages.1.strength", ["loop.stages.1.strength"], "γ"),
        ("loop.stages.1.strength", ["loop.stages.0.strength", "loop.stages.1.strength"], "stages.1.strength"),
        ("loop.first.steps", ["loop.first.steps", "loop.later.steps"], "first.steps"),
        ("model.betas.0", ["model.betas.0"], "betas.0"),
        ("batch_size", ["batch_size", "classifier.batch_size"], "batch_size"),
    ],
)
def test_a_key_is_called_by_its_symbol_or_the_shortest_end_of_its_own(
    key: str, keys: list[str], expected: str
) -> None:
    assert short(key, keys) == expected


def test_a_directory_named_twice_counts_once_and_equal_names_get_their_parents(tmp_path: Path) -> None:
    run = run_of(tmp_path / "a" / "run", config())
    other = run_of(tmp_path / "b" / "run", config(seed=1))
    found = read([run, other, Run(tmp_path / "a" / ".." / "a" / "run")])
    assert [record.name for record in found] == ["a/run", "b/run"]


def test_what_is_no_run_is_refused_by_name(tmp_path: Path) -> None:
    run = run_of(tmp_path / "runs" / "one", config())
    for path, words in (
        (tmp_path / "absent", "nothing"),
        (tmp_path / "runs", "runs below it: one"),
        (run.config_path, "a file"),
    ):
        with pytest.raises(UsageError, match=words) as caught:
            read([run, Run(path)])
        assert caught.value.where == str(path)
    run.config_path.write_text("- no\n- mapping\n")
    with pytest.raises(UsageError, match=r"config\.yaml"):
        read([run])
