"""``Metric``: something measured on the raw samples of a generation."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from sc_loops.samples import Observation, Samples


class _NameOfClass:
    """The name of a class whose author gave none: that of the class, ``MeanNorm`` as ``mean_norm``."""

    def __get__(self, metric: Metric | None, kind: type[Metric]) -> str:
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kind.__name__).lower().strip("_")


class Metric(ABC):
    """Measured in two steps, so that it streams, survives a kill and does not depend on who made which chunk.

    ``observe`` looks at one chunk and returns small tensors, which are written to disk beside the chunk.
    ``summarise`` reads the observations of all chunks, in order, and returns the generation's numbers::

        class MeanNorm(Metric):
            def observe(self, samples):
                norms = samples.x.flatten(1).norm(dim=1).double()
                return {"sum": norms.sum(), "count": torch.tensor(len(norms))}

            def summarise(self, observations):
                total = sum(float(o["sum"]) for o in observations)
                return {"mean_norm": total / sum(int(o["count"]) for o in observations)}

    Both are functions of what they are given and change nothing: chunks may be observed in other processes than the
    one that summarises, in any order, and again after a kill. Before a run starts a metric of the user's is prepared
    and tried on up to 100 held-out samples.

    Attributes:
        name: a word without ``/``, under which observations are stored: under another name those of an older run are
            not found. No two metrics of a run have the same; one with the name of a default takes its place
            (``points``, ``images``, ``physical``, ``reward``, ``class_shares``). By default it is the class's,
            ``mean_norm`` for ``MeanNorm``. Where one class is used twice with other options, set ``self.name``, and
            have the keys differ too.
    """

    name: str = _NameOfClass()  # type: ignore[assignment]

    def check(self) -> None:  # noqa: B027 (most need none)
        """Find, before any work is done, what ``prepare`` would fail on: a missing file, data that do not suit.

        Raises:
            UsageError: something that is needed is not there.
        """

    def prepare(self, cache: Path) -> None:  # noqa: B027 (most metrics have nothing to prepare)
        """Do the expensive part (loading weights, measuring the real data) once, before the loop starts.

        What takes long is kept in the directory ``cache``, where later runs find it, and the other processes, which
        are prepared after the first. A metric that is used without ``prepare`` does without the cache.

        Raises:
            InvalidValue: an option cannot be used after all; the config's path is put in front of it.
        """

    def observed_bytes(self, raw: int) -> int:
        """About how many bytes of disk the observations of ``raw`` samples take, beyond what each chunk takes.

        0 where that is little. It is asked before ``prepare``, to tell what a run will take.
        """
        return 0

    @abstractmethod
    def observe(self, samples: Samples) -> Observation:
        """What is needed of one chunk of raw samples.

        Args:
            samples: N >= 0 of them, as floats on the model's device, without gradients; images in [-1, 1]. With the
                ``condition`` that they were sampled under if the model has one, the column ``index`` (their numbers
                in the generation) and, with a reward, ``reward``. Not to be changed.

        Returns:
            Small tensors by name, of any dtype, on any device. Their shapes are the same for every chunk, sums and
            counts mostly, or are limited to the first samples of a generation (``columns["index"] < limit``), for
            then they do not grow with it. A chunk of which nothing is needed gives an empty dictionary.
        """

    @abstractmethod
    def summarise(self, observations: Sequence[Observation]) -> dict[str, float]:
        """The numbers of a generation.

        Args:
            observations: what ``observe`` returned of each chunk, in order and on the CPU, without the empty ones; at
                least one.

        Returns:
            Plain numbers, nan where one is not known, by keys in lower case without blanks, parts with ``/`` between,
            such as ``precision/inception``. No key may be one that another metric gives, or that a generation's row
            has of its own: ``docs/metrics.md`` lists them.
        """
