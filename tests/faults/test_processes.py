"""Any number of processes, however they are started and on however many machines, with and without a shared disk."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from faults.harness import TORCHRUN, TWO, Command, assert_identical, assert_same, pools
from sc_loops import Run

Make = Callable[..., Command]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def processes(number: int) -> tuple[str, ...]:
    return (f"trainer.devices={number}", *(["trainer.strategy=ddp"] if number > 1 else []))


def test_torchrun_gives_what_lightning_gives(command: Make, undisturbed_two: Run) -> None:
    launcher = (*TORCHRUN, "--nproc-per-node=2", "--standalone")
    assert_same(command("torchrun", *TWO, launcher=launcher).finish().run, undisturbed_two)


def test_slurm_gives_what_lightning_gives(command: Make, tmp_path: Path, undisturbed_two: Run) -> None:
    """Two tasks with the variables that ``srun`` sets; there is no SLURM here."""
    tasks = [command(f"task-{task}", *TWO, f"output={tmp_path / 'shared'}") for task in (0, 1)]
    for number, task in enumerate(tasks):
        here = {"SLURM_NODELIST": "127.0.0.1", "SLURM_JOB_NODELIST": "127.0.0.1", "SLURM_NODEID": "0"}
        job = {"SLURM_JOB_ID": "77001", "SLURM_JOB_NAME": "loop", "SLURM_NNODES": "1"}
        count = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
        task.run = Run(tmp_path / "shared" / "run")
        task.start(**here, **job, **count, SLURM_PROCID=str(number), SLURM_LOCALID=str(number))
    for task in tasks:
        assert task.ended(200) == 0, task.errors
    assert_same(tasks[0].run, undisturbed_two)


def test_torchrun_needs_no_options(command: Make, undisturbed_two: Run) -> None:
    """The number of processes is what torchrun started."""
    launcher = (*TORCHRUN, "--nproc-per-node=2", "--standalone")
    assert_same(command("torchrun", "trainer.devices=auto", launcher=launcher).finish().run, undisturbed_two)


@pytest.mark.parametrize("chunk_size", [60, 400], ids=["several chunks", "fewer chunks than ranks"])
def test_a_pool_is_a_function_of_the_weights(command: Make, undisturbed: Run, chunk_size: int) -> None:
    """The same bytes from 1, 2 and 3 processes."""
    options = (f"loop.start={undisturbed.checkpoint(0)}", "loop.generations=0", f"loop.chunk_size={chunk_size}")
    one, two, three = (pools(command(f"{number}", *processes(number), *options).finish().run) for number in (1, 2, 3))
    assert one
    assert one == two == three


def test_a_batch_that_the_processes_cannot_share_is_refused(command: Make) -> None:
    victim = command("victim", *TWO, "batch_size=25")
    victim.start()
    assert victim.ended(60) == 2
    assert "batch_size" in victim.errors
    assert "a multiple of the 2 processes" in victim.errors
    assert "Traceback" not in victim.errors
    assert not victim.run.path.exists()


# Two machines: two commands that know each other by an address.


def two_nodes(make: Make, *outputs: Path) -> list[Command]:
    """One command for each node, which writes to its own of ``outputs``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nodes = []
    for rank, output in enumerate(outputs):
        address = (f"--node-rank={rank}", "--master-addr=127.0.0.1", f"--master-port={port}")
        options = (f"output={output}", "trainer.num_nodes=2", "trainer.devices=1", "trainer.strategy=ddp")
        launcher = (*TORCHRUN, "--nnodes=2", "--nproc-per-node=1", *address)
        nodes.append(make(f"node-{rank}", *options, launcher=launcher))
        nodes[-1].run = Run(output / "run")
    return nodes


def finish(nodes: list[Command]) -> None:
    for node in nodes:
        node.start(GLOO_SOCKET_IFNAME="lo")
    for node in nodes:
        assert node.ended(200) == 0, "".join(node.errors for node in nodes)


def assert_same_results(one: Run, other: Run) -> None:
    """The pools, and all that the checkpoints hold, since a node may be the only one that is left."""
    assert pools(one) == pools(other)
    names = [{path.name for path in run.checkpoints.glob("generation-*.ckpt")} for run in (one, other)]
    assert names[0] == names[1] == {f"generation-{t:04d}.ckpt" for t in range(4)}
    for name in names[0]:
        first, second = (torch.load(run.checkpoints / name, weights_only=True) for run in (one, other))
        for key in ("state_dict", "ema", "optimizer_states"):
            assert_identical(first[key], second[key], f"{name}.{key}")


def test_two_nodes_that_share_a_disk(command: Make, tmp_path: Path, undisturbed_two: Run) -> None:
    nodes = two_nodes(command, tmp_path / "shared", tmp_path / "shared")
    finish(nodes)
    assert_same(nodes[0].run, undisturbed_two)


def test_two_nodes_with_a_disk_each(command: Make, tmp_path: Path, undisturbed_two: Run) -> None:
    nodes = two_nodes(command, tmp_path / "here", tmp_path / "there")
    finish(nodes)
    assert_same(nodes[0].run, undisturbed_two)
    assert_same_results(nodes[0].run, nodes[1].run)


def test_a_node_that_lost_its_disk_gets_all_of_it_again(command: Make, tmp_path: Path, undisturbed_two: Run) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    nodes = two_nodes(command, here, there)
    for node in nodes:
        node.command.append("loop.generations=1")
    finish(nodes)
    shutil.rmtree(there)
    for node in nodes:
        node.command.remove("loop.generations=1")
    finish(nodes)
    assert_same(nodes[0].run, undisturbed_two)
    assert_same_results(nodes[0].run, nodes[1].run)
    assert not os.path.samefile(here, there)
