"""Jiang et al., *Focal frequency loss for image reconstruction and synthesis*, ICCV 2021."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from spectralkd.checks import Range
from spectralkd.losses.base import Method, Reading, Taps, connectors, cross_entropy
from spectralkd.spectra.rings import at_least_float32


@dataclass(eq=False, repr=False)
class Focal(Method):
    """CE + w × Σ over stages of the mean of u |ΔF|² over the plane, u = |ΔF|^α / max |ΔF|^α.

    ΔF is the difference of the maps' orthonormal transforms. The weight u, without gradient, is
    1 at the frequency of each map that is hardest to match and less where the match is good.

    The paper compares generated images with real ones. Here a student's map goes through
    Overhaul's connector (1×1 convolution, batch norm) to the teacher's channels. The loss is that
    of the authors' code; its patches, its average spectrum of a batch, its logarithm of u and its
    maximum over a batch, all off by default, are left out.

    Args:
        weight: w; 1 in the authors' code, for images, and not tuned for distillation.
        alpha: exponent of u; 0 gives the mean squared error of the maps.
    """

    reads = "output"
    weight: Annotated[float, Range(0)] = 1.0
    alpha: Annotated[float, Range(0)] = 1.0

    def build(self, teacher: Taps, student: Taps) -> None:
        self.connectors = connectors(teacher, student)

    def forward(
        self, teacher: Reading, student: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        stages = zip(self.connectors, teacher.maps, student.maps, strict=True)
        distances = [focal_error(t, connect(s), self.alpha) for connect, t, s in stages]
        distance = torch.stack(distances).sum()
        return {"ce": cross_entropy(student, labels), "focal": self.weight * distance}


def focal_error(teacher: Tensor, student: Tensor, alpha: float = 1.0) -> Tensor:
    """Mean over maps (..., H, W) and frequencies of u |ΔF|²."""
    difference = at_least_float32(teacher) - at_least_float32(student)
    power = torch.view_as_real(torch.fft.fft2(difference, norm="ortho")).square().sum(-1)
    focus = power.detach() ** (alpha / 2)
    largest = focus.amax((-2, -1), keepdim=True)
    return (focus / largest.clamp_min(torch.finfo(focus.dtype).tiny) * power).mean()
