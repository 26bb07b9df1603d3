"""CLIP's embeddings against transformers called by hand, on a tiny CLIP; and what is said where there is none."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
import torch

from sc_loops.data.motions import Motions
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue, UsageError
from sc_loops.networks import clip
from sc_loops.networks.clip import ClipText
from sc_loops.samples import Samples

transformers = pytest.importorskip("transformers")

CAPTIONS = [
    ["a man walks", "someone strolls"],
    ["waves"],
    ["a person walks forward then turns around and comes back to where they were"],
]


def motion_data() -> RealData:
    stats = torch.zeros(263), torch.ones(263)
    motions, rows = Motions.of_clips(["a", "b", "c"], CAPTIONS, [3, 3, 3], *stats)
    samples = Samples(torch.zeros(3, 3, 263), rows)
    return RealData(samples, samples, "motions", motions=motions)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of two layers with both halves, as published ones are, whose tokens are letters."""
    folder = tmp_path_factory.mktemp("clip")
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = transformers.CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[])
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {**size, **ends, "vocab_size": len(words), "num_hidden_layers": 2, "projection_dim": 8}
    text["initializer_factor"] = 10.0
    vision = {**size, "num_hidden_layers": 1, "image_size": 32, "patch_size": 16}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    transformers.CLIPModel(config).save_pretrained(folder)
    return folder


def encoder(folder: Path, **options: object) -> ClipText:
    return ClipText(motion_data(), **{"model": str(folder), "width": 8, "device": "cpu", **options})


def by_hand(folder: Path) -> torch.Tensor:
    """As the published code has it: one caption after the other, 22 tokens, padded to 77."""
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    rows = []
    for caption in (caption for own in CAPTIONS for caption in own):
        cut = tokenizer(caption, truncation=True, max_length=22)["input_ids"]
        ids = torch.tensor([cut + [tokenizer.eos_token_id] * (77 - len(cut))])
        with torch.no_grad():
            hidden = model.text_model(input_ids=ids).last_hidden_state[0, len(cut) - 1]
            rows.append(model.text_projection(hidden))
    return torch.stack(rows)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_embeddings_are_those_of_the_published_way(tiny: Path, batch_size: int) -> None:
    embeddings = encoder(tiny, batch_size=batch_size).embeddings
    torch.testing.assert_close(embeddings, by_hand(tiny), rtol=1e-4, atol=1e-5)
    assert embeddings.shape == (4, 8)
    assert torch.cdist(embeddings, embeddings)[~torch.eye(4, dtype=torch.bool)].min() > 1e-2


def test_nothing_is_said_about_the_half_that_is_not_wanted(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _ = encoder(tiny).embeddings
    assert capfd.readouterr() == ("", "")


def test_a_moved_folder_is_found_in_the_cache(tiny: Path, tmp_path: Path) -> None:
    encoder(tiny).prepare(tmp_path / "cache")
    shutil.copytree(tiny, tmp_path / "moved")
    moved = encoder(tmp_path / "moved")
    moved.embed = None  # type: ignore[assignment]
    moved.prepare(tmp_path / "cache")
    torch.testing.assert_close(moved.embeddings, by_hand(tiny), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("offline", [True, False])
def test_without_a_network_the_layout_of_a_folder_is_said(monkeypatch: pytest.MonkeyPatch, offline: bool) -> None:
    for name in clip.OFFLINE:
        monkeypatch.delenv(name, raising=False)
    if offline:
        monkeypatch.setenv(clip.OFFLINE[0], "1")
        monkeypatch.setattr(clip, "_hub_answers", lambda: pytest.fail("asked for the hub"))
    else:
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    start = time.monotonic()
    with pytest.raises(InvalidValue) as error:
        _ = ClipText(motion_data(), model="nobody/no-such-clip").embeddings
    assert time.monotonic() - start < 15
    assert error.value.where == "model"
    for part in ("config.json", "model.safetensors", "tokenizer.json", "set model to such a folder"):
        assert part in str(error.value)


def test_a_folder_that_lacks_a_part_is_refused(tiny: Path, tmp_path: Path) -> None:
    for name, found in (
        ("config.json", "config.json"),
        ("model.safetensors", "safetensors"),
        ("tokenizer.json", "a tokenizer of 2 tokens for a network of 54"),
    ):
        folder = tmp_path / name
        shutil.copytree(tiny, folder)
        (folder / name).unlink()
        with pytest.raises(InvalidValue, match="a folder with") as error:
            _ = encoder(folder).embeddings
        assert found in error.value.found


def test_weights_that_are_pickled_or_missing_are_refused(tiny: Path, tmp_path: Path) -> None:
    pickled, partial = tmp_path / "pickled", tmp_path / "partial"
    shutil.copytree(tiny, pickled)
    (pickled / "model.safetensors").unlink()
    torch.save(transformers.CLIPModel.from_pretrained(tiny).state_dict(), pickled / "pytorch_model.bin")
    with pytest.raises(InvalidValue, match="safetensors"):
        _ = encoder(pickled).embeddings
    shutil.copytree(tiny, partial)
    config = json.loads((partial / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 3
    (partial / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidValue, match="16 weights are missing"):
        _ = encoder(partial).embeddings


def test_another_width_is_refused(tiny: Path) -> None:
    with pytest.raises(InvalidValue, match="8, the size of the projection") as error:
        _ = encoder(tiny, width=512).embeddings
    assert error.value.where == "width"


def test_a_missing_package_is_named(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(UsageError, match=r'pip install -e "\.\[motion\]"'):
        _ = encoder(tiny).embeddings


@pytest.mark.parametrize(("option", "value"), [("width", 0), ("batch_size", 0), ("device", "abacus")])
def test_impossible_options_are_refused(option: str, value: object) -> None:
    with pytest.raises(InvalidValue) as error:
        ClipText(motion_data(), **{option: value})
    assert error.value.where == option
