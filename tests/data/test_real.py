"""What ``RealData`` is held against when it is made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sc_loops import RealData, Samples
from sc_loops.data.motions import Motions
from sc_loops.data.points import gaussian_mixture
from sc_loops.errors import InvalidValue

N = 20


def points(n: int = N, d: int = 2) -> Tensor:
    return torch.linspace(-3, 3, n * d).view(n, d)


def images(low: float = -1, high: float = 1, shape: tuple[int, ...] = (N, 3, 8, 8)) -> Tensor:
    return torch.linspace(low, high, torch.Size(shape).numel()).view(shape)


def data(x: Tensor, labels: Tensor | None = None, names: tuple[str, ...] = (), **options: Any) -> RealData:
    """Data of which both parts are the same, unless ``test`` is given."""
    given: dict[str, Any] = {"kind": "points", "test": Samples(x, labels), "name": "mine", **options}
    return RealData(Samples(x, labels), class_names=names, **given)


def refusal(*arguments: Any, **options: Any) -> InvalidValue:
    with pytest.raises(InvalidValue) as error:
        data(*arguments, **options)
    assert "in the data set 'mine'" in error.value.found
    return error.value


BAD = torch.tensor([1.0, 2.0])
LABELS = torch.arange(N) % 2


@pytest.mark.parametrize(
    ("arguments", "where", "found", "expected"),
    [
        ({"kind": "point"}, "kind", "'point'", "one of points, images, motions"),
        ({"kind": "motions"}, "motions", "no table of captions", "the table of captions for motions"),
        ({"x": points().double()}, "train", "points of torch.float64", "float32"),
        ({"x": points().long()}, "train", "points of torch.int64", "float32"),
        ({"x": points().byte()}, "train", "points of torch.uint8", "float32"),
        (
            {"x": images().half(), "kind": "images"},
            "train",
            "images of torch.float16",
            "float32 in [-1, 1], or uint8",
        ),
        ({"x": points()[:0]}, "train", "points of shape (0, 2)", "at least one sample"),
        ({"test": Samples(points()[:0])}, "test", "points of shape (0, 2)", "at least one sample"),
        ({"x": points()[:, 0]}, "train", "points of shape (20,)", "shape (N, d)"),
        ({"x": images()}, "train", "points of shape (20, 3, 8, 8)", "shape (N, d)"),
        ({"kind": "images"}, "train", "images of shape (20, 2)", "shape (N, C, H, W)"),
        (
            {"test": Samples(points(N, 3))},
            "test",
            "(N, 3), beside torch.float32 of shape (N, 2)",
            "of the type and shape",
        ),
        ({"test": points()}, "test", "a Tensor", "Samples(x)"),
        ({"x": points() / torch.tensor([1.0, 0.0])}, "train", "20 values that are NaN or inf", "finite values"),
        ({"test": Samples(torch.tensor([[0.0, float("nan")]]))}, "test", "1 values that are NaN", "finite values"),
        ({"labels": LABELS}, "train", "labels from 0 to 1, with 0 names in class_names", "a name for every class"),
        ({"labels": LABELS + 1, "names": ("a", "b")}, "train", "from 1 to 2, with 2 names", "from 0 to 1"),
        ({"labels": LABELS - 1, "names": ("a", "b")}, "train", "from -1 to 0, with 2 names", "from 0 to 1"),
        ({"labels": LABELS.float(), "names": ("a", "b")}, "train", "labels of torch.float32", "(N,) of int64"),
        ({"labels": LABELS.int(), "names": ("a", "b")}, "train", "labels of torch.int32", "(N,) of int64"),
        ({"labels": LABELS[:, None], "names": ("a", "b")}, "train", "shape (20, 1)", "(N,) of int64"),
        (
            {"labels": LABELS, "names": ("a", "b"), "test": Samples(points(), LABELS + 2)},
            *("test", "labels from 2 to 3, with 2 names", "from 0 to 1"),
        ),
        (
            {"labels": LABELS, "names": ("a", "b"), "test": Samples(points())},
            *("test", "labels to train on and none held out", "labels of both parts, or of neither"),
        ),
        (
            {"names": ("a", "b"), "test": Samples(points(), LABELS)},
            *("test", "held-out labels and none to train on", "labels of both parts, or of neither"),
        ),
    ],
)
def test_what_no_run_could_use_is_refused(arguments: dict[str, Any], where: str, found: str, expected: str) -> None:
    error = refusal(**{"x": points(), **arguments})
    assert error.where == where
    assert found in error.found
    assert expected in error.expected


@pytest.mark.parametrize(
    ("low", "high", "possible"),
    [
        (-1, 1, True),
        (0, 1, True),  # badly scaled, and what a data set of bright images may be
        (-1.00001, 1.00001, True),
        (-1.2, 1.2, True),  # interpolated past black and white edges
        (0, 255, False),
        (-128, 127, False),
        (-2.1, 2.6, False),  # in units of a standard deviation
        (-1, 1.3, False),
        (-1.3, 1, False),
    ],
)
def test_float_images_are_in_minus_one_to_one(low: float, high: float, possible: bool) -> None:
    if possible:
        assert data(images(low, high), kind="images").shape == (3, 8, 8)
        return
    error = refusal(images(low, high), kind="images")
    assert (error.where, error.expected) == ("train", "images in [-1, 1]")
    assert f"images in [{low:g}, {high:g}]" in error.found
    assert "x / 127.5 - 1" in error.do


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
@pytest.mark.parametrize(
    ("shape", "possible"),
    [
        ((8, 8, 3), False),
        ((28, 28, 1), False),
        ((480, 640, 4), False),
        ((1, 28, 28), True),
        ((4, 8, 8), True),
        ((3, 3, 3), True),
        ((2, 1, 1), True),
        ((16, 8, 8), True),  # a latent
        ((16, 4, 4), True),
        ((16, 1, 1), True),
    ],
)
def test_the_channels_of_images_come_first(shape: tuple[int, ...], possible: bool, dtype: torch.dtype) -> None:
    x = torch.zeros(N, *shape, dtype=dtype)
    if possible:
        assert data(x, kind="images").shape == shape
    else:
        assert "permute(0, 3, 1, 2)" in refusal(x, kind="images").do


def test_pixels_are_not_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "aminmax", None)
    assert data(torch.full((N, 1, 8, 8), 255, dtype=torch.uint8), kind="images").shape == (1, 8, 8)


def test_floats_are_looked_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, plain = [], torch.aminmax
    monkeypatch.setattr(torch, "aminmax", lambda x: seen.append(x) or plain(x))
    x = points()
    data(x)
    assert [value is x for value in seen] == [True, True]  # to train on, and held out


def table(clips: int = 5) -> tuple[Motions, Tensor]:
    names = [f"clip {number}" for number in range(clips)]
    return Motions.of_clips(names, [["walk", "go"]] * clips, [4] * clips, torch.zeros(263), torch.ones(263))


def test_conditions_of_motions_are_rows_of_the_table_of_captions() -> None:
    motions, rows = table()
    x = torch.zeros(5, 4, 263)
    made = data(x, rows, kind="motions", motions=motions)
    assert (made.num_classes, rows.tolist()) == (10, [0, 2, 4, 6, 8])
    error = refusal(x, rows + 2, kind="motions", motions=motions)
    assert "labels from 2 to 10, with 10 rows in the table of captions" in error.found
    with pytest.raises(InvalidValue, match="for motions, and for nothing else"):
        data(points(), motions=motions)


def test_fresh_data_are_held_against_the_same() -> None:
    """A generation's real data are the first ones with another part to train on."""
    mixture = gaussian_mixture(modes=4, size=30, test_size=20)
    assert mixture.fresh is not None
    fresh = mixture.fresh(2)
    assert torch.equal(replace(mixture, train=fresh).train.x, fresh.x)
    assert fresh.condition is not None
    with pytest.raises(InvalidValue, match="labels from 4 to 7, with 4 names"):
        replace(mixture, train=Samples(fresh.x, fresh.condition % 4 + 4))
