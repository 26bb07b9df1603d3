"""Files from node to node where there is no shared file system: each node fetches what it lacks."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch.distributed as dist

from sc_loops.data.files import write_atomically
from sc_loops.processes import Processes


def fetch(root: Path, lacking: Collection[str], processes: Processes) -> None:
    """Bring the files ``lacking``, named relative to ``root``, from another node. All processes call it together.

    The first process of each node speaks for it, and a node that does not lack what another does has it. On a shared
    file system nobody lacks anything, and this is one exchange of empty lists. One file is in memory at a time.
    """
    if processes.world_size == 1:
        return
    speaks = processes.local_rank == 0
    said: list[list[str] | None] = [None] * processes.world_size
    dist.all_gather_object(said, sorted(lacking) if speaks else None, group=processes.host_group)
    wanted = sorted({name for names in said for name in names or ()})
    for name in wanted:
        holders = [rank for rank, names in enumerate(said) if names is not None and name not in names]
        if not holders:
            continue  # made by nobody yet
        content = [(root / name).read_bytes() if processes.rank == holders[0] else None]
        dist.broadcast_object_list(content, src=holders[0], group=processes.host_group)
        if speaks and name in lacking and content[0] is not None:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(root / name, content[0])
