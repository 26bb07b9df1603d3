"""CIFAR-10 against torchvision's own reading of the same files; a damaged, half or absent copy; one download for all.

Most tests run on small files of CIFAR's format, whose sums take the place of the published ones.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import pickle
import socket
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10

from sc_loops import schema
from sc_loops.cli import train
from sc_loops.data.cifar10 import cifar10
from sc_loops.data.downloads import alone
from sc_loops.errors import InvalidValue, UsageError

FOLDER, ARCHIVE = "cifar-10-batches-py", "cifar-10-python.tar.gz"
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
SHARED = Path(os.environ.get("SC_LOOPS_DATA", Path(__file__).parents[2] / "../shared/data")) / "cifar10"


@pytest.fixture
def content(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The files of a CIFAR-10 of 5 x 40 and 40 images, and of its archive; their sums count as the published ones.
    Nothing answers at the address."""
    rng = np.random.default_rng(0)
    files = {}
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        pixels = rng.integers(0, 256, (40, 3072), dtype=np.uint8)
        batch = {"data": pixels, "labels": rng.permutation(np.arange(40) % 10).tolist()}
        files[name] = pickle.dumps(batch, protocol=2)
    files["batches.meta"] = pickle.dumps({"label_names": NAMES}, protocol=2)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    sums = {name: hashlib.md5(data).hexdigest() for name, data in files.items()}
    monkeypatch.setattr(CIFAR10, "train_list", [[name, sums[name]] for name in list(files)[:5]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": sums["batches.meta"]})
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(buffer.getvalue()).hexdigest())
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar.tar.gz")
    return {**files, ARCHIVE: buffer.getvalue()}


@pytest.fixture
def root(tmp_path: Path, content: dict[str, bytes]) -> Path:
    """Where the small CIFAR-10 lies, unpacked."""
    (tmp_path / FOLDER).mkdir()
    for name, data in content.items():
        if name != ARCHIVE:
            (tmp_path / FOLDER / name).write_bytes(data)
    return tmp_path


class Server:
    """Serves ``body`` at CIFAR-10's address, or only the first half of it; counts who asked."""

    def __init__(self, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        self.body, self.sent, self.requests = body, len(body), 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests += 1
                self.send_response(200)
                self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body[: outer.sent])

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{self.http.server_address[1]}/cifar.tar.gz")
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server(content: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server(content[ARCHIVE], monkeypatch)
    yield server
    server.http.shutdown()
    server.http.server_close()


def refused(root: Path, **options: object) -> InvalidValue:
    with pytest.raises(InvalidValue) as caught:
        cifar10(root=str(root), **options)
    return caught.value


def agrees_with_torchvision(root: Path) -> bool:
    data = cifar10(root=str(root), download=False)
    for part, training in ((data.train, True), (data.test, False)):
        theirs = CIFAR10(root, train=training)
        same = torch.equal(part.x, torch.from_numpy(theirs.data).permute(0, 3, 1, 2))
        if not same or part.condition.tolist() != theirs.targets or list(data.class_names) != theirs.classes:
            return False
    return data.train.x.dtype == torch.uint8 and data.train.condition.dtype == torch.int64


# What is there.


def test_images_labels_and_names_are_torchvisions(root: Path) -> None:
    assert agrees_with_torchvision(root)
    data = cifar10(root=str(root))
    assert (data.kind, data.name, data.shape) == ("images", "cifar10", (3, 32, 32))


@pytest.mark.slow
def test_the_real_cifar10_is_torchvisions_and_its_subset_the_shared_one(tmp_path: Path) -> None:
    if not (SHARED / "cifar10_subset.npz").exists():
        pytest.skip(f"no CIFAR-10 in {SHARED}; SC_LOOPS_DATA says where it is")
    (tmp_path / FOLDER).mkdir()
    for path in (SHARED / FOLDER).iterdir():
        data = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        (tmp_path / FOLDER / path.name.removesuffix(".xz")).write_bytes(data)
    assert agrees_with_torchvision(tmp_path)
    subset = np.load(SHARED / "cifar10_subset.npz")
    data = cifar10(root=str(tmp_path), train_size=12000, test_size=2000)
    for part, name in ((data.train, "train"), (data.test, "test")):
        assert np.array_equal(part.x.permute(0, 2, 3, 1), subset[f"x_{name}"])
        assert np.array_equal(part.condition, subset[f"y_{name}"])
    assert data.class_names == tuple(subset["classes"])


def test_a_subset_is_the_first_of_each_class_in_file_order(root: Path) -> None:
    whole = cifar10(root=str(root)).train
    part = cifar10(root=str(root), train_size=50, test_size=20)
    seen, kept = [0] * 10, []
    for position, label in enumerate(whole.condition.tolist()):
        seen[label] += 1
        if seen[label] <= 5:
            kept.append(position)
    assert torch.equal(part.train.x, whole.x[kept])
    assert part.train.condition.bincount().tolist() == [5] * 10
    assert part.test.condition.bincount().tolist() == [2] * 10


def test_generations_have_disjoint_parts_with_as_many_of_each_class(root: Path) -> None:
    whole, part = cifar10(root=str(root)).train, cifar10(root=str(root), train_size=50)
    assert part.fresh is not None
    parts = [part.fresh(generation) for generation in range(4)]
    assert torch.equal(parts[0].x, part.train.x)
    for fresh in parts:
        assert fresh.condition.bincount().tolist() == [5] * 10
    together = {x.numpy().tobytes() for fresh in parts for x in fresh.x}
    assert together == {x.numpy().tobytes() for x in whole.x}
    assert len(together) == 200
    assert part.rows == 50_000


@pytest.mark.parametrize(
    ("option", "value"), [("train_size", 0), ("train_size", 55), ("train_size", 50010), ("test_size", 10010)]
)
def test_impossible_sizes(root: Path, option: str, value: int) -> None:
    error = refused(root, **{option: value})
    assert (error.where, error.found) == (option, str(value))
    assert "a multiple of 10" in error.expected


def test_what_is_there_needs_no_network_and_is_left_alone(root: Path, server: Server) -> None:
    before = sorted(root.rglob("*"))
    cifar10(root=str(root))
    assert server.requests == 0
    assert sorted(root.rglob("*")) == before


# What is absent.


def test_absent_and_not_to_be_downloaded(tmp_path: Path, content: dict[str, bytes], server: Server) -> None:
    error = refused(tmp_path / "data", download=False)
    assert error.where == "root"
    assert "data_batch_1 is missing" in error.found
    assert "download is false" in error.found
    for part in (FOLDER, "data_batch_1 ... data_batch_5", "test_batch", "batches.meta", ARCHIVE):
        assert part in error.expected
    assert "data.root=" in error.do
    assert "image_archive" in error.do
    assert server.requests == 0
    assert os.listdir(tmp_path) == []


def test_absent_without_a_network(tmp_path: Path, content: dict[str, bytes]) -> None:
    error = refused(tmp_path / "data")
    assert "could not be downloaded from http://127.0.0.1:9/cifar.tar.gz: URLError" in error.found
    assert CIFAR10.url in error.do
    assert socket.getdefaulttimeout() is None
    assert os.listdir(tmp_path) == []


def test_the_folder_itself_as_root_is_pointed_out(root: Path) -> None:
    assert refused(root / FOLDER).do == f"data.root={root}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_root_that_cannot_be_written_to(root: Path, content: dict[str, bytes]) -> None:
    (root / FOLDER / "test_batch").unlink()
    root.chmod(0o555)
    assert "PermissionError" in refused(root).found


def test_a_file_in_the_place_of_root(tmp_path: Path, content: dict[str, bytes]) -> None:
    (tmp_path / "data").write_text("")
    assert "test_batch" in refused(tmp_path / "data").expected


def test_a_full_disk(small_disk: Path, content: dict[str, bytes]) -> None:
    (small_disk / ARCHIVE).write_bytes(content[ARCHIVE])  # most of the disk
    error = refused(small_disk)
    assert "No space left" in error.found
    assert "data.root=" in error.do


# Downloads.


def test_processes_that_start_together_download_once(tmp_path: Path, server: Server) -> None:
    # Each opens the lock for itself, which is what tells two processes apart, too.
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: cifar10(root=str(tmp_path)), range(6)))
    assert server.requests == 2  # torchvision asks for the address first
    assert all(torch.equal(data.train.x, found[0].train.x) for data in found)
    assert sorted(os.listdir(tmp_path)) == [FOLDER, ARCHIVE]
    assert agrees_with_torchvision(tmp_path)


