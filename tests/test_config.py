"""Reading configs: extends, overrides, and what is said when they are wrong."""

from pathlib import Path

import pytest

from sc_loops import config
from sc_loops.errors import UsageError


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_extends_merges_sections_and_replaces_lists(tmp_path) -> None:
    write(tmp_path / "base.yaml", "loop: {generations: 5, stages: [1, 2]}\nseed: 0\n")
    child = write(tmp_path / "child.yaml", "extends: base.yaml\nloop: {stages: [3]}\n")
    assert config.load(child) == {"loop": {"generations": 5, "stages": [3]}, "seed": 0}


def test_a_component_of_another_name_replaces_the_old_one(tmp_path) -> None:
    write(tmp_path / "base.yaml", "reward: {name: class_probability, target: 1, scale: 5}\n")
    other = write(tmp_path / "other.yaml", "extends: base.yaml\nreward: {name: classifier_confidence}\n")
    same = write(tmp_path / "same.yaml", "extends: base.yaml\nreward: {name: class_probability, target: 2}\n")
    assert config.load(other)["reward"] == {"name": "classifier_confidence"}
    assert config.load(same)["reward"] == {"name": "class_probability", "target": 2, "scale": 5}


@pytest.mark.parametrize("dashes", ["", "--"])
def test_overrides(tmp_path, dashes: str) -> None:
    path = write(tmp_path / "a.yaml", "loop: {stages: [{choices: 4}]}\nx: 1\n")
    overrides = ["loop.stages.0.choices=2", "loop.rate=1e-3", "y.z=[1, 2]", "x=null", "t=a b"]
    assert config.load(path, [dashes + o for o in overrides]) == {
        "loop": {"stages": [{"choices": 2}], "rate": 0.001},
        "x": None,
        "y": {"z": [1, 2]},
        "t": "a b",
    }


def test_interpolation(tmp_path) -> None:
    path = write(tmp_path / "a.yaml", "seed: 3\ndata: {seed: '${seed}'}\n")
    assert config.load(path, ["seed=4"]) == {"seed": 4, "data": {"seed": 4}}


def test_what_to_yaml_writes_load_reads(tmp_path) -> None:
    content = {"a": {"b": [1, 2.5, None, "text"]}, "c": float("inf"), "d": True}
    assert config.load(write(tmp_path / "a.yaml", config.to_yaml(content))) == content


def test_a_bare_name_is_found_among_the_recipes(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert config.find("moons_curated") == config.find("moons_curated.yaml")
    with pytest.raises(UsageError, match=r"did you mean 'moons_curated\.yaml'"):
        config.find("moons_curatd.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no settings"),
        ("# only a comment\n", "no settings"),
        ("just words", "no settings"),
        ("[1, 2]", "no settings"),
        ("a: [1, 2", "not YAML"),
        ("a: 1\na: 2\n", "not YAML"),
        ("a: '${nothing}'", "nothing"),
        ("extends: self.yaml", "a circle: self.yaml -> self.yaml"),
        ("extends: absent.yaml", "absent.yaml"),
    ],
)
def test_wrong_files_are_refused(tmp_path, text: str, message: str) -> None:
    path = write(tmp_path / "self.yaml", text)
    with pytest.raises(UsageError) as caught:
        config.load(path)
    assert message in str(caught.value)


def test_unreadable_files_are_refused(tmp_path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(UsageError, match="readable text"):
        config.load(str(tmp_path / "binary.yaml"))


@pytest.mark.parametrize("override", ["generations", "=3", "x.y=1", "list.5=1", "list.a=1", "v=[1"])
def test_wrong_overrides_are_refused(tmp_path, override: str) -> None:
    path = write(tmp_path / "a.yaml", "x: 1\nlist: [1]\n")
    with pytest.raises(UsageError):
        config.load(path, [override])
