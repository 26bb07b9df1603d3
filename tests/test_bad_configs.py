"""Bad configs, by mutation of good ones: each ends with status 2 and a message that names the place, before
anything is on disk; and what is only unusual is accepted."""

from __future__ import annotations

import copy
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sc_loops.cli import train

Config = dict[str, Any]
Key = tuple[str | int, ...]

MOONS: Config = {
    "seed": 0,
    "data": {"name": "two_moons", "size": 50, "test_size": 20, "noise": 0.05, "seed": 0},
    "batch_size": 16,
    "classifier": {"name": "nearest_mean"},
    "reward": {"name": "class_probability", "target": 0, "scale": 5.0},
    "model": {
        "name": "flow_matching",
        "network": {"name": "mlp", "width": 8, "depth": 2, "time_scale": 30.0},
        "coupling": "exact_ot",
        "solver": "midpoint",
        "steps": 2,
        "betas": [0.9, 0.999],
        "learning_rate": 1e-3,
        "ema_decay": 0.9,
    },
    "loop": {
        "generations": 1,
        "synthetic_ratio": "inf",
        "stages": [{"name": "k_choice", "choices": 4}],
        "first": {"steps": 3, "learning_rate": 1e-3},
        "later": {"passes": 1.0, "warmup_steps": 1},
        "retraining": "finetune",
        "conditions": "real",
        "chunk_size": 20,
    },
    "evaluation": {"samples": 20},
    "trainer": {"accelerator": "cpu", "precision": "32-true"},
    "wandb": {"mode": "disabled", "tags": ["a"]},
}
MIXTURE: Config = {
    "seed": 0,
    "name": "mixture",
    "data": {"name": "gaussian_mixture", "modes": 4, "radius": 5.0, "std": 0.5, "size": 50, "test_size": 20},
    "batch_size": 16,
    "reward": {"name": "clipped_distance", "center": [5.0, 0.0], "radius": 1.0, "scale": 10.0},
    "model": {
        "name": "ddpm",
        "network": {"name": "mlp", "width": 8},
        "timesteps": 10,
        "schedule": "linear",
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "steps": 5,
        "eta": 0.0,
        "weight_decay": 0.0,
    },
    "loop": {
        "generations": 1,
        "synthetic_ratio": 0.5,
        "stages": [{"name": "k_choice", "choices": 4, "kept": 10}],
        "first": {"steps": 3},
        "later": {"steps": 2},
        "samples": 40,
        "chunk_size": 20,
        "preview": 4,
        "log_every": 1,
    },
    "trainer": {"accelerator": "cpu", "devices": 1},
}
ABSURD = 10**13  # of a size: to allocate it is out of the question
NAN, INF = math.nan, math.inf

