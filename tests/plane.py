"""Plain definitions on the plane of frequencies, to verify spectra against; random maps."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

SIZES = [(8, 8), (7, 7), (32, 32), (15, 15), (4, 4), (5, 9), (12, 8), (8, 12), (21, 6)]

# What every function of maps refuses, and how.
BAD_MAPS = [
    (torch.ones(8, 8, dtype=torch.int64), TypeError, "floating-point tensor, got torch.int64"),
    (torch.ones(8, 8, dtype=torch.complex64), TypeError, "got torch.complex64"),
    ([[1.0]], TypeError, "got list"),
    (torch.ones(8), ValueError, r"expected \(..., H, W\), got shape \(8,\)"),
    (torch.ones(3, 8, 3), ValueError, "at least 4×4 pixels, got 8×3"),
    (torch.full((1, 1, 4, 4), math.nan), ValueError, "got 16 NaN or infinite of 16"),
    (torch.tensor([math.inf, -math.inf] * 8).view(1, 1, 4, 4), ValueError, "16 NaN or infinite"),
]


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """White Gaussian noise of variance 1."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def field(count: int, size: int, exponent: float, seed: int = 0) -> Tensor:
    """Gaussian maps (count, 1, size, size) of power |k|^exponent; |k| of DC is taken as 1/size."""
    white = noise(count, 1, size, size, seed=seed, dtype=torch.float64)
    ky = torch.fft.fftfreq(size, dtype=torch.float64)[:, None]
    kx = torch.fft.rfftfreq(size, dtype=torch.float64)[None, :]
    k = torch.hypot(ky, kx).clamp_min(1 / size)
    return torch.fft.irfft2(torch.fft.rfft2(white) * k ** (exponent / 2), s=(size, size))


def modes_by_ring(height: int, width: int) -> dict[int, list[tuple[int, int]]]:
    """The modes (ky, kx) of each complete ring, by the definition, in exact arithmetic."""
    short = min(height, width)
    rings: dict[int, list[tuple[int, int]]] = {}
    for ky in range(-((height - 1) // 2), height // 2 + 1):
        for kx in range(-((width - 1) // 2), width // 2 + 1):
            square = 4 * short**2 * (Fraction(ky, height) ** 2 + Fraction(kx, width) ** 2)
            rings.setdefault((math.isqrt(math.floor(square)) + 1) // 2, []).append((ky, kx))
    return {r: rings[r] for r in range((short + 1) // 2)}


def transform(x: Tensor) -> Tensor:
    """The orthonormal Fourier transform (..., H, W) at [ky, kx], as the sum over pixels."""
    waves = []
    for side in x.shape[-2:]:
        k = torch.arange(side, dtype=torch.float64)
        waves.append(torch.exp(-2j * math.pi * k[:, None] * k / side) / math.sqrt(side))
    return waves[0] @ x.to(torch.complex128) @ waves[1]
