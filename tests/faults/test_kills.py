"""SIGKILL at any moment: the same command ends in the same run to the last bit, and repeats no finished work."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from faults.harness import CHECKPOINT_STEPS, TWO, Command, assert_same, strike
from sc_loops import Run

Make = Callable[..., Command]


def kill_in(command: Command, phase: str, times: int) -> None:
    """Kill the command when it began ``phase`` so often; what it had finished is not to be made again."""
    before = command.chunks()
    command.start(PAUSE="0.02")
    assert command.reached(phase, times), f"ended before {phase}: {command.errors}"
    command.signal(signal.SIGKILL)
    assert command.ended(10) == -signal.SIGKILL
    assert before.items() <= command.chunks().items()


def kill_twice_and_finish(command: Command, first: tuple[str, int], second: tuple[str, int]) -> Command:
    kill_in(command, *first)
    kill_in(command, *second)
    before = command.chunks()
    command.finish()
    assert before.items() <= command.chunks().items()
    return command


def test_a_kill_in_each_phase_changes_nothing_and_repeats_little(command: Make, undisturbed: Run) -> None:
    """Two runs at a time, since starting Python is what takes the time. Writing is hit with two chunks there."""
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(kill_twice_and_finish, command("a"), ("training", 13), ("scoring", 4)),
            pool.submit(kill_twice_and_finish, command("b"), ("writing chunk", 3), ("evaluating", 6)),
        ]
    for victim in [run.result() for run in runs]:
        assert_same(victim.run, undisturbed)
        assert victim.repeated_steps() <= 2 * CHECKPOINT_STEPS


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("file", ["config", "real", "preview", "raw", "chunk", "manifest", "metrics"])
def test_a_kill_before_a_file_has_its_name(command: Make, undisturbed: Run, file: str) -> None:
    victim = command("victim")
    kill_in(victim, f"writing {file}", 1)
    assert_same(victim.finish().run, undisturbed)


def kill_often(make: Make, kills: int, kill: Callable[[Command], None], oracle: Run, *arguments: str) -> None:
    """Kill at random moments; a run that ends in between is compared with the oracle, and another one is begun."""
    chance = random.Random(kills)
    done = 0
    for number in range(kills):
        victim, mine = make(str(number), *arguments), 0
        chunks: dict[str, int] = {}
        while done < kills and strike(victim, chance, kill):
            done, mine = done + 1, mine + 1
            assert chunks.items() <= victim.chunks().items()
            chunks = victim.chunks()
        if victim.process.returncode != 0:
            victim.finish()
        assert chunks.items() <= victim.chunks().items()
        assert_same(victim.run, oracle)
        assert victim.repeated_steps() <= mine * CHECKPOINT_STEPS
        if done >= kills:
            return


def kill_command(victim: Command) -> None:
    victim.signal(signal.SIGKILL)
    victim.ended(10)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_thirty_random_kills_of_one_process(command: Make, undisturbed: Run) -> None:
    kill_often(command, 30, kill_command, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_thirty_random_kills_of_two_processes(command: Make, undisturbed_two: Run) -> None:
    """Rank 0, rank 1 or both. When one is killed, the other must end by itself before the command is given again."""
    chance = random.Random(2)

    def kill(victim: Command) -> None:
        target = chance.choice((0, 1, None))
        if target is None:
            victim.destroy()
        else:
            victim.signal(signal.SIGKILL, rank=target)
            victim.ended(60)
            assert victim.gone(60), victim.errors

    kill_often(command, 30, kill, undisturbed_two, *TWO, "trainer.lost_after_seconds=10")