# Values that the type admits and the option does not. Where the message has to name another place, it is given.
IMPOSSIBLE_MOONS: list[tuple[str, Any]] = [
    *(("data.size", v) for v in (0, -1, ABSURD)),
    *(("data.test_size", v) for v in (0, ABSURD)),
    *(("data.noise", v) for v in (-0.1, INF, NAN)),
    *(("batch_size", v) for v in (0, -16, ABSURD)),
    *(("reward.target", v) for v in (-1, 2, ABSURD)),
    *(("reward.scale", v) for v in (0, -5.0, INF)),
    *(("reward", v) for v in ("class_probability", "classifier_confidence:x", None)),
    ("classifier", None),
    *(("classifier", {"name": "trained", **o}) for o in ({"width": 0}, {"epochs": 0}, {"learning_rate": -1.0})),
    *(("classifier", {"name": "trained", **o}) for o in ({"weights": "absent.pt"}, {"architecture": "convnet"})),
    *(("model.network.width", v) for v in (0, -8, ABSURD)),
    *(("model.network.depth", v) for v in (0, ABSURD)),
    *(("model.network.time_scale", v) for v in (0.5, INF)),
    *(("model.network.time_features", v) for v in (0, 3, ABSURD)),
    *(("model.network", v) for v in ("unet", "torch.nn:Identity", "torch.nn:Linear")),
    *(("model.learning_rate", v) for v in (0, -1e-3, INF, NAN)),
    *(("model.betas", v) for v in ([0.9, 1.0], [0.9], [], [-0.1, 0.5], [0.9, 0.9, 0.9])),
    *(("model.ema_decay", v) for v in (1.0, -0.1)),
    *(("model.steps", v) for v in (0, ABSURD)),
    *(("model.sigma", v) for v in (-1.0, INF)),
    *(("model.clip", v) for v in (0, -1.0)),
    *(("model.guidance_scale", v) for v in (-1.0, 2.0)),
    *(("model.tolerance", v) for v in (0, -1e-5)),
    ("model.ot_block", 0),
    ("model", {"name": "sc_loops.models.base:GenerativeModel"}),
    *(("loop.synthetic_ratio", v) for v in (-1, -0.1, NAN, -INF, 1e300)),
    *(("loop.generations", v) for v in (-1, None)),
    *(("loop.stages.0.choices", v) for v in (0, -4)),
    *(("loop.stages.0.kept", v) for v in (0, 3)),  # 3 needs loop.samples
    ("loop.stages", "k_choice"),
    ("loop.stages", [None]),
    *(("loop.first.steps", v) for v in (0, -3, None, 10**30)),
    *(("loop.first.learning_rate", v) for v in (0, -1.0, INF)),
    *(("loop.later.passes", v) for v in (0, -1.0, INF, None, 1e300)),
    ("loop.later.steps", 1),  # beside passes
    ("loop.later.warmup_steps", -1),
    *(("loop.chunk_size", v) for v in (0, -20, 3, ABSURD)),  # 3 < choices
    *(("loop.samples", v) for v in (0, 2, 22, 10**30)),  # 22 leaves a chunk of 2 < choices
    *(("loop.preview", v) for v in (0, ABSURD)),
    ("loop.log_every", 0),
    *(("evaluation.samples", v) for v in (0, 1, 10**30)),
    ("evaluation.neighbours", 0),
    ("evaluation.metrics", ["energy_distance"]),
    *(("trainer.accelerator", v) for v in ("abacus", "gpus")),
    *(("trainer.devices", v) for v in (0, "many")),
    ("trainer.num_nodes", 0),
    ("trainer.strategy", "guess"),
    *(("trainer.gradient_clip_val", v) for v in (0, -1.0)),
    ("wandb.tags", [1]),
    *(("name", v) for v in ("a/b", "..", "/tmp/x", "a" * 300)),
]
IMPOSSIBLE_MIXTURE: list[tuple[str, Any]] = [
    *(("data.modes", v) for v in (0, ABSURD)),
    *(("data.radius", v) for v in (0, -5.0, INF)),
    *(("data.std", v) for v in (0, -0.5, INF)),
    *(("data.weights", v) for v in ([], [1, 2], [1, 2, 3, 0], [1, 1, 1, INF], [1e308] * 4)),
    *(("reward.center", v) for v in ([], [1.0], [1.0, 2.0, 3.0], [INF, 0.0])),
    *(("reward.radius", v) for v in (-1.0, INF)),
    *(("reward", {"name": name}) for name in ("builtins:int", "builtins:dict", "math:sqrt", "torch:nn")),
    *(("model.timesteps", v) for v in (0, ABSURD)),
    *(("model.steps", v) for v in (0, 11)),
    *(("model.beta_start", v) for v in (0, -0.1, 0.5)),
    *(("model.beta_end", v) for v in (1.0, 1e-9)),
    *(("model.eta", v) for v in (-0.1, 1.5)),
    *(("model.weight_decay", v) for v in (-0.1, INF)),
    *(("loop.stages.0.kept", v) for v in (0, 41)),
    *(("loop.stages.0.choices", v) for v in (21, 10**30)),
    ("loop.samples", None),  # kept needs it
]
IMPOSSIBLE = [(MOONS, *change) for change in IMPOSSIBLE_MOONS] + [(MIXTURE, *change) for change in IMPOSSIBLE_MIXTURE]
# Values that may surprise and are right.
POSSIBLE = [
    *((MOONS, "seed", v) for v in (-1, 10**30)),
    *((MOONS, "loop.synthetic_ratio", v) for v in (0, "inf", 0.29, 1e-300, 100)),
    *((MOONS, "loop.stages", v) for v in ([], [{"name": "k_choice", "choices": 1}])),
    *((MOONS, "loop.stages.0.choices", v) for v in (1, 20)),
    (MOONS, "loop.generations", 0),
    (MOONS, "loop.first", {"passes": 0.01}),
    (MOONS, "data.size", 1e2),
    (MOONS, "classifier", "trained"),
    (MOONS, "model.network.class_conditional", True),
    (MOONS, "batch_size", 1000),
    (MIXTURE, "data.weights", [1, 2, 3, 4]),
    (MIXTURE, "data.modes", 1),
    (MIXTURE, "reward.radius", 0),
    (MIXTURE, "loop.stages.0.kept", 1),
    (MIXTURE, "model.steps", None),
    (MIXTURE, "name", None),
    (MIXTURE, "model.name", "sc_loops:DDPM"),
]


