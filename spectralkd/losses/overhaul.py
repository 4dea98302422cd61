"""Heo et al., *A comprehensive overhaul of feature distillation*, ICCV 2019."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spectralkd.checks import Range
from spectralkd.losses.base import (
    Method,
    Phase,
    Reading,
    Taps,
    connectors,
    cross_entropy,
    stage_weights,
    weighted_sum,
)
from spectralkd.spectra.rings import at_least_float32


@dataclass(eq=False, repr=False)
class Overhaul(Method):
    """CE + α/N Σ over stages of 2^-(n-i-1) × the partial L2 of reduced pre-ReLU maps.

    The student's map goes through a connector T_S (1×1 convolution, batch norm), the teacher's
    through the margin ReLU T_T. The teacher's batch norms use batch statistics, on purpose.

    Different from the authors' code: it runs the student's tapped batch norms twice a step, once
    in the network and once for the tap, so that their running statistics move with an effective
    momentum of 0.19. Here they run once, with torch's 0.1. The maps, losses and gradients are the
    same; evaluation of WRN and PyramidNet students may differ. The effect is not measured.

    Args:
        alpha: 1e-3 on CIFAR and 1e-4 on ImageNet in the authors' code; Rotman & Wolf print 1e-4
            and 1e-5.
    """

    of_recipe: ClassVar[tuple[str, ...]] = ("alpha",)
    reads = "pre_relu"
    needs_margins = True
    alpha: Annotated[float, Range(0)] = 1e-3

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("train", teacher_statistics="batch"),)

    def build(self, teacher: Taps, student: Taps) -> None:
        self.connectors = connectors(teacher, student)
        for number, least in enumerate(teacher.margins):
            self.register_buffer(f"margin{number}", least.view(1, -1, 1, 1))

    def forward(
        self, teacher: Reading, student: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        stages = range(len(self.connectors))
        distances = [partial_l2(*self.reduced(stage, teacher, student)) for stage in stages]
        distance = weighted_sum(stage_weights(len(distances)), distances)
        return {
            "ce": cross_entropy(student, labels),
            "overhaul": self.alpha * distance / len(labels),
        }

    def reduced(self, stage: int, teacher: Reading, student: Reading) -> tuple[Tensor, Tensor]:
        """R_T and R_S of a stage, (N, M, H, W) with the teacher's channels.

        One stage at a time, so that its maps can be freed before the next stage's are made.
        """
        t = at_least_float32(teacher.maps[stage])
        s = at_least_float32(self.connectors[stage](student.maps[stage]))
        return torch.maximum(t, self.get_buffer(f"margin{stage}").to(t)), s


def partial_l2(teacher: Tensor, student: Tensor) -> Tensor:
    """Sum of the squares of ``partial_difference``, over all elements."""
    total: Tensor = _PartialL2.apply(teacher, student)
    return total


def partial_difference(teacher: Tensor, student: Tensor) -> Tensor:
    """s - t, but 0 where t <= 0 and s <= t: there both neurons are at rest."""
    return (student - teacher).mul_((student > teacher) | (teacher > 0))


class _PartialL2(torch.autograd.Function):
    """Autograd would keep three tensors of the maps' size; the gradient is twice this one."""

    @staticmethod
    def forward(ctx: Any, teacher: Tensor, student: Tensor) -> Tensor:
        difference = partial_difference(teacher, student)
        ctx.save_for_backward(difference)
        return difference.square().sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_sum: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (difference,) = ctx.saved_tensors
        for_teacher, for_student = ctx.needs_input_grad
        gradient = difference * (2 * by_sum)
        return -gradient if for_teacher else None, gradient if for_student else None


def margin(weight: Tensor, bias: Tensor) -> Tensor:
    """Mean of the negative half of N(bias, weight²): the margin of a batch norm's channels.

    With z = bias/|weight|: bias - |weight| φ(z)/Φ(-z), and -3 |weight| where Φ(-z) <= 0.001. A
    channel of weight 0, which divides by zero in the authors' code, gets the limit.

    Args:
        weight, bias: (C,) of the batch norm.

    Returns:
        (C,) negative, in units of the map; computed in float64.
    """
    sigma, mu = weight.double().abs().clamp_min(1e-8), bias.double()
    z = mu / sigma
    negative = torch.special.ndtr(-z)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    mean = mu - sigma * density / negative.clamp_min(1e-3)
    return torch.where(negative > 1e-3, mean, -3 * sigma).to(weight)