def test_half_a_download_counts_for_nothing(tmp_path: Path, server: Server) -> None:
    server.sent //= 2
    error = refused(tmp_path)
    assert f"could not be downloaded from {CIFAR10.url}" in error.found
    assert os.listdir(tmp_path) == []
    server.sent = len(server.body)
    assert len(cifar10(root=str(tmp_path)).train) == 200


def test_a_page_in_the_place_of_the_archive(tmp_path: Path, server: Server) -> None:
    server.body = b"<html>please log in</html>"
    assert "could not be downloaded" in refused(tmp_path).found
    assert os.listdir(tmp_path) == []


def test_an_archive_is_unpacked_without_the_network(tmp_path: Path, content: dict[str, bytes]) -> None:
    (tmp_path / ARCHIVE).write_bytes(content[ARCHIVE])
    assert len(cifar10(root=str(tmp_path), download=False).train) == 200
    assert agrees_with_torchvision(tmp_path)


def test_only_what_is_missing_is_unpacked(root: Path, content: dict[str, bytes]) -> None:
    (root / ARCHIVE).write_bytes(content[ARCHIVE])
    (root / FOLDER / "data_batch_3").unlink()
    kept = (root / FOLDER / "data_batch_2").stat().st_mtime_ns
    cifar10(root=str(root))
    assert (root / FOLDER / "data_batch_2").stat().st_mtime_ns == kept
    assert (root / FOLDER / "data_batch_3").read_bytes() == content["data_batch_3"]


