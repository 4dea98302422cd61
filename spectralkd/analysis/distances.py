"""Distances between two maps as the losses compute them, and distortions to try them on.

The teacher F_T is a pre-ReLU map. As in the loss, every distance here compares a student R_S with
Overhaul's R_T = max(F_T, margin).
"""

from __future__ import annotations

import math
import zlib
from typing import NamedTuple

import torch
from torch import Tensor

from spectralkd.checks import check_maps
from spectralkd.losses import overhaul
from spectralkd.losses.spectral import cross_power_dissimilarity, spectral_l1
from spectralkd.spectra.correlation import ring_correlation
from spectralkd.spectra.rings import cached_rings, ring_frequencies


class Distances(NamedTuple):
    """Five distances between R_T and R_S, each computed by its loss's own function.

    Attributes:
        l1: mean of |R_S - R_T| over elements, in map units.
        l2: mean of its square, in map units².
        partial_l2: Overhaul's, over the number of elements, in map units².
        spectral_l1: L_L1 over the number of elements, in map units: that of ``Spectral`` with
            ``l1_reduction="mean"``.
        cps: L_CPS of Eq. 8, in [0, 2].
    """

    l1: float
    l2: float
    partial_l2: float
    spectral_l1: float
    cps: float


# --- maps -----------------------------------------------------------------------------------------


def perturb(
    maps: Tensor,
    *,
    shift: int = 0,
    blur: float = 0.0,
    scramble: tuple[float, float] = (0.0, 0.0),
    flip: float = 0.0,
    noise: float = 0.0,
    seed: int = 0,
) -> Tensor:
    """Distort maps, in the order of the arguments; edges wrap around, as for the FFT.

    Args:
        maps: (..., H, W) float32 or float64.
        shift: to the right, in pixels.
        blur: σ of a Gaussian in pixels: the mode k is multiplied by exp(-2π²σ²|k|²).
        scramble: (low, high) in cycles/pixel: modes with low <= |k| < high keep their power and
            get random phases; default: no modes.
        flip: fraction of elements whose sign is flipped, in [0, 1].
        noise: standard deviation of added white noise, relative to each map's own.
        seed: random seed of phases, signs and noise, which do not depend on the strengths.

    Returns:
        New maps of the same shape.

    Raises:
        TypeError: ``maps`` is not a real floating-point tensor.
        ValueError: too few dimensions, a side below 4, or a strength out of range.
    """
    check_maps("maps", maps)
    for name, value, most in (("blur", blur, math.inf), ("flip", flip, 1), ("noise", noise, 1e3)):
        if not 0 <= value <= most:
            raise ValueError(f"{name}: expected a number from 0 to {most:g}, got {value:g}")
    generator = _generator("perturb", seed)
    phases, white = (torch.randn(maps.shape, generator=generator).to(maps) for _ in range(2))
    chance = torch.rand(maps.shape, generator=generator).to(maps)
    result = maps.roll(shift, -1)
    low, high = scramble
    if blur or low < high:
        height, width = maps.shape[-2:]
        ky = torch.fft.fftfreq(height, dtype=maps.dtype, device=maps.device)[:, None]
        k = torch.hypot(ky, torch.fft.rfftfreq(width, dtype=maps.dtype, device=maps.device))
        modes = torch.fft.rfft2(result) * torch.exp(-2 * (math.pi * blur * k).square())
        turned = modes.abs() * torch.sgn(torch.fft.rfft2(phases))
        modes = torch.where((k >= low) & (k < high), turned, modes)
        result = torch.fft.irfft2(modes, s=(height, width))
    result = torch.where(chance < flip, -result, result)
    return result + noise * _deviation(maps) * white


def scrambled_rings(maps: Tensor, *, seed: int = 0) -> list[Tensor]:
    """The maps with random phases in one ring, for each of the R - 1 complete rings beyond DC.

    Args:
        maps, seed: as ``perturb``.
    """
    size = min(maps.shape[-2:])
    return [
        perturb(maps, scramble=((ring - 0.5) / size, (ring + 0.5) / size), seed=seed)
        for ring in range(1, len(ring_frequencies(*maps.shape[-2:])))
    ]


