"""The rewards that ``plural_choice`` keeps beside the samples are told of before a run."""

from __future__ import annotations

import pytest
import torch

from sc_loops.curation import plural
from sc_loops.curation.k_choice import Curate
from sc_loops.curation.plural import PluralCurate
from sc_loops.curation.stage import stages_observed_bytes
from sc_loops.experiment import build, resolved_config
from sc_loops.run import Run
from sc_loops.samples import Samples

REWARDS = [lambda x: x[:, 0], lambda x: -x[:, 0], lambda x: x[:, 1]]


@pytest.mark.parametrize("sizes", [[40], [40, 40, 20], [6, 4]])
@pytest.mark.parametrize("count", [1, 3])
def test_what_a_stage_keeps_is_what_it_says(monkeypatch: pytest.MonkeyPatch, sizes: list[int], count: int) -> None:
    monkeypatch.setattr(plural, "LIMIT", 50)
    stage, kept, start = PluralCurate(rewards=REWARDS[:count], choices=2), 0, 0
    for size in sizes:
        index = torch.arange(start, start + size)
        _, noted = stage.observed(Samples(torch.randn(size, 2), None, {"index": index}), torch.Generator())
        kept, start = kept + noted["values"].nbytes, start + size
    assert stages_observed_bytes([stage], sizes) == kept == 4 * count * min(sum(sizes), 50)


def test_a_stage_sees_what_those_before_it_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    last = PluralCurate(rewards=REWARDS, choices=2)
    stages = [Curate(REWARDS[0], choices=4), lambda samples, generator: samples, last]
    assert stages_observed_bytes(stages, [40, 20]) == last.observed_bytes(10 + 5)


def test_the_estimate_of_a_run_counts_them(tmp_path) -> None:
    """Two rewards more, in generations 0 to 3, of the 10,000 samples that leave 5,000."""

    def expected(rewards: int) -> int:
        options = ["data.size=5000", "loop.generations=3", "trainer.accelerator=cpu", f"output={tmp_path}"]
        resolved = resolved_config("plural_rewards", options)
        stage = resolved["loop"]["stages"][0]
        stage["rewards"] = stage["rewards"][:rewards]
        experiment = build(resolved, Run(tmp_path / "run"))
        experiment.check()
        return experiment.loop.facts["disk/expected_bytes"]

    assert expected(3) - expected(1) == 4 * 10_000 * 2 * 4
