"""What every distillation method is: a module that owns its trainable parts and names its terms."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from spectralkd.features import Statistics, evaluation, record
from spectralkd.models import model_stages


class Reading(NamedTuple):
    """What one network made of one batch.

    Attributes:
        images: (N, 3, H, W), the input.
        logits: (N, K).
        maps: (N, C, H, W) of each stage, from the first to the last.
    """

    images: Tensor
    logits: Tensor
    maps: tuple[Tensor, ...]


class Taps(NamedTuple):
    """What a method has to know of a network beforehand; see ``read_taps``.

    Attributes:
        layers: what to read, as ``features`` names layers.
        shapes: (C, H, W) of each stage's map.
        norms: weight and bias, (C,) each, of the batch norm that gives each map's margin.
    """

    layers: tuple[str, ...]
    shapes: tuple[tuple[int, int, int], ...]
    norms: tuple[tuple[Tensor, Tensor], ...]


class Phase(NamedTuple):
    """A stretch of training with its own objective.

    Attributes:
        name: what ``Method.forward`` is told.
        epochs: its length; None is the recipe's number of epochs.
        lr: its learning rate, constant; None is the recipe's, with the recipe's schedule.
        student: whether the student is trained in it.
        teacher_statistics: what the teacher's batch norms normalise with.
    """

    name: str
    epochs: int | None = None
    lr: float | None = None
    student: bool = True
    teacher_statistics: Statistics = "running"


class Method(nn.Module):
    """A distillation method.

    ``forward`` returns its terms by name, weighted: the loss is their sum. What is trainable in
    it (connectors, regressors, paraphrasers) are its parameters.

    Attributes:
        reads: which map of a stage it compares: the ``"map"`` before the ReLU or the stage's
            ``"output"``; see ``models.Stage``.
        needs_teacher: whether it looks at the teacher at all.
        input_gradient: whether it differentiates the logits by the images, which then require
            gradients in both networks.
        phases: the stretches of training, in order; the last is the recipe's.
    """

    reads: ClassVar[Literal["map", "output"]] = "map"
    needs_teacher: ClassVar[bool] = True
    input_gradient: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.phases: tuple[Phase, ...] = (Phase("train"),)

    def trained(self, phase: str) -> Iterable[nn.Parameter]:
        """The method's own parameters that this phase trains."""
        return self.parameters()

    def forward(
        self, student: Reading, teacher: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        """Weighted terms of the loss by name, scalars.

        Args:
            student: with gradients.
            teacher: without (but for its images, where ``input_gradient``).
            labels: (N,) int64.
            phase: name of one of ``phases``.
        """
        raise NotImplementedError


def read_taps(
    model: nn.Module, reads: Literal["map", "output"], image_shape: tuple[int, int, int]
) -> Taps:
    """A network's stages as a method sees them, found by passing one image through it.

    Args:
        model: with a table of taps, as ``models.create_model`` gives it.
        reads: as ``Method.reads``.
        image_shape: (3, H, W).

    Raises:
        TypeError: the network has no table of taps, or a stage's norm is no batch norm.
        ValueError: the table names a layer that is not there, does not run or puts out no map.
    """
    stages = model_stages(model)
    layers = tuple(getattr(stage, reads) for stage in stages)
    parameter = next(model.parameters())
    image = torch.zeros(1, *image_shape, device=parameter.device, dtype=parameter.dtype)
    with evaluation(model), record(model, layers) as maps, torch.no_grad():
        model(image)
    modules, norms, shapes = dict(model.named_modules()), [], []
    for stage, layer in zip(stages, layers, strict=True):
        if layer not in maps:
            raise ValueError(f"stages: {layer} did not run in a pass of the model")
        if maps[layer].ndim != 4:
            raise ValueError(
                f"stages: expected maps (N, C, H, W) at {layer}, got {tuple(maps[layer].shape)}"
            )
        _, channels, height, width = maps[layer].shape
        shapes.append((channels, height, width))
        norm = modules.get(stage.norm)
        if not isinstance(norm, nn.BatchNorm2d) or norm.num_features != channels:
            known = [n for n, m in modules.items() if isinstance(m, nn.BatchNorm2d)]
            near = difflib.get_close_matches(stage.norm, known, n=5, cutoff=0) or ["none"]
            raise TypeError(
                f"stages: expected a BatchNorm2d of {channels} channels as the norm of {layer}, "
                f"such as {', '.join(near)}; got {stage.norm!r}"
            )
        norms.append((norm.weight.detach().clone(), norm.bias.detach().clone()))
    return Taps(layers, tuple(shapes), tuple(norms))


def check_sizes(teacher: Taps, student: Taps) -> None:
    """Raise a ValueError unless both networks have as many stages, of equal height and width."""
    if len(teacher.shapes) != len(student.shapes):
        raise ValueError(
            f"student: expected {len(teacher.shapes)} stages as the teacher, "
            f"got {len(student.shapes)}"
        )
    for number, (t, s) in enumerate(zip(teacher.shapes, student.shapes, strict=True), start=1):
        if t[1:] != s[1:]:
            raise ValueError(
                f"student: expected maps of {t[1]}×{t[2]} pixels at stage {number} as the "
                f"teacher, got {s[1]}×{s[2]}"
            )


def connector(channels_in: int, channels_out: int) -> nn.Sequential:
    """Overhaul's T_S: a 1×1 convolution without bias, N(0, sqrt(2/out)), and a batch norm."""
    convolution = nn.Conv2d(channels_in, channels_out, 1, bias=False)
    nn.init.normal_(convolution.weight, std=math.sqrt(2 / channels_out))
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out))


def stage_weights(stages: int) -> list[float]:
    """2^-(n-i-1): half the weight for each stage further from the output."""
    return [2.0 ** -(stages - number - 1) for number in range(stages)]


def cross_entropy(student: Reading, labels: Tensor) -> Tensor:
    """Mean over the batch, in nats."""
    return functional.cross_entropy(student.logits.float(), labels)
