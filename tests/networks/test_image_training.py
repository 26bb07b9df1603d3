"""The training of image classifiers: crops and flips against numpy, resuming to the bit, randomness."""

import numpy as np
import pytest
import torch
from torch import nn

from sc_loops.data.pixels import as_float
from sc_loops.data.real import RealData
from sc_loops.errors import UsageError
from sc_loops.networks import image_training
from sc_loops.networks.image_training import Recipe, moved, one_cycle, train_on_images
from sc_loops.samples import Samples


def bars(n=120):
    """8 x 8 uint8 images with a noisy horizontal, vertical or no bar: what shifts and flips do not change."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 3
    x = torch.randint(0, 120, (n, 3, 8, 8), generator=generator)
    places = torch.randint(2, 6, (n,), generator=generator)
    for image, label, place in zip(x, labels, places, strict=True):
        if label == 0:
            image[:, place] += 120
        elif label == 1:
            image[:, :, place] += 120
    samples = Samples(x.byte(), labels)
    return RealData(samples[: n // 2], samples[n // 2 :], "images", ("lying", "standing", "none"), "bars")


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(16, 3),
        )


def train(path, trained=None, seed=0, data=None, **options):
    chosen = {
        "epochs": 4,
        "batch_size": 16,
        "learning_rate": 0.1,
        "weight_decay": 5e-4,
        "label_smoothing": 0.0,
        "flips": True,
        "shift": 1,
    }
    trained = trained or network()
    train_on_images(trained, data or bars(), Recipe(**{**chosen, **options}), seed, "tiny", path / "state")
    return trained


def same(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_it_learns(tmp_path):
    data = bars(480)
    trained = train(tmp_path, data=data, epochs=12).eval()
    right = trained(as_float(data.test.x)).argmax(dim=1) == data.test.condition
    assert float(right.float().mean()) > 0.9


@pytest.mark.parametrize("done", [1, 3])
def test_an_interrupted_training_ends_with_the_same_bits(tmp_path, monkeypatch, capsys, done):
    (tmp_path / "whole").mkdir()
    expected = train(tmp_path / "whole")
    one_epoch = image_training._train_one_epoch

    def interrupted(*arguments):
        if arguments[-1] == done:
            raise KeyboardInterrupt
        return one_epoch(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(image_training, "_train_one_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path)
    seen = []
    with monkeypatch.context() as patched:
        patched.setattr(image_training, "_train_one_epoch", lambda *a: seen.append(a[-1]) or one_epoch(*a))
        assert same(train(tmp_path), expected)
    assert seen == list(range(done, 4))
    assert f"continued after epoch {done}\n" in capsys.readouterr().out


def test_a_damaged_state_is_not_continued_from(tmp_path, monkeypatch):
    expected = train(tmp_path)
    path = tmp_path / "state"
    path.write_bytes(path.read_bytes()[:-5])
    assert same(train(tmp_path), expected)


def test_training_neither_reads_nor_moves_the_global_generator(tmp_path):
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        (tmp_path / str(seed)).mkdir()
        found.append(train(tmp_path / str(seed)))
        assert torch.equal(torch.get_rng_state(), before)
    assert same(*found)


@pytest.mark.parametrize("other", [{"seed": 1}, {"flips": False}, {"shift": 0}, {"label_smoothing": 0.1}])
def test_seed_and_options_reach_the_training(tmp_path, other):
    for name in "ab":
        (tmp_path / name).mkdir()
    assert not same(train(tmp_path / "a", epochs=1), train(tmp_path / "b", epochs=1, **other))


def test_it_says_how_it_goes(tmp_path, capsys):
    train(tmp_path, epochs=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("training tiny on bars: 2 epochs of 60 images (cpu")
    assert "epoch 1/2   loss " in lines[1]
    assert "min left" in lines[1]
    assert "test accuracy" in lines[2]
    assert "left" not in lines[2]


def test_a_training_that_diverges_says_so(tmp_path):
    with pytest.raises(UsageError, match=r"learning_rate(.|\n)*the loss became") as caught:
        train(tmp_path, learning_rate=1e30)
    assert caught.value.do == "lower it"


def test_moved_images_are_windows_into_reflected_ones():
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (5, 3, 6, 7), generator=generator).byte()
    index = torch.tensor([4, 0, 0, 2, 1, 3])
    shifts = torch.tensor([[0, 0], [3, -3], [-1, 2], [2, 2], [-3, 0], [1, -2]])
    mirrored = torch.tensor([False, True, False, True, True, False])
    found = moved(x, index, shifts, mirrored)
    assert found.dtype == torch.uint8
    for image, i, (down, right), flip in zip(found, index, shifts, mirrored, strict=True):
        padded = np.pad(x[i].numpy(), ((0, 0), (3, 3), (3, 3)), mode="reflect")
        window = padded[:, 3 + down : 9 + down, 3 + right : 10 + right]
        assert np.array_equal(image.numpy(), window[:, :, ::-1] if flip else window)
    assert torch.equal(moved(as_float(x), index, shifts, mirrored), as_float(found))


def test_every_image_is_mirrored_every_other_epoch():
    masks = [image_training._mirrored(1000, 0, epoch) for epoch in range(4)]
    assert torch.equal(masks[0], masks[2])
    assert torch.equal(masks[0], ~masks[1])
    assert torch.equal(masks[1], masks[3])
    assert 400 < int(masks[0].sum()) < 600


def test_the_learning_rate_goes_up_and_down_once():
    assert [one_cycle(p) for p in (0, 0.1, 0.2, 0.6, 1)] == pytest.approx([0, 0.5, 1, 0.5, 0])