# Damage.


class Trap:
    """Pickled, it makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["data_batch_4", "test_batch", "batches.meta"])
def test_a_damaged_file_is_named_and_never_unpickled(root: Path, content: dict[str, bytes], name: str) -> None:
    damaged = pickle.dumps(Trap(root / "sprung"))
    (root / FOLDER / name).write_bytes(damaged)
    error = refused(root)
    assert str(root / FOLDER / name) in error.found
    assert hashlib.md5(damaged).hexdigest() in error.found
    assert hashlib.md5(content[name]).hexdigest() in error.expected
    assert "delete it" in error.do
    assert not (root / "sprung").exists()


def test_a_file_cut_short_is_damaged(root: Path, content: dict[str, bytes]) -> None:
    (root / FOLDER / "data_batch_1").write_bytes(content["data_batch_1"][:-1])
    assert "data_batch_1 with the MD5 sum" in refused(root).found


def test_a_damaged_file_that_was_deleted_is_fetched_again(root: Path, server: Server) -> None:
    (root / FOLDER / "data_batch_1").unlink()
    cifar10(root=str(root))
    assert agrees_with_torchvision(root)


@pytest.mark.parametrize("download", [True, False])
def test_a_corrupted_archive_is_named_and_not_unpacked(
    tmp_path: Path, content: dict[str, bytes], server: Server, download: bool
) -> None:
    data = bytearray(content[ARCHIVE])
    data[len(data) // 2] ^= 1
    (tmp_path / ARCHIVE).write_bytes(data)
    error = refused(tmp_path, download=download)
    assert f"{tmp_path / ARCHIVE} with the MD5 sum" in error.found
    assert CIFAR10.tgz_md5 in error.expected
    assert "delete it" in error.do
    assert os.listdir(tmp_path) == [ARCHIVE]


# From a config.


def test_the_message_names_the_key_of_the_config(tmp_path: Path, content: dict[str, bytes]) -> None:
    options = schema.resolve(cifar10, {"root": str(tmp_path), "download": False, "train_size": 1e2}, "data")
    assert options == {"root": str(tmp_path), "download": False, "train_size": 100, "test_size": None}
    with pytest.raises(UsageError) as caught:
        schema.build(cifar10, options, {}, "data")
    assert caught.value.where == "data.root"


def test_the_command_line_ends_with_the_message(
    tmp_path: Path, content: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "cifar.yaml"
    file.write_text(
        f"data: {{name: cifar10, root: {tmp_path / 'absent'}, train_size: 100}}\n"
        "model: {name: flow_matching, network: {name: unet, channels: 32}}\n"
        "loop: {generations: 1, synthetic_ratio: 0, first: {steps: 1}, later: {steps: 1}}\n"
        f"output: {tmp_path / 'runs'}\n"
    )
    assert train(["--config", str(file), "--dry-run"]) == 2
    printed = capsys.readouterr().err
    assert "data.root" in printed
    assert "could not be downloaded" in printed
    assert "Traceback" not in printed
    assert os.listdir(tmp_path) == ["cifar.yaml"]


def test_the_lock_waits(tmp_path: Path) -> None:
    order: list[str] = []
    inside, leave = threading.Event(), threading.Event()

    def first() -> None:
        with alone(tmp_path, "name"):
            inside.set()
            leave.wait(5)
            order.append("first")

    def second() -> None:
        inside.wait(5)
        with alone(tmp_path, "name"):
            order.append("second")

    threads = [threading.Thread(target=target) for target in (second, first)]
    for thread in threads:
        thread.start()
    inside.wait(5)
    threads[0].join(0.1)
    assert threads[0].is_alive()
    leave.set()
    for thread in threads:
        thread.join(5)
    assert order == ["first", "second"]
    assert os.listdir(tmp_path) == []
