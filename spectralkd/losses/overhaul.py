"""Heo et al., *A comprehensive overhaul of feature distillation*, ICCV 2019."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spectralkd.losses.method import (
    Method,
    Phase,
    Reading,
    Taps,
    check_sizes,
    connector,
    cross_entropy,
    stage_weights,
)


class Overhaul(Method):
    """CE + α/N Σ over stages of 2^-(n-i-1) × the partial L2 of reduced maps before the ReLU.

    The student's map goes through a connector T_S (1×1 convolution, batch norm), the teacher's
    through the margin ReLU T_T. The teacher's batch norms use batch statistics, on purpose.

    Args:
        alpha: 1e-3 on CIFAR and 1e-4 on ImageNet in the authors' code; the paper built here says
            1e-4 and 1e-5.
    """

    def __init__(self, teacher: Taps, student: Taps, alpha: float = 1e-3) -> None:
        check_sizes(teacher, student)
        super().__init__()
        self.alpha = alpha
        self.phases = (Phase("train", teacher_statistics="batch"),)
        self.connectors = nn.ModuleList(
            connector(s[0], t[0]) for s, t in zip(student.shapes, teacher.shapes, strict=True)
        )
        for number, (weight, bias) in enumerate(teacher.norms):
            self.register_buffer(f"margin{number}", margin(weight, bias).view(1, -1, 1, 1))

    def forward(
        self, student: Reading, teacher: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        stages = range(len(self.connectors))
        distances = [partial_l2(*self.reduced(stage, student, teacher)) for stage in stages]
        return {
            "ce": cross_entropy(student, labels),
            "overhaul": self.alpha * over_stages(distances) / len(labels),
        }

    def reduced(self, stage: int, student: Reading, teacher: Reading) -> tuple[Tensor, Tensor]:
        """R_S and R_T of a stage, (N, M, H, W) float32 with the teacher's channels.

        One stage at a time, so that its maps can be forgotten before the next are made.
        """
        s = self.connectors[stage](student.maps[stage]).float()
        return s, torch.maximum(teacher.maps[stage].float(), self.get_buffer(f"margin{stage}"))


def overhaul_distance(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Σ over stages of 2^-(n-i-1) × the partial L2 of (student, teacher) maps."""
    return over_stages([partial_l2(s, t) for s, t in pairs])


def over_stages(distances: list[Tensor]) -> Tensor:
    """Σ over stages of 2^-(n-i-1) × the stage's distance, a scalar."""
    weights = stage_weights(len(distances))
    return torch.stack([w * d for w, d in zip(weights, distances, strict=True)]).sum()


def partial_l2(student: Tensor, teacher: Tensor) -> Tensor:
    """Sum of the squares of ``partial_difference``, over all elements."""
    return _PartialL2.apply(student, teacher)


def partial_difference(student: Tensor, teacher: Tensor) -> Tensor:
    """s - t, but 0 where t <= 0 and s <= t: any resting neuron will do."""
    return (student - teacher).mul_((student > teacher) | (teacher > 0))


class _PartialL2(torch.autograd.Function):
    """Autograd would keep three tensors of the maps' size; the gradient is twice this one."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        difference = partial_difference(student, teacher)
        ctx.save_for_backward(difference)
        return difference.square().sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_sum: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (difference,) = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        gradient = difference * (2 * by_sum)
        return gradient if wanted[0] else None, -gradient if wanted[1] else None


def margin(weight: Tensor, bias: Tensor) -> Tensor:
    """Mean of the negative half of N(bias, weight²): the margin of a batch norm's channels.

    With z = bias/|weight|: bias - |weight| φ(z)/Φ(-z), and -3 |weight| where Φ(-z) <= 0.001. A
    channel of weight 0, which divides by zero in the authors' code, gets the limit.

    Args:
        weight, bias: (C,) of the batch norm.

    Returns:
        (C,) negative, in units of the map.
    """
    sigma = weight.abs().clamp_min(1e-8)
    z = bias / sigma
    negative = torch.special.ndtr(-z)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    mean = bias - sigma * density / negative.clamp_min(1e-3)
    return torch.where(negative > 1e-3, mean, -3 * sigma)
