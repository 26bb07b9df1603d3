"""Starting points: torchcfm's UNet and training script are the oracles, and what is refused says why."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TinyModel, fit, tiny_loop
from safetensors.torch import save_file
from torchcfm.models.unet.unet import UNetModelWrapper
from torchcfm_script import (
    CIFAR,
    SMALL,
    SMALL_UNET,
    begin,
    flow,
    images,
    published,
    refused,
    saved,
    scrambled,
    step,
    trained,
)

from sc_loops import DDPM, FlowMatching, Run, UNet
from sc_loops.data.files import checksum
from sc_loops.models.starts import read_start

# torchcfm's network is ours.


def test_the_default_unet_has_the_tensors_of_torchcfms_cifar_network() -> None:
    data = images(3, 32, 32)
    with torch.device("meta"):
        theirs = UNetModelWrapper(num_channels=128, **CIFAR).state_dict()
        ours = UNet(data).unet.state_dict()
    assert [(name, w.shape) for name, w in ours.items()] == [(name, w.shape) for name, w in theirs.items()]
    assert sum(w.numel() for w in ours.values()) == 35_746_307


@pytest.mark.parametrize("options", [{**CIFAR, "num_channels": 32, "num_head_channels": 32}, SMALL])
def test_with_time_scale_1_it_is_the_same_function(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    theirs = scrambled(UNetModelWrapper(**options)).eval()
    same = {
        "channels": options["num_channels"],
        "residual_blocks": options["num_res_blocks"],
        "channel_multipliers": tuple(options["channel_mult"]),
        "attention_resolutions": tuple(int(size) for size in options["attention_resolutions"].split(",")),
        "heads": options["num_heads"],
        "head_channels": options["num_head_channels"],
    }
    ours = UNet(images(*options["dim"]), time_scale=1.0, **same).eval()
    ours.unet.load_state_dict(theirs.state_dict())
    t, x = torch.rand(2), torch.randn(2, *options["dim"])
    with torch.no_grad():
        assert torch.equal(ours(t, x), theirs(t, x))
        # Little where a group of the normalisation has one channel, which loses what time adds to it.
        assert (ours(t / 2, x) - theirs(t, x)).abs().max() > 1e-5


# torchcfm's layout.


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("kind", [FlowMatching, DDPM])  # weights do not tell
def test_torchcfms_file_gives_weights_and_average(tmp_path, parallel: bool, kind: type) -> None:
    content = published(parallel)
    network, means, _, _ = trained()
    data = images(3, 8, 8)
    model = kind(data, network=UNet(data, **SMALL_UNET))
    begin(model, read_start(model, saved(content, tmp_path / "otcfm_cifar10_weights_step_400000.pt")))
    assert model._average.updates == 400000
    t, x = torch.rand(2), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(model.network(t, x), network(t, x))
        with model.averaged():
            assert torch.equal(model.network(t, x), means(t, x))
    assert not torch.equal(network(t, x), means(t, x))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("fused", [True, False])
def test_training_goes_on_where_torchcfms_was(tmp_path, fused: bool, memory_format: torch.memory_format) -> None:
    content = published()
    network = copy.deepcopy(trained()[0])
    optimizer = torch.optim.Adam(network.parameters(), lr=7e-4)
    optimizer.load_state_dict(content["optim"])
    model = flow().to(memory_format=memory_format)
    start = read_start(model, saved(content, tmp_path / "start.pt"))
    begin(model, start)
    ours = torch.optim.AdamW(model.parameters(), lr=7e-4, betas=(0.9, 0.999), weight_decay=0.0, fused=fused)
    assert start.restore(ours)
    assert [g["lr"] for g in ours.param_groups] == [7e-4]
    for group in optimizer.param_groups:
        group["lr"] = 7e-4
    for number in (3, 4):
        step(network, optimizer, number)
        for p, q in zip(model.parameters(), network.parameters(), strict=True):
            p.grad = torch.empty_like(p).copy_(q.grad)
        ours.step()
    for p, q in zip(model.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7)
        assert ours.state[p]["step"].item() == 5
        assert ours.state[p]["exp_avg"].stride() == p.stride()
    assert start.moments is not None
    assert all(moments["step"].item() == 3 for moments in start.moments)  # no part of it is shared


@pytest.mark.parametrize("damage", ["absent", "fewer", "shapes", "kind"])
def test_an_optimizer_that_is_not_adams_of_these_weights_is_left_out(tmp_path, damage: str) -> None:
    content = published()
    states, groups = content["optim"]["state"], content["optim"]["param_groups"]
    if damage == "absent":
        del content["optim"]
    elif damage == "fewer":
        groups[0]["params"].pop()
    elif damage == "shapes":
        states[0], states[1] = states[1], states[0]
    else:
        content["optim"]["state"] = {number: {"momentum_buffer": s["exp_avg"]} for number, s in states.items()}
    model = flow()
    start = read_start(model, saved(content, tmp_path / "start.pt"))
    assert start.moments is None
    optimizer = torch.optim.AdamW(model.parameters())
    assert not start.restore(optimizer)
    assert not optimizer.state


def test_steps_of_adam_may_be_plain_numbers(tmp_path) -> None:
    content = published()
    for state in content["optim"]["state"].values():
        state["step"] = 3
    model = flow()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    assert read_start(model, saved(content, tmp_path / "start.pt")).restore(optimizer)
    assert all(torch.equal(state["step"], torch.tensor(3.0)) for state in optimizer.state.values())


# Ours, and plain ones.


def test_a_checkpoint_of_ours_gives_all_it_has(tmp_path) -> None:
    fit(tiny_loop(tmp_path, generations=1))
    path = Run(tmp_path).checkpoint(1)
    checkpoint = torch.load(path, weights_only=True)
    model = TinyModel()
    start = read_start(model, path)
    begin(model, start)
    assert all(torch.equal(model.state_dict()[name], w) for name, w in checkpoint["state_dict"].items())
    assert model._average.updates == checkpoint["ema"]["updates"] > 0
    assert all(map(torch.equal, model._average.shadow, checkpoint["ema"]["shadow"]))
    optimizer = model.configure_optimizers()
    assert start.restore(optimizer)
    reference = TinyModel().configure_optimizers()
    reference.load_state_dict(checkpoint["optimizer_states"][0])
    for mine, state in zip(optimizer.state.values(), reference.state.values(), strict=True):
        assert mine.keys() == state.keys()
        assert all(torch.equal(mine[key], state[key]) for key in state)
    assert optimizer.param_groups[0]["lr"] == model.learning_rate


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("part", ["model", "network", "unet", "under state_dict"])
def test_a_plain_state_dict_of_any_part(tmp_path, part: str, suffix: str) -> None:
    source = scrambled(flow(), seed=3)
    parts = {"model": source, "network": source.network, "unet": source.network.unet}
    weights: Any = parts.get(part, source).state_dict()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save({"state_dict": weights} if part == "under state_dict" else weights, path)
    model = flow()
    start = read_start(model, path)
    begin(model, start)
    assert start.moments is None
    assert model._average.updates == 0
    assert all(map(torch.equal, model.parameters(), source.parameters()))
    assert all(map(torch.equal, model._average.shadow, source.parameters()))


def test_frozen_weights_are_taken_and_not_averaged(tmp_path) -> None:
    content = published()
    model = flow()
    frozen = model.network.unet.time_embed[0].weight.requires_grad_(False)
    begin(model, read_start(model, saved(content, tmp_path / "start.pt")))
    assert torch.equal(frozen, content["net_model"]["time_embed.0.weight"])
    trainable = [name for name, p in model.network.unet.named_parameters() if p.requires_grad]
    assert all(torch.equal(content["ema_model"][n], a) for n, a in zip(trainable, model._average.shadow, strict=True))


def test_a_file_of_half_precision_is_taken_in_the_models(tmp_path) -> None:
    content = published()
    for state in ("net_model", "ema_model"):
        content[state] = {name: tensor.half() for name, tensor in content[state].items()}
    model = begin(flow(), read_start(flow(), saved(content, tmp_path / "start.pt")))
    assert {tensor.dtype for tensor in [*model.parameters(), *model._average.shadow]} == {torch.float32}


# What is refused.


class Malice:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("plain", [False, True])
def test_code_in_a_file_does_not_run(tmp_path, plain: bool) -> None:
    path, target = tmp_path / "start.pt", tmp_path / "ran"
    content = {**published(), "step": Malice(target)}
    if plain:
        path.write_bytes(pickle.dumps({"step": Malice(target)}, protocol=2))
    else:
        torch.save(content, path)
    error = refused(flow(), path)
    assert not target.exists()
    assert "posix.mkdir" in error.found
    pickle.loads(path.read_bytes()) if plain else torch.load(path, weights_only=False)
    assert target.exists()  # it would have run


def test_a_missing_file(tmp_path) -> None:
    error = refused(flow(), tmp_path / "absent.pt")
    assert error.found == "no such file"
    assert "a checkpoint of a FlowMatching" in error.expected
    assert "loop.start" in error.do


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", "half", "directory"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_damaged_file(tmp_path, content: bytes | str, suffix: str) -> None:
    path = tmp_path / f"start{suffix}"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "directory":
        path.mkdir()
    else:
        save_file(flow().state_dict(), path) if suffix == ".safetensors" else saved(published(), path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "cannot be read" in refused(flow(), path).found


@pytest.mark.parametrize("path", [".", "..", "/"])
def test_a_directory_without_a_name(path: str) -> None:
    assert "directory" in refused(flow(), Path(path)).found


def test_a_file_that_is_not_what_its_checksum_says(tmp_path) -> None:
    path = saved(published(), tmp_path / "start.pt")
    sidecar = tmp_path / "start.pt.sha256"
    sidecar.write_text(f"{checksum(path)}  {path.name}\n")
    read_start(flow(), path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "checksum" in refused(flow(), path).found


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"model": {}, "epoch": 3}, "the keys model, epoch"),
        ([1, 2], "a list"),
        ({}, "a dict"),
        ({"state_dict": {}}, "the keys state_dict"),
        ({"state_dict": {"a": 1}, "ema": None}, "the keys state_dict, ema"),
        ({"net_model": {"a": torch.ones(1)}, "ema_model": {"b": torch.ones(1)}}, "the keys net_model, ema_model"),
    ],
)
def test_a_layout_that_is_not_known(tmp_path, content: Any, found: str) -> None:
    torch.save(content, tmp_path / "start.pt")
    assert refused(flow(), tmp_path / "start.pt").found == f"{found}: no weights in a layout that is known"


@pytest.mark.parametrize("part", ["net_model", "ema_model"])
def test_weights_that_are_not_finite(tmp_path, part: str) -> None:
    content = published()
    content[part]["time_embed.0.weight"][0, 0] = torch.nan
    assert "NaN" in refused(flow(), saved(content, tmp_path / "start.pt")).found


def test_an_average_of_another_network(tmp_path) -> None:
    content = published()
    content["ema_model"] = {name: tensor[..., None] for name, tensor in content["ema_model"].items()}
    assert "averaged network" in refused(flow(), saved(content, tmp_path / "start.pt")).found
