"""Correlations of maps: at each |k| (Eqs. 8, 9) and at a distance (Eq. 2)."""

from __future__ import annotations

import torch
from torch import Tensor

from spectralkd.checks import check_finite, check_maps, check_not_lost
from spectralkd.spectra.cache import cached
from spectralkd.spectra.rings import Rings, at_least_float32, cached_rings, chunks


def ring_correlation(x: Tensor, y: Tensor, *, eps: float = 1e-12) -> Tensor:
    """Correlation of two maps at each |k|: the Fourier ring correlation inside Eq. 8.

    ``Re⟨X conj Y⟩ / sqrt(⟨|X|²⟩ ⟨|Y|²⟩)`` with ⟨·⟩ the mean over a ring (Eq. 9). It lies in
    [-1, 1], is 1 for maps that differ by a positive factor, and is differentiable. Like
    ``radial_power`` it is for maps of two dimensions with square pixels; there is no Fourier
    shell correlation of volumes.

    Args:
        x, y: (..., H, W) real floating-point maps of one size, whose shapes broadcast.
        eps: least ring power, relative to the mean over the map's rings, above 0. Below it, a
            ring's correlation tends to 0: the rings of a constant map hold rounding errors only.
            A map of zeros correlates 0, with gradient 0.

    Returns:
        (..., R) correlations at ``ring_frequencies(H, W)``. Element 0, DC, has a single real
        mode and is ±1, unless it is below ``eps``.

    Raises:
        TypeError: maps that are no dense tensor of floating-point numbers.
        ValueError: maps below 4×4 pixels, none, or not finite; their sizes differ or their shapes
            do not broadcast; ``eps`` is not positive.
    """
    check_maps("x", x)
    check_maps("y", y)
    if x.shape[-2:] != y.shape[-2:]:
        raise ValueError(
            f"y: expected maps of size {tuple(x.shape[-2:])} as x, got {tuple(y.shape[-2:])}"
        )
    if not eps > 0:
        raise ValueError(f"eps: expected a number above 0, got {eps}")
    height, width = x.shape[-2:]
    try:
        shape = torch.broadcast_shapes(x.shape, y.shape)
    except RuntimeError:
        raise ValueError(
            f"y: expected a shape that broadcasts with x's {tuple(x.shape)}, got {tuple(y.shape)}"
        ) from None
    dtype = torch.promote_types(x.dtype, y.dtype)
    flat_x, flat_y = (m.to(dtype).expand(shape).reshape(-1, height, width) for m in (x, y))
    pieces = []
    with torch.autocast(x.device.type, enabled=False):
        for cx, cy in zip(chunks(flat_x), chunks(flat_y), strict=True):
            cx, cy = at_least_float32(cx), at_least_float32(cy)
            rings = cached_rings(height, width, cx.dtype, cx.device)
            (fx, pxx), (fy, pyy) = _transformed(cx, rings), _transformed(cy, rings)
            pxy = rings.mean(fx * fy)
            pieces.append(pxy * _inverse_root(pxx, eps) * _inverse_root(pyy, eps))
    correlation = torch.cat(pieces)
    if not torch.isfinite(correlation.detach()).all():
        name, maps = ("y", y) if torch.isfinite(x.detach()).all() else ("x", x)
        check_finite(name, maps, correlation)
    return correlation.reshape(*shape[:-2], -1)


def _transformed(maps: Tensor, rings: Rings) -> tuple[Tensor, Tensor]:
    """The transform (N, K) of maps (N, H, W) and their ring powers (N, R).

    Where the powers of one of them, or their gradients, could over- or underflow, all are those
    of maps over their largest values, which correlate the same.
    """
    modes = rings.transform(maps)
    power = rings.mean(modes * modes)
    mean, least = power.detach().mean(1), torch.finfo(power.dtype).tiny ** 0.4
    safe = (mean > least) & (mean < 1 / least)
    if not maps.detach()[~safe].any():
        return modes, power
    largest = maps.detach().abs().amax((-2, -1), keepdim=True)
    modes = rings.transform(maps / torch.where(largest > 0, largest, 1))
    return modes, rings.mean(modes * modes)


