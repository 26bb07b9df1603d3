"""The options of a ``UNet``, read off the shapes of its weights, so that a person can be told them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def shape_options(weights: Mapping[str, Tensor], size: int) -> dict[str, object]:
    """The options of ``UNet`` that show in a state dict of torchcfm's ``UNetModel``. Heads, ``time_scale``
    and the like do not.

    Args:
        size: of the images, in pixels or patches, since attention shows by its level and not by its resolution.

    Returns:
        ``channels``, ``residual_blocks``, ``channel_multipliers`` and ``attention_resolutions``; empty where these
        are no such weights.
    """
    try:
        channels = weights["time_embed.0.weight"].shape[1]
        blocks = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("input_blocks."))
        # Input block 0 is a convolution; then come, level by level, the residual blocks and one that halves the size.
        halvings = [i for i in range(blocks) if f"input_blocks.{i}.0.op.weight" in weights]
        last = [i - 1 for i in [*halvings, blocks]]  # residual block of each level
        widths = [weights[f"input_blocks.{i}.0.out_layers.3.weight"].shape[0] for i in last]
        attends = [f"input_blocks.{i}.1.qkv.weight" in weights for i in last]
    except (LookupError, ValueError):
        return {}
    return {
        "channels": channels,
        "residual_blocks": last[0],
        "channel_multipliers": [width // channels for width in widths],
        "attention_resolutions": [size // 2**level for level, there in enumerate(attends) if there],
    }
