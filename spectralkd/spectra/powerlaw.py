"""Power laws fitted to spectra (Eq. 1) and to correlation functions (Eq. 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

# Cycles/pixel. Below it lie few rings of a 32×32 map, of few modes each.
BAND = (1 / 8, 1 / 2)


@dataclass(frozen=True)
class PowerLaw:
    """P(|k|) = A |k|^exponent over a band (Eq. 1).

    Attributes:
        exponent: the α of Eq. 1, for the ring reduction the power was computed with.
        stderr: standard error of the exponent, if the rings scatter independently about the line;
            of a curved spectrum it says how curved it is.
        log_amplitude: ln A, the natural logarithm of the power at |k| = 1 cycle/pixel.
        r_squared: fraction of the variance of ln P that the line explains.
        band: the half-open band of frequencies that was fitted, in cycles/pixel.
    """

    exponent: float
    stderr: float
    log_amplitude: float
    r_squared: float
    band: tuple[float, float]

    def __call__(self, frequency: Tensor) -> Tensor:
        """The fitted power at ``frequency`` (cycles/pixel)."""
        return math.exp(self.log_amplitude) * frequency**self.exponent


@dataclass(frozen=True)
class CorrelationLaw:
    """C(r) = C1 + C2 r^-(2 + exponent) over a band of distances (Eq. 2).

    Attributes:
        exponent: the α of Eq. 2, the exponent of the power spectrum's ring *mean*.
        offset, amplitude: C1 and C2, in the units of the correlation.
        r_squared: fraction of the variance of C that the law explains.
        band: the half-open band of distances that was fitted, in pixels.
    """

    exponent: float
    offset: float
    amplitude: float
    r_squared: float
    band: tuple[float, float]

    def __call__(self, distance: Tensor) -> Tensor:
        """The fitted correlation at ``distance`` (pixels)."""
        return self.offset + self.amplitude * distance ** -(2 + self.exponent)


def fit_power_law(
    frequency: Tensor, power: Tensor, *, band: tuple[float, float] = BAND
) -> PowerLaw:
    """Fit a line to ln P against ln |k|; every ring weighs the same.

    How much the exponent varies with the images is another question than its ``stderr``:
    ``analysis.bands.bootstrap_exponents``.

    Args:
        frequency: (R,) in cycles/pixel.
        power: (R,) positive within the band.
        band: fit where band[0] <= frequency < band[1]; DC is never included.

    Raises:
        ValueError: shapes differ; the band is not one of 0 <= low < high or holds fewer than 3
            rings; a power in it is not positive and finite.
    """
    frequency, power = _vector("frequency", frequency), _vector("power", power)
    x, y = _in_band("frequency", frequency, "power", power, band, "rings")
    if not (torch.isfinite(y).all() and (y > 0).all()):
        raise ValueError(
            f"power: expected positive, finite values within the band, got {y.tolist()}"
        )
    slope, intercept, r_squared, residual, spread = _line(x.log(), y.log())
    variance = residual / (len(x) - 2) / spread
    return PowerLaw(slope, math.sqrt(variance), intercept, r_squared, band)


def fit_correlation_law(
    distance: Tensor,
    correlation: Tensor,
    exponent: float,
    *,
    band: tuple[float, float] = (1, 8),
) -> CorrelationLaw:
    """Fit C1 and C2 of Eq. 2 at a given exponent, by least squares.

    Args:
        distance: (L,) in pixels.
        correlation: (L,) as ``correlation_function`` gives it, averaged over maps.
        exponent: the α of Eq. 2. Not -2, where the law is a constant.
        band: fit where band[0] <= distance < band[1].

    Raises:
        ValueError: shapes differ; the band is not one of 0 <= low < high or holds fewer than 3
            distances; a value in it is not finite or too large to be squared; the exponent is -2.
    """
    if exponent == -2:
        raise ValueError("exponent: expected any number but -2, where C2 r^-(2+α) is constant")
    distance, correlation = _vector("distance", distance), _vector("correlation", correlation)
    r, c = _in_band("distance", distance, "correlation", correlation, band, "distances")
    if not torch.isfinite(c).all():
        raise ValueError("correlation: expected finite values within the band")
    amplitude, offset, r_squared, _, _ = _line(r ** -(2 + exponent), c)
    return CorrelationLaw(exponent, offset, amplitude, r_squared, band)


def _line(x: Tensor, y: Tensor) -> tuple[float, float, float, float, float]:
    """Least squares: slope, intercept, R², squared residual, spread of x."""
    mean_x, mean_y = x.mean(), y.mean()
    spread = (x - mean_x).square().sum()
    slope = ((x - mean_x) * (y - mean_y)).sum() / spread
    intercept = mean_y - slope * mean_x
    residual = float((y - intercept - slope * x).square().sum())
    variation = float((y - mean_y).square().sum())
    r_squared = 1 - residual / variation if variation > 0 else 1.0
    found = float(slope), float(intercept), r_squared, residual, float(spread)
    if not (all(map(math.isfinite, found)) and spread > 0):
        raise ValueError(
            f"band: expected values in it that differ and whose squares float64 can hold, got "
            f"{x.tolist()} and {y.tolist()}"
        )
    return found


def _vector(name: str, values: Tensor) -> Tensor:
    values = torch.as_tensor(values).detach().cpu().double()
    if values.ndim != 1:
        raise ValueError(f"{name}: expected one dimension, got shape {tuple(values.shape)}")
    return values


def _in_band(
    x_name: str, x: Tensor, y_name: str, y: Tensor, band: tuple[float, float], what: str
) -> tuple[Tensor, Tensor]:
    if x.shape != y.shape:
        raise ValueError(
            f"{y_name}: expected shape {tuple(x.shape)} as {x_name}, got {tuple(y.shape)}"
        )
    check_band(band)
    low, high = band
    inside = (x >= low) & (x < high) & (x > 0)
    count = len(x[inside].unique())
    if count < 3:
        raise ValueError(
            f"band: expected at least 3 {what} in [{low:g}, {high:g}), got {count} "
            f"of {', '.join(f'{v:.3g}' for v in x.tolist())}"
        )
    return x[inside], y[inside]


def check_band(band: tuple[float, float]) -> None:
    """Raise a ValueError unless 0 <= low < high."""
    numbers = isinstance(band, Sequence) and all(isinstance(end, Real) for end in band)
    if not (numbers and len(band) == 2 and 0 <= band[0] < band[1]):
        raise ValueError(f"band: expected (low, high), 0 <= low < high, got {band!r}")
