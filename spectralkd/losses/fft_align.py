"""Tian et al., *SpectralKD*, arXiv 2412.19055 (2024): maps aligned in the Fourier plane.

That paper distills vision transformers; this package is not its code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional

from spectralkd.checks import Range
from spectralkd.losses.base import Method, Reading, cross_entropy
from spectralkd.spectra.rings import at_least_float32


@dataclass(eq=False, repr=False)
class FFTAlign(Method):
    """CE + w × mean over stages of the mean squared error of orthonormal transforms.

    ``mean |Re ΔF|², |Im ΔF|²`` with ΔF = rfft2(T) - rfft2(S) on the half plane. By Parseval's
    theorem this is about half the mean squared error of the maps themselves; only the modes of
    kx = 0 and of the Nyquist column, which the half plane does not repeat, weigh twice as much.

    As in the authors' code, neighboring channels of the teacher are averaged to as many as the
    student has. Where the student has more, their code fails; here the student's are averaged.
    Their runs add soft labels: ``{"kd": {"temperature": 1, "weight": 0.9}, "fft_align": {}}``.

    Args:
        weight: w; 0.2 for DeiT and 0.05 for Swin in the authors' commands.
    """

    reads = "output"
    weight: Annotated[float, Range(0)] = 0.2

    def forward(
        self, teacher: Reading, student: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        pairs = zip(teacher.maps, student.maps, strict=True)
        distance = torch.stack([plane_error(t, s) for t, s in pairs]).mean()
        return {"ce": cross_entropy(student, labels), "fft": self.weight * distance}


def plane_error(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean squared error of the real and imaginary parts of two maps' half planes."""
    channels = min(teacher.shape[1], student.shape[1])
    t, s = (
        functional.adaptive_avg_pool3d(at_least_float32(maps), (channels, None, None))
        for maps in (teacher, student)
    )
    return torch.view_as_real(torch.fft.rfft2(t - s, norm="ortho")).square().mean()
