"""A training step recorded as a CUDA graph and replayed: one launch a step for the host."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

WARM_UP = 3

Take = Callable[[Tensor, Tensor], list[Tensor]]


class Replayed:
    """A step on batches of one size: the first few run normally, the others are replayed.

    Before it is recorded, a step must have allocated and tuned everything that it keeps. Batches
    of another size always run normally.

    Args:
        step: takes images and labels; everything else that it reads or writes must stay at the
            same place in memory.
        size: images of a batch that is replayed.
        required: raise where the step cannot be recorded; if False, warn and go on normally.
        draws: whether the last step drew random numbers on the CPU: a record would repeat them.

    Calling it returns what ``step`` returns; the next call overwrites that.
    """

    def __init__(
        self,
        step: Take,
        size: int,
        *,
        required: bool = True,
        draws: Callable[[], bool] = lambda: False,
    ) -> None:
        self.step, self.size, self.required, self.draws = step, size, required, draws
        self.steps = 0
        self.replay: Callable[[], list[Tensor]] | None = None

    def __call__(self, images: Tensor, labels: Tensor) -> list[Tensor]:
        if len(images) != self.size:
            return self.step(images, labels)
        if self.steps == 0:
            self.images, self.labels = images.clone(), labels.clone()
        else:
            self.images.copy_(images)
            self.labels.copy_(labels)
        if self.steps == WARM_UP:
            self.replay = self._recorded()
        self.steps += 1
        return self.replay() if self.replay else aside(self._step)

    def _step(self) -> list[Tensor]:
        return self.step(self.images, self.labels)

    def _recorded(self) -> Callable[[], list[Tensor]] | None:
        try:
            if self.draws():
                raise RuntimeError("they draw random numbers on the CPU")
            return record(self._step)
        except RuntimeError as error:
            if self.required:
                raise
            warnings.warn(f"steps are not replayed as CUDA graphs: {error}", stacklevel=2)
            return None


def record(call: Callable[[], list[Tensor]]) -> Callable[[], list[Tensor]]:
    """Record ``call`` without running it; the result replays it, always into the same tensors.

    Raises:
        RuntimeError: it cannot be recorded. The present stream is then what it was.
    """
    graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph, stream=_side(), capture_error_mode="thread_local"):
            result = call()
    finally:
        torch.cuda.set_stream(before)

    def replay() -> list[Tensor]:
        graph.replay()
        return result

    return replay


def aside(call: Callable[[], list[Tensor]]) -> list[Tensor]:
    """Run ``call`` on the stream that graphs are recorded on, in order with the present one."""
    before = torch.cuda.current_stream()
    _side().wait_stream(before)
    with torch.cuda.stream(_side()):
        result = call()
    before.wait_stream(_side())
    return result


@cache
def _side() -> torch.cuda.Stream:
    return torch.cuda.Stream()
