"""``ClipText``: CLIP's embeddings of captions, through transformers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
from torch import Tensor

from sc_loops.data.files import checksum
from sc_loops.data.real import RealData
from sc_loops.errors import Complaint, InvalidValue, UsageError, require
from sc_loops.networks.devices import work_device
from sc_loops.networks.text import TextEncoder

TOKENS = 22  # of a caption, its start and end included, as in the published code
PATIENCE = 10  # seconds without an answer after which there is no network
LAYOUT = "config.json, model.safetensors and the tokenizer's tokenizer.json (or vocab.json and merges.txt)"
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


class ClipText(TextEncoder):
    """The text features of CLIP (Radford et al. 2021), projected and not normalised, as the human motion diffusion
    model sees them (Tevet et al. 2023).

    Captions are cut to 22 tokens, start and end included. The published code pads them to 77 thereafter, which
    changes nothing: attention looks only backwards and the feature is that of the end token. Here they are padded to
    the longest of a batch. Weights come from safetensors; nothing is unpickled.

    Args:
        data: motions.
        model: a folder in the layout of transformers, or a name on the Hugging Face hub, which is looked for in the
            cache of transformers, and downloaded to there if need be.
        width: numbers in an embedding: 512 for ViT-B/32, 768 for ViT-L/14.
        batch_size: captions that go through CLIP at a time.
        device: where this is done, as torch names it; None is the trainer's.
    """

    def __init__(
        self,
        data: RealData,
        *,
        model: str = "openai/clip-vit-base-patch32",
        width: int = 512,
        batch_size: int = 64,
        device: str | None = None,
    ) -> None:
        super().__init__(data)
        require(1 <= width <= 10_000, "width", width, "an integer in 1..10000, the size of CLIP's projection")
        require(batch_size >= 1, "batch_size", batch_size, "an integer >= 1")
        try:
            self._device = None if device is None else torch.device(device)
        except RuntimeError as error:
            raise InvalidValue("device", found=repr(device), expected="a device of torch, such as cuda:0") from error
        self.width = width
        self._model, self._batch_size = model, batch_size
        self._folder = Path(model).expanduser()

    @torch.no_grad()
    def embed(self) -> Tensor:
        tokenizer, network = self._load()
        device = self._device or work_device()
        network.to(device).eval()
        captions = list(self.motions.captions)
        parts = []
        with torch.autocast(device.type, enabled=False):
            for start in range(0, len(captions), self._batch_size):
                batch = captions[start : start + self._batch_size]
                tokens = tokenizer(batch, padding=True, truncation=True, max_length=TOKENS, return_tensors="pt")
                parts.append(network(**tokens.to(device)).text_embeds.float().cpu())
        return torch.cat(parts)

    def identity(self) -> list[str | int | float]:
        # A folder is known by what is in it, so that it may be moved.
        own = sorted(self._folder.glob("*.safetensors"))
        return [TOKENS, self.width, *([checksum(path) for path in own] or [self._model])]

    def _load(self) -> tuple[Any, Any]:
        """The tokenizer and the network, whose weights are float32."""
        try:
            import transformers
        except ImportError as error:
            raise UsageError(
                "text encoder clip",
                found=f"no transformers: {error}",
                expected="transformers, which runs CLIP",
                do='pip install -e ".[motion]"',
            ) from error
        try:
            with _quiet(transformers):
                tokenizer, network, loaded = self._parts(transformers)
        except Complaint:
            raise
        except Exception as error:  # of a damaged file or of a hub: of any kind
            raise self._unusable(f"{type(error).__name__}: {error}") from error
        self._check(tokenizer, network, loaded)
        return tokenizer, network.float()

    def _parts(self, transformers: Any) -> tuple[Any, Any, dict[str, Any]]:
        """From the folder or from the cache; else, if there is a network, from the hub."""
        name = str(self._folder) if self._folder.is_dir() else self._model
        if self._folder.is_dir() or not _online():
            return _read(transformers, name, local_files_only=True)
        try:
            return _read(transformers, name, local_files_only=True)
        except OSError:
            if not _hub_answers():
                raise
            return _read(transformers, name, local_files_only=False)

    def _check(self, tokenizer: Any, network: Any, loaded: dict[str, Any]) -> None:
        """What transformers would only warn of: weights that are drawn at random, a tokenizer without words."""
        absent = sorted(map(str, [*loaded["missing_keys"], *loaded["mismatched_keys"]]))
        if absent:
            raise self._unusable(f"{len(absent)} weights are missing or of another size: {', '.join(absent)}")
        words, expected = len(tokenizer), network.config.vocab_size
        if words != expected:
            raise self._unusable(f"a tokenizer of {words} tokens for a network of {expected}")
        width = network.config.projection_dim
        require(self.width == width, "width", self.width, f"{width}, the size of the projection of {self._model}")

    def _unusable(self, why: str) -> InvalidValue:
        return InvalidValue(
            "model",
            found=f"{self._model}: {' '.join(why.split())[:300]}",
            expected=f"a CLIP in the cache of transformers, or a folder with {LAYOUT}",
            do="where there is no network, set model to such a folder, copied from where there is one; or choose the "
            "text encoder latent_semantic, which needs no download",
        )


def _read(transformers: Any, name: str, *, local_files_only: bool) -> tuple[Any, Any, dict[str, Any]]:
    network, loaded = transformers.CLIPTextModelWithProjection.from_pretrained(
        name,
        local_files_only=local_files_only,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # so that ``loaded`` tells them
    )
    tokenizer = transformers.CLIPTokenizer.from_pretrained(name, local_files_only=local_files_only)
    return tokenizer, network, loaded


def _online() -> bool:
    return not any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in OFFLINE)


def _hub_answers() -> bool:
    """Whether there is a hub at all: its library would try for half a minute, for each file."""
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        urlopen(Request(hub, method="HEAD"), timeout=PATIENCE).close()
    except HTTPError:
        return True
    except (OSError, ValueError):
        return False
    return True


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """No remarks on weights of CLIP's other half, which is not wanted, and no bars for files that are there."""
    logging = transformers.utils.logging
    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()
