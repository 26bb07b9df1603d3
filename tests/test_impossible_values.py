"""Impossible values of every option end with status 2 and a message that names it; unusual ones are accepted."""

from __future__ import annotations

import math
from typing import Any

import pytest
from good_configs import MIXTURE, MOONS, Config, assert_refused, mutated, run

ABSURD = 10**13  # of a size: to allocate it is out of the question
NAN, INF = math.nan, math.inf

# Values that the type admits and the option does not.
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
    *(("loop.synthetic_ratio", v) for v in (-1, -0.1, NAN, -INF, 1e300, 1e-300, 1e-5)),
    *(("loop.generations", v) for v in (-1, None, 10**30, ABSURD)),
    *(("loop.stages.0.choices", v) for v in (0, -4)),
    *(("loop.stages.0.kept", v) for v in (0, 3)),  # 3 needs loop.samples
    ("loop.stages", "k_choice"),
    ("loop.stages", [None]),
    *((f"loop.{which}.horizontal_flips", True) for which in ("first", "later")),  # of points
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
    *((MOONS, "loop.synthetic_ratio", v) for v in (0, "inf", 0.29, 0.1, 100)),
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
