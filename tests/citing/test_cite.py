"""What a run is said to have used, and the BibTeX of it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from sc_loops import components, config
from sc_loops.citing.bibliography import bibtex, entries, keys_of
from sc_loops.citing.sources import COMPONENTS, DEFAULT_METRICS, FRAMEWORK, KINDS, LOOP, RULES
from sc_loops.citing.uses import FAMILY_OF, uses_of
from sc_loops.cli import main
from sc_loops.data.digits import digits
from sc_loops.data.points import gaussian, gaussian_mixture, two_moons
from sc_loops.data.procedural import procedural_motions
from sc_loops.experiment import resolved_config

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))
BIB = ROOT / "sc_loops" / "citing" / "references.bib"

Printed = tuple[int, str, str]


@cache
def resolved(recipe: str, *overrides: str) -> dict[str, Any]:
    return resolved_config(recipe, overrides)


def keys(recipe: str, *overrides: str) -> set[str]:
    return set(keys_of(uses_of(resolved(recipe, *overrides))))


def field(key: str, name: str) -> str | None:
    found = re.search(rf"^  {name} += \{{(.*)\}},$", entries()[key], re.MULTILINE)
    return found and found[1]


@pytest.fixture
def run(tmp_path) -> Callable[..., Path]:
    """A directory with the resolved config of a recipe, or with the given content."""

    def make(name: str, *overrides: str, content: str | None = None) -> Path:
        path = tmp_path / name
        path.mkdir(parents=True)
        (path / "config.yaml").write_text(content or config.to_yaml(resolved(name, *overrides)), encoding="utf-8")
        return path

    return make


@pytest.fixture
def cite(capsys) -> Callable[..., Printed]:
    def command(*arguments: object) -> Printed:
        status = main(["cite", *map(str, arguments)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return command


# The mapping and the bibliography.


def test_every_component_has_its_sources() -> None:
    families = {components.family_name(family): set(names) for family, names in components.FAMILIES.items()}
    assert {family: set(COMPONENTS[family]) for family in families} == families
    assert set(FAMILY_OF.values()) == set(COMPONENTS)


def test_a_component_without_reference_says_why() -> None:
    assert all(source for names in COMPONENTS.values() for source in names.values())


def test_all_entries_are_used_and_all_keys_are_there() -> None:
    lists = [FRAMEWORK, LOOP, *(keys for _, keys in DEFAULT_METRICS.values()), *(rule.keys for rule in RULES)]
    lists += [source for names in COMPONENTS.values() for source in names.values() if isinstance(source, tuple)]
    assert {key for keys in lists for key in keys} == set(entries())
    assert {rule.family for rule in RULES} <= {*COMPONENTS, "loop"}


def test_the_bibliography_is_whole() -> None:
    """No entry is lost by the way in which the file is read: all that is left over are comments."""
    text = BIB.read_text(encoding="utf-8")
    assert len(entries()) == text.count("\n@") > 50
    left = text
    for key, entry in entries().items():
        left = left.replace(entry, "", 1)
        assert re.match(rf"@\w+\{{{key},\n(  [a-zA-Z]+ +?= \{{.*\}},\n)+\}}\n$", entry), key
        assert balanced(entry), key
    assert all(not line or line.startswith("% ") for line in left.splitlines())


def balanced(text: str) -> bool:
    depth = 0
    for character in text:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth < 0:
            return False
    return depth == 0


@pytest.mark.parametrize("key", entries())
def test_an_entry_has_what_its_type_asks_for(key) -> None:
    kind = entries()[key].split("{")[0]
    venue = {"@inproceedings": "booktitle", "@article": "journal", "@techreport": "institution"}.get(kind, "title")
    assert field(key, "author")
    assert field(key, "title")
    assert field(key, venue)
    assert key == "torchcfm" or field(key, "year") in key or kind == "@software"
    eprint = field(key, "eprint")
    assert eprint is None or re.fullmatch(r"\d{4}\.\d{4,5}", eprint)
    assert (eprint is None) == (field(key, "archivePrefix") is None)
    # An arXiv number tells when it was submitted: never after publication, seldom long before.
    assert eprint is None or -1 <= int(field(key, "year") or 0) - 2000 - int(eprint[:2]) <= 2
    assert kind != "@misc" or eprint or key == "alpaydin1998optical"


def test_no_two_entries_are_of_one_paper() -> None:
    for name in ("title", "eprint"):
        values = [value for key in entries() if (value := field(key, name))]
        assert len(set(values)) == len(values)


def test_the_version_is_the_project_s() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{field("sc_loops", "version")}"' in project


def test_kinds_are_those_of_the_data() -> None:
    assert set(KINDS) == set(COMPONENTS["data set"])
    made = {
        "two_moons": two_moons(size=4, test_size=2),
        "gaussian_mixture": gaussian_mixture(size=8, test_size=8),
        "gaussian": gaussian(size=4, test_size=2),
        "digits": digits(),
        "procedural_motions": procedural_motions(size=2, test_size=1, max_frames=40),
    }
    assert {name: KINDS[name] for name in made} == {name: data.kind for name, data in made.items()}


# What runs used.


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_cites_the_paper_of_its_first_line(recipe) -> None:
    first = (ROOT / "configs" / f"{recipe}.yaml").read_text(encoding="utf-8").splitlines()[0]
    papers = re.findall(r"(\w+)(?: et al\.|(?: and|,) [^(]*?)? (\d{4}) \(arXiv (\d{4}\.\d{5})", first)
    assert papers, first
    cited = keys(recipe)
    for author, year, number in papers:
        [key] = [key for key in cited if field(key, "eprint") == number]
        assert (field(key, "author") or "").startswith(f"{author},")
        assert year in (field(key, "year"), f"20{number[:2]}")


@pytest.mark.parametrize("recipe", RECIPES)
def test_all_of_a_recipe_is_known(recipe) -> None:
    without = [use for use in uses_of(resolved(recipe)) if not use.keys]
    assert not [use for use in without if "not known" in use.why or "your own;" in use.why]
    assert {*FRAMEWORK, *LOOP} <= keys(recipe)


OT, DDPM, DIGITS, GAUSSIAN = "moons_curated", "mog_curated", "digits_curated", "gaussian_self_correction"


@pytest.mark.parametrize(
    ("recipe", "overrides", "there", "absent"),
    [
        (OT, "", "alemohammad2024mad ferbach2024curated virtanen2020scipy flamary2021pot", "chen2018neural"),
        (OT, "loop.synthetic_ratio=0.5", "bertrand2024stability", "alemohammad2024mad"),
        (OT, "loop.synthetic_ratio=0.5 loop.retraining=from_scratch", "alemohammad2024mad", ""),
        (OT, "loop.stages=[] reward=null", "tong2024improving", "ferbach2024curated"),
        (OT, "loop.real=fresh loop.synthetic_ratio=1", "alemohammad2024mad", ""),
        (OT, "loop.memory=accumulate loop.synthetic_ratio=1", "gerstgrasser2024inevitable", "kazdan2025collapse"),
        (OT, "loop.memory=accumulate_subsample", "kazdan2025collapse", "gerstgrasser2024inevitable"),
        (OT, "loop.stages.0.flipped=0.2", "wei2025adversarially ferbach2024curated", "zhao2025heterogeneous"),
        (OT, "loop.stages.0.flipped=0", "ferbach2024curated", "wei2025adversarially"),
        (OT, "model.solver=dopri5", "dormand1980family chen2018neural", ""),
        (OT, "model.coupling=independent", "tong2024improving", "virtanen2020scipy"),
        (OT, "model.coupling=target", "lipman2023flow", "virtanen2020scipy albergo2023building"),
        (OT, "model.coupling=variance_preserving", "albergo2023building", ""),
        (OT, "model.guidance_scale=1.5", "ho2022classifier", ""),
        (OT, "model.guidance_scale=1", "kingma2015adam", "ho2022classifier"),
        (OT, "classifier.weights=here.pt", "kingma2015adam", "loshchilov2019decoupled"),
        (OT, "classifier=nearest_mean model.weight_decay=0.1", "loshchilov2019decoupled", ""),
        (DDPM, "", "ho2020denoising", "torchcfm song2021denoising pedregosa2011scikit"),
        (DDPM, "model.sampler=ddim model.steps=10", "song2021denoising lin2024common", ""),
        (DDPM, "model.schedule=cosine model.steps=null", "nichol2021improved", "lin2024common"),
        (DDPM, "model.prediction=v", "salimans2022progressive", ""),
        (DIGITS, "", "alpaydin1998optical kynkaanniemi2019improved heusel2017gans torchcfm", "flamary2021pot"),
        (DIGITS, "reward=null classifier=null loop.stages=[]", "torchcfm", "kynkaanniemi2019improved"),
        (GAUSSIAN, "", "gillman2024selfcorrecting dowson1982frechet", "flamary2021pot kingma2015adam"),
        (GAUSSIAN, "evaluation.metrics=[]", "flamary2021pot szekely2013energy", "dowson1982frechet"),
        ("cifar_curated", "", "krizhevsky2009learning obukhov2020torchfidelity binkowski2018demystifying", ""),
        ("mnist_self_correction", "", "lecun1998gradient gillman2024selfcorrecting pedregosa2011scikit", ""),
        ("motion_baseline", "", "tevet2023human ghorbani2021movi radford2021learning", "todorov2012mujoco"),
        ("motion_self_correction", "", "todorov2012mujoco yuan2023physdiff", ""),
        ("motion_small_self_correction", "", "deerwester1990indexing", "todorov2012mujoco radford2021learning"),
    ],
)
def test_what_is_used_is_cited(recipe, overrides, there, absent) -> None:
    cited = keys(recipe, *overrides.split())
    assert set(there.split()) <= cited
    assert not set(absent.split()) & cited


def test_components_are_found_in_components_and_by_name_alone() -> None:
    stage = {"name": "correct", "corrector": {"name": "physics"}, "fallback": "kmeans"}
    made = {"data": "mnist", "model": {"name": "ddpm", "auxiliary": {"name": "edm"}}, "loop": {"stages": [stage]}}
    whats = {use.what for use in uses_of(made)}
    assert {"data set mnist", "corrector physics", "corrector kmeans", "model edm"} <= whats


def test_improvements_and_plural_rewards_are_cited() -> None:
    rewards = [{"name": "clipped_distance"}, {"name": "my_rewards:leftmost"}]
    stage = {"name": "plural_choice", "rewards": rewards, "shares": [0.5, 0.5], "choices": 2}
    for name, key in (("sims", "alemohammad2024sims"), ("neon", "alemohammad2026neon")):
        loop = {"improvement": {"name": name, "omega": 1.0}, "stages": [stage]}
        uses = uses_of({"data": "two_moons", "model": "edm", "loop": loop})
        assert {key, "falahati2026pluralistic", "zhao2025heterogeneous", "karras2022elucidating"} <= set(
            keys_of(uses)
        )
        assert "reward my_rewards:leftmost" in {use.what for use in uses}


# The command.


def test_every_entry_follows_a_comment(run, cite) -> None:
    status, out, _ = cite(run("digits_curated"))
    assert status == 0
    lines = out.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("@")]
    assert all(lines[number - 1].startswith("% ") for number in starts)
    assert "% reward class_probability; stage k_choice\n@inproceedings{ferbach2024curated,\n" in out
    assert "% no reference: classifier trained (a small network of sc_loops)\n" in out
    assert not [line for line in lines if line.startswith("%") and "@" in line]
    found = re.findall(r"^@\w+\{(.*),$", out, re.MULTILINE)
    assert found == keys_of(uses_of(resolved("digits_curated")))
    assert all(entries()[key] in out for key in found)


def test_several_runs_are_one_list_in_any_order(run, cite) -> None:
    one, other = run("moons_curated"), run("gaussian_self_correction")
    forth, back = cite(one, other), cite(other, one, one)
    assert forth == back
    found = re.findall(r"^@\w+\{(.*),$", forth[1], re.MULTILINE)
    assert len(found) == len(set(found))
    assert set(found) == keys("moons_curated") | keys("gaussian_self_correction")
    assert cite(one.parent) == forth  # the directory of a sweep


def test_keys_are_one_line(run, cite) -> None:
    status, out, _ = cite(run("mog_curated"), "--keys")
    assert status == 0
    assert out == f"\\cite{{{','.join(keys_of(uses_of(resolved('mog_curated'))))}}}\n"


def test_own_components_are_named(run, cite) -> None:
    content = yaml.safe_load(config.to_yaml(resolved("moons_curated")))
    content["reward"] = {"name": "my_rewards:leftmost"}
    content["data"] = {"name": "my@data:Mine\n", "size": 3}
    content["model"]["network"] = {"name": "transformer"}
    status, out, _ = cite(run("own", content=yaml.safe_dump(content)))
    assert status == 0
    assert "% no reference: reward my_rewards:leftmost (your own; no reference is known)\n" in out
    assert "% no reference: data set my(at)data:Mine (your own; no reference is known)\n" in out
    assert "% no reference: network transformer (not known to this version of sc_loops)\n" in out
    assert "which the config does not tell" in out
    assert "{flamary2021pot," not in out


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("a: [1,", "found:    ParserError"),
        ("\x00", "found:    ReaderError"),
        ("- 1\n", "found:    no mapping of keys to values"),
        ("seed: 0\n", "found:    nothing that could be used under data, model, loop"),
        ("data: {size: 3}\nmodel: ddpm\nloop: later\n", "found:    nothing that could be used under data, loop"),
        ("data: mnist\nmodel: ddpm\nloop: {}\nevaluation: 3\n", "found:    no section under evaluation"),
        ("data: mnist\nmodel: ddpm\nloop: {}\nevaluation: {metrics: a}\n", "found:    no section under evaluation"),
    ],
)
def test_a_damaged_config_is_refused(content, found, run, cite) -> None:
    path = run("damaged", content=content)
    status, out, err = cite(path)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {path / 'config.yaml'}\n  {found}")
    assert "  expected: the resolved config of a run\n  do:  " in err


@pytest.mark.parametrize("name", ["nothing", "x" * 300, "empty", "file"])
def test_what_is_no_run_is_refused(name, tmp_path, cite) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("seed: 0\n")
    status, out, err = cite(tmp_path / name)
    assert (status, out) == (2, "")
    found = {"empty": "a directory without config.yaml", "file": "a file"}.get(name, "nothing")
    assert f"  found:    {found}\n  expected: the directory of a run" in err


def test_nothing_heavy_is_imported(run) -> None:
    """So that it answers at once."""
    code = "import sys; from sc_loops.cli import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", code, "cite", str(run("moons_curated"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd=ROOT)
    assert done.stdout == bibtex(uses_of(resolved("moons_curated")))
