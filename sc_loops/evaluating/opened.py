"""A generation of a finished or unfinished run, ready to be sampled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sc_loops import config
from sc_loops.cache_lock import alone
from sc_loops.errors import UsageError, blaming
from sc_loops.experiment import Experiment, build, completed
from sc_loops.models.base import GenerativeModel
from sc_loops.networks.devices import working_on
from sc_loops.opening import checkpoint_of
from sc_loops.run import Run


@dataclass(frozen=True)
class Generation:
    """A generation whose weights are on disk.

    Attributes:
        run: its run.
        number: t.
        experiment: of the run's config, prepared as far as sampling and measuring need it.
        resolved: that config.
        changed: whether options were changed for this.
    """

    run: Run
    number: int
    experiment: Experiment
    resolved: dict[str, Any]
    changed: bool = False

    @contextmanager
    def model(self) -> Iterator[GenerativeModel]:
        """Within the context the model holds the generation's averaged weights, on the trainer's device."""
        trainer = replace(self.experiment.trainer, devices=1, num_nodes=1, strategy="auto").trainer()
        model = self.experiment.model.to(trainer.strategy.root_device)
        checkpoint, path = checkpoint_of(self.run, self.number), str(self.run.checkpoint(self.number))
        with ExitStack() as stack:
            with blaming(path, "weights of the model that the config, with what was changed of it, describes"):
                stack.enter_context(model.holding(checkpoint))
            stack.enter_context(working_on(trainer.strategy.root_device))
            stack.enter_context(trainer.precision_plugin.forward_context())
            stack.enter_context(model.averaged())
            yield model


def opened(path: Path, number: int | None, overrides: Sequence[str]) -> Generation:
    """Generation ``number``, by default the last with a checkpoint, of the motion run in ``path``.

    Raises:
        UsageError: there is no such run or checkpoint, or its data are not motions.
    """
    run = Run(path)
    if not run.config_path.is_file():
        found = "no config.yaml" if path.exists() else "nothing"
        raise UsageError(str(path), found=found, expected="the directory of a run of motions")
    resolved = completed(config.load(str(run.config_path), overrides))
    number = _chosen(run, number)
    experiment = build(resolved, run)
    if experiment.data.motions is None:
        found = f"a run on {experiment.data.name}, which is {experiment.data.kind}"
        raise UsageError(str(path), found=found, expected="a run of motions")
    with working_on(experiment.trainer.device):
        _prepare(experiment)
    return Generation(run, number, experiment, resolved, changed=bool(overrides))


def _chosen(run: Run, number: int | None) -> int:
    """``number`` or the last generation, where its checkpoint is whole."""
    kept = [t for t in sorted(run.saved.generations()) if run.saved.intact(run.checkpoint(t))]
    if number in kept or (number is None and kept):
        return kept[-1] if number is None else number
    trained = {row["generation"] for row in run.rows()}
    gone = "whose checkpoint is no longer there" if number in trained else "which was not trained"
    raise UsageError(
        str(run.checkpoints),
        found="no checkpoint of a generation" if number is None else f"generation {number}, {gone}",
        expected=f"one of the generations {', '.join(map(str, kept))}" if kept else "a checkpoint of a generation",
        do="loop.keep says which checkpoints a run keeps",
    )


def _prepare(experiment: Experiment) -> None:
    """Have what the model knows captions by, and the metrics; classifier, reward and stages are not needed."""
    output = Path(experiment.output)
    experiment.evaluation.check()
    if experiment.text is not None:
        with alone(output / "texts"):
            experiment.text.prepare(output / "texts")
    with alone(output / "statistics"):
        experiment.evaluation.prepare(output / "statistics")
