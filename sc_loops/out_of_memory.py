"""What to say where memory ran out."""

from __future__ import annotations

from sc_loops.errors import RunError

_WORDS = ("can't allocate memory", "cannot allocate memory", "not enough memory", "out of memory", "alloc_failed")


def out_of_memory(error: BaseException | None) -> bool:
    """Whether ``error``, or what it was raised from, says that there was no memory left."""
    while error is not None:
        if isinstance(error, MemoryError) or any(word in str(error).lower() for word in _WORDS):
            return True
        error = error.__cause__
    return False


def explained(
    error: BaseException, *, batch: int, share: int, chunk: int, network_batch: int | None
) -> BaseException:
    """``error`` as it is, or if memory ran out, what to lower.

    Args:
        batch: items of a step, over all processes.
        share: those of one process.
        chunk: samples that are made at once.
        network_batch: of these, the most that go through the network at once.
    """
    if not out_of_memory(error):
        return error
    if isinstance(error, RunError):  # a reward's, a stage's: they get a chunk as a whole
        do = f"lower loop.chunk_size, in a new run, or have it work through the {chunk} samples of a chunk in parts"
        return RunError(error.where, found=error.found, expected=f"room for a chunk of {chunk} samples", do=do)
    now = "all at once" if network_batch is None else f"{network_batch} at a time"
    smaller = min(network_batch or chunk, chunk, share) // 2
    other = "lower batch_size or loop.chunk_size in a new run"
    lower = (
        f"give model.network_batch={smaller}: what was trained stays as it is and the run continues. Or {other}"
        if smaller
        else f"take a smaller network, or {other}"
    )
    return RunError(
        "memory",
        found=f"no memory left, with batches of {batch} (batch_size) and chunks of {chunk} samples "
        f"(loop.chunk_size), of which {now} go through the network (model.network_batch)",
        expected="room for what goes through the network at once",
        do=lower,
    )