def at(content: Any, key: str | Key) -> tuple[Any, Any]:
    """The section or list that holds ``key``, made if need be, and the last part of the key."""
    *parents, last = [int(p) if str(p).isdigit() else p for p in (key.split(".") if isinstance(key, str) else key)]
    for part in parents:
        content = content.setdefault(part, {}) if isinstance(content, dict) else content[part]
    return content, last


def mutated(base: Config, key: str, value: Any) -> Config:
    content = copy.deepcopy(base)
    place, last = at(content, key)
    place[last] = value
    return content


def leaves(value: Any, key: Key = ()) -> list[Key]:
    """The keys of all values that are no sections or lists of sections."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    below = [leaf for k, v in pairs for leaf in leaves(v, (*key, k))]
    return below or [key]


def sections(value: Any, key: Key = ()) -> list[Key]:
    """The keys of all sections."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [key] * isinstance(value, dict) + [s for k, v in pairs for s in sections(v, (*key, k))]


@st.composite
def misspelt(draw: st.DrawFn) -> tuple[Config, str]:
    """A key with two letters swapped, one doubled or one left out, and its place."""
    content = copy.deepcopy(draw(st.sampled_from([MOONS, MIXTURE])))
    where = draw(st.sampled_from(sections(content)))
    section, _ = at(content, (*where, ""))
    key = draw(st.sampled_from(sorted(section)))
    i = draw(st.integers(0, len(key) - 2))
    wrong = draw(
        st.sampled_from(
            [key[:i] + key[i + 1] + key[i] + key[i + 2 :], key[:i] + key[i] + key[i:], key[:i] + key[i + 1 :]]
        ).filter(lambda w: w and w not in section)
    )
    section[wrong] = section.pop(key)
    # A component without its name is a complaint about the section.
    return content, ".".join(map(str, where if where and key == "name" else (*where, wrong)))


@st.composite
def missing(draw: st.DrawFn) -> tuple[Config, str]:
    """A required section or option left out, and its place."""
    base, key = draw(
        st.sampled_from(
            [
                *((MOONS, k) for k in ("data", "model", "loop", "data.name", "model.network", "reward.target")),
                *((MOONS, k) for k in ("loop.generations", "loop.synthetic_ratio", "loop.first", "loop.later")),
                *((MOONS, k) for k in ("loop.stages.0.choices", "loop.first.steps", "loop.later.passes")),
                *((MIXTURE, k) for k in ("reward.center", "model.name", "model.network.name", "reward")),
                (MIXTURE, "loop.stages.0.name"),
            ]
        )
    )
    content = copy.deepcopy(base)
    place, last = at(content, key)
    del place[last]
    named = key.removesuffix(".name") if key.endswith("name") else key
    return content, "reward" if key == "reward" else named


GARBAGE = st.recursive(
    st.sampled_from([None, "some text", "", 3.5, NAN, True, {}, [], "???"]),
    lambda inner: st.lists(inner, min_size=1, max_size=2) | st.dictionaries(st.just("key"), inner, min_size=1),
    max_leaves=4,
)


@st.composite
def wrong_type(draw: st.DrawFn) -> tuple[Config, str]:
    """A value replaced by one that no option of its type takes."""
    base = draw(st.sampled_from([MOONS, MIXTURE]))
    key = draw(st.sampled_from([k for k in leaves(base) if k not in (("name",), ("wandb", "tags", 0))]))
    place, last = at(base, key)
    garbage = draw(GARBAGE.filter(lambda g: not _may_stand_for(key, place[last], g)))
    return mutated(base, ".".join(map(str, key)), garbage), ".".join(str(k) for k in key if k != "name")


