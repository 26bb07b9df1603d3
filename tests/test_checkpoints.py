"""Checkpoints: the newest that is whole is found, whatever happened to those after it and whenever a writer died."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import torch

from sc_loops import checkpoints
from sc_loops.checkpoints import Checkpoints
from sc_loops.errors import RunError


def save(saved: Checkpoints, path: Path, content: int = 0) -> Path:
    with saved.writing(path, 400) as temporary:
        torch.save({"state_dict": torch.full((100,), content)}, temporary)
    saved.seal(temporary, path)
    return path


def names(saved: Checkpoints) -> set[str]:
    """What is there, but for the sidecars, of which each checkpoint must have one."""
    found = {path.name for path in saved.path.iterdir()}
    sealed = {name for name in found if name.startswith("generation") and name.endswith(".ckpt")}
    assert {name for name in found if name.endswith(".sha256")} == {f"{name}.sha256" for name in sealed}
    return {name for name in found if not name.endswith(".sha256")}


def break_file(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def newest(saved: Checkpoints) -> tuple[Path | None, list[str]]:
    said: list[str] = []
    return saved.newest(said.append), said


def test_a_sealed_checkpoint_is_whole_and_the_last(tmp_path) -> None:
    saved = Checkpoints(tmp_path)
    path = save(saved, saved.generation(3))
    assert names(saved) == {"generation-0003.ckpt", "last.ckpt"}
    assert os.readlink(saved.last) == path.name
    assert saved.intact(path)
    assert newest(saved) == (path, [])
    subprocess.run(["sha256sum", "--check", f"{path.name}.sha256"], cwd=tmp_path, check=True, capture_output=True)


def test_what_a_new_checkpoint_supersedes_goes(tmp_path) -> None:
    saved = Checkpoints(tmp_path)
    save(saved, saved.generation(0))
    for step in (100, 200, 1000):
        save(saved, saved.step(1, step))
    steps = {"generation-0001-step-0000000200.ckpt", "generation-0001-step-0000001000.ckpt"}
    assert names(saved) == {"generation-0000.ckpt", "last.ckpt", *steps}
    (tmp_path / ".generation-0001.ckpt.tmp").touch()
    save(saved, saved.generation(1))
    assert names(saved) == {"generation-0000.ckpt", "generation-0001.ckpt", "last.ckpt"}


def test_later_means_generation_then_completeness_then_step(tmp_path) -> None:
    saved = Checkpoints(tmp_path)
    order = [saved.generation(8), saved.step(9, 99), saved.step(9, 100), saved.generation(9), saved.step(10000, 1)]
    for path in order:
        torch.save({}, path)  # without sidecars, so that none supersedes another
    for path in reversed(order):
        assert newest(saved)[0] == path
        path.unlink()
    assert newest(saved) == (None, [])
    assert not saved.last.is_symlink()


def test_it_falls_back_over_two_damaged_checkpoints(tmp_path) -> None:
    saved = Checkpoints(tmp_path)
    good = save(saved, saved.generation(0))
    bad = [save(saved, saved.generation(1)), save(saved, saved.step(2, 50))]
    break_file(bad[0])
    bad[1].write_bytes(bad[1].read_bytes()[:-1])
    assert not saved.intact(bad[0])
    path, said = newest(saved)
    assert path == good
    assert [line.split(":")[0] for line in said] == [str(bad[1]), str(bad[0])]
    assert all("the one before it is used" in line for line in said)
    assert names(saved) == {good.name, "last.ckpt", *(f"{path.name}.damaged" for path in bad)}
    assert os.readlink(saved.last) == good.name
    assert newest(saved) == (good, [])


def test_when_all_are_damaged_there_is_none(tmp_path) -> None:
    saved = Checkpoints(tmp_path)
    break_file(save(saved, saved.generation(0)))
    path, said = newest(saved)
    assert path is None
    assert "there is none before it" in said[0]
    assert not saved.last.is_symlink()
    assert Checkpoints(tmp_path / "absent").newest() is None


def test_a_checkpoint_of_an_older_version_is_accepted_if_it_loads(tmp_path) -> None:
    saved = Checkpoints(tmp_path)
    torch.save({"state_dict": torch.ones(1000)}, saved.generation(0))
    torch.save({"state_dict": torch.ones(1000)}, saved.generation(1))
    saved.generation(1).write_bytes(saved.generation(1).read_bytes()[:2000])
    path, said = newest(saved)
    assert path == saved.generation(0)
    assert len(said) == 1


@pytest.mark.parametrize("function", ["flush", "checksum", "write_atomically", "os.replace"])
@pytest.mark.parametrize("calls", [1, 2])
def test_a_writer_that_dies_anywhere_leaves_a_checkpoint_to_continue_from(
    tmp_path, monkeypatch, function: str, calls: int
) -> None:
    saved = Checkpoints(tmp_path)
    old = save(saved, saved.step(1, 100))
    module, name = (os, "replace") if function == "os.replace" else (checkpoints, function)
    original, left = getattr(module, name), [calls]

    def dying(*arguments: object) -> object:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, dying)
        try:
            save(saved, saved.generation(1))
        except KeyboardInterrupt:
            path, said = newest(saved)
            assert path in (old, saved.generation(1))
            assert said == []
    again = save(saved, saved.generation(1))
    assert names(saved) == {again.name, "last.ckpt"}


def test_removal_takes_one_generation_with_all_that_is_of_it(tmp_path) -> None:
    saved = Checkpoints(tmp_path)
    for generation in (1000, 10000):
        save(saved, saved.generation(generation))
    (tmp_path / "generation-1000.ckpt.damaged").touch()
    (tmp_path / "generation-1000-step-0000000005.ckpt.damaged").touch()
    saved.remove(1000)
    saved.remove(1000)
    assert names(saved) == {"generation-10000.ckpt", "last.ckpt"}


def test_a_part_of_a_checkpoint_does_not_stay(small_disk: Path) -> None:
    """It would take up the very space that the next attempt needs."""
    saved = Checkpoints(small_disk)
    with (
        pytest.raises(RunError, match="No space left"),
        saved.writing(saved.generation(0), 2**21) as temporary,
    ):
        temporary.write_bytes(bytes(2**21))
    assert list(small_disk.iterdir()) == []
    save(saved, saved.generation(0))
