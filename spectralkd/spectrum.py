"""Radial power spectra of images and activation maps (Eqs. 1, 2, 8 and 9).

Convention. A map is transformed by the orthonormal FFT, so white noise of variance s² has
power s² at every frequency and every size. Ring r holds the modes whose length, in units of
1/min(H, W) cycles/pixel, rounds to r; the complete rings r = 0 … (min(H, W) - 1)//2 are kept,
DC first. The ring that the Nyquist frequency cuts in half and the corners beyond it are left out.

Two reductions have their users, and differ by exactly one in the exponent:

``ring="mean"``
    the mean over the ring, the physicist's power spectral density;
``ring="jacobian"``
    the mean times |k|, the ring sum up to a constant: the P(|k|) of the paper's figures, whose
    Eq. 7 carries the Jacobian |k| of the change to polar coordinates.

How it is fast: the half plane of modes is held as one real vector (re, im, re, im, …), so the
power and the cross power of a ring are products of such vectors with one fixed matrix, and maps
go through in pieces that stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import Metric

Ring = Literal["mean", "jacobian"]
Window = Literal["none", "hann"]

# Above this many pixels a dense ring matrix would not fit beside the maps, and rings are summed
# by index instead.
_DENSE_RING_PIXELS = 256 * 256
# From so many rings of all channels on, it is faster to average power over channels first.
_MANY_RINGS = 64
_CHUNK_BYTES = 2 * 2**20
_CHUNK_MAPS = 64


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


def ring_frequencies(height: int, width: int) -> Tensor:
    """Mean |k| of the modes in each complete ring.

    Args:
        height, width: size of the map in pixels, 4 or more.

    Returns:
        (R,) float64 in cycles/pixel, R = (min(height, width) + 1)//2, DC first.

    Raises:
        ValueError: a side is below 4.
    """
    _check_size(height, width)
    return _rings(height, width)[1].clone()


def ring_modes(height: int, width: int) -> Tensor:
    """Number of modes of the full plane in each complete ring, (R,) int64.

    Raises:
        ValueError: a side is below 4.
    """
    _check_size(height, width)
    return _rings(height, width)[2].clone()


def radial_power(x: Tensor, *, ring: Ring = "mean", window: Window = "none") -> Tensor:
    """Power spectrum of each map, reduced over rings of equal |k|; differentiable.

    Args:
        x: (..., H, W) real floating-point maps, H and W at least 4. Half precision is
            transformed in float32.
        ring: ``"mean"`` over the ring, or ``"jacobian"``: the mean times |k| (the paper's).
        window: ``"hann"`` removes each map's mean and tapers it, which stops the edges from
            leaking about |k|^-3 into steep spectra; it does harm below 32 pixels. The paper
            uses none.

    Returns:
        (..., R) power at ``ring_frequencies(H, W)``; white noise of variance s² gives s².

    Raises:
        TypeError: ``x`` is no floating-point tensor.
        ValueError: too few dimensions, a side below 4, a value that is not finite, or an
            unknown ``ring`` or ``window``.
    """
    check_choice("ring", ring, Ring)
    check_choice("window", window, Window)
    _check_maps("x", x)
    height, width = x.shape[-2:]
    maps = x.reshape(-1, height, width)
    power = torch.cat([_ring_power(piece, window) for piece in chunks(maps)])
    _check_finite("x", x, power)
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
        TypeError, ValueError: as ``radial_power``.
    """
    check_choice("window", window, Window)
    _check_maps("x", x)
    with torch.autocast(x.device.type, enabled=False):
        modes = torch.fft.fft2(_tapered(_at_least_float32(x), window), norm="ortho")
    power = torch.fft.fftshift(torch.view_as_real(modes).square().sum(-1), (-2, -1))
    _check_finite("x", x, power)
    return power


def ring_correlation(x: Tensor, y: Tensor, *, eps: float = 1e-12) -> Tensor:
    """Correlation of two maps at each |k|: the Fourier ring correlation inside Eq. 8.

    ``Re⟨X conj Y⟩ / sqrt(⟨|X|²⟩ ⟨|Y|²⟩)`` with ⟨·⟩ the mean over a ring (Eq. 9). It lies in
    [-1, 1], is 1 for maps that differ by a positive factor, and is differentiable.

    Args:
        x, y: (..., H, W) real floating-point maps whose shapes broadcast; H and W are equal.
        eps: ring powers are taken to be at least this (squared units of the map), so that a
            dead map correlates 0 with a finite gradient.

    Returns:
        (..., R) correlations at ``ring_frequencies(H, W)``. Element 0, DC, has a single real
        mode and can only be ±1 (or 0).

    Raises:
        TypeError, ValueError: as ``radial_power``, or the sizes of the maps differ.
    """
    _check_maps("x", x)
    _check_maps("y", y)
    if x.shape[-2:] != y.shape[-2:]:
        raise ValueError(
            f"y: expected maps of size {tuple(x.shape[-2:])} as x, got {tuple(y.shape[-2:])}"
        )
    height, width = x.shape[-2:]
    shape = torch.broadcast_shapes(x.shape, y.shape)
    dtype = torch.promote_types(x.dtype, y.dtype)
    flat_x, flat_y = (m.to(dtype).expand(shape).reshape(-1, height, width) for m in (x, y))
    pieces = []
    with torch.autocast(x.device.type, enabled=False):
        for cx, cy in zip(chunks(flat_x), chunks(flat_y), strict=True):
            cx, cy = _at_least_float32(cx), _at_least_float32(cy)
            rings = _cached_rings(height, width, cx.dtype, cx.device)
            fx, fy = rings.transform(cx), rings.transform(cy)
            pxy, pxx, pyy = (rings.mean(product) for product in (fx * fy, fx * fx, fy * fy))
            pieces.append(pxy * (pxx.clamp_min(eps) * pyy.clamp_min(eps)).rsqrt())
    correlation = torch.cat(pieces)
    _check_finite("x", x, correlation)
    _check_finite("y", y, correlation)
    return correlation.reshape(*shape[:-2], -1)


class RadialPowerSpectrum(Metric):
    """Mean radial power spectrum of a stream of maps, in constant memory.

    Power is averaged over channels first, then over images, in float64; the logarithm is left
    to the reader (the mean of logarithms sits 0.58 nat low). State is summed over processes, so
    several give the numbers of one.

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
        _check_maps("maps", maps)
        if maps.ndim != 4 or maps.shape[1] == 0:
            raise ValueError(f"maps: expected (N, C, H, W), got shape {tuple(maps.shape)}")
        if self.pool > 1:
            if min(maps.shape[-2:]) < 4 * self.pool:
                raise ValueError(
                    f"maps: expected at least {4 * self.pool} pixels a side to pool by "
                    f"{self.pool}, got {maps.shape[-2]}×{maps.shape[-1]}"
                )
            maps = functional.avg_pool2d(maps, self.pool)
        count, _, height, width = maps.shape
        if self.samples > 0 and self.size.tolist() != [height, width]:
            raise ValueError(
                f"maps: expected size {tuple(self.size.tolist())} as in earlier batches, "
                f"got {(height, width)}"
            )
        power = torch.cat([_image_power(piece, self.window) for piece in chunks(maps)]).double()
        total, total_square = (
            sums.to(self.total.device) for sums in (power.sum(0), power.square().sum(0))
        )
        _check_finite("maps", maps, total)
        if self.samples == 0:
            self.size = torch.tensor([height, width], device=self.size.device)
            self.total, self.total_square = torch.zeros_like(total), torch.zeros_like(total)
        self.total += total
        self.total_square += total_square
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
        # One image tells nothing of the spread: 0/0 is the NaN that says so.
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
    """The same spectrum in the other reduction; DC is lost on the way back from ``jacobian``.

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


def correlation_function(x: Tensor) -> tuple[Tensor, Tensor]:
    """Correlation of pixels at distance r, the C(r) of Eq. 2, of each map.

    Each map's own mean is removed (Eq. 2's constant C1 takes up what that shifts), and the map
    is not wrapped around: pairs that would reach over the edge do not count.

    Args:
        x: (..., H, W) real floating-point maps, H and W at least 4.

    Returns:
        distance: (L,) float64, mean distance in pixels of the pairs in each ring of lags of
            width one pixel, L = min(H, W)//2 + 1; element 0 is distance 0.
        correlation: (..., L) mean product of the pairs, in squared units of the map; element 0
            is the variance. Differentiable; average it over maps before normalising.

    Raises:
        TypeError, ValueError: as ``radial_power``.
    """
    _check_maps("x", x)
    height, width = x.shape[-2:]
    distance, lag_matrix = _lags(height, width)
    maps = x.reshape(-1, height, width)
    pieces = []
    with torch.autocast(x.device.type, enabled=False):
        for piece in chunks(maps):
            piece = _at_least_float32(piece)
            centred = piece - piece.mean((-2, -1), keepdim=True)
            padded = torch.fft.rfft2(centred, s=(2 * height, 2 * width))
            power = torch.view_as_real(padded).square().sum(-1)
            products = torch.fft.irfft2(power, s=(2 * height, 2 * width))
            pieces.append(products.flatten(1) @ lag_matrix.to(products))
    correlation = torch.cat(pieces)
    _check_finite("x", x, correlation)
    return distance.clone(), correlation.reshape(*x.shape[:-2], -1)


def correlation_length(distance: Tensor, correlation: Tensor) -> Tensor:
    """Distance at which a correlation function has fallen to 1/e of its value at 0.

    Args:
        distance: (L,) in pixels, growing from 0.
        correlation: (..., L), as ``correlation_function`` gives it.

    Returns:
        (...) pixels, interpolated linearly between the two rings around the crossing; infinite
        where the function does not fall so far.

    Raises:
        ValueError: the last dimensions differ.
    """
    if distance.ndim != 1 or distance.shape[-1] != correlation.shape[-1]:
        raise ValueError(
            f"distance: expected shape ({correlation.shape[-1]},) to go with correlation, "
            f"got {tuple(distance.shape)}"
        )
    level = correlation[..., :1] / torch.e
    below = correlation < level
    after = below.int().argmax(-1, keepdim=True).clamp_min(1)
    r = distance.to(correlation).expand_as(correlation)
    r0, r1 = r.gather(-1, after - 1), r.gather(-1, after)
    c0, c1 = correlation.gather(-1, after - 1), correlation.gather(-1, after)
    crossing = r0 + (r1 - r0) * (c0 - level) / (c0 - c1)
    return torch.where(below.any(-1), crossing.squeeze(-1), torch.inf)


# --- the two linear maps behind everything above -------------------------------------------------


class Rings(nn.Module):
    """The Fourier transform of maps of one size, and the means over its rings.

    A loss that transforms maps on every step holds one of these, so that its matrices move with
    it. They are made in float64: take them to the precision of the maps with ``.to``. No input
    is checked here. The transform is left unnormalised, because scaling it costs as much as a
    quarter of it: the 1/(H·W) that makes powers those of the orthonormal transform is in ``mean``.

    Args:
        height, width: of the maps.
        complete: leave out the ring cut by the Nyquist frequency and the corners beyond it. With
            ``False`` they are rings as well, the last ones.

    Attributes:
        multiplicity: (K,) how often each number of a half spectrum stands in the full plane;
            K = 2·H·(W//2 + 1).
    """

    multiplicity: Tensor
    matrix: Tensor | None
    index: Tensor | None
    weight: Tensor | None

    def __init__(self, height: int, width: int, *, complete: bool = True) -> None:
        _check_size(height, width)
        super().__init__()
        self.height, self.width = height, width
        ring, frequency, _ = _rings(height, width)
        self.count = len(frequency) if complete else int(ring.max()) + 1
        counted = _multiplicity(height, width).flatten()
        index = ring.flatten().clamp_max(self.count)
        modes = torch.zeros(self.count + 1, dtype=torch.int64).index_add_(0, index, counted)
        index, counted = (v.repeat_interleave(2) for v in (index, counted))
        weight = counted / (modes[index] * height * width).double()
        matrix = None
        if height * width <= _DENSE_RING_PIXELS:
            matrix = torch.zeros(len(index), self.count + 1, dtype=torch.float64)
            matrix = matrix.scatter_(1, index[:, None], weight[:, None])[:, : self.count]
        self.register_buffer("multiplicity", counted.double(), persistent=False)
        self.register_buffer("matrix", matrix, persistent=False)
        # The matrix holds all that index and weight say.
        self.register_buffer("index", index if matrix is None else None, persistent=False)
        self.register_buffer("weight", weight if matrix is None else None, persistent=False)

    def transform(self, maps: Tensor) -> Tensor:
        """Unnormalised Fourier transform of each map as one real vector (re, im, re, im, …).

        Args:
            maps: (N, H, W) in the precision of this module.

        Returns:
            (N, K), the modes of the half plane in ``rfft2``'s order. The scalar product of two
            such vectors over the numbers of a ring is the ring's cross power, up to a factor.
        """
        return torch.view_as_real(torch.fft.rfft2(maps)).flatten(1)

    def adjoint(self, gradient: Tensor) -> Tensor:
        """Gradient by the maps (N, H, W) from that by the modes of the whole plane, (N, K).

        H·W times the inverse of ``transform``.
        """
        pairs = torch.view_as_complex(gradient.view(len(gradient), self.height, -1, 2))
        # One dimension after the other: irfft2 would copy its input in between.
        rows = torch.fft.ifft(pairs, dim=-2, norm="forward")
        return torch.fft.irfft(rows, n=self.width, norm="forward")

    def cross_power(self, x: Tensor, y: Tensor) -> Tensor:
        """Cross power of every channel with every other at each ring, summed over images.

        Args:
            x, y: (N, C, K) and (N, D, K), as ``transform`` gives them.

        Returns:
            (R, C, D): Σ over images of Re⟨X_c conj Y_d⟩, the mean over a ring's modes.
        """
        weight, index = self.weight, self.index
        if self.matrix is not None:
            weight, index = self.matrix.sum(1), self.matrix.argmax(1)
            index = index.masked_fill(weight == 0, self.count)
        assert weight is not None
        assert index is not None
        matrices = []
        for ring in range(self.count):
            inside = (index == ring).nonzero()[:, 0]
            a, b = x[..., inside] * weight[inside], y[..., inside]
            matrices.append(a.transpose(0, 1).flatten(1) @ b.transpose(0, 1).flatten(1).T)
        return torch.stack(matrices)

    def spread(self, values: Tensor) -> Tensor:
        """A value of each ring on all its modes, over their number, (N, R) → (N, K).

        The gradient of ``mean`` by the modes of the whole plane.
        """
        if self.matrix is not None:
            return values @ (self.matrix / self.multiplicity[:, None]).T
        assert self.index is not None
        assert self.weight is not None
        padded = torch.nn.functional.pad(values, (0, 1))
        return padded[:, self.index] * (self.weight / self.multiplicity)

    def mean(self, products: Tensor) -> Tensor:
        """Mean over each ring of products of two transforms, (N, K) → (N, R)."""
        if self.matrix is not None:
            return products @ self.matrix
        assert self.index is not None
        assert self.weight is not None
        sums = products.new_zeros(len(products), self.count + 1)
        return sums.index_add(1, self.index, products * self.weight)[:, : self.count]


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _cached_rings(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Rings:
    return Rings(height, width).to(device=device, dtype=dtype)


def _ring_power(maps: Tensor, window: Window) -> Tensor:
    """Ring-mean power of each map, (N, H, W) → (N, R)."""
    maps = _tapered(_at_least_float32(maps), window)
    rings = _cached_rings(*maps.shape[-2:], maps.dtype, maps.device)
    with torch.autocast(maps.device.type, enabled=False):
        modes = rings.transform(maps)
        return rings.mean(modes.square() if modes.requires_grad else modes.square_())


def _image_power(maps: Tensor, window: Window) -> Tensor:
    """Ring-mean power of each image, averaged over channels, (N, C, H, W) → (N, R)."""
    count, channels = maps.shape[:2]
    flat = _tapered(_at_least_float32(maps.contiguous().flatten(0, 1)), window)
    rings = _cached_rings(*flat.shape[-2:], flat.dtype, flat.device)
    if channels * rings.count < _MANY_RINGS:
        return _ring_power(flat, "none").unflatten(0, (count, channels)).mean(1)
    with torch.autocast(flat.device.type, enabled=False):
        power = rings.transform(flat).square_().unflatten(0, (count, channels)).mean(1)
    return rings.mean(power)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _rings(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ring of each mode of the half plane (H, W//2+1), and each complete ring's |k| and modes."""
    short, long = min(height, width), max(height, width)
    ky = (torch.fft.fftfreq(height, dtype=torch.float64) * height).round().long()[:, None]
    kx = torch.arange(width // 2 + 1)[None, :]
    # (2·|k|·short·long)², in integers, so that no mode's ring hangs on rounding.
    length = 4 * ((ky * (long * short // height)) ** 2 + (kx * (long * short // width)) ** 2)
    ring = ((length.double().sqrt() / long + 1) / 2).floor().long()
    ring = ring - (length < ((2 * ring - 1).clamp_min(0) * long) ** 2).long()
    ring = ring + (length >= ((2 * ring + 1) * long) ** 2).long()
    counted = _multiplicity(height, width)
    k = length.double().sqrt() / (2 * short * long)
    rings = (short + 1) // 2
    modes = torch.zeros(int(ring.max()) + 1, dtype=torch.int64)
    modes = modes.index_add(0, ring.flatten(), counted.flatten())[:rings]
    total = torch.zeros(int(ring.max()) + 1, dtype=torch.float64)
    total = total.index_add(0, ring.flatten(), (k * counted).flatten())[:rings]
    return ring, total / modes, modes


def _multiplicity(height: int, width: int) -> Tensor:
    """How often each mode of the half plane stands in the full plane: 1 or 2, (H, W//2+1)."""
    counted = torch.full((height, width // 2 + 1), 2)
    counted[:, 0] = 1
    if width % 2 == 0:
        counted[:, -1] = 1
    return counted


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _lags(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Mean lag of each ring of lags (L,), and the matrix (4·H·W, L) that averages their pairs."""
    dy = (torch.fft.fftfreq(2 * height, dtype=torch.float64) * 2 * height).round().abs()[:, None]
    dx = (torch.fft.fftfreq(2 * width, dtype=torch.float64) * 2 * width).round().abs()[None, :]
    pairs = ((height - dy) * (width - dx)).flatten()
    lag = torch.sqrt(dy**2 + dx**2).flatten()
    index = (lag + 0.5).floor().long()
    rings = min(height, width) // 2 + 1
    index = index.clamp_max(rings)
    ring_pairs = torch.zeros(rings + 1, dtype=torch.float64).index_add(0, index, pairs)
    distance = torch.zeros(rings + 1, dtype=torch.float64).index_add(0, index, pairs * lag)
    matrix = torch.zeros(lag.numel(), rings + 1, dtype=torch.float64)
    matrix.scatter_(1, index[:, None], 1 / ring_pairs[index][:, None])
    return (distance / ring_pairs)[:rings], matrix[:, :rings].contiguous()


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
    frequency = _rings(height, width)[1]
    return frequency if ring == "jacobian" else torch.ones_like(frequency)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def chunks(maps: Tensor) -> Iterator[Tensor]:
    """Pieces of the first dimension that stay in cache; an accelerator takes 128 times as much.

    Of large maps up to 16 times more, so that reading the ring matrix is worth its while.
    """
    budget = _CHUNK_BYTES if maps.device.type == "cpu" else 128 * _CHUNK_BYTES
    each = max(1, maps[:1].numel() * max(4, maps.element_size()))
    several = _CHUNK_MAPS * maps.shape[-2] * maps.shape[-1] // max(1, maps[:1].numel())
    return iter(maps.split(max(1, budget // each, min(several, 16 * budget // each))))


# --- checks ---------------------------------------------------------------------------------------


def check_choice(name: str, value: object, choices: object) -> None:
    """Raise a ValueError unless ``value`` is one of a ``Literal``'s ``choices``."""
    allowed = get_args(choices)
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, allowed))}, got {value!r}")


def _check_size(height: int, width: int) -> None:
    if min(height, width) < 4:
        raise ValueError(f"expected height and width of at least 4 pixels, got {height}×{width}")


def _check_maps(name: str, x: Tensor) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name}: expected a real floating-point tensor, got {got}")
    if x.ndim < 2:
        raise ValueError(f"{name}: expected (..., H, W), got shape {tuple(x.shape)}")
    if min(x.shape[-2:]) < 4:
        raise ValueError(
            f"{name}: expected maps of at least 4×4 pixels, got {x.shape[-2]}×{x.shape[-1]}"
        )


def _check_finite(name: str, x: Tensor, result: Tensor) -> None:
    """Refuse ``x`` where it, or what was computed from it, is not finite.

    Every ring hears of every pixel, so the small result answers for the large input.
    """
    if torch.isfinite(result.detach()).all():
        return
    bad = int((~torch.isfinite(x.detach())).sum())
    if bad:
        raise ValueError(
            f"{name}: expected finite values, got {bad} NaN or infinite of {x.numel()}"
        )
    largest = float(x.detach().abs().max())
    if largest > torch.finfo(result.dtype).max ** 0.5 / (x.shape[-2] * x.shape[-1]):
        raise ValueError(
            f"{name}: expected values whose squares {result.dtype} can hold, got up to {largest:g}"
        )
