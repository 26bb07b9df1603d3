"""One model in several processes: what training changes beside the trained weights is rank 0's in all of them."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn


@torch.no_grad()
def take_buffers_of_rank_0(model: nn.Module) -> None:
    """Give every process the buffers and frozen weights that ``model`` has in rank 0. All call it together; where
    there is one process, nothing is done.

    Each process updates buffers, such as running statistics, from its own share of a batch. DDP gives all of them
    rank 0's before each forward pass, so that its are those that training goes on with; but nothing follows the last
    step of a generation, after which each process would sample a model of its own.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return
    for tensor in _fixed(model):
        whole = tensor.contiguous()
        dist.broadcast(whole.reshape(-1).view(torch.uint8), src=0)  # as bytes: backends lack some of the types
        if whole is not tensor:
            tensor.copy_(whole)


def _fixed(model: nn.Module) -> list[Tensor]:
    """What gradients do not change; each once, and in the same order in all processes."""
    frozen = [weight.detach() for weight in model.parameters() if not weight.requires_grad]
    return [tensor for tensor in [*frozen, *(b.detach() for b in model.buffers())] if tensor.numel()]
