"""How much of a run's time is spent within its networks, which is what no loop can save."""

from __future__ import annotations

import time
from typing import Any

from lightning import Callback
from torch import Tensor, nn

from sc_loops import RealData, TrainedClassifier


class Inside:
    """What happens within network, classifier and features: processor seconds of the thread that calls them, and the
    samples that go through the network."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.seconds, self.evaluated, self.trained = 0.0, 0, 0

    def start(self, *_: object) -> None:
        self._started = time.thread_time()

    def stop(self, *_: object) -> None:
        self.seconds += time.thread_time() - self._started

    def watch(self, network: nn.Module) -> None:
        network.register_forward_pre_hook(self.start)
        network.register_forward_hook(self._evaluated)

    def _evaluated(self, network: nn.Module, args: object, output: Tensor) -> None:
        self.stop()
        if network.training:
            self.trained += len(output)
        else:
            self.evaluated += len(output)


class TimedClassifier(TrainedClassifier):
    """Its time is noted by ``inside``."""

    def __init__(self, inside: Inside, data: RealData, **options: Any) -> None:
        super().__init__(data, architecture="convnet", **options)
        self._inside = inside

    def probabilities(self, x: Tensor) -> Tensor:
        self._inside.start()
        found = super().probabilities(x)
        self._inside.stop()
        return found

    def features(self, x: Tensor) -> Tensor:
        self._inside.start()
        found = super().features(x)
        self._inside.stop()
        return found


class BackwardClock(Callback):
    """Has ``inside`` note the time of the backward passes."""

    def __init__(self, inside: Inside) -> None:
        self._inside = inside

    def on_before_backward(self, *_: object) -> None:
        self._inside.start()

    def on_after_backward(self, *_: object) -> None:
        self._inside.stop()
