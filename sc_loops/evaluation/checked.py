"""What a metric gives, held against what ``Metric`` says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Real

from torch import Tensor

from sc_loops.errors import Complaint
from sc_loops.evaluation.metric import Metric
from sc_loops.samples import Observation, Samples

# What a generation's row has of its own, and the first parts of the keys that stages and other phases give.
AMOUNTS = {"items_seen", "real_items", "synthetic_items", "real_items_seen", "synthetic_items_seen"}
OWN_KEYS = AMOUNTS | {"generation", "step", "fact", "samples", "pool_items", "nfe", "skipped_steps", "nash_welfare"}
OWN_FAMILIES = {
    *("train", "seconds", "samples_per_second", "improvement"),
    *("correction", "plural_reward", "plural_exp_reward"),
}

OBSERVATION = "a dictionary of tensors, as {'sum': x.sum(), 'count': torch.tensor(len(x))}"
NUMBERS = "a dictionary of plain numbers, as {'mean_norm': 1.5}"
_DEBUG = "--debug shows where it failed"


def is_own(metric: Metric) -> bool:
    """Whether ``metric`` is of a class of the user's."""
    return not type(metric).__module__.startswith("sc_loops.")


def observed(metric: Metric, samples: Samples, error: type[Complaint], where: str = "") -> Observation:
    """What ``metric`` observes of ``samples``.

    Args:
        error: raised when it raises, which that is chained to, or returns something else: ``UsageError`` before a
            run, ``RunError`` within.
        where: what the message names as the place, before the method; by default the metric.
    """
    place = f"{where or f'the metric {metric.name}'}, observe"
    with _asked(place, OBSERVATION, error):
        found = metric.observe(samples)
    do = f"correct observe of {type(metric).__name__}"
    if not isinstance(found, dict):
        raise error(place, found=f"a {type(found).__name__}", expected=OBSERVATION, do=do)
    for key, value in found.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise error(place, found=f"a {type(value).__name__} as {key!r}", expected=OBSERVATION, do=do)
    return found


def summarised(
    metric: Metric,
    observations: Sequence[Observation],
    taken: Mapping[str, str],
    error: type[Complaint],
    where: str = "",
) -> dict[str, float]:
    """The numbers that ``metric`` makes of ``observations``. Of a user's metric the keys are looked at, too.

    Args:
        taken: keys that others give, and the name of the metric that gives each.
        error, where: see ``observed``.
    """
    place = f"{where or f'the metric {metric.name}'}, summarise"
    with _asked(place, NUMBERS, error):
        found = metric.summarise(observations)
    do = f"correct summarise of {type(metric).__name__}"
    if not isinstance(found, dict):
        raise error(place, found=f"a {type(found).__name__}", expected=NUMBERS, do=do)
    for key, value in found.items():
        if isinstance(value, bool) or not isinstance(value, Real):
            number = f"{do}: float(...) makes a number of it" if isinstance(value, Tensor) else do
            raise error(place, found=f"a {type(value).__name__} as {key!r}", expected=NUMBERS, do=number)
        if key in taken:
            given = f"the key {key!r}, which the metric {taken[key]} gives"
            raise error(place, found=given, expected="keys that nothing else gives", do=do)
        if is_own(metric):
            _check_key(key, place, do, error)
    return {key: value if isinstance(value, (int, float)) else float(value) for key, value in found.items()}


def _check_key(key: object, place: str, do: str, error: type[Complaint]) -> None:
    parts = key.split("/") if isinstance(key, str) else []
    if key != "".join(str(key).lower().split()) or not parts or not all(parts):
        expected = "keys in lower case without blanks, parts with / between, as 'precision/inception'"
        raise error(place, found=f"the key {key!r}", expected=expected, do=do)
    if key in OWN_KEYS or parts[0] in OWN_FAMILIES:
        found = f"the key {key!r}, which a row has of its own"
        raise error(place, found=found, expected="keys that nothing else gives", do=do)


@contextmanager
def _asked(place: str, expected: str, error: type[Complaint]) -> Iterator[None]:
    """Within the context, what is raised becomes an ``error`` about ``place``."""
    try:
        yield
    except error:
        raise
    except Complaint as problem:
        found = {"found": problem.found, "expected": problem.expected, "do": problem.do}
        raise error(f"{place}, {problem.where}", **found) from problem
    except Exception as problem:
        told = " ".join(f"it raised {type(problem).__name__}: {problem}".split())[:400]
        raise error(place, found=told, expected=expected, do=_DEBUG) from problem
