"""Which convention is this? The same maps' spectrum by every definition in use."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from spectralkd.checks import check_maps
from spectralkd.spectra.power import power_plane
from spectralkd.spectra.powerlaw import BAND, fit_power_law
from spectralkd.spectra.rings import Rings, ring_frequencies, ring_modes


class Convention(NamedTuple):
    """A definition of "the spectrum", applied.

    Attributes:
        name: as people call it.
        definition: in a formula; F are the modes of the orthonormal transform of a map.
        frequency: (R,) cycles/pixel, zero first.
        value: (R,) averaged over maps; logarithms are undone, so that all can share an axis.
        exponent: d log(value) / d log |k| over the band.
    """

    name: str
    definition: str
    frequency: Tensor
    value: Tensor
    exponent: float


@torch.no_grad()
def conventions(maps: Tensor, *, band: tuple[float, float] = BAND) -> list[Convention]:
    """The spectrum of maps by each definition, for comparing figures of different authors.

    Args:
        maps: (..., H, W) real floating point, averaged over all leading dimensions.
        band: of the exponents, in cycles/pixel.

    Raises:
        TypeError, ValueError: as ``radial_power``; fewer than three rings in the band.
    """
    check_maps("maps", maps)
    height, width = maps.shape[-2:]
    plane = power_plane(maps.reshape(-1, height, width)).double().cpu()
    rings = Rings(height, width)
    shifted = torch.fft.ifftshift(plane, (-2, -1))[..., : width // 2 + 1].flatten(1)
    index, weight = rings.index[::2], rings.weight[::2] * height * width

    def ring_mean(values: Tensor) -> Tensor:
        sums = torch.zeros(rings.count + 1, dtype=torch.float64)
        return sums.index_add(0, index, values * weight)[: rings.count]

    def fitted(name: str, definition: str, frequency: Tensor, value: Tensor) -> Convention:
        exponent = fit_power_law(frequency, value, band=band).exponent
        return Convention(name, definition, frequency, value, exponent)

    k, modes = ring_frequencies(height, width), ring_modes(height, width)
    power = ring_mean(shifted.mean(0))
    geometric = ring_mean((shifted + 1e-12).log().mean(0)).exp()
    diagonal_k, diagonal = half_diagonal(plane.mean(0))
    return [
        fitted("ring mean", "mean of |F|² over the ring", k, power),
        fitted("ring sum", "sum of |F|² over the ring", k, power * modes),
        fitted("|k| × ring mean", "the paper's", k, power * k),
        fitted("half diagonal", "|F|² at ky = kx ≥ 0, against |k|", diagonal_k, diagonal),
        fitted("amplitude", "mean of |F| over the ring", k, ring_mean(shifted.sqrt().mean(0))),
        fitted("log of mean", "log of the ring mean", k, power),
        fitted("mean of log", "mean of log |F|² over the ring and maps", k, geometric),
    ]


def half_diagonal(plane: Tensor) -> tuple[Tensor, Tensor]:
    """The values of a plane of frequencies at ky = kx >= 0, zero first.

    Args:
        plane: (..., H, W) with zero frequency at [H//2, W//2].

    Returns:
        |k| in cycles/pixel, (R,) float64, and the values (..., R), R = (min(H, W) + 1)//2. On a
        plane that is not square, the nearest column, or row, is taken.
    """
    height, width = plane.shape[-2:]
    short = min(height, width)
    steps = torch.arange((short + 1) // 2, dtype=torch.float64) / short
    row, column = ((steps * size).round().long() for size in (height, width))
    values = plane[..., height // 2 + row, width // 2 + column]
    return torch.hypot(row / height, column / width), values
