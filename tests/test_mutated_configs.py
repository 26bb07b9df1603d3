"""Good configs mutated at random: misspelt, cut short, of wrong types. Each is refused with its place."""

from __future__ import annotations

import copy
import math
from typing import Any

from good_configs import MIXTURE, MOONS, Config, Key, assert_refused, at, mutated, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


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
    st.sampled_from([None, "some text", "", 3.5, math.nan, True, {}, [], "???"]),
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