def white_noise(maps: Tensor, *, seed: int = 0) -> Tensor:
    """White noise with each map's mean and deviation: a student that learned nothing else.

    Args:
        maps: (..., H, W) float32 or float64.

    Raises:
        TypeError, ValueError: as ``perturb``.
    """
    check_maps("maps", maps)
    white = torch.randn(maps.shape, generator=_generator("white noise", seed)).to(maps)
    return maps.mean((-2, -1), keepdim=True) + _deviation(maps) * white


# --- distances ------------------------------------------------------------------------------------


def compare(teacher: Tensor, student: Tensor, *, margin: float) -> Distances:
    """All distances between R_T = max(``teacher``, ``margin``) and R_S = ``student``.

    Args:
        teacher, student: (..., H, W) float32 or float64 of one shape, H and W at least 4.
        margin: of the margin ReLU, in map units; ``-math.inf`` leaves the teacher unchanged.

    Raises:
        TypeError: ``teacher`` is not a real floating-point tensor.
        ValueError: the shapes differ, or the maps are below 4 pixels.
    """
    check_maps("teacher", teacher)
    target = _target(teacher, student, margin)
    height, width = target.shape[-2:]
    rings = cached_rings(height, width, target.dtype, target.device)
    ft, fs = (rings.transform(m.reshape(-1, height, width)) for m in (target, student))
    count = target.numel()
    return Distances(
        l1=float((student - target).abs().mean()),
        l2=float((student - target).square().mean()),
        partial_l2=float(overhaul.partial_l2(target, student)) / count,
        spectral_l1=float(spectral_l1(ft, fs, rings)) / count,
        cps=float(cross_power_dissimilarity(ft[:, None], fs[:, None], rings)),
    )


def relative(teacher: Tensor, student: Tensor, *, margin: float) -> Distances:
    """``compare``, each distance divided by that between R_T and its ``white_noise``.

    Args, Raises: as ``compare``.
    """
    found = compare(teacher, student, margin=margin)
    noise = compare(teacher, white_noise(teacher.clamp_min(margin)), margin=margin)
    return Distances(*(a / b for a, b in zip(found, noise, strict=True)))


def partial_cost(teacher: Tensor, student: Tensor, *, margin: float) -> Tensor:
    """Each element's part of the partial L2; 0 where R_S <= R_T <= 0.

    Args, Raises: as ``compare``, but maps of any shape.

    Returns:
        Of the same shape, in map units²; its mean is ``Distances.partial_l2``.
    """
    target = _target(teacher, student, margin)
    return overhaul.partial_difference(target, student).square()


def correlation(teacher: Tensor, student: Tensor, *, margin: float) -> Tensor:
    """Ring correlation of R_T and R_S, mean over maps.

    L_CPS is 1 minus its mean over rings.

    Args, Raises: as ``compare``.

    Returns:
        (R - 1,) at ``ring_frequencies(H, W)[1:]``: without DC.
    """
    rings = ring_correlation(_target(teacher, student, margin), student)
    return rings.flatten(0, -2).mean(0)[1:]


# --- parts ----------------------------------------------------------------------------------------


def _generator(purpose: str, seed: int) -> torch.Generator:
    """Random numbers independent of maps that were drawn with the same seed."""
    return torch.Generator().manual_seed(zlib.crc32(f"{purpose} {seed}".encode()))


def _deviation(maps: Tensor) -> Tensor:
    return maps.std((-2, -1), keepdim=True, correction=0)


def _target(teacher: Tensor, student: Tensor, margin: float) -> Tensor:
    if student.shape != teacher.shape:
        raise ValueError(
            f"student: expected shape {tuple(teacher.shape)} as the teacher, "
            f"got {tuple(student.shape)}"
        )
    return teacher.clamp_min(margin)
