"""How much an exponent depends on the band it is read in, and on the images it is read from."""

from __future__ import annotations

import torch
from torch import Tensor

from spectralkd.spectra.power import Spectrum
from spectralkd.spectra.powerlaw import BAND, fit_power_law

LEAST_RINGS = 3


def band_grid(spectrum: Spectrum) -> Tensor:
    """The exponent in every band of three or more neighboring rings, DC left out.

    Args:
        spectrum: of R rings.

    Returns:
        (R, R) float64: element [i, j] is the exponent over rings i to j, both included; NaN where
        these are fewer than three rings or begin with DC.
    """
    k, power = spectrum.frequency, spectrum.power
    grid = torch.full((len(k), len(k)), torch.nan, dtype=torch.float64)
    for first in range(1, len(k)):
        for last in range(first + LEAST_RINGS - 1, len(k)):
            rings = slice(first, last + 1)
            fit = fit_power_law(k[rings], power[rings], band=(0, 1))
            grid[first, last] = fit.exponent
    return grid


def bootstrap_exponents(
    frequency: Tensor,
    power: Tensor,
    *,
    groups: Tensor | None = None,
    band: tuple[float, float] = BAND,
    samples: int = 200,
    seed: int = 0,
) -> Tensor:
    """Exponents of the mean spectrum over images that are drawn anew, with replacement.

    Their standard deviation is the exponent's error over images, while the error of a single fit
    is the scatter of rings about the line.

    Args:
        frequency: (R,) in cycles/pixel.
        power: (N, R) of each image.
        groups: (N,) int64, images that are not independent of one another, such as crops of one
            photograph: whole groups are drawn. Default: each image by itself.
        band: in cycles/pixel.
        samples: number of draws.
        seed: of the draws.

    Returns:
        (samples,) float64.

    Raises:
        ValueError: shapes that do not agree; a single group or image; the band holds fewer than
            3 rings.
    """
    if power.ndim != 2 or power.shape[1:] != frequency.shape:
        raise ValueError(
            f"power: expected (N, R) with R = {len(frequency)} frequencies, got "
            f"{tuple(power.shape)}"
        )
    groups = torch.arange(len(power)) if groups is None else groups.unique(return_inverse=True)[1]
    if groups.shape != power.shape[:1]:
        raise ValueError(f"groups: expected ({len(power)},), got {tuple(groups.shape)}")
    count = int(groups.max()) + 1
    if count < 2:
        raise ValueError(f"groups: expected at least two to draw from, got {count}")
    sums = torch.zeros(count, power.shape[1], dtype=torch.float64)
    sums = sums.index_add(0, groups, power.double())
    images = torch.bincount(groups, minlength=count).double()
    drawn = torch.randint(count, (samples, count), generator=torch.Generator().manual_seed(seed))
    ones = torch.ones_like(drawn, dtype=torch.float64)
    weight = torch.zeros_like(ones).scatter_add_(1, drawn, ones)  # how often each was drawn
    means = (weight @ sums) / (weight @ images)[:, None]
    fits = [fit_power_law(frequency, mean, band=band).exponent for mean in means]
    return torch.tensor(fits, dtype=torch.float64)
