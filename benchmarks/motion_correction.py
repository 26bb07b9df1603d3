"""What the physics corrector makes of held-out motions, clean and spoilt: the table of its claims.

    OMP_NUM_THREADS=1 python -m benchmarks.motion_correction ROOT [ROOT ...] [--clips 100] [--method soft ...]
        [--workers 2] [--out rows.jsonl]

ROOT is a directory in HumanML3D's layout (``new_joint_vecs``, ``train.txt``, ``val.txt``, ``test.txt``), as
``python -m sc_loops motion-import`` writes it. The clips are those of test.txt and val.txt that are no mirror images;
the corrector's limits were set on train.txt. How high toes stand is taken from each root's train.txt.

Each clip is spoilt in each way of ``sc_loops.motion.degradations``, encoded as 263 float32 numbers a frame, and
corrected by each method; the result is encoded in float32 and corrected again. A line is printed as soon as a way and
method are done. Columns, means over the clips:

    pen float skate error   mm, see PhysicalErrors; jerk in m/s³, selfpen in mm
    dynF                    body weights of force that no contact explains
    mm                      distance of the joints from the clean clip, horizontal offset of the pelvis removed
    falls                   % in which the head ends more than 0.35 m lower, over the floor, than in the clean clip
    pass                    % that pass the gate (before: of the input)
    worse                   clips whose physical error grew
    fixed                   % in which correcting again changes nothing, to the last bit
    clips/s                 a second of one core, decoding, gate and encoding included
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is imported

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sc_loops.correction.physics.clips import Job, carry_out, standing_toe_height
from sc_loops.correction.physics.gate import LIMITS, measures
from sc_loops.correction.physics.outcome import Method
from sc_loops.correction.physics.workers import Workers, available_cores
from sc_loops.motion.degradations import DEGRADATIONS, degraded
from sc_loops.motion.physical_errors import physical_errors
from sc_loops.motion.representation import decode, encode

Array = NDArray[np.float64]
METHODS: tuple[Method, ...] = ("kinematic", "soft", "physics")
FALL = 0.35  # metres
HEAD = 15


@dataclass(frozen=True, eq=False)
class Task:
    """One clip, spoilt in one way, to be corrected by some methods."""

    name: str
    vectors: Array
    kind: str
    seed: int
    methods: tuple[Method, ...]
    toe_height: float


@dataclass(frozen=True)
class Finding:
    """What was measured of one clip; ``method`` is "before" for the input."""

    clip: str
    kind: str
    method: str
    status: str
    penetration: float
    floating: float
    skating: float
    error: float
    jerk: float
    self_penetration: float
    external_force: float
    distance: float
    fell: bool
    passes: bool
    worse: bool
    fixed: bool
    seconds: float
    reason: str = ""


def float32(vectors: Array) -> Array:
    """``vectors`` as a pool stores them."""
    return vectors.astype(np.float32).astype(np.float64)


def joints_of(vectors: Array) -> Array:
    return decode(torch.from_numpy(vectors), extended=True).numpy()


def examine(task: Task) -> list[Finding]:
    """The input, and what each method makes of it."""
    clean = joints_of(task.vectors)
    spoilt = float32(encode(torch.from_numpy(degraded(clean, task.kind, task.seed))).numpy())
    before = physical_errors(joints_of(spoilt)).error
    found = [_measured(task, "before", spoilt, clean)]
    for method in task.methods:
        started = time.process_time()
        result = carry_out(Job(spoilt, method, task.toe_height))
        seconds = time.process_time() - started
        stored = spoilt if result.vectors is None else float32(result.vectors)
        again = carry_out(Job(stored, method, task.toe_height))
        found.append(
            _measured(
                task,
                method,
                stored,
                clean,
                status=result.status,
                worse=physical_errors(joints_of(stored)).error > before + 1e-3,  # a micrometre, of float32
                fixed=again.vectors is None,
                seconds=seconds,
                reason=result.reason,
            )
        )
    return found


def _measured(
    task: Task,
    method: str,
    vectors: Array,
    clean: Array,
    *,
    status: str = "",
    worse: bool = False,
    fixed: bool = True,
    seconds: float = float("nan"),
    reason: str = "",
) -> Finding:
    joints = joints_of(vectors)
    errors = physical_errors(joints)
    seen = measures(joints, errors)
    moved = joints - clean
    moved[..., [0, 2]] -= moved[:, :1, [0, 2]]
    sunk = _head(clean) - _head(joints)
    return Finding(
        clip=task.name,
        kind=task.kind,
        method=method,
        status=status,
        penetration=errors.penetration,
        floating=errors.floating,
        skating=errors.skating,
        error=errors.error,
        jerk=errors.jerk,
        self_penetration=errors.self_penetration,
        external_force=seen.external_force,
        distance=1000 * float(np.linalg.norm(moved, axis=-1).mean()),
        fell=bool(sunk.max() > FALL),
        passes=not seen.beyond(LIMITS),
        worse=worse,
        fixed=fixed,
        seconds=seconds,
        reason=reason,
    )


def _head(joints: Array) -> Array:
    """``(T,)``: how far the head is above the lowest tenth of where the lowest joint is."""
    return joints[:, HEAD, 1] - np.quantile(joints[..., 1].min(axis=1), 0.1)


def lost(task: Task, how: str) -> list[Finding]:
    raise RuntimeError(f"{task.name}, {task.kind}: {how}")


def held_out(root: Path, clips: int) -> Iterator[tuple[str, Array]]:
    """Names and vectors of up to ``clips`` held-out clips, evenly spread over their list."""
    names = _names(root, "test.txt") + _names(root, "val.txt")
    for name in [names[i * len(names) // clips] for i in range(clips)] if len(names) > clips else names:
        yield name, _vectors(root, name)


def _names(root: Path, part: str) -> list[str]:
    return [name for name in (root / part).read_text().split() if not name.startswith("M")]


def _vectors(root: Path, name: str) -> Array:
    return np.load(root / "new_joint_vecs" / f"{name}.npy").astype(np.float64)


def tasks_of(roots: Sequence[Path], clips: int, methods: tuple[Method, ...]) -> list[Task]:
    """The clips of all roots, not yet spoilt in any way."""
    tasks = []
    for root in roots:
        toe = standing_toe_height(_vectors(root, name) for name in _names(root, "train.txt")[:200])
        own = [
            Task(f"{root.name}/{name}", vectors, "clean", seed, methods, toe)
            for seed, (name, vectors) in enumerate(held_out(root, clips))
        ]
        print(f"{root}: {len(own)} held-out clips, toes stand at {1000 * toe:.0f} mm", flush=True)
        tasks += own
    return tasks


COLUMNS = (
    "pen", "float", "skate", "error", "jerk", "selfpen", "dynF", "mm", "falls", "pass", "worse", "fixed", "clips/s"
)  # fmt: skip
HEADER = f"| way | method | {' | '.join(COLUMNS)} | status |\n|---|---|{'---:|' * len(COLUMNS)}---|"


def line(way: str, findings: Sequence[Finding]) -> str:
    """One row of the table, means over ``findings`` of one method."""

    def mean(name: str) -> float:
        return float(np.mean([getattr(f, name) for f in findings]))

    method, input_itself = findings[0].method, findings[0].method == "before"
    status = Counter(f.status for f in findings if f.status)
    cells = [
        way,
        method,
        *(f"{mean(name):.1f}" for name in ("penetration", "floating", "skating", "error")),
        f"{mean('jerk'):.0f}",
        f"{mean('self_penetration'):.1f}",
        f"{mean('external_force'):.2f}",
        f"{mean('distance'):.0f}",
        f"{100 * mean('fell'):.0f}",
        f"{100 * mean('passes'):.1f}",
        "" if input_itself else str(sum(f.worse for f in findings)),
        "" if input_itself else f"{100 * mean('fixed'):.0f}",
        "" if input_itself else f"{1 / mean('seconds'):.1f}",
        " ".join(f"{name} {count}" for name, count in status.most_common()),
    ]
    return "| " + " | ".join(cells) + " |"


def summary(findings: Sequence[Finding]) -> None:
    """All degraded clips together, and what was required."""
    methods = list(dict.fromkeys(f.method for f in findings))
    for method in methods:
        spoilt = [f for f in findings if f.kind != "clean" and f.method == method]
        if spoilt:
            print(line("all but clean", spoilt))
    clean = [f for f in findings if f.kind == "clean" and f.method == "before"]
    if not clean:
        return
    real = float(np.mean([f.error for f in clean]))
    print(f"\nclean clips that pass: {100 * np.mean([f.passes for f in clean]):.1f} % (required 95)")
    for method in methods[1:]:
        own = [f for f in findings if f.method == method and f.kind != "clean"]
        if not own:
            continue
        error, falls = np.mean([f.error for f in own]), 100 * np.mean([f.fell for f in own])
        worse, changed = sum(f.worse for f in own), sum(not f.fixed for f in own)
        print(
            f"{method}: error {error:.1f} mm, {error / real:.2f} of the real {real:.1f} mm (required at most 1.20); "
            f"worse {worse} of {len(own)} (0); falls {falls:.1f} % (below 5); not fixed {changed} (0)"
        )


def main(arguments: Sequence[str] | None = None) -> list[Finding]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", nargs="+", type=Path)
    parser.add_argument("--clips", type=int, default=100, help="of each root, at most")
    parser.add_argument("--method", action="append", choices=METHODS, help="may be repeated; all by default")
    parser.add_argument("--kind", action="append", choices=list(DEGRADATIONS), help="may be repeated; all by default")
    parser.add_argument("--workers", type=int, default=available_cores())
    parser.add_argument(
        "--out", type=Path, help="a file to which the findings of single clips are added, as JSON lines"
    )
    options = parser.parse_args(arguments)
    tasks = tasks_of(options.roots, options.clips, tuple(options.method or METHODS))
    crew, findings = Workers(options.workers, examine), list[Finding]()
    print(HEADER, flush=True)
    for kind in options.kind or DEGRADATIONS:
        spoilt = [Task(t.name, t.vectors, kind, t.seed, t.methods, t.toe_height) for t in tasks]
        found = [f for of_clip in crew.map(spoilt, lost) for f in of_clip]
        for method in ("before", *(options.method or METHODS)):
            print(line(kind, [f for f in found if f.method == method]), flush=True)
        if options.out is not None:
            with options.out.open("a") as file:
                file.writelines(json.dumps(asdict(f)) + "\n" for f in found)
        findings += found
    crew.close()
    summary(findings)
    return findings


if __name__ == "__main__":
    main()
