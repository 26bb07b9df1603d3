"""A user's own images: pixels survive the way through ``.npz``, PNG and the reader; whatever is odd is named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from sc_loops import schema
from sc_loops.data.image_files import image_archive, image_folder
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue, UsageError

SHARED = Path(os.environ.get("SC_LOOPS_DATA", Path(__file__).parents[2] / "../shared/data")) / "cifar10"
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (30, 6, 5), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (30, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(30) % 3


def archive(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return str(path)


def rows(x: Any) -> list[tuple[int, ...]]:
    """The images as tuples, whatever their order."""
    return sorted(tuple(image.reshape(-1).tolist()) for image in torch.as_tensor(np.asarray(x)))


def both(data: RealData) -> torch.Tensor:
    return torch.cat([data.train.x, data.test.x])


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def write_classes(root: Path, images: np.ndarray, names: tuple[str, ...] = ("ant", "bee", "cow")) -> Path:
    for i, image in enumerate(images):
        write(root / names[i % len(names)] / f"{i:02d}.png", image)
    return root


# Both: what is held out.


def test_each_class_is_held_out_in_its_share_and_in_order(tmp_path: Path) -> None:
    labels = np.repeat([0, 1, 2], [20, 8, 2])
    x = np.arange(30, dtype=np.uint8)[:, None, None]
    path = archive(tmp_path / "a.npz", x=x, y=labels)
    data = image_archive(path=path, test_fraction=0.25)
    assert data.test.condition.bincount().tolist() == [5, 2, 1]
    assert data.train.condition.bincount().tolist() == [15, 6, 1]
    numbers = [part.x[:, 0, 0, 0].tolist() for part in (data.train, data.test)]
    assert sorted(numbers[0] + numbers[1]) == list(range(30))
    for part, found in zip((data.train, data.test), numbers, strict=True):
        assert found == sorted(found)
        assert part.condition.tolist() == labels[found].tolist()
    assert torch.equal(data.test.x, image_archive(path=path, test_fraction=0.25).test.x)
    assert not torch.equal(data.test.x, image_archive(path=path, test_fraction=0.25, seed=1).test.x)
    assert len(image_archive(path=path, test_fraction=0.999).train) == 3


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_impossible_fractions(tmp_path: Path, fraction: float) -> None:
    for make in (
        lambda: image_archive(path="a", test_fraction=fraction),
        lambda: image_folder(root="a", test_fraction=fraction),
    ):
        with pytest.raises(InvalidValue, match="test_fraction"):
            make()


# Archives.


@pytest.mark.parametrize(
    ("images", "labels"),
    [("x", "y"), ("images", "labels"), ("arr_0", "arr_1"), ("x_train", "y_train"), ("train_images", "train_labels")],
)
@pytest.mark.parametrize("layout", ["grey", "grey last", "last", "first"])
def test_pixels_and_labels_come_back(tmp_path: Path, images: str, labels: str, layout: str) -> None:
    stored = {"grey": GREY, "grey last": GREY[..., None], "last": COLOUR, "first": COLOUR.transpose(0, 3, 1, 2)}[
        layout
    ]
    expected = COLOUR.transpose(0, 3, 1, 2) if layout in ("last", "first") else GREY[:, None]
    data = image_archive(path=archive(tmp_path / "mine.npz", **{images: stored, labels: LABELS[:, None]}))
    assert data.shape == expected.shape[1:]
    assert both(data).dtype == torch.uint8
    assert both(data).is_contiguous()
    assert rows(both(data)) == rows(expected)
    assert torch.cat([data.train.condition, data.test.condition]).dtype == torch.int64
    assert (data.kind, data.name, data.class_names) == ("images", "mine", ("0", "1", "2"))


def test_a_held_out_part_is_taken_as_it_is(tmp_path: Path) -> None:
    held_out = {"x_test": COLOUR[20:], "y_test": LABELS[20:]}
    train = {"x_train": COLOUR[:20], "y_train": LABELS[:20], "classes": np.array(["ant", "bee", "cow"])}
    one = image_archive(path=archive(tmp_path / "one.npz", **train, **held_out))
    plain = archive(tmp_path / "test.npz", x=COLOUR[20:], y=LABELS[20:])
    two = image_archive(path=archive(tmp_path / "two.npz", **train), test_path=plain)
    for data in (one, two):
        assert np.array_equal(data.train.x, COLOUR[:20].transpose(0, 3, 1, 2))
        assert np.array_equal(data.test.x, COLOUR[20:].transpose(0, 3, 1, 2))
        assert np.array_equal(data.train.condition, LABELS[:20])
        assert np.array_equal(data.test.condition, LABELS[20:])
        assert data.class_names == ("ant", "bee", "cow")


def test_images_without_labels(tmp_path: Path) -> None:
    data = image_archive(path=archive(tmp_path / "a.npz", x=GREY))
    assert (data.train.condition, data.test.condition, data.class_names) == (None, None, ())
    assert (len(data.train), len(data.test)) == (27, 3)


def test_the_shared_subset_of_cifar10() -> None:
    path = SHARED / "cifar10_subset.npz"
    if not path.exists():
        pytest.skip(f"no {path}; SC_LOOPS_DATA says where the data is")
    data, z = image_archive(path=str(path)), np.load(path)
    assert np.array_equal(data.train.x.permute(0, 2, 3, 1), z["x_train"])
    assert np.array_equal(data.test.condition, z["y_test"])
    assert data.class_names[:3] == ("airplane", "automobile", "bird")


GOOD = {"x": GREY, "y": LABELS}


@pytest.mark.parametrize(
    ("arrays", "found", "expected"),
    [
        ({"pixels": GREY, "y": LABELS}, "the keys pixels, y", "images under one of x_train (labels: y_train)"),
        ({"x_test": GREY}, "the keys x_test", "x_train"),
        ({"x": GREY / 255}, "x of float64", "uint8"),
        ({"x": GREY.astype(np.int64)}, "x of int64", "uint8"),
        ({"x": GREY.reshape(30, 30)}, "x of the shape (30, 30)", "(N, H, W)"),
        ({"x": np.zeros((4, 6, 5, 4), np.uint8)}, "x of the shape (4, 6, 5, 4)", "C = 1 or 3"),
        ({"x": GREY[:0]}, "x of the shape (0, 6, 5)", "(N, H, W)"),
        ({"x": GREY[:1]}, "one image", "at least two"),
        ({**GOOD, "y": LABELS[:-1]}, "the shape (29,) for 30 images", "one integer label"),
        ({**GOOD, "y": LABELS / 1}, "y of float64", "one integer label"),
        ({**GOOD, "y": np.eye(3, dtype=int)[LABELS]}, "the shape (30, 3)", "one integer label"),
        ({**GOOD, "y": LABELS + 1}, "the labels 1, 2, 3", "labels 0..2"),
        ({**GOOD, "y": LABELS - 1}, "the labels -1, 0, 1", "labels 0..2"),
        ({**GOOD, "y": 2 * LABELS}, "the labels 0, 2, 4", "labels 0..2"),
        ({**GOOD, "y": 0 * LABELS}, "the one label 0", "at least two classes"),
        ({**GOOD, "y": (LABELS > 1) + (np.arange(30) == 0) * 2}, "one image of class 2", "at least two"),
        ({**GOOD, "classes": ["ant", "bee"]}, "the labels 0, 1, 2", "the 2 classes"),
        ({**GOOD, "classes": ["ant", "bee", "cow", "dog"]}, "the labels 0, 1, 2", "the 4 classes"),
        ({**GOOD, "classes": np.arange(3)}, "classes of int64", "a list of texts"),
        ({"x": GREY, "classes": ["ant", "bee", "cow"]}, "no labels", "labels"),
        (
            {**GOOD, "classes": np.array(["ant", "bee", None])},
            "Object arrays cannot be loaded",
            "without Python objects",
        ),
        ({**GOOD, "x_test": GREY}, "labels in one part only", "labels of"),
        ({**GOOD, "x_test": GREY, "y_test": LABELS + 1}, "held-out labels 3", "0..2"),
        ({**GOOD, "x_test": COLOUR, "y_test": LABELS}, "held-out images (3, 6, 5)", "(1, 6, 5)"),
    ],
)
def test_archives_that_are_refused(tmp_path: Path, arrays: dict[str, Any], found: str, expected: str) -> None:
    path = archive(tmp_path / "a.npz", **arrays)
    with pytest.raises(InvalidValue) as caught:
        image_archive(path=path)
    assert caught.value.where == "path"
    assert caught.value.found.startswith(path)
    assert found in caught.value.found
    assert expected in caught.value.expected


def test_files_that_are_no_archives(tmp_path: Path) -> None:
    whole = Path(archive(tmp_path / "whole.npz", x=GREY)).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    np.save(tmp_path / "plain.npy", GREY)
    files = {"cut.npz": whole[:-30], "head.npz": whole[:500], "empty.npz": b"", "flipped.npz": bytes(flipped)}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for name in (*files, "plain.npy", "absent.npz", "."):
        with pytest.raises(InvalidValue) as caught:
            image_archive(path=str(tmp_path / name))
        assert caught.value.where == "path"
        assert name == "." or name in caught.value.found
        assert ".npz file" in caught.value.expected
        with pytest.raises(InvalidValue) as caught:
            image_archive(path=archive(tmp_path / "whole.npz", x=GREY), test_path=str(tmp_path / name))
        assert caught.value.where == "test_path"


# Folders.


def test_a_folder_is_torchvisions_image_folder(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "animals", COLOUR)
    write(root / "bee" / "more" / "a.bmp", COLOUR[0])
    (root / ".DS_Store").write_bytes(b"\0")
    (root / "ant" / ".hidden").write_text("")
    data, theirs = image_folder(root=str(root)), ImageFolder(root)
    assert (data.kind, data.name, list(data.class_names)) == ("images", "animals", theirs.classes)
    for k in range(3):
        ours = torch.cat([part.x[part.condition == k] for part in (data.train, data.test)])
        assert rows(ours) == rows(np.stack([np.array(x).transpose(2, 0, 1) for x, y in theirs if y == k]))


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_train_and_test_folders(tmp_path: Path, held_out: str) -> None:
    order = [0, 3, 1, 4, 2, 5]
    write_classes(tmp_path / "train", COLOUR[:6])
    write_classes(tmp_path / held_out, COLOUR[6:12])
    data = image_folder(root=str(tmp_path))
    assert np.array_equal(data.train.x, COLOUR[:6][order].transpose(0, 3, 1, 2))
    assert np.array_equal(data.test.x, COLOUR[6:12][order].transpose(0, 3, 1, 2))
    assert data.test.condition.tolist() == [0, 0, 1, 1, 2, 2]


def test_train_beside_other_classes_is_a_class(tmp_path: Path) -> None:
    assert image_folder(root=str(write_classes(tmp_path, GREY, ("bus", "test", "train")))).num_classes == 3


def test_files_without_sub_folders_are_unlabelled(tmp_path: Path) -> None:
    for i, image in enumerate(GREY):
        write(tmp_path / f"{i}.png", image)
    data = image_folder(root=str(tmp_path))
    assert (data.train.condition, data.class_names, data.shape) == (None, (), (1, 6, 5))
    assert rows(both(data)) == rows(GREY)


def test_large_files_are_the_same_in_threads(tmp_path: Path) -> None:
    noise = RNG.integers(0, 256, (12, 80, 80, 3), dtype=np.uint8)  # 19 kB each as PNG
    data = image_folder(root=str(write_classes(tmp_path, noise)))
    assert rows(both(data)) == rows(noise.transpose(0, 3, 1, 2))


def test_grey_among_colour_becomes_rgb(tmp_path: Path) -> None:
    write(tmp_path / "a.png", GREY[0])
    write(tmp_path / "b.png", COLOUR[0])
    x = both(image_folder(root=str(tmp_path)))
    assert rows(x) == rows(np.stack([np.stack([GREY[0]] * 3), COLOUR[0].transpose(2, 0, 1)]))


def test_transparency_is_dropped_and_images_are_turned_upright(tmp_path: Path) -> None:
    alpha = np.concatenate([COLOUR[0], GREY[0][..., None]], axis=2)
    write(tmp_path / "a.png", alpha)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(np.rot90(COLOUR[1]).copy()).save(tmp_path / "b.png", exif=exif)
    assert rows(both(image_folder(root=str(tmp_path)))) == rows(COLOUR[:2].transpose(0, 3, 1, 2))


def test_size_crops_the_middle_and_averages(tmp_path: Path) -> None:
    # Constant squares between bars that a crop to the middle leaves out.
    for i, (height, width) in enumerate([(40, 60), (60, 40), (40, 40)]):
        image = np.full((height, width), 255, np.uint8)
        top, left = (height - 40) // 2, (width - 40) // 2
        image[top : top + 40, left : left + 40] = 50 * (i + 1)
        write(tmp_path / f"{i}.png", image)
    x = both(image_folder(root=str(tmp_path), size=8))
    assert rows(x) == rows(np.array([50, 100, 150], np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2))


def test_size_smooths_as_torchvision_does(tmp_path: Path) -> None:
    from torchvision.transforms import InterpolationMode, Resize

    image = RNG.integers(0, 256, (48, 48, 3), dtype=np.uint8)
    for name in "ab":
        write(tmp_path / f"{name}.png", image)
    expected = Resize(12, InterpolationMode.LANCZOS)(Image.fromarray(image))
    assert np.array_equal(image_folder(root=str(tmp_path), size=12).train.x[0].permute(1, 2, 0), np.asarray(expected))


def refused(root: Path, **options: Any) -> InvalidValue:
    with pytest.raises(InvalidValue) as caught:
        image_folder(root=str(root), **options)
    assert caught.value.where == "root"
    return caught.value


def test_images_of_several_sizes(tmp_path: Path) -> None:
    root = write_classes(tmp_path, COLOUR)
    write(root / "bee" / "zz.png", COLOUR[0][:, :4])
    error = refused(root)
    assert error.found == f"{root / 'ant' / '00.png'} of 5 x 6 pixels and {root / 'bee' / 'zz.png'} of 4 x 6"
    assert "data.size=N" in error.do
    assert image_folder(root=str(root), size=4).shape == (3, 4, 4)


def test_files_that_are_no_images(tmp_path: Path) -> None:
    root = write_classes(tmp_path, COLOUR)
    odd = root / "cow" / "zz.png"
    write(odd, RNG.integers(0, 256, (99, 99, 3), dtype=np.uint8))
    for content in (odd.read_bytes()[:5000], b"", b"x,y\n1,2\n"):
        odd.write_bytes(content)
        error = refused(root)
        assert error.found.startswith(f"{odd}, which PIL cannot read: ")
        assert "move it away" in error.do
    odd.unlink()
    odd.symlink_to("absent")
    assert "FileNotFoundError" in refused(root).found


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_images_of_more_than_8_bits(tmp_path: Path, dtype: type) -> None:
    write(tmp_path / "a.tiff", np.zeros((4, 4), dtype))
    assert refused(tmp_path).found == f"{tmp_path / 'a.tiff'} of more than 8 bits a channel"


def test_folders_of_another_layout(tmp_path: Path) -> None:
    assert "absent" in refused(tmp_path / "absent").found
    (tmp_path / "file").write_text("")
    assert "a folder of images" in refused(tmp_path / "file").expected
    (tmp_path / "empty").mkdir()
    assert "nothing in it" in refused(tmp_path / "empty").expected

    root = write_classes(tmp_path / "one", COLOUR, ("ant",))
    error = refused(root)
    assert error.found == f"one sub-folder, {root / 'ant'}"
    assert f"data.root={root / 'ant'}" in error.do

    (root / "bee").mkdir()
    assert str(root / "bee") in refused(root).found
    write(root / "bee" / "a.png", COLOUR[0])
    assert "one image of class 1" in refused(root).found
    write(root / "loose.png", COLOUR[0])
    assert refused(root).found == f"{root / 'loose.png'} beside the folder {root / 'ant'}"


def test_parts_with_different_classes(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", COLOUR)
    write_classes(tmp_path / "test", COLOUR, ("ant", "bee"))
    error = refused(tmp_path)
    assert error.found == f"the class cow in {tmp_path / 'train'} alone"
    write_classes(tmp_path / "test", COLOUR, ("cow", "dog"))
    assert refused(tmp_path).found == f"the class dog in {tmp_path / 'test'} alone"


@pytest.mark.parametrize("size", [0, -1, 10**6])
def test_impossible_sizes(tmp_path: Path, size: int) -> None:
    with pytest.raises(InvalidValue, match="size"):
        image_folder(root=str(tmp_path), size=size)


# From a config.


@pytest.mark.parametrize(("make", "option"), [(image_archive, "path"), (image_folder, "root")])
def test_the_message_names_the_key_of_the_config(tmp_path: Path, make: Any, option: str) -> None:
    options = schema.resolve(make, {option: str(tmp_path / "absent")}, "data")
    with pytest.raises(UsageError) as caught:
        schema.build(make, options, {}, "data")
    assert caught.value.where == f"data.{option}"
    assert "absent" in caught.value.found
    with pytest.raises(UsageError, match=f"add '{option}' to the config"):
        schema.resolve(make, {}, "data")
