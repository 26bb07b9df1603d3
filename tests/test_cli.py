"""The command line: its help, its arguments, the dry run, and configs that are none."""

from __future__ import annotations

import os
import re

import pytest
import yaml

from sc_loops.cli import main, train

# Arguments.


@pytest.mark.parametrize("arguments", [["--help"], ["-h"]])
def test_help_shows_examples(arguments: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        train(arguments)
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text
    assert "--dry-run" in text
    assert "--fresh" in text
    assert "--sweep" in text


def test_help_of_the_verbs(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    listed = set(re.findall(r"^    ([a-z-]+)", capsys.readouterr().out, flags=re.MULTILINE))
    assert {"train", "report", "compare", "cite", "reproduce", "motion-import", "motion-evaluate"} <= listed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--config"),
        (["--config"], "--config"),
        (["--config", "moons_curated", "--fersh"], "--fersh"),
        (["--config", "moons_curated", "-x"], "-x"),
        (["--config", "moons_curated", "--dry-run=1"], "--dry-run"),
        (["--config", "moons_curated", "--jobs", "many"], "--jobs"),
        (["--config", "moons_curated", "--dry"], "--dry"),  # no abbreviations: --seed=3 is an override
    ],
)
def test_wrong_arguments(arguments: list[str], message: str, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        train(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["retrain"], ["report"], ["compare"]])
def test_wrong_verbs(arguments: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


# The dry run.


def test_the_dry_run_prints_a_config_that_means_the_same(here, tiny) -> None:
    status, printed, errors = tiny("--dry-run", "loop.synthetic_ratio=inf")
    assert (status, errors) == (0, "")
    assert yaml.safe_load(printed)["loop"]["synthetic_ratio"] == float("inf")
    (here / "tiny.yaml").write_text(printed)
    assert tiny("--dry-run") == (0, printed, "")
    assert not (here / "runs").exists()


def test_overrides_with_and_without_dashes_and_anywhere(here, capfd) -> None:
    outputs = []
    for arguments in (
        ["--config", "tiny.yaml", "--dry-run", "seed=3", "loop.first.steps=4"],
        ["--config", "tiny.yaml", "--seed=3", "--dry-run", "--loop.first.steps=4"],
        ["seed=3", "--config=tiny.yaml", "--loop.first.steps=4", "--dry-run"],
    ):
        assert train(arguments) == 0
        outputs.append(capfd.readouterr().out)
    assert outputs[0] == outputs[1] == outputs[2]
    assert yaml.safe_load(outputs[0])["seed"] == 3
    assert yaml.safe_load(outputs[0])["loop"]["first"]["steps"] == 4


@pytest.mark.parametrize("name", ["moons_curated", "moons_curated.yaml"])
def test_a_recipe_is_found_by_its_name_from_anywhere(here, capfd, name: str) -> None:
    assert train(["--config", name, "--dry-run"]) == 0
    assert yaml.safe_load(capfd.readouterr().out)["data"]["name"] == "two_moons"


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "no settings"), (b"\x89PNG\r\n\x1a\n\x00\xff", "readable text"), (b"\x00\x01", "not YAML")],
)
def test_configs_that_are_none(here, tiny, content: bytes, message: str) -> None:
    (here / "tiny.yaml").write_bytes(content)
    status, _, errors = tiny()
    assert status == 2
    assert message in errors
    assert os.listdir(here) == ["tiny.yaml"]


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs a file that even root cannot read")
def test_an_unreadable_config(capfd) -> None:
    assert train(["--config", "/proc/self/mem"]) == 2
    assert "a readable text file" in capfd.readouterr().err


@pytest.mark.parametrize("name", [".", "absent.yaml", "a" * 5000, "a\0b"])
def test_a_config_that_is_not_there(here, capfd, name: str) -> None:
    assert train(["--config", name]) == 2
    assert "neither a file nor a recipe" in capfd.readouterr().err


def test_a_classifier_whose_weights_are_not_there(here, tiny) -> None:
    status, _, errors = tiny("classifier={name: trained, weights: absent.pt}")
    assert status == 2
    assert "classifier.weights" in errors
    assert not (here / "runs").exists()
