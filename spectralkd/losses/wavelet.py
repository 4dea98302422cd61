"""Zhang et al., *Wavelet knowledge distillation*, CVPR 2022, arXiv 2203.06321."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional

from spectralkd.checks import Range
from spectralkd.losses.base import Method, Reading, Taps, check_least, connectors, cross_entropy
from spectralkd.spectra.rings import at_least_float32


@dataclass(eq=False, repr=False)
class Wavelet(Method):
    """CE + w × Σ over stages of the L1 distance of the high bands of a Haar transform.

    Each level splits a map into means and three details of its 2×2 blocks, and goes on with the
    means; the distance is Σ over levels of the mean of |difference| over the details. The means
    of the last level, the low band, are not compared.

    The paper compares images that two generators make; here a student's map goes through
    Overhaul's connector (1×1 convolution, batch norm) to the teacher's channels. The distance is
    that of the authors' code. With a learned gate on each band it is FreeKD's (CVPR 2024), whose
    gate is trained through the teacher.

    Args:
        weight: w; not tuned for distillation of maps.
        levels: of the transform, as many as a map has room for; 4 in the authors' code, 3 in
            FreeKD.

    Raises:
        ValueError: (when built) maps below 2×2 pixels.
    """

    reads = "output"
    weight: Annotated[float, Range(0)] = 1.0
    levels: Annotated[int, Range(1)] = 4

    def build(self, teacher: Taps, student: Taps) -> None:
        check_least(teacher, 2)
        self.connectors = connectors(teacher, student)

    def forward(
        self, teacher: Reading, student: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        stages = zip(self.connectors, teacher.maps, student.maps, strict=True)
        distances = [high_band_error(t, connect(s), self.levels) for connect, t, s in stages]
        distance = torch.stack(distances).sum()
        return {"ce": cross_entropy(student, labels), "wavelet": self.weight * distance}


def high_band_error(teacher: Tensor, student: Tensor, levels: int = 4) -> Tensor:
    """Σ over levels of the mean absolute difference of the three high bands of maps (..., H, W)."""
    low = at_least_float32(teacher) - at_least_float32(student)  # the transform is linear
    errors = []
    for _ in range(min(levels, min(low.shape[-2:]).bit_length() - 1)):
        low, *high = haar(low)
        errors.append(torch.stack(high).abs().mean())
    return torch.stack(errors).sum()


def haar(maps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One level of the orthonormal Haar transform of maps (..., H, W).

    Returns:
        The low band, and details across x, across y and across both, each
        (..., ceil(H/2), ceil(W/2)); odd sizes are padded with zeros.
    """
    height, width = maps.shape[-2:]
    maps = functional.pad(maps, (0, width % 2, 0, height % 2))
    a, b, c, d = (maps[..., y::2, x::2] / 2 for y in (0, 1) for x in (0, 1))
    return a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d
