"""What convolutions do to a power spectrum: the analysis of Section 3, Eqs. 3 to 7.

A convolution multiplies the transform of a map by that of its kernel (Eq. 4), and its ring-mean
power, as far as the map is isotropic, by the ring mean of |W̃|²; with one channel, the logarithm of
the power gains one term per layer. The paper
averages W̃ over angles before squaring it, and takes the angular average of a plane wave
exp(i k·x) to be exp(i|k||x|); the exact average is the Bessel function J0(|k||x|), and what a
ring measures is the average of the square. All three are here, for comparison with measurements:

``"exact"``
    the mean of |W̃(k)|² over the angle of k, through J0 of the kernel's autocorrelation;
``"eq6"``
    the square of the paper's Eq. 6;
``"eq7"``
    the paper's Eq. 7: the same, but each interference term once instead of twice. Its last cosine
    is printed as cos(|k|/√2); here it is the cos(√2|k|) that Eq. 6 gives.

Frequencies are in cycles/pixel; the paper's |k| is 2π times that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from spectralkd.checks import check_choice

Average = Literal["exact", "paper"]
Prediction = Literal["exact", "eq6", "eq7"]


def kernel_transform(kernel: Tensor, height: int, width: int) -> Tensor:
    """W̃(k) of Eq. 5: the transform of a kernel zero-padded to H×W, its center at the origin.

    With torch's sign, exp(-i k·x), where Eq. 5 has exp(i k·x): the conjugate, for real kernels.

    Args:
        kernel: (..., k, k) real, k odd and at most H and W.

    Returns:
        (..., H, W//2 + 1) complex, in ``rfft2``'s order. Not divided by N, so that Eq. 4 holds
        as it stands between orthonormal transforms: g̃ = W̃ f̃ for a circular convolution
        (torch's ``conv2d`` correlates, which takes the conjugate and leaves |W̃| as it is).

    Raises:
        ValueError: the kernel is not square with an odd side, or larger than the map.
    """
    side = _side(kernel)
    if side > min(height, width):
        raise ValueError(f"kernel: expected a side of at most {min(height, width)}, got {side}")
    padded = functional.pad(kernel, (0, width - side, 0, height - side))
    return torch.fft.rfft2(padded.roll((-(side // 2), -(side // 2)), (-2, -1)))


def ring_response(kernel: Tensor, frequency: Tensor, *, average: Average = "exact") -> Tensor:
    """W̃(|k|) of Eq. 6: the transform of a kernel averaged over the angle of k.

    Args:
        kernel: (..., k, k) real, k odd.
        frequency: (R,) cycles/pixel.
        average: the angular average of a plane wave at distance r: ``"exact"``, J0(|k|r), or
            the ``"paper"``'s exp(i|k|r).

    Returns:
        (..., R) complex; the imaginary part is 0 if exact. For a 3×3 kernel the distances
        are 0, 1 and √2, with W1 the sum of the edge and W2 of the corner weights.

    Raises:
        ValueError: the kernel is not square with an odd side, or ``average`` is unknown.
    """
    check_choice("average", average, Average)
    distance, weight = _shells(kernel)
    phase = _phase(distance, frequency)
    if average == "exact":
        wave = torch.complex(torch.special.bessel_j0(phase), torch.zeros_like(phase))
    else:
        wave = torch.polar(torch.ones_like(phase), phase)
    return torch.complex(weight, torch.zeros_like(weight)) @ wave


def power_response(kernel: Tensor, frequency: Tensor, *, method: Prediction = "exact") -> Tensor:
    """|W̃|² of a kernel at each |k|: the factor by which one convolution multiplies the power.

    Args:
        kernel: (..., k, k) real, k odd.
        frequency: (R,) cycles/pixel.
        method: ``"exact"``, ``"eq6"`` or ``"eq7"``; see the top of this module. Only
            ``"eq7"`` can be negative, because it is not a square.

    Returns:
        (..., R) float64.

    Raises:
        ValueError: the kernel is not square with an odd side, or ``method`` is unknown.
    """
    check_choice("method", method, Prediction)
    if method == "eq6":
        return ring_response(kernel, frequency, average="paper").abs().square()
    if method == "exact":
        distance, weight = _shells(_autocorrelation(kernel))
        return weight @ torch.special.bessel_j0(_phase(distance, frequency))
    distance, weight = _shells(kernel)
    first, second = torch.triu_indices(len(distance), len(distance), offset=1)
    waves = torch.cos(_phase(distance[first] - distance[second], frequency))
    return (
        weight.square().sum(-1, keepdim=True) + (weight[..., first] * weight[..., second]) @ waves
    )


def predict_power(frequency: Tensor, power: Tensor, weights: Iterable[Tensor]) -> Tensor:
    """Spectrum of each channel after one or several linear convolutions (below Eq. 7).

    Maps are taken to be isotropic, also behind each layer, and their channels uncorrelated. The
    result includes the Jacobian |k| if ``power`` does. With one channel each layer adds one term
    to ln P.

    Args:
        frequency: (R,) cycles/pixel.
        power: (C, R) ring power of the input's channels.
        weights: of the layers in turn, (C_out, C_in, k, k) with stride 1.

    Returns:
        (C_out, R) float64 of the last layer.

    Raises:
        ValueError: a layer's C_in is not the number of channels that reach it.
    """
    power = power.double()
    for number, weight in enumerate(weights, start=1):
        if weight.ndim != 4 or weight.shape[1] != len(power):
            raise ValueError(
                f"weights: expected layer {number} to be (C_out, {len(power)}, k, k), "
                f"got {tuple(weight.shape)}"
            )
        response = power_response(weight, frequency)
        power = torch.einsum("oir,ir->or", response, power)
    return power


def _side(kernel: Tensor) -> int:
    if kernel.ndim < 2 or kernel.shape[-1] != kernel.shape[-2] or kernel.shape[-1] % 2 == 0:
        raise ValueError(f"kernel: expected (..., k, k), k odd, got shape {tuple(kernel.shape)}")
    return kernel.shape[-1]


def _shells(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Distances of the weights from the center (S,), and their sum at each (..., S)."""
    half = _side(kernel) // 2
    offset = torch.arange(-half, half + 1, device=kernel.device)
    squares = (offset[:, None] ** 2 + offset[None, :] ** 2).flatten()
    distinct, shell = squares.unique(return_inverse=True)
    sums = kernel.double().flatten(-2)
    weight = sums.new_zeros(*sums.shape[:-1], len(distinct)).index_add(-1, shell, sums)
    return distinct.double().sqrt(), weight


def _autocorrelation(kernel: Tensor) -> Tensor:
    """(..., k, k) → (..., 2k-1, 2k-1), lag 0 in the center."""
    side = _side(kernel)
    size = 2 * side - 1
    transform = torch.fft.rfft2(kernel.double(), s=(size, size))
    lags = torch.fft.irfft2(transform.abs().square(), s=(size, size))
    return lags.roll((side - 1, side - 1), (-2, -1))


def _phase(distance: Tensor, frequency: Tensor) -> Tensor:
    """|k| r in radians, (S, R)."""
    return 2 * math.pi * distance[:, None] * frequency.to(distance)[None, :]