def _may_stand_for(key: Key, value: Any, garbage: Any) -> bool:
    """Whether ``garbage`` is a possible value where ``value`` stands."""
    number = isinstance(garbage, float) and not isinstance(value, (str, bool))
    nullable = garbage is None and key[-1] in ("samples", "kept", "learning_rate", "warmup_steps", "steps", "name")
    return nullable or (number and garbage == garbage) or (isinstance(value, str) and garbage in ("???", ""))


@st.composite
def nonsense_section(draw: st.DrawFn) -> tuple[Config, str]:
    """A whole section replaced by garbage."""
    base = draw(st.sampled_from([MOONS, MIXTURE]))
    key = ".".join(map(str, draw(st.sampled_from([k for k in sections(base) if k]))))
    kept = ("evaluation", "trainer", "wandb")  # an empty section has the defaults
    allowed = [{}] if key in kept else [None, "???"] if key in ("reward", "classifier") else []
    garbage = draw(GARBAGE.filter(lambda g: g not in allowed))
    return mutated(base, key, garbage), key


@st.composite
def unknown_component(draw: st.DrawFn) -> tuple[Config, str]:
    """A name that no component has, or a module or class that is not there."""
    base = draw(st.sampled_from([MOONS, MIXTURE]))
    names = [k for k in sections(base) if "name" in at(base, (*k, ""))[0] and k]
    key = ".".join(map(str, (*draw(st.sampled_from(names)), "name")))
    place, last = at(base, key)
    words = ["absent_module:Thing", "math:absent", ":", "a:", ":b", "..:b", "a b:c", "json", place[last][:-1]]
    words += ["collections:OrderedDict", "os:getcwd", "math:pi"] if not key.startswith("reward") else []
    return mutated(base, key, draw(st.sampled_from(words))), key.removesuffix(".name")


def run(path: Path, content: Config, capfd: pytest.CaptureFixture[str], *flags: str) -> tuple[int, str]:
    """The status and the error output of a dry run in an empty directory, which must stay empty."""
    file = path / "bad.yaml"
    file.write_text(yaml.safe_dump({**content, "output": str(path / "runs")}))
    status = train(["--config", str(file), "--dry-run", *flags])
    printed = capfd.readouterr()
    assert os.listdir(path) == ["bad.yaml"]
    return status, printed.err


def assert_refused(status: int, message: str, place: str) -> None:
    assert status == 2, message
    assert "found:" in message
    assert "expected:" in message
    assert "Traceback" not in message
    assert "should not happen" not in message
    first = message.splitlines()[0]
    assert first.startswith("error: ")
    assert place.rpartition(".")[2] in message
    assert place.partition(".")[0] in first or f"add a '{place}' section" in message


@pytest.mark.parametrize(
    ("base", "key", "value"), IMPOSSIBLE, ids=lambda v: "" if isinstance(v, dict) else str(v)[:30]
)
def test_impossible_values(tmp_path, capfd, base: Config, key: str, value: Any) -> None:
    status, message = run(tmp_path, mutated(base, key, value), capfd)
    assert_refused(status, message, key)


@pytest.mark.parametrize(("base", "key", "value"), POSSIBLE)
def test_possible_values(tmp_path, capfd, base: Config, key: str, value: Any) -> None:
    status, message = run(tmp_path, mutated(base, key, value), capfd)
    assert (status, message) == (0, "")


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.one_of(misspelt(), missing(), wrong_type(), nonsense_section(), unknown_component()))
def test_mutations(tmp_path, capfd, mutation: tuple[Config, str]) -> None:
    content, place = mutation
    status, message = run(tmp_path, content, capfd)
    assert_refused(status, message, place)


