"""Pham et al., *Frequency attention for knowledge distillation* (FAM-KD), WACV 2024."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from spectralkd.checks import Range
from spectralkd.losses.base import Method, Reading, Taps, cross_entropy
from spectralkd.spectra.rings import at_least_float32


@dataclass(eq=False, repr=False)
class FAM(Method):
    """CE + w × Σ over stages of the mean squared error between A(S) and the teacher's map.

    A is a frequency attention module, a batch norm and a ReLU. The module adds two paths, each
    with a learned rate r: ``r1 · F⁻¹(M · W · F(S)) + r2 · conv1×1(S)``. F is the orthonormal
    transform, W a learned complex number for each frequency and each pair of a student's and a
    teacher's channel, and M zeroes a square of low frequencies. The ReLU, the authors', cannot
    follow a teacher's map where that is negative, as the sums at the ends of WideResNet's stages
    are in many places.

    Different from the authors' code: the cross-attention that adds the next stage's map, the
    comparison of the pooled features after the last stage and the linear growth of w over the
    first 20 epochs are left out. Their W covers the whole plane and only the real part of the
    result is used; that is the same as one half plane, which is learned here. Their square lacks
    symmetry, and the real part fills half of it again: of 32×32 maps it removes DC alone, and
    nothing of maps below 20 pixels. The symmetric square here removes the same. The bias of
    their 1×1 convolution is left out, because the batch norm takes it off again.

    Args:
        weight: w; 0.8 to 5 in the authors' CIFAR-100 setups.
        cutoff: half the side of the square, as a fraction of the Nyquist frequency.
    """

    reads = "output"
    weight: Annotated[float, Range(0)] = 1.0
    cutoff: Annotated[float, Range(0, 1)] = 0.1

    def build(self, teacher: Taps, student: Taps) -> None:
        self.attention = nn.ModuleList(
            nn.Sequential(
                FrequencyAttention(s[0], *t, cutoff=self.cutoff), nn.BatchNorm2d(t[0]), nn.ReLU()
            )
            for t, s in zip(teacher.shapes, student.shapes, strict=True)
        )

    def forward(
        self, teacher: Reading, student: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        stages = zip(self.attention, teacher.maps, student.maps, strict=True)
        errors = [
            functional.mse_loss(at_least_float32(attend(s)), at_least_float32(t))
            for attend, t, s in stages
        ]
        distance = torch.stack(errors).sum()
        return {"ce": cross_entropy(student, labels), "fam": self.weight * distance}


class FrequencyAttention(nn.Module):
    """A learned filter in the Fourier plane beside a 1×1 convolution.

    Args:
        channels_in, channels_out: of the maps before and after.
        height, width: of the maps in pixels.
        cutoff: see ``FAM``.
    """

    def __init__(
        self, channels_in: int, channels_out: int, height: int, width: int, *, cutoff: float
    ) -> None:
        super().__init__()
        shape = (channels_in, channels_out, height, width // 2 + 1, 2)
        self.weight = nn.Parameter(torch.rand(shape) / (channels_in * channels_out))
        self.local = nn.Conv2d(channels_in, channels_out, 1, bias=False)
        self.rates = nn.Parameter(torch.tensor([0.5, 0.5]))
        ky, kx = torch.fft.fftfreq(height) * height, torch.fft.rfftfreq(width) * width
        square = (ky.abs().round() < int(cutoff * (height // 2)))[:, None] & (
            kx.round() < int(cutoff * (width // 2))
        )
        self.register_buffer("passes", ~square, persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C_in, H, W) → (N, C_out, H, W)."""
        maps = at_least_float32(maps)
        with torch.autocast(maps.device.type, enabled=False):
            modes = torch.fft.rfft2(maps, norm="ortho") * self.get_buffer("passes")
            mixed = torch.einsum("nihw,iohw->nohw", modes, torch.view_as_complex(self.weight))
            filtered = torch.fft.irfft2(mixed, s=maps.shape[-2:], norm="ortho")
        return self.rates[0] * filtered + self.rates[1] * self.local(maps)
