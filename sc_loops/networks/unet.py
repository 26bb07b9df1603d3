"""``UNet``: the network for images, torchcfm's copy of guided-diffusion's (Dhariwal and Nichol 2021)."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchcfm.models.unet.nn import GroupNorm32
from torchcfm.models.unet.unet import UNetModel

from sc_loops.data.real import RealData
from sc_loops.errors import require
from sc_loops.networks.network import Network

Compile = Literal["never", "on_gpu", "always"]

GROUPS = 32  # of the group normalisation in torchcfm's UNet


class UNet(Network):
    """A UNet with attention for square images. The defaults suit 3 x 32 x 32 (Tong et al. 2024, CIFAR-10).

    Args:
        channels: channels at full resolution.
        residual_blocks: residual blocks at each resolution.
        channel_multipliers: channels at each resolution, as multiples of ``channels``; every further entry
            halves the resolution.
        attention_resolutions: image sizes, in pixels or patches, at which there is attention.
        heads: attention heads; unused where ``head_channels`` is given.
        head_channels: channels of a head, or -1 to give the number of ``heads`` instead.
        dropout: probability, in training.
        scale_shift: time and class scale and shift what the group normalisation gives (Dhariwal and Nichol 2021)
            instead of being added before it. torchcfm's published weights are without. A normalisation of 32 groups
            takes away all that is added to 32 channels, half of it with 64: small networks need this to see either.
        time_scale: t is multiplied by it before its sinusoidal embedding, whose highest frequency is 1. 1000
            is the usual choice of diffusion models; torchcfm's published flow-matching weights need 1.
        patch_size: p > 1 has the network work on patches of p x p pixels as channels, (C p², H/p, W/p). It costs p²
            times less, and is coarser.
        channels_last: lay images out in memory as convolutions on a GPU like them in half precision.
        compile: compile the network when it is first evaluated, and once for each batch shape: ``never``, ``on_gpu``
            alone, or ``always``. It takes a minute or more, and a C++ compiler where there is no GPU.
    """

    def __init__(
        self,
        data: RealData,
        *,
        channels: int = 128,
        residual_blocks: int = 2,
        channel_multipliers: tuple[int, ...] = (1, 2, 2, 2),
        attention_resolutions: tuple[int, ...] = (16,),
        heads: int = 4,
        head_channels: int = 64,
        dropout: float = 0.1,
        scale_shift: bool = False,
        time_scale: float = 1000.0,
        patch_size: int = 1,
        channels_last: bool = False,
        compile: Compile = "never",
        class_conditional: bool = False,
    ) -> None:
        super().__init__(data, class_conditional=class_conditional)
        require(
            len(data.shape) == 3 and data.shape[1] == data.shape[2],
            "name",
            f"UNet for samples of shape {data.shape}",
            "a network for samples of that shape; UNet takes square images (C, H, H)",
        )
        whole = patch_size >= 1 and data.shape[-1] % patch_size == 0
        require(whole, "patch_size", patch_size, f"a divisor of the image's side, {data.shape[-1]}")
        size, levels = data.shape[-1] // patch_size, len(channel_multipliers)
        image_channels = data.shape[0] * patch_size**2
        possible = 1 <= channels <= 2048 and channels % GROUPS == 0
        require(possible, "channels", channels, f"a positive multiple of {GROUPS}, at most 2048")
        require(1 <= residual_blocks <= 50, "residual_blocks", residual_blocks, "an integer in 1..50")
        require(
            levels >= 1 and min(channel_multipliers) >= 1 and size % 2 ** (levels - 1) == 0,
            "channel_multipliers",
            channel_multipliers,
            f"integers >= 1, so many that {size} can be halved between them",
        )
        resolutions = [size // 2**level for level in range(levels)]
        require(
            set(attention_resolutions) <= set(resolutions),
            "attention_resolutions",
            attention_resolutions,
            f"sizes out of {resolutions}",
        )
        require(heads >= 1, "heads", heads, "an integer >= 1")
        attending = [r in attention_resolutions for r in resolutions[:-1]] + [True]  # the middle always does
        widths = [channels * m for m, attends in zip(channel_multipliers, attending, strict=True) if attends]
        require(
            head_channels == -1 or (head_channels >= 1 and all(w % head_channels == 0 for w in widths)),
            "head_channels",
            head_channels,
            f"-1, or a divisor of the channels {widths}",
        )
        require(
            head_channels != -1 or all(w % heads == 0 for w in widths),
            "heads",
            heads,
            f"a divisor of the channels {widths}",
        )
        require(
            scale_shift or channels * max(channel_multipliers) > GROUPS,
            "scale_shift",
            f"false with {GROUPS} channels at every resolution, whose normalisation hides time and class",
            "true, or more channels",
        )
        require(0 <= dropout < 1, "dropout", dropout, "a number in [0, 1)")
        require(0 < time_scale < math.inf, "time_scale", time_scale, "a number > 0")
        self.time_scale = time_scale
        self.unet = UNetModel(
            image_size=size,
            in_channels=image_channels,
            model_channels=channels,
            out_channels=image_channels,
            num_res_blocks=residual_blocks,
            # torchcfm counts in downsampling factors here.
            attention_resolutions=tuple(size // resolution for resolution in attention_resolutions),
            dropout=dropout,
            channel_mult=channel_multipliers,
            num_classes=self.num_classes + 1 if class_conditional else None,
            num_heads=heads,
            num_head_channels=head_channels,
            use_scale_shift_norm=scale_shift,
        )

        for module in self.unet.modules():
            if isinstance(module, GroupNorm32):  # it casts to float32 and back, and refuses weights of another type
                module.__class__ = nn.GroupNorm
        self.unet.time_embed.register_forward_pre_hook(_in_its_own_type)
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self.unet.to(memory_format=self._layout)
        known = compile in get_args(Compile)
        require(known, "compile", compile, f"one of {', '.join(get_args(Compile))}")
        self._compile, self._patch_size, self.one_shape = compile, patch_size, compile != "never"

    def forward(self, t: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        wanted = self._compile == "always" or (self._compile == "on_gpu" and x.is_cuda)
        if wanted and self.unet._compiled_call_impl is None:  # a copy of a compiled module is not
            self.unet.compile(dynamic=False)
        y = self.labels(y, x) if self.class_conditional else None
        dtype: torch.dtype = next(self.unet.parameters()).dtype
        self.unet.dtype = dtype
        patches = F.pixel_unshuffle(x, self._patch_size).to(dtype, memory_format=self._layout)
        return F.pixel_shuffle(self.unet(self.time_scale * t, patches, y), self._patch_size).to(x.dtype)


def _in_its_own_type(module: nn.Sequential, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Sinusoids of t are float32, whatever the weights are."""
    dtype = next(module.parameters()).dtype
    return tuple(x.to(dtype) for x in inputs)
