"""What a distillation method is: declared needs, trainable parts of its own, named loss terms."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, get_origin, get_type_hints

import torch
from torch import Tensor, nn
from torch.nn import functional

from spectralkd.checks import check_choice, check_ranges
from spectralkd.models.features import Statistics
from spectralkd.spectra.rings import at_least_float32

StageMap = Literal["pre_relu", "output"]


class Reading(NamedTuple):
    """What one network computed from one batch.

    Attributes:
        images: (N, 3, H, W), the input.
        logits: (N, K).
        maps: (N, C, H, W) of each stage, from the first to the last; none for a method that
            does not read maps.
    """

    images: Tensor
    logits: Tensor
    maps: tuple[Tensor, ...] = ()

    @staticmethod
    def absent(images: Tensor) -> Reading:
        """Stands for a network that is not run in this phase."""
        return Reading(images, images.new_zeros(0))


class Taps(NamedTuple):
    """What a method knows of a network before training.

    Attributes:
        shapes: (C, H, W) of each stage's maps, as the method gets them.
        margins: (C,) negative, of each stage's maps, where the method needs them.
    """

    shapes: tuple[tuple[int, int, int], ...] = ()
    margins: tuple[Tensor, ...] = ()


class Phase(NamedTuple):
    """A part of training with an objective of its own.

    Attributes:
        name: passed to ``Method.forward``.
        epochs: length; None means the recipe's number of epochs.
        lr: constant learning rate; None means the recipe's learning rate and schedule.
        student: whether the student is trained.
        teacher_statistics: whether the teacher's batch norms use running or batch statistics.
    """

    name: str
    epochs: int | None = None
    lr: float | None = None
    student: bool = True
    teacher_statistics: Statistics = "running"


@dataclass(eq=False, repr=False)
class Method(nn.Module):
    """A distillation method. Subclasses are dataclasses whose fields are their options.

    Write one by its loss alone; what it needs of the networks is declared, everything else is
    the ``Distiller``'s::

        @dataclass(eq=False, repr=False)
        class LogitMSE(Method):
            weight: float = 1.0

            def forward(self, teacher, student, labels, phase="train"):
                distance = functional.mse_loss(student.logits, teacher.logits)
                return {"ce": cross_entropy(student, labels), "mse": self.weight * distance}

    Attributes:
        reads: which map of each stage is read, ``"pre_relu"`` or ``"output"`` (see
            ``models.Stage``); None for a method of logits, which takes any pair of networks.
        needs_teacher: whether the teacher is run at all.
        needs_margins: whether the method uses the margins of the teacher's maps.
        needs_image_gradient: whether logits are differentiated with respect to the images.
        phases: the parts of training, in order; the last one follows the recipe.
        of_recipe: options that are fields of a recipe, which sets them in a run.
    """

    of_recipe: ClassVar[tuple[str, ...]] = ()
    reads: ClassVar[StageMap | None] = None
    needs_teacher: ClassVar[bool] = True
    needs_margins: ClassVar[bool] = False
    needs_image_gradient: ClassVar[bool] = False

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls.__hash__ is None:
            raise TypeError(
                f"method: expected @dataclass(eq=False, repr=False) before {cls.__name__}, got a "
                f"class that compares by value, as no module does"
            )
        method = super().__new__(cls)
        nn.Module.__init__(method)  # before the dataclass sets its fields
        return method

    def __post_init__(self) -> None:
        """Check the options that are a choice between words, or annotated with a ``Range``.

        Raises:
            ValueError: an unknown choice, or a number out of its range.
        """
        check_ranges(self)
        for name, kind in get_type_hints(type(self)).items():
            if get_origin(kind) is Literal:
                check_choice(name, getattr(self, name), kind)

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("train"),)

    def build(self, teacher: Taps, student: Taps) -> None:
        """Make the modules and buffers that depend on the networks.

        Raises:
            ValueError: networks that the method cannot compare.
        """

    def trainable_parameters(self, phase: str) -> Iterable[nn.Parameter]:
        """The method's own parameters that a phase trains; by default all."""
        return self.parameters()

    def forward(
        self, teacher: Reading, student: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        """Weighted terms of the loss by name; the loss is their sum.

        A run refuses terms with the names of its other metrics, such as ``top1_error``.

        Args:
            teacher: without gradients (except of its images, where ``needs_image_gradient``).
            student: with gradients.
            labels: (N,) int64.
            phase: name of one of ``phases``.
        """
        raise NotImplementedError


def method_options(method: type[Method]) -> dict[str, Any]:
    """The options of a method with their defaults (``inspect.Parameter.empty`` for none)."""
    parameters = inspect.signature(method).parameters.values()
    own = (p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
    return {p.name: p.default for p in own}


def kept_options(method: Method) -> dict[str, Any]:
    """The values of a method's options, as far as it keeps them as attributes of their names."""
    names = method_options(type(method))
    return {name: getattr(method, name) for name in names if hasattr(method, name)}


def chosen_options(method: Method) -> dict[str, Any]:
    """The values of a method's options, for a run's configuration.

    Raises:
        TypeError: an option that the method does not keep as an attribute of the same name.
    """
    kept = kept_options(method)
    if lost := [name for name in method_options(type(method)) if name not in kept]:
        raise TypeError(
            f"method: expected {type(method).__name__} to keep its options as attributes, so that "
            f"runs can record them; {', '.join(lost)} missing"
        )
    return kept


def check_classes(teacher: Tensor, student: Tensor) -> None:
    """Raise a ValueError unless two networks' logits (N, K) are of as many classes."""
    if teacher.shape != student.shape:
        raise ValueError(
            f"student: expected logits of {tuple(teacher.shape)} as the teacher's, got "
            f"{tuple(student.shape)}"
        )


def check_least(teacher: Taps, pixels: int) -> None:
    """Raise a ValueError if a side of a stage's maps is below a number of pixels."""
    for number, (_, height, width) in enumerate(teacher.shapes, start=1):
        if min(height, width) < pixels:
            raise ValueError(
                f"teacher: expected maps of at least {pixels}×{pixels} pixels, got "
                f"{height}×{width} at stage {number}; larger images (image_shape) have larger maps"
            )


def connector(channels_in: int, channels_out: int) -> nn.Sequential:
    """Overhaul's T_S: a 1×1 convolution without bias, N(0, sqrt(2/out)), and a batch norm."""
    convolution = nn.Conv2d(channels_in, channels_out, 1, bias=False)
    nn.init.normal_(convolution.weight, std=math.sqrt(2 / channels_out))
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out))


def connectors(teacher: Taps, student: Taps) -> nn.ModuleList:
    """One connector for each stage, from the student's channels to the teacher's."""
    return nn.ModuleList(
        connector(s[0], t[0]) for t, s in zip(teacher.shapes, student.shapes, strict=True)
    )


def stage_weights(stages: int) -> list[float]:
    """2^-(n-i-1): the last stage weighs 1, each earlier one half of the next."""
    return [2.0 ** -(stages - number - 1) for number in range(stages)]


def weighted_sum(weights: list[float], distances: list[Tensor]) -> Tensor:
    """Σ weight × distance over stages, a scalar."""
    return torch.stack([w * d for w, d in zip(weights, distances, strict=True)]).sum()


def cross_entropy(student: Reading, labels: Tensor) -> Tensor:
    """Mean over the batch, in nats."""
    return functional.cross_entropy(at_least_float32(student.logits), labels)
