"""Files are whole or absent, the same content is the same bytes, and whatever changes one is found."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sc_loops.data import files
from sc_loops.data.files import (
    checksum,
    damage,
    read_json,
    read_metadata,
    read_tensors,
    write_atomically,
    write_json,
    write_tensors,
)
from sc_loops.errors import RunError

TENSORS = """{
    "x": torch.arange(12.0).reshape(4, 3),
    "columns/reward": torch.tensor([1.5, -2.0]).bfloat16(),
    "columns/index": torch.arange(3),
    "flag": torch.tensor(True),
    "one": torch.randn(2, 1).t()[:, ::2],
    "empty": torch.zeros(0, 2),
}"""


def some_tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    tensors: dict[str, torch.Tensor] = eval(TENSORS)
    return tensors


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_tensors_and_metadata_come_back(tmp_path) -> None:
    path, tensors = tmp_path / "a.safetensors", some_tensors()
    write_tensors(path, tensors, weights="abc", about="é\n")
    assert damage(path) is None
    assert read_metadata(path) == {"weights": "abc", "about": "é\n"}
    read = read_tensors(path)
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)
    assert os.listdir(tmp_path) == ["a.safetensors"]


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(tmp_path) -> None:
    program = (
        "import sys, torch; from pathlib import Path; from sc_loops.data.files import write_tensors\n"
        f"torch.manual_seed(0); tensors = {TENSORS}\n"
        "if sys.argv[2] == '1': tensors = dict(reversed(tensors.items()))\n"
        "more = {'weights': 'abc', 'b': '1', 'a': '2'}\n"
        "write_tensors(Path(sys.argv[1]), tensors, **more)\n"
    )
    paths = [tmp_path / str(seed) for seed in range(3)]
    for seed, path in enumerate(paths):
        environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
        subprocess.run([sys.executable, "-c", program, str(path), str(seed)], check=True, env=environment)
    assert len({checksum(path) for path in paths}) == 1


def test_every_flipped_bit_is_found(tmp_path) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, some_tensors(), weights="abc")
    data = path.read_bytes()
    for bit in range(8 * len(data)):
        path.write_bytes(flipped(data, bit))
        assert damage(path) is not None, (bit // 8, data[bit // 8 - 20 : bit // 8 + 1])
    path.write_bytes(data)
    assert damage(path) is None


def test_flipped_bits_of_a_large_file_are_found(tmp_path) -> None:
    path, choice = tmp_path / "a.safetensors", random.Random(0)
    write_tensors(path, {"x": torch.randn(1000, 50)})
    data = path.read_bytes()
    for _ in range(100):
        path.write_bytes(flipped(data, choice.randrange(len(data) // 2 * 8, 8 * len(data))))
        assert damage(path) == "changed since it was written"


def test_every_truncation_is_found(tmp_path) -> None:
    path = tmp_path / "a.safetensors"
    assert damage(path) == "absent"
    write_tensors(path, some_tensors())
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert damage(path) == "cut short or not a safetensors file"


def test_a_file_of_an_older_version_has_its_structure_checked(tmp_path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"x": torch.ones(3)}, path)
    assert damage(path) is None
    assert read_metadata(path) == {}
    path.write_bytes(path.read_bytes()[:-1])
    assert damage(path) == "cut short or not a safetensors file"


def test_json_with_any_flipped_bit_or_cut_is_refused(tmp_path) -> None:
    path, content = tmp_path / "a.json", {"b": [1, 2.5], "a": {"λ": None}, "weights": "x" * 8}
    write_json(path, content)
    data = path.read_bytes()
    assert read_json(path) == content
    for bit in range(8 * len(data)):
        path.write_bytes(flipped(data, bit))
        try:
            assert read_json(path) == content  # white space, or the case of an escape's digit
        except ValueError:
            continue
    for length in range(len(data) - 1):  # all but the last newline
        path.write_bytes(data[:length])
        with pytest.raises(ValueError):  # noqa: PT011 (that of the JSON parser, or ours)
            read_json(path)


def test_json_of_an_older_version_is_accepted(tmp_path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"a": 1, "b": 2}))
    assert read_json(path) == {"a": 1, "b": 2}


def test_a_full_disk_is_said_and_leaves_what_was_there(small_disk: Path) -> None:
    path = small_disk / "a"
    write_atomically(path, "before")
    with pytest.raises(RunError) as caught:
        write_atomically(path, bytes(2 << 20))
    assert caught.value.where == str(path)
    assert caught.value.found == "OSError: No space left on device (1.0 MB free)"
    assert caught.value.expected == f"to write {2 << 20} bytes"
    assert "loop.keep" in caught.value.do
    assert path.read_text() == "before"
    assert os.listdir(small_disk) == ["a"]


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EIO])
def test_a_rename_that_fails_is_said_and_leaves_nothing(tmp_path, monkeypatch, code: int) -> None:
    def fail(*paths: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(RunError, match=os.strerror(code)) as caught:
        write_atomically(tmp_path / "a", "text")
    assert ("writable" in caught.value.do) == (code != errno.EIO)
    assert os.listdir(tmp_path) == []
