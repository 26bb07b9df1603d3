"""MNIST against torchvision's own reading of the same files; what is damaged, absent or half there; one download.

Most tests run on small files of MNIST's format, whose sizes and sums take the place of the published ones.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import MNIST

from sc_loops import schema
from sc_loops.data import mnist as module
from sc_loops.data.mnist import mnist
from sc_loops.errors import InvalidValue, UsageError
from sc_loops.run_choice import significant

SHARED = Path(os.environ.get("SC_LOOPS_DATA", Path(__file__).parents[2] / "../shared/data")) / "mnist"
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
SIZES = {"train": 30, "t10k": 20}


def idx(values: np.ndarray) -> bytes:
    """An idx file of unsigned bytes, written from its description."""
    return struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


@pytest.fixture
def content(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The unpacked files of an MNIST of 30 and 20 images; their sums count as the published ones. Nothing answers at
    the addresses."""
    rng = np.random.default_rng(0)
    files = {}
    for part, size in SIZES.items():
        files[f"{part}-images-idx3-ubyte"] = idx(rng.integers(0, 256, (size, 28, 28), dtype=np.uint8))
        files[f"{part}-labels-idx1-ubyte"] = idx(rng.integers(0, 10, size, dtype=np.uint8))
    monkeypatch.setattr(module, "_SIZES", SIZES)
    monkeypatch.setattr(module, "_UNPACKED_SUMS", {name: md5(data) for name, data in files.items()})
    monkeypatch.setattr(MNIST, "resources", [(f"{name}.gz", md5(packed(data))) for name, data in files.items()])
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/a/", "http://127.0.0.1:9/b/"])
    return files


def packed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def put(folder: Path, content: dict[str, bytes], pack: bool) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in content.items():
        (folder / (f"{name}.gz" if pack else name)).write_bytes(packed(data) if pack else data)
    return folder