@pytest.mark.parametrize(
    ("override", "place"),
    [
        (f"seed={'[' * 3000}", "seed"),
        (f"seed=1{'0' * 5000}", "seed"),
        (f"loop.synthetic_ratio=1{'0' * 400}", "loop.synthetic_ratio"),
        ("seed=!!python/object:os.system", "seed"),
        ("seed=${data.nothing}", "seed"),
        ("seed=${seed}", "seed"),
        ("loop.stages.1.choices=2", "loop.stages.1"),
        ("loop.stages.first.choices=2", "loop.stages.first"),
        ("data.name.x=1", "data.name"),
        (".=1", ""),
        ("data={name: two_moons, 1: 2}", "data.1"),
        ("model.betas.7=1", "model.betas.7"),
    ],
    ids=lambda v: v[:20],
)
def test_overrides_of_the_wrong_shape(tmp_path, capfd, override: str, place: str) -> None:
    status, message = run(tmp_path, MOONS, capfd, override)
    assert_refused(status, message, place)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: bad.yaml", "circle"),
        ("extends: [a, b]", "extends"),
        ("extends: absent", "extends"),
        ("seed: " + "[" * 3000, "not YAML"),
        ("seed: &a [*a]", "not YAML"),
        ("{[1]: 2}", "not YAML"),
        ("seed: 1\n\tname: x", "not YAML"),
        ("seed: 0\x00", "not YAML"),
        ("%YAML 3.0", "bad.yaml"),
    ],
)
def test_files_of_the_wrong_shape(tmp_path, capfd, text: str, message: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    status = train(["--config", str(tmp_path / "bad.yaml"), "--dry-run"])
    error = capfd.readouterr().err
    assert_refused(status, error, "")
    assert message in error


@pytest.mark.parametrize(
    ("override", "place", "found"),
    [
        ("data.noise=1e300", "data.train", "100 values that are NaN or infinite"),
        ("trainer.accelerator=tpu", "trainer", "torch_xla"),
        ("trainer={accelerator: cpu, devices: 3}", "batch_size", "a multiple of the 3 processes"),
        ("data=random:Random", "data.name", "Random"),
    ],
)
def test_what_is_found_late_in_the_check(tmp_path, capfd, override: str, place: str, found: str) -> None:
    status, message = run(tmp_path, MOONS, capfd, override)
    assert_refused(status, message, place)
    assert found in message


@pytest.mark.parametrize("output", ["bad.yaml", "bad.yaml/below"])
def test_an_output_that_is_a_file(tmp_path, capfd, monkeypatch, output: str) -> None:
    monkeypatch.chdir(tmp_path)
    status, message = run(tmp_path, MOONS, capfd, f"output={output}")
    assert_refused(status, message, "output")


@pytest.mark.parametrize("content", [None, b"text", {"state_dict": {}}])
def test_a_start_that_is_no_checkpoint(tmp_path, tmp_path_factory, capfd, content: object) -> None:
    checkpoint = tmp_path_factory.mktemp("checkpoints") / "start.ckpt"
    if isinstance(content, bytes):
        checkpoint.write_bytes(content)
    elif content is not None:
        torch.save(content, checkpoint)
    status, message = run(tmp_path, mutated(MOONS, "loop.start", str(checkpoint)), capfd)
    assert_refused(status, message, "")
    assert "loop.start" in message


USER_MODULE = """
from __future__ import annotations
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from somewhere import Something

def hidden(x, *, option: Something = None): return x[:, 0]
def unplain(x, *, options: dict = None): return x[:, 0]
def defaulted(x, *, device=object()): return x[:, 0]
def raising(x): raise IndexError("no such column")
def wrong_shape(x): return x
class Failing:
    def __init__(self, *, size: int = 1): raise OSError("no model file")
class Dividing:
    def __call__(self, x): return x[:, 0] / 0
"""


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ("hidden", "TYPE_CHECKING"),
        ({"name": "unplain", "options": {"a": 1}}, "reward.options"),
        ("raising", "no such column"),
        ("wrong_shape", "shape (8, 2)"),
        ("Failing", "no model file"),
        ({"name": "Failing", "size": "big"}, "reward.size"),
        ("Dividing", "NaN or infinite"),
        ("Faling", "did you mean 'Failing'?"),
    ],
)
def test_components_of_the_user(tmp_path, capfd, monkeypatch, reward: Any, message: str) -> None:
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "own_rewards.py").write_text(USER_MODULE)
    monkeypatch.syspath_prepend(str(modules))
    empty = tmp_path / "empty"
    empty.mkdir()
    section = {"name": reward} if isinstance(reward, str) else reward
    section = {**section, "name": f"own_rewards:{section['name']}"}
    status, error = run(empty, {**MOONS, "reward": section}, capfd)
    assert_refused(status, error, "")
    assert message in error


def test_a_default_that_yaml_cannot_hold_stays_with_the_component(tmp_path, capfd, monkeypatch) -> None:
    (tmp_path.parent / "own_odd.py").write_text("def odd(x, *, marker=object()):\n    return x[:, 0]\n")
    monkeypatch.syspath_prepend(str(tmp_path.parent))
    assert run(tmp_path, {**MOONS, "reward": {"name": "own_odd:odd"}}, capfd) == (0, "")
