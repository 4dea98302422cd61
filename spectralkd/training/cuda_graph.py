"""A training step recorded as a CUDA graph and replayed: one launch a step for the host."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 3


class Replayed:
    """A step on batches of one size: the first few run normally, the others are replayed.

    Before it is recorded, a step must have allocated and tuned everything that it keeps. Batches
    of another size always run normally. Not yet run on a GPU.

    Args:
        step: takes images and labels; everything else that it reads or writes must stay at the
            same place in memory.
        size: images of a batch that is replayed.

    Calling it returns what ``step`` returns; the next call overwrites that.
    """

    def __init__(self, step: Callable[[Tensor, Tensor], list[Tensor]], size: int) -> None:
        self.step, self.size, self.steps = step, size, 0

    def __call__(self, images: Tensor, labels: Tensor) -> list[Tensor]:
        if len(images) != self.size or self.steps < WARM_UP:
            self.steps += len(images) == self.size
            return self.step(images, labels)
        if self.steps == WARM_UP:
            self.images, self.labels = images.clone(), labels.clone()
            self.replay = record(lambda: self.step(self.images, self.labels))
            self.steps += 1
        self.images.copy_(images)
        self.labels.copy_(labels)
        return self.replay()


def record(call: Callable[[], list[Tensor]]) -> Callable[[], list[Tensor]]:
    """Record ``call`` without running it; the result replays it, always into the same tensors."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()

    def replay() -> list[Tensor]:
        graph.replay()
        return result

    return replay