class Server:
    """Serves the packed files at the second of two addresses and nothing at the first; counts what it sent."""

    def __init__(self, content: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[str] = []
        self.spoil = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(True)

            def do_HEAD(self) -> None:
                self._answer(False)

            def _answer(self, body: bool) -> None:
                folder, name = self.path.strip("/").split("/")
                data = packed(content[name.removesuffix(".gz")])
                self.send_response(200 if folder == "there" else 404)
                self.end_headers()
                if body and folder == "there":
                    outer.sent.append(name)
                    self.wfile.write(data[: len(data) // 2] if outer.spoil else data)

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        address = f"http://127.0.0.1:{self.http.server_address[1]}"
        monkeypatch.setattr(MNIST, "mirrors", [f"{address}/gone/", f"{address}/there/"])
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server(content: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server(content, monkeypatch)
    yield server
    server.http.shutdown()
    server.http.server_close()


def refused(root: Path, **options: object) -> InvalidValue:
    with pytest.raises(InvalidValue) as caught:
        mnist(root=str(root), **options)
    return caught.value


# What is there.


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("folder", ["MNIST/raw", "."])
def test_it_is_torchvisions_packed_or_not_in_its_layout_or_by_itself(
    tmp_path: Path, content: dict[str, bytes], folder: str, pack: bool
) -> None:
    put(tmp_path / "ours" / folder, content, pack)
    put(tmp_path / "theirs" / "MNIST" / "raw", content, pack=False)
    before = sorted((tmp_path / "ours").rglob("*"))
    data = mnist(root=str(tmp_path / "ours"))  # nothing answers: the network is not needed
    assert sorted((tmp_path / "ours").rglob("*")) == before
    for part, training in ((data.train, True), (data.test, False)):
        theirs = MNIST(tmp_path / "theirs", train=training)
        assert torch.equal(part.x, theirs.data[:, None])
        assert torch.equal(part.condition, theirs.targets)
    assert (data.kind, data.name, data.shape) == ("images", "mnist", (1, 28, 28))
    assert (data.train.x.dtype, data.train.condition.dtype) == (torch.uint8, torch.int64)
    assert data.class_names == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")


def test_the_real_mnist() -> None:
    if not (SHARED / f"{IMAGES}.gz").exists():
        pytest.skip(f"no MNIST in {SHARED}; SC_LOOPS_DATA says where it is")
    data = mnist(root=str(SHARED), download=False)
    # LeCun et al. 1998; the mean and deviation that everybody normalises with; the first digits of the file.
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    shares = np.bincount(data.train.x.numpy().ravel()) / data.train.x.numel()
    greys = np.arange(256) / 255
    assert shares @ greys == pytest.approx(0.1307, abs=5e-5)
    assert math.sqrt(shares @ greys**2 - (shares @ greys) ** 2) == pytest.approx(0.3081, abs=5e-5)
    assert data.train.condition[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.test.condition.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_the_sums_of_the_unpacked_files_are_those_of_the_packed_ones_content() -> None:
    if not (SHARED / f"{IMAGES}.gz").exists():
        pytest.skip(f"no MNIST in {SHARED}; SC_LOOPS_DATA says where it is")
    for name, published in MNIST.resources:
        data = (SHARED / name).read_bytes()
        assert md5(data) == published
        unpacked = gzip.decompress(data)
        assert md5(unpacked) == module._UNPACKED_SUMS[name.removesuffix(".gz")]
        assert module._fault(name.removesuffix(".gz"), unpacked) == ""


def test_a_size_is_the_first_rows_in_file_order(tmp_path: Path, content: dict[str, bytes]) -> None:
    root = str(put(tmp_path, content, pack=True))
    whole, part = mnist(root=root), mnist(root=root, train_size=7, test_size=3)
    for ours, all_of_it, size in ((part.train, whole.train, 7), (part.test, whole.test, 3)):
        assert torch.equal(ours.x, all_of_it.x[:size])
        assert torch.equal(ours.condition, all_of_it.condition[:size])
    assert part.train.x.untyped_storage().nbytes() == 7 * 784  # the other rows are not kept in memory


def test_generation_t_has_the_rows_from_t_train_size_on(tmp_path: Path, content: dict[str, bytes]) -> None:
    root = str(put(tmp_path, content, pack=False))
    whole, part = mnist(root=root).train, mnist(root=root, train_size=7)
    assert part.fresh is not None
    for generation in range(4):
        fresh = part.fresh(generation)
        rows = slice(7 * generation, 7 * generation + 7)
        assert torch.equal(fresh.x, whole.x[rows])
        assert torch.equal(fresh.condition, whole.condition[rows])
    assert part.rows == 60_000


@pytest.mark.parametrize(("option", "value"), [("train_size", 0), ("train_size", 60_001), ("test_size", 10_001)])
def test_impossible_sizes(tmp_path: Path, option: str, value: int) -> None:
    error = refused(tmp_path, **{option: value})
    assert (error.where, error.found) == (option, str(value))


# What is absent.


def test_absent_and_not_to_be_downloaded(tmp_path: Path, content: dict[str, bytes], server: Server) -> None:
    put(tmp_path, {name: data for name, data in content.items() if name != LABELS}, pack=True)
    before = os.listdir(tmp_path)
    error = refused(tmp_path, download=False)
    assert error.where == "root"
    assert f"{LABELS} is missing" in error.found
    assert "download is false" in error.found
    for part in (*content, ".gz", "root/MNIST/raw/"):
        assert part in error.expected
    assert "data.root=" in error.do
    assert server.sent == []
    assert os.listdir(tmp_path) == before


def test_absent_without_a_network(tmp_path: Path, content: dict[str, bytes]) -> None:
    error = refused(tmp_path / "data")
    for mirror in MNIST.mirrors:
        assert f"from {mirror}{IMAGES}.gz: URLError" in error.found
    assert MNIST.mirrors[0] in error.do
    assert socket.getdefaulttimeout() is None
    assert os.listdir(tmp_path) == []


def test_a_file_in_the_place_of_root(tmp_path: Path, content: dict[str, bytes]) -> None:
    (tmp_path / "data").write_text("")
    assert IMAGES in refused(tmp_path / "data").found


def test_the_message_names_the_key_of_the_config(tmp_path: Path, content: dict[str, bytes]) -> None:
    options = schema.resolve(mnist, {"root": str(tmp_path), "download": False, "train_size": 1e1}, "data")
    with pytest.raises(UsageError) as caught:
        schema.build(mnist, options, {}, "data")
    assert caught.value.where == "data.root"


def test_a_run_may_continue_where_the_data_lies_elsewhere() -> None:
    here, there = (
        {"data": {"name": "mnist", "root": root, "download": d}} for root, d in (("a", True), ("b", False))
    )
    assert significant(here) == significant(there)
    assert significant(here) != significant({"data": {**here["data"], "train_size": 10}})


# Downloads.


def test_processes_that_start_together_download_once(
    tmp_path: Path, content: dict[str, bytes], server: Server
) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: mnist(root=str(tmp_path / "data")), range(4)))
    assert sorted(set(server.sent)) == sorted(f"{name}.gz" for name in content)
    assert len(server.sent) <= 2 * len(content)  # torchvision may ask for an address first
    assert all(torch.equal(data.train.x, found[0].train.x) for data in found)
    raw = tmp_path / "data" / "MNIST" / "raw"
    assert sorted(os.listdir(raw)) == sorted(f"{name}.gz" for name in content)
    # torchvision is content with what lies there.
    sent = len(server.sent)
    assert torch.equal(MNIST(tmp_path / "data", download=True).data[:, None], found[0].train.x)
    assert len(server.sent) == sent


def test_only_what_is_missing_is_fetched(tmp_path: Path, content: dict[str, bytes], server: Server) -> None:
    put(tmp_path, {name: data for name, data in content.items() if name != LABELS}, pack=False)
    mnist(root=str(tmp_path))
    assert set(server.sent) == {f"{LABELS}.gz"}
    assert os.listdir(tmp_path / "MNIST" / "raw") == [f"{LABELS}.gz"]


def test_half_a_download_counts_for_nothing(tmp_path: Path, content: dict[str, bytes], server: Server) -> None:
    server.spoil = True
    assert f"{IMAGES}.gz could not be downloaded from" in refused(tmp_path).found
    assert os.listdir(tmp_path) == []
    server.spoil = False
    assert len(mnist(root=str(tmp_path)).train) == 30


# Damage.


@pytest.mark.parametrize("name", [IMAGES, "t10k-labels-idx1-ubyte"])
def test_a_damaged_packed_file_is_named(tmp_path: Path, content: dict[str, bytes], name: str) -> None:
    path = put(tmp_path, content, pack=True) / f"{name}.gz"
    path.write_bytes(path.read_bytes()[:-1])
    error = refused(tmp_path)
    assert f"{path} with the MD5 sum" in error.found
    assert dict(MNIST.resources)[path.name] in error.expected
    assert "delete it" in error.do


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (IMAGES, lambda data: data[:-1], "23535 bytes instead of 23536"),
        (IMAGES, lambda data: data + b"\0", "23537 bytes instead of 23536"),
        (IMAGES, lambda data: b"", "the magic number 0 where images have 2051"),
        (IMAGES, lambda data: data[:5], "images of 0 x 0 x 0 instead of 30 x 28 x 28"),
        (IMAGES, lambda data: packed(data), "the magic number"),
        (IMAGES, lambda data: idx(np.zeros(30, np.uint8)), "the magic number 2049 where images have 2051"),
        (IMAGES, lambda data: idx(np.zeros((30, 8, 8), np.uint8)), "images of 30 x 8 x 8 instead of 30 x 28 x 28"),
        (LABELS, lambda data: idx(np.zeros(29, np.uint8)), "labels of 29 instead of 30"),
        (LABELS, lambda data: idx(np.full(30, 11, np.uint8)), "the label 11, of digits 0 to 9"),
        (IMAGES, lambda data: data[:-1] + bytes([data[-1] ^ 1]), "with the MD5 sum"),
    ],
)
def test_a_damaged_unpacked_file_is_named_with_what_is_wrong(
    tmp_path: Path, content: dict[str, bytes], name: str, damage, message: str
) -> None:
    path = put(tmp_path, content, pack=False) / name
    path.write_bytes(damage(content[name]))
    error = refused(tmp_path)
    assert error.where == "root"
    assert str(path) in error.found
    assert message in error.found
    assert "delete it" in error.do
