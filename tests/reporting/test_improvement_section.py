"""The report of an improved loop: the curve over ω of the search, generation by generation."""

from __future__ import annotations

from typing import Any

import numpy as np
from fabricated import fabricate, row
from matplotlib.figure import Figure

from sc_loops.reporting.improvement_panels import MAX_SEARCHES, improvement_panels
from sc_loops.reporting.report import write_report
from sc_loops.reporting.sections import sections
from sc_loops.reporting.wording import meaning, symbol

OMEGAS = ("0.25", "0", "1.5", "1")  # not in order


def searched(generation: int, **more: Any) -> dict[str, Any]:
    """The distance is t + ω², but nan for ω = 1; precision falls and recall rises with ω."""
    curve = {f"improvement/search/{w}": generation + float(w) ** 2 for w in OMEGAS}
    beside = {f"improvement/precision/{w}": 0.9 - 0.1 * float(w) for w in OMEGAS}
    beside |= {f"improvement/recall/{w}": 0.5 + 0.1 * float(w) for w in OMEGAS}
    found = {**curve, **beside, "improvement/search/1": float("nan"), "improvement/omega": 0.25, **more}
    return row(generation, **found)


def lines(figure: Figure) -> dict[str, list[list[float]]]:
    return {str(line.get_label()): np.array(line.get_xydata()).tolist() for line in figure.axes[0].lines}


def test_a_curve_is_in_the_order_of_omega_without_what_was_not_measured() -> None:
    drawn = {title: figure for title, figure, _ in improvement_panels([searched(0), searched(1)])}
    assert list(drawn) == ["Search for ω", "Precision over ω", "Recall over ω", "ω of each generation"]
    curve = lines(drawn["Search for ω"])
    assert curve == {f"t = {t}": [[0, t], [0.25, t + 0.0625], [1.5, t + 2.25]] for t in (0, 1)}
    assert [x for x, _ in lines(drawn["Precision over ω"])["t = 0"]] == [0, 0.25, 1, 1.5]
    np.testing.assert_allclose(lines(drawn["Recall over ω"])["t = 1"][-1], [1.5, 0.65])


def test_of_many_generations_some_are_shown_with_the_first_and_the_last() -> None:
    drawn = improvement_panels([searched(t) for t in range(30)])
    shown = [int(label.removeprefix("t = ")) for label in lines(drawn[0][1])]
    assert len(shown) == MAX_SEARCHES
    assert (shown[0], shown[-1]) == (0, 29)


def test_points_have_no_precision_and_a_given_omega_no_curve() -> None:
    rows = [{k: v for k, v in searched(t).items() if "precision" not in k and "recall" not in k} for t in (0, 1)]
    assert [title for title, *_ in improvement_panels(rows)] == ["Search for ω", "ω of each generation"]
    assert improvement_panels([row(t, **{"improvement/omega": 1.0}) for t in (0, 1)]) == []
    assert improvement_panels([row(0)]) == []


def test_a_shift_shows_how_far_the_classes_are_before_and_after() -> None:
    apart = {"improvement/total_variation/base": 0.3, "improvement/total_variation/improved": 0.125}
    ((title, figure, _),) = improvement_panels([row(0, **apart), row(1, **apart)])
    assert title == "Distance to the wanted shares"
    assert lines(figure) == {"base": [[0, 0.3], [1, 0.3]], "improved": [[0, 0.125], [1, 0.125]]}


def test_the_section_is_on_the_page(tmp_path) -> None:
    run = fabricate(tmp_path / "run", generations=0)
    assert "Improvement" not in [section.title for section in sections(run, run.rows())]
    run.record(searched(1, **{"seconds/improving": 3.0}))
    section = next(section for section in sections(run, run.rows()) if section.title == "Improvement")
    assert "(1 + ω) base" in section.text
    page = write_report(run).read_text()
    for panel in section.panels:
        assert f"<h3>{panel.title}</h3>" in page
    assert "measured at ω 0.25" in page  # a column of the table
    assert "improving" in page  # a phase of the time


def test_keys_have_words() -> None:
    assert symbol("improvement/search/0.25") == "measured at ω 0.25"
    assert symbol("improvement/base_share/3") == "base's share of class 3"
    assert meaning("improvement/total_variation/improved").startswith("total variation")
