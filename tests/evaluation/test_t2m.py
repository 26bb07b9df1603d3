"""The official evaluator from files in its format: a plain forward, the words, and files that are wrong."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from sc_loops.data.motions import Motions
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue
from sc_loops.evaluation.t2m import T2M
from sc_loops.networks.t2m_words import KINDS
from sc_loops.samples import Samples

WORDS = ["a", "man", "kick", "something", "the", "left", "foot", "sos", "eos", "unk"]
SHARED = Path(os.environ.get("SC_LOOPS_DATA", Path(__file__).resolve().parents[2] / "../shared/data"))


def normal(*shape, seed=0, scale=0.3):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gru(size, hidden, seed):
    names = [
        f"{kind}_{part}_l0{side}" for side in ("", "_reverse") for kind in ("weight", "bias") for part in ("ih", "hh")
    ]
    shapes = {"weight_ih": (3 * hidden, size), "weight_hh": (3 * hidden, hidden)}
    return {f"gru.{n}": normal(*shapes.get(n[:9], (3 * hidden,)), seed=seed + i) for i, n in enumerate(names)}


def recurrent(size, hidden, output, seed):
    return {
        "hidden": normal(2, 1, hidden, seed=seed),
        "input_emb.weight": normal(hidden, size, seed=seed + 1),
        "input_emb.bias": normal(hidden, seed=seed + 2),
        **gru(hidden, hidden, seed + 3),
        "output_net.0.weight": normal(hidden, 2 * hidden, seed=seed + 20),
        "output_net.0.bias": normal(hidden, seed=seed + 21),
        "output_net.1.weight": 1 + normal(hidden, seed=seed + 22),
        "output_net.1.bias": normal(hidden, seed=seed + 23),
        "output_net.3.weight": normal(output, hidden, seed=seed + 24),
        "output_net.3.bias": normal(output, seed=seed + 25),
    }


CONTENT = {
    "movement_encoder": {
        "main.0.weight": normal(6, 259, 4, seed=1, scale=0.05),
        "main.0.bias": normal(6, seed=2),
        "main.3.weight": normal(5, 6, 4, seed=3),
        "main.3.bias": normal(5, seed=4),
        "out_net.weight": normal(5, 5, seed=5),
        "out_net.bias": normal(5, seed=6),
    },
    "motion_encoder": recurrent(5, 7, 8, 100),
    "text_encoder": {
        **recurrent(12, 6, 8, 200),
        "pos_emb.weight": normal(12, 15, seed=300),
        "pos_emb.bias": normal(12, seed=301),
    },
    "epoch": 3,
}
VECTORS = normal(len(WORDS), 12, seed=400, scale=1.0).numpy()
ROWS = {word: len(WORDS) - 1 - i for i, word in enumerate(WORDS)}  # not in the order of the list
MEAN, STD = normal(263, seed=500, scale=1.0), 0.5 + normal(263, seed=501, scale=1.0).abs()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("t2m")
    torch.save(CONTENT, folder / "finest.tar")
    np.save(folder / "our_vab_data.npy", VECTORS.astype(np.float64))
    (folder / "our_vab_words.pkl").write_bytes(pickle.dumps(WORDS))
    (folder / "our_vab_idx.pkl").write_bytes(pickle.dumps(ROWS))
    np.save(folder / "t2m_mean.npy", MEAN.numpy().astype(np.float64))
    np.save(folder / "t2m_std.npy", STD.numpy().astype(np.float64))
    (folder / "texts").mkdir()
    (folder / "texts" / "first.txt").write_text(
        "A man kicks.#a/DET man/NOUN kick/VERB#0.0#0.0\nodd tokens#the/DET left/ADJ foo/NOUN man/X#0.0#0.0\n"
    )
    return folder


def motions():
    lengths = [40, 22, 8]
    table, rows = Motions.of_clips(
        ["first", "second", "third"],
        [["A man kicks.", "odd tokens"], ["the foot"], ["something!"]],
        lengths,
        normal(263, seed=600),
        1 + normal(263, seed=601).abs(),
    )
    x = normal(3, 40, 263, seed=602, scale=1.0) * table.mask(rows, 40)[..., None]
    return RealData(Samples(x, rows), Samples(x, rows), "motions", (), "three", table)


DATA = motions()


def metric(files, data=DATA, **options):
    given = {"weights": str(files / "finest.tar"), "glove": str(files), "stats": str(files), **options}
    return T2M(data, **given)


# A plain forward, one item at a time: loops over time, no packing, no modules.


def plain_gru(x, weights, hidden):
    """The last states ``(2 h,)`` of a GRU over ``x (T, h)`` in both directions (Cho et al. 2014, as in PyTorch)."""
    last = []
    for side, order in (("", x), ("_reverse", x.flip(0))):
        state = hidden[len(last), 0]
        w, u = weights[f"gru.weight_ih_l0{side}"], weights[f"gru.weight_hh_l0{side}"]
        b, c = weights[f"gru.bias_ih_l0{side}"], weights[f"gru.bias_hh_l0{side}"]
        for item in order:
            (ri, zi, ni), (rh, zh, nh) = (w @ item + b).chunk(3), (u @ state + c).chunk(3)
            reset, update = torch.sigmoid(ri + rh), torch.sigmoid(zi + zh)
            state = (1 - update) * torch.tanh(ni + reset * nh) + update * state
        last.append(state)
    return torch.cat(last)


def plain_recurrent(x, weights):
    y = plain_gru(x @ weights["input_emb.weight"].T + weights["input_emb.bias"], weights, weights["hidden"])
    y = weights["output_net.0.weight"] @ y + weights["output_net.0.bias"]
    y = (y - y.mean()) / (y.var(unbiased=False) + 1e-5).sqrt()
    y = y * weights["output_net.1.weight"] + weights["output_net.1.bias"]
    y = torch.where(y > 0, y, 0.2 * y)
    return weights["output_net.3.weight"] @ y + weights["output_net.3.bias"]


def plain_convolution(x, weight, bias):
    """``(T, c)`` to ``(T // 2, c')``: four frames from one before each even one, 0 beyond both ends, leaky."""
    padded = torch.cat([torch.zeros(1, x.shape[1]), x, torch.zeros(2, x.shape[1])])
    windows = [padded[2 * i : 2 * i + 4] for i in range(len(x) // 2)]
    y = torch.stack([torch.einsum("ock,kc->o", weight, window) + bias for window in windows])
    return torch.where(y > 0, y, 0.2 * y)


def plain_motion(vectors, length):
    """One motion ``(T, 263)`` of the given length, cut to a multiple of 4, then 0 up to 196 frames as published."""
    z = torch.zeros(196, 259)
    kept = length // 4 * 4
    z[:kept] = ((vectors - MEAN) / STD)[:kept, :259]
    weights = CONTENT["movement_encoder"]
    y = plain_convolution(z, weights["main.0.weight"], weights["main.0.bias"])
    y = plain_convolution(y, weights["main.3.weight"], weights["main.3.bias"])
    y = y @ weights["out_net.weight"].T + weights["out_net.bias"]
    return plain_recurrent(y[: length // 4], CONTENT["motion_encoder"])


def plain_text(tokens):
    """A caption of pairs of a word that is known and the number of its kind."""
    weights = CONTENT["text_encoder"]
    vectors = torch.from_numpy(np.stack([VECTORS[ROWS[word]] for word, _ in tokens]))
    kinds = torch.eye(15)[[kind for _, kind in tokens]]
    return plain_recurrent(vectors + kinds @ weights["pos_emb.weight"].T + weights["pos_emb.bias"], weights)


def test_motions_are_embedded_as_in_a_plain_forward(files):
    found = metric(files).features_of(DATA.test)
    assert DATA.test.condition is not None
    lengths = DATA.motions.lengths_of(DATA.test.condition)
    vectors = DATA.motions.vectors(DATA.test.x)
    expected = torch.stack([plain_motion(v, int(n)) for v, n in zip(vectors, lengths, strict=True)])
    assert torch.allclose(found, expected, atol=2e-6)
    assert found.shape == (3, 8)


def test_what_lies_beyond_a_motions_end_does_not_count(files):
    x = DATA.test.x.clone()
    x[1, 20:] = 100.0  # of 22 frames 20 are seen
    changed = Samples(x, DATA.test.condition)
    assert torch.equal(metric(files).features_of(changed), metric(files).features_of(DATA.test))


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        # kinds: 0 VERB, 1 NOUN, 2 DET, 9 place, 10 body, 12 act, 14 OTHER
        ("A man kicks.", [("a", 2), ("man", 1), ("kick", 12)]),  # as the texts have it; kick is an act
        ("odd tokens", [("the", 2), ("left", 9), ("unk", 14), ("man", 14)]),  # foo is unknown, and so is part X
        ("the foot", [("the", 14), ("foot", 10)]),  # not in the texts
        ("something!", [("something", 14)]),
        ("man " * 30, [("man", 14)] * 20),  # no more than 20 are read
    ],
)
def test_captions_are_embedded_as_in_a_plain_forward(files, caption, tokens):
    found = metric(files, texts=str(files / "texts")).embed_captions([caption, "a man"])
    expected = plain_text([("sos", 14), *tokens, ("eos", 14)])
    assert torch.allclose(found[0], expected, atol=2e-6)


def test_without_texts_words_are_taken_as_they_are_written(files):
    assert metric(files).tokens_of("A man kicks.") == ["a/OTHER", "man/OTHER", "kicks/OTHER"]


def test_the_kinds_of_words_are_fifteen():
    assert len(KINDS) == len(set(KINDS)) == 15


def test_tokens_are_found_of_pieces_and_whatever_the_spaces(files, tmp_path):
    """A piece with captions of its own is called as its clip and a number; data have single spaces in captions."""
    (tmp_path / "first.txt").write_bytes(b"A  man kicks. #a/DET man/NOUN kick/VERB#2.0#5.0\n\xe9#a/DET#0.0#0.0\n")
    table, rows = Motions.of_clips(["first/0"], [["A man kicks."]], [40], torch.zeros(263), torch.ones(263))
    data = RealData(Samples(DATA.test.x[:1], rows), Samples(DATA.test.x[:1], rows), "motions", (), "one", table)
    assert metric(files, data, texts=str(tmp_path)).tokens_of("A man kicks.") == ["a/DET", "man/NOUN", "kick/VERB"]


@pytest.mark.skipif(not (SHARED / "humanml3d" / "texts").is_dir(), reason="no HumanML3D samples; see SC_LOOPS_DATA")
def test_tokens_of_an_official_text(files):
    table, rows = Motions.of_clips(["000000"], [["x"]], [40], torch.zeros(263), torch.ones(263))
    data = RealData(Samples(DATA.test.x[:1], rows), Samples(DATA.test.x[:1], rows), "motions", (), "one", table)
    found = metric(files, data, texts=str(SHARED / "humanml3d" / "texts"))
    caption = "a man kicks something or someone with his left leg."
    expected = "a/DET man/NOUN kick/VERB something/PRON or/CCONJ someone/PRON with/ADP his/DET left/ADJ leg/NOUN"
    assert found.tokens_of(caption) == expected.split()


def test_a_row_of_numbers_and_the_real_datas_own(files):
    evaluator = metric(files)
    samples = DATA.test.with_columns(index=torch.arange(3))
    row = evaluator.summarise([evaluator.observe(samples)])
    assert row["frechet_distance/t2m"] == pytest.approx(0, abs=1e-6)  # the same motions
    assert row["matching_score/t2m"] == row["matching_score/t2m/real"]
    texts, own = evaluator.texts_of(DATA.test.condition), evaluator.features_of(DATA.test)
    assert row["matching_score/t2m"] == pytest.approx(float((texts - own).norm(dim=1).mean()))


# Files that are missing or something else.


@pytest.mark.parametrize(
    ("option", "name", "words"),
    [
        ("weights", "no.tar", "finest.tar|no.tar"),
        ("glove", "nowhere", "our_vab_words.pkl"),
        ("stats", "nowhere", "t2m_mean.npy"),
    ],
)
def test_missing_files_are_named_with_where_they_come_from(files, option, name, words):
    with pytest.raises(InvalidValue) as caught:
        metric(files, **{option: str(files / name)})
    assert caught.value.where == option
    assert any(word in str(caught.value) for word in words.split("|"))
    assert "motion_text needs no download" in str(caught.value)


def test_a_file_that_would_execute_code_is_refused_and_does_not(files, tmp_path):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "exploded",)

    for name in ("our_vab_data.npy", "our_vab_words.pkl", "our_vab_idx.pkl"):
        (tmp_path / name).write_bytes((files / name).read_bytes())
    (tmp_path / "our_vab_words.pkl").write_bytes(pickle.dumps([Bomb()]))
    with pytest.raises(InvalidValue, match=r"UnpicklingError"):
        metric(files, glove=str(tmp_path))
    torch.save({"movement_encoder": Bomb()}, tmp_path / "bad.tar")
    with pytest.raises(InvalidValue, match=r"finest\.tar"):
        metric(files, weights=str(tmp_path / "bad.tar"))
    assert not (tmp_path / "exploded").exists()


def test_weights_of_other_sizes_are_refused(files, tmp_path):
    np.save(tmp_path / "mean.npy", np.zeros(251))
    np.save(tmp_path / "std.npy", np.ones(251))
    with pytest.raises(InvalidValue, match="263"):
        metric(files, stats=str(tmp_path))
    for name in ("our_vab_words.pkl", "our_vab_idx.pkl"):
        (tmp_path / name).write_bytes((files / name).read_bytes())
    np.save(tmp_path / "our_vab_data.npy", VECTORS[:, :5])
    with pytest.raises(InvalidValue, match="5"):
        metric(files, glove=str(tmp_path))


def test_other_data_are_refused(files):
    points = RealData(Samples(torch.zeros(4, 2)), Samples(torch.zeros(4, 2)), "points")
    with pytest.raises(InvalidValue, match="captions"):
        metric(files, points)
