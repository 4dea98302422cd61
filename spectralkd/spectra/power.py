"""Radial power spectra of maps and of data sets (Eq. 1).

Two reductions over a ring are in use; their exponents differ by exactly one:

``ring="mean"``
    the mean over the ring, the physicist's power spectral density;
``ring="jacobian"``
    the mean times |k|: the P(|k|) of the paper's figures, whose Eq. 7 carries the Jacobian |k| of
    the change to polar coordinates. Up to a constant it is the sum over a ring, but
    for the number of a ring's modes, which scatters about 2π|k|.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric

from spectralkd.checks import check_choice, check_finite, check_maps, check_not_lost
from spectralkd.spectra.rings import (
    at_least_float32,
    cached_rings,
    chunks,
    ring_frequencies,
    ring_modes,
)

Ring = Literal["mean", "jacobian"]
Window = Literal["none", "hann"]

# With so many rings, counted over all channels, averaging over channels first is faster.
_MANY_RINGS = 64


class Spectrum(NamedTuple):
    """The mean radial power spectrum of a set of maps; R = (min(H, W) + 1)//2 rings.

    Attributes:
        frequency: (R,) float64, mean |k| of each ring's modes in cycles/pixel; element 0 is DC.
        power: (R,) float64, in squared units of the map; times |k| where ``ring="jacobian"``.
        stderr: (R,) float64, standard error of ``power`` over images (the channels of one image
            are averaged first: they are not independent). NaN for a single image.
        modes: (R,) int64, modes of the full H×W plane in each ring.
        samples: number of images.
        ring: the reduction, ``"mean"`` or ``"jacobian"``.
    """

    frequency: Tensor
    power: Tensor
    stderr: Tensor
    modes: Tensor
    samples: int
    ring: Ring = "mean"


def radial_power(x: Tensor, *, ring: Ring = "mean", window: Window = "none") -> Tensor:
    """Power spectrum of each map, reduced over rings of equal |k|; differentiable.

    Maps have two dimensions and square pixels: a volume is taken as a stack of maps, and pixels
    of unequal sides are to be resampled before.

    Args:
        x: (..., H, W) real floating-point maps, H and W at least 4. Half precision is
            transformed in float32.
        ring: ``"mean"`` over the ring, or ``"jacobian"``: the mean times |k| (the paper's).
        window: ``"hann"`` removes each map's mean and tapers it, so that the step between
            opposite edges does not leak power of about |k|^-3 into steep spectra; it distorts
            spectra of maps below 32 pixels. The paper uses none.

    Returns:
        (..., R) power at ``ring_frequencies(H, W)``; white noise of variance s² gives s².

    Raises:
        TypeError: ``x`` is not a real floating-point tensor.
        ValueError: too few dimensions, a side below 4, a value that is not finite or whose square
            is out of the precision's range, or an unknown ``ring`` or ``window``.
    """
    check_choice("ring", ring, Ring)
    check_choice("window", window, Window)
    check_maps("x", x)
    height, width = x.shape[-2:]
    maps = x.reshape(-1, height, width)
    power = torch.cat([_ring_power(piece, window) for piece in chunks(maps)])
    check_finite("x", x, power)
    check_not_lost("x", maps, power, centered=window != "none")
    scale = _ring_scale(ring, height, width).to(power)
    return (power * scale).reshape(*x.shape[:-2], -1)


def power_plane(x: Tensor, *, window: Window = "none") -> Tensor:
    """Power at every frequency of the plane, of which ``radial_power`` is the ring mean.

    Args:
        x, window: as ``radial_power``.

    Returns:
        (..., H, W) power, zero frequency at [H//2, W//2]; frequencies are
        ``fftshift(fftfreq(H))`` and ``fftshift(fftfreq(W))`` cycles/pixel.

    Raises:
        TypeError, ValueError: as ``radial_power``, except that values whose squares vanish are not
            refused.
    """
    check_choice("window", window, Window)
    check_maps("x", x)
    with torch.autocast(x.device.type, enabled=False):
        modes = torch.fft.fft2(_tapered(at_least_float32(x), window), norm="ortho")
    power = torch.fft.fftshift(torch.view_as_real(modes).square().sum(-1), (-2, -1))
    check_finite("x", x, power)
    return power


class RadialPowerSpectrum(Metric):
    """Mean radial power spectrum of a stream of maps, in constant memory.

    Power is averaged over channels first, then over images, in float64. Take its logarithm
    afterwards: the mean logarithm of single Gaussian modes is lower by 0.58. State is summed
    over processes, each of which needs a batch, so that several give the same result as one.

    Args:
        ring, window: as ``radial_power``.
        pool: average-pool each map by this factor first, as Fig. 1 does; frequencies are then in
            cycles per pooled pixel.

    Raises:
        ValueError: an unknown ``ring`` or ``window``, or ``pool`` below 1.

    Example:
        >>> spectrum = RadialPowerSpectrum(ring="jacobian")
        >>> for maps in (torch.randn(8, 3, 32, 32), torch.randn(8, 3, 32, 32)):
        ...     spectrum.update(maps)
        >>> spectrum.compute().power.shape
        torch.Size([16])
    """

    full_state_update = True
    is_differentiable = False
    higher_is_better = None

    total: Tensor
    total_square: Tensor
    samples: Tensor
    size: Tensor

    def __init__(
        self, *, ring: Ring = "mean", window: Window = "none", pool: int = 1, **kwargs: Any
    ) -> None:
        check_choice("ring", ring, Ring)
        check_choice("window", window, Window)
        if pool < 1:
            raise ValueError(f"pool: expected a factor of at least 1, got {pool}")
        super().__init__(**kwargs)
        self.ring: Ring = ring
        self.window: Window = window
        self.pool = pool
        # Sums over images of the ring power and of its square; sized by the first update.
        self.add_state("total", torch.zeros(0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("total_square", torch.zeros(0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("samples", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("size", torch.zeros(2, dtype=torch.int64), dist_reduce_fx="max")

    @torch.no_grad()
    def update(self, maps: Tensor) -> None:
        """Add the maps of a batch of images.

        Args:
            maps: (N, C, H, W) real floating point; H and W the same in every batch. They may
                live on another device than the metric.

        Raises:
            TypeError, ValueError: as ``radial_power``; not four dimensions; another size than
                before. The state is then what it was.
        """
        check_maps("maps", maps)
        if maps.ndim != 4:
            raise ValueError(f"maps: expected (N, C, H, W), got shape {tuple(maps.shape)}")
        if self.pool > 1:
            if min(maps.shape[-2:]) < 4 * self.pool:
                raise ValueError(
                    f"maps: expected at least {4 * self.pool} pixels a side to pool by "
                    f"{self.pool}, got {maps.shape[-2]}×{maps.shape[-1]}"
                )
            maps = functional.avg_pool2d(at_least_float32(maps), self.pool)
        count, _, height, width = maps.shape
        if self.samples > 0 and self.size.tolist() != [height, width]:
            raise ValueError(
                f"maps: expected size {tuple(self.size.tolist())} as in earlier batches, "
                f"got {(height, width)}"
            )
        power = torch.cat([_image_power(piece, self.window) for piece in chunks(maps)])
        power = power.to(self.total.device)  # small; the checks then wait for no device but once
        check_finite("maps", maps, power)
        check_not_lost("maps", maps, power, centered=self.window != "none")
        sums = torch.stack([power.double(), power.double().square()]).sum(1)
        if self.samples > 0:
            sums += torch.stack([self.total, self.total_square])
        check_finite("maps", maps, sums)
        if self.samples == 0:
            self.size = torch.tensor([height, width], device=self.size.device)
        self.total, self.total_square = sums
        self.samples += count

    def compute(self) -> Spectrum:
        """The spectrum of all images so far.

        Raises:
            ValueError: no image was added.
        """
        count = int(self.samples)
        if count == 0:
            raise ValueError("expected at least one image, got an empty data set")
        height, width = self.size.tolist()
        mean = self.total.cpu() / count
        variance = (self.total_square.cpu() / count - mean.square()).clamp_min(0)
        # A single image has no spread over images.
        stderr = (variance / (count - 1)).sqrt() if count > 1 else torch.full_like(mean, torch.nan)
        scale = _ring_scale(self.ring, height, width)
        return Spectrum(
            frequency=ring_frequencies(height, width),
            power=mean * scale,
            stderr=stderr * scale,
            modes=ring_modes(height, width),
            samples=count,
            ring=self.ring,
        )


def with_ring(spectrum: Spectrum, ring: Ring) -> Spectrum:
    """The same spectrum in the other reduction; DC becomes NaN from ``jacobian`` to ``mean``.

    Raises:
        ValueError: an unknown ``ring``.
    """
    check_choice("ring", ring, Ring)
    if ring == spectrum.ring:
        return spectrum
    k = spectrum.frequency
    scale = k if ring == "jacobian" else 1 / k
    return spectrum._replace(
        power=spectrum.power * scale, stderr=spectrum.stderr * scale, ring=ring
    )


def _ring_power(maps: Tensor, window: Window) -> Tensor:
    """Ring-mean power of each map, (N, H, W) → (N, R)."""
    with torch.autocast(maps.device.type, enabled=False):
        maps = _tapered(at_least_float32(maps), window)
        height, width = maps.shape[-2:]
        rings = cached_rings(height, width, maps.dtype, maps.device)
        modes = rings.transform(maps)
        return rings.mean(modes.square() if modes.requires_grad else modes.square_())


def _image_power(maps: Tensor, window: Window) -> Tensor:
    """Ring-mean power of each image, averaged over channels, (N, C, H, W) → (N, R)."""
    count, channels = maps.shape[:2]
    with torch.autocast(maps.device.type, enabled=False):
        flat = _tapered(at_least_float32(maps.contiguous().flatten(0, 1)), window)
        height, width = flat.shape[-2:]
        rings = cached_rings(height, width, flat.dtype, flat.device)
        if channels * rings.count < _MANY_RINGS:
            return _ring_power(flat, "none").unflatten(0, (count, channels)).mean(1)
        power = rings.transform(flat).square_().unflatten(0, (count, channels)).mean(1)
        return rings.mean(power)


def _hann(height: int, width: int) -> Tensor:
    """Separable Hann window of unit mean square, (H, W): white noise keeps its power."""
    window = torch.outer(
        torch.hann_window(height, dtype=torch.float64),
        torch.hann_window(width, dtype=torch.float64),
    )
    return window / window.square().mean().sqrt()


def _tapered(maps: Tensor, window: Window) -> Tensor:
    if window == "none":
        return maps
    return (maps - maps.mean((-2, -1), keepdim=True)) * _hann(*maps.shape[-2:]).to(maps)


def _ring_scale(ring: Ring, height: int, width: int) -> Tensor:
    frequency = ring_frequencies(height, width)
    return frequency if ring == "jacobian" else torch.ones_like(frequency)
