"""Networks beside the model work where the trainer does, also on a machine with a GPU that it is not to use."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import fit

import sc_loops
from sc_loops import RealData, Run, Samples, SelfConsumingLoop, Training
from sc_loops.evaluation.evaluation import Evaluation
from sc_loops.experiment import build, resolved_config
from sc_loops.models.kde import KDE
from sc_loops.networks.classifiers import NearestMean
from sc_loops.networks.devices import work_device, working_on
from sc_loops.processes import Processes
from sc_loops.trainer import TrainerOptions


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch says that there is one. Nothing can be put on it, so whoever tries is found out."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    # Adam would look whether the GPU records a graph.
    for name in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):
        monkeypatch.setattr(torch.optim.Optimizer, name, lambda self: None, raising=False)
    with pytest.raises((AssertionError, RuntimeError)):
        torch.zeros(1).to("cuda")


def test_outside_of_a_run_it_is_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, kind in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert work_device() == torch.device(kind)


def test_within_a_run_it_is_the_runs(a_gpu: None) -> None:
    found = []

    def fail() -> None:
        with working_on(torch.device("meta")):
            found.append(work_device())
            raise ValueError("inside")

    with working_on(torch.device("cpu")):
        with pytest.raises(ValueError, match="inside"):
            fail()
        found.append(work_device())
    found.append(work_device())
    assert found == [torch.device(kind) for kind in ("meta", "cpu", "cuda")]


def test_it_is_chosen_in_one_place() -> None:
    root = Path(sc_loops.__file__).parent
    places = [p for p in root.rglob("*.py") if "cuda.is_available" in p.read_text(encoding="utf-8")]
    assert [str(p.relative_to(root)) for p in places] == ["networks/devices.py"]


def test_the_trainer_says_which(a_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert TrainerOptions(accelerator="cpu").device == torch.device("cpu")
    for kind, expected in (("cuda:1", "cuda:1"), ("mps", "cpu"), ("cpu", "cpu")):
        found = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(kind)))
        monkeypatch.setattr(TrainerOptions, "trainer", lambda self, found=found: found)
        assert TrainerOptions().device == torch.device(expected)


def test_a_classifier_is_trained_where_the_trainer_is(a_gpu: None, tmp_path: Path) -> None:
    options = ["classifier.epochs=1", "classifier.width=2", "data.train_size=50", f"output={tmp_path}"]
    resolved = resolved_config("digits_curated", [*options, "trainer.accelerator=cpu"])
    experiment = build(resolved, Run(tmp_path / "run"))
    experiment.prepare(Processes())
    assert 0 <= experiment.loop.facts["classifier/test_accuracy"] <= 1
    assert work_device() == torch.device("cuda")  # no longer


def test_the_real_images_are_measured_where_the_model_is(a_gpu: None, tmp_path: Path) -> None:
    """Also in a loop that was put together by hand, and when it goes on."""
    generator = torch.Generator().manual_seed(0)
    x, labels = torch.rand(80, 1, 3, 3, generator=generator) * 2 - 1, torch.arange(80) % 2
    parts = (Samples(x[:40], labels[:40]), Samples(x[40:], labels[40:]))
    data = RealData(*parts, "images", ("even", "odd"), "noise")
    for generations in (0, 1):
        loop = SelfConsumingLoop(
            Run(tmp_path),
            evaluation=Evaluation(data, NearestMean(data), None, samples=30),
            generations=generations,
            synthetic_ratio=1.0,
            first=Training(passes=1),
            later=Training(passes=1),
            chunk_size=20,
            preview=4,
        )
        fit(loop, KDE(data, bandwidth=0.1), data=data)
    distances = [row["frechet_distance/pixels"] for row in Run(tmp_path).rows()]
    assert len(distances) == 2
    assert all(0 < distance < 5 for distance in distances)
