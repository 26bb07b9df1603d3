"""The cell "measured" of a row: means over seeds, paired differences, and how many seeds they are of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from sc_loops.comparing.settings import short
from sc_loops.comparing.statistics import Difference as Paired
from sc_loops.comparing.statistics import Mean, mean_of, paired
from sc_loops.reporting.wording import decimals, number
from sc_loops.reproducing.claims import Claim, Difference, Measure, Quantity, Setting
from sc_loops.reproducing.measures import Arm
from sc_loops.reproducing.results import Result

NOT_YET = "not measured yet"
NO_ERROR = 1e-9  # of the mean; what is below is rounding


def measured(claim: Claim, results: Mapping[str, Result]) -> str:
    """What the row of ``claim`` says: its numbers, else what was recorded before, else that there are none."""
    result = results.get(claim.name)
    if result is None:
        return claim.recorded or NOT_YET
    told = [_measure(measure, claim, result) for measure in claim.measures]
    told += [_difference(difference, claim, result, results) for difference in claim.differences]
    sentences = ["; ".join(told), claim.note.rstrip("."), _seeds(result), result.failed]
    return ". ".join(sentence for sentence in sentences if sentence)


# One measure.


def _measure(measure: Measure, claim: Claim, result: Result) -> str:
    arms = [arm for arm in result.arms if all(q.id in arm.numbers for q in measure.quantities)]
    if not arms:
        return f"{measure.label}: {NOT_YET}"
    label, unit = measure.label, " %" if measure.percent else ""
    if measure.at[0] in ("largest", "smallest"):
        label = f"{measure.at[0]} {label}"
    where = _where(measure, result.generations)
    told = [
        ", ".join(_mean(mean_of(arm.numbers[q.id]), arm.numbers[q.id], measure.percent) for q in measure.quantities)
        for arm in arms
    ]
    settings = [arm.setting for arm in arms]
    return f"{label}{where}{_by_setting(settings, told, alike=len(measure.at) == 1)}{unit}"


def _by_setting(settings: Sequence[Setting], told: Sequence[str], *, alike: bool) -> str:
    """What is told of each of ``settings``: ``: 0.3`` where no key was swept; ``, γ = 0, 1: 0.3, 0.2`` where one was,
    and one number, ``alike``, is told of each; ``, by γ and λ: (0, ∞) 0.3, 0.2 · (1, ∞) ...`` else."""
    if not settings[0]:
        return f": {told[0]}"
    if alike and len(settings[0]) == 1:
        [key] = settings[0]
        values = ", ".join(value_of(setting[key]) for setting in settings)
        return f", {short(key, [key])} = {values}: {', '.join(told)}"
    keys = " and ".join(short(key, list(settings[0])) for key in settings[0])
    each = [", ".join(map(value_of, setting.values())) for setting in settings]
    return f", by {keys}: " + " · ".join(f"({of}) {text}" for of, text in zip(each, told, strict=True))


def value_of(text: str) -> str:
    return {"inf": "∞", "null": "none", "true": "yes", "false": "no"}.get(text, text)


def _where(measure: Measure, last: int) -> str:
    """`` in generations 0 to 5``; nothing for an extreme over all of them."""
    moments = [last if moment == "last" else moment for moment in measure.at if moment not in ("largest", "smallest")]
    times = list(dict.fromkeys(int(moment) for moment in moments))
    if not times:
        return ""
    if len(times) == 1:
        return f" in generation {times[0]}"
    if len(times) > 2 and times == list(range(times[0], times[-1] + 1)):
        return f" in generations {times[0]} to {times[-1]}"
    return f" in generations {', '.join(map(str, times))}"


# One difference.


def _difference(difference: Difference, claim: Claim, result: Result, results: Mapping[str, Result]) -> str:
    quantity = difference.quantity(difference.at)
    pairs = [(of, base) for of, base in _pairs(difference, claim, result, results) if of is not None]
    if not pairs:
        return f"paired, {difference.label}: {NOT_YET}"
    differences = [_paired(of, base, quantity) for of, base in pairs]
    told = [_interval(found, difference.percent) if found else NOT_YET for found in differences]
    settings = [{} if difference.setting else of.setting for of, _ in pairs]
    unit = " %" if difference.percent else ""
    return f"paired, {difference.label}{_by_setting(settings, told, alike=True)}{unit}"


def _pairs(
    difference: Difference, claim: Claim, result: Result, results: Mapping[str, Result]
) -> list[tuple[Arm | None, Arm | None]]:
    """The arms of which each difference is, and those that are subtracted."""
    if difference.against == "before":
        return [(result.arm(b), result.arm(a)) for a, b in pairwise(claim.settings)]
    name, setting = difference.base
    other = results.get(name) if name else result
    base = other.arm(setting) if other else None
    if difference.setting is not None:
        return [(result.arm(difference.setting), base)]
    return [(arm, base) for arm in result.arms if name or arm.setting != setting]


def _paired(of: Arm, base: Arm | None, quantity: Quantity) -> Paired | None:
    """The mean of the differences over the seeds that both have; None where there are none."""
    if base is None or quantity.id not in of.numbers or quantity.id not in base.numbers:
        return None
    before = dict(zip(base.seeds, base.numbers[quantity.id], strict=True))
    after = dict(zip(of.seeds, of.numbers[quantity.id], strict=True))
    seeds = [seed for seed in of.seeds if seed in before]
    found = paired([before[seed] for seed in seeds], [after[seed] for seed in seeds]) if seeds else None
    return found if found and found.n else None


# Numbers.


def _mean(mean: Mean, values: Sequence[float], percent: bool) -> str:
    """``0.182 ± 0.002``; one value alone in three digits, and one that all seeds have, as of theory, in five."""
    scale = 100.0 if percent else 1.0
    lost = len(values) - mean.n
    if not mean.n:
        return "not finite"
    rest = f" ({lost} of {len(values)} not finite)" if lost else ""
    if mean.n == 1:
        return number(scale * mean.mean) + rest
    if not mean.error > NO_ERROR * abs(mean.mean):
        return f"{scale * mean.mean:.5g}{rest}"
    digits = _digits(scale * mean.error, scale * mean.mean)
    return f"{_rounded(scale * mean.mean, digits)} ± {_rounded(scale * mean.error, digits)}{rest}"


def _interval(found: Paired, percent: bool) -> str:
    """``+97 [71, 123]``; of one seed the difference alone."""
    scale = 100.0 if percent else 1.0
    if found.n == 1:
        return f"{_rounded(scale * found.mean, decimals(scale * found.mean), '+')} (one seed)"
    digits = _digits(scale * found.half, scale * found.mean)
    low, high = (_rounded(scale * (found.mean + side * found.half), digits, "+") for side in (-1, 1))
    return f"{_rounded(scale * found.mean, digits, '+')} [{low}, {high}]"


def _digits(error: float, mean: float) -> int:
    """Decimals that show one digit of ``error``, or two where they are at most 35; of no error, those of the mean."""
    if not error > NO_ERROR * abs(mean):
        return decimals(mean)
    exponent = math.floor(math.log10(error))
    two = round(error / 10.0 ** (exponent - 1)) <= 35
    return max(0, (1 if two else 0) - exponent)


def _rounded(value: float, digits: int, sign: str = "") -> str:
    if digits > 6 or abs(value) >= 1e6:
        return f"{value:{sign}.2e}"
    text = f"{value:{sign}.{digits}f}"
    return text.lstrip("-+") if float(text) == 0 else text


def _seeds(result: Result) -> str:
    counts = sorted({len(arm.seeds) for arm in result.arms})
    return "One run" if counts == [1] else f"{' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} seeds"