def _inverse_root(power: Tensor, eps: float) -> Tensor:
    """1/sqrt of ring powers (N, R), at least ``eps`` of their mean; 0 for maps of zeros."""
    mean = power.detach().mean(1, keepdim=True)
    scale = torch.where(mean > 0, mean, 1)
    # The gradient of a root cubes it, which powers relative to their mean can bear.
    root = (power / scale).clamp_min(eps).rsqrt() * scale.rsqrt()
    return torch.where(mean > 0, root, 0)


def correlation_function(x: Tensor) -> tuple[Tensor, Tensor]:
    """Correlation of pixels at distance r, the C(r) of Eq. 2, of each map.

    Each map's own mean is removed, which shifts Eq. 2's constant C1 and little else. The map is
    not wrapped around: pairs of pixels across its edges do not count.

    Args:
        x: (..., H, W) real floating-point maps, H and W at least 4.

    Returns:
        distance: (L,) float64, mean distance in pixels of the pairs in each ring of lags of
            width one pixel, L = min(H, W)//2 + 1; element 0 is distance 0.
        correlation: (..., L) mean product of the pairs, in squared units of the map; element 0
            is the variance. Differentiable; average it over maps before normalizing.

    Raises:
        TypeError, ValueError: as ``radial_power``.
    """
    check_maps("x", x)
    height, width = x.shape[-2:]
    distance, lag_matrix = _lags(height, width)
    maps = x.reshape(-1, height, width)
    pieces = []
    with torch.autocast(x.device.type, enabled=False):
        for piece in chunks(maps):
            piece = at_least_float32(piece)
            centered = piece - piece.mean((-2, -1), keepdim=True)
            padded = torch.fft.rfft2(centered, s=(2 * height, 2 * width))
            power = torch.view_as_real(padded).square().sum(-1)
            products = torch.fft.irfft2(power, s=(2 * height, 2 * width))
            pieces.append(torch.sparse.mm(lag_matrix.to(products), products.flatten(1).T).T)
    correlation = torch.cat(pieces)
    check_finite("x", x, correlation)
    check_not_lost("x", maps, correlation[:, :1], centered=True)
    return distance.clone(), correlation.reshape(*x.shape[:-2], -1)


def correlation_length(distance: Tensor, correlation: Tensor) -> Tensor:
    """Distance at which a correlation function has fallen to 1/e of its value at 0.

    Args:
        distance: (L,) in pixels, growing from 0.
        correlation: (..., L), as ``correlation_function`` gives it.

    Returns:
        (...) pixels, interpolated linearly between the two rings around the crossing; infinite
        where the function does not fall to 1/e.

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


@cached
@torch.inference_mode(False)
def _lags(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Mean lag of each ring of lags (L,), and the matrix (L, 4·H·W) that averages their pairs.

    The matrix is sparse: it has one entry a lag.
    """
    dy = (torch.fft.fftfreq(2 * height, dtype=torch.float64) * 2 * height).round().abs()[:, None]
    dx = (torch.fft.fftfreq(2 * width, dtype=torch.float64) * 2 * width).round().abs()[None, :]
    pairs = ((height - dy) * (width - dx)).flatten()
    lag = torch.sqrt(dy**2 + dx**2).flatten()
    rings = min(height, width) // 2 + 1
    index = (lag + 0.5).floor().long().clamp_max(rings)
    ring_pairs = torch.zeros(rings + 1, dtype=torch.float64).index_add(0, index, pairs)
    distance = torch.zeros(rings + 1, dtype=torch.float64).index_add(0, index, pairs * lag)
    (inside,) = (index < rings).nonzero(as_tuple=True)
    index = index[inside]
    # As a block: where the argument check_invariants asks for it, torch 2.11 warns.
    with torch.sparse.check_sparse_tensor_invariants():
        matrix = torch.sparse_coo_tensor(
            torch.stack([index, inside]), 1 / ring_pairs[index], (rings, lag.numel())
        )
    return (distance / ring_pairs)[:rings], matrix.coalesce()
