"""Does a convolution do to a spectrum what Eqs. 3 to 7 say?"""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from spectralkd.spectra.convolution import (
    kernel_transform,
    power_response,
    predict_power,
    ring_response,
)
from spectralkd.spectra.power import radial_power
from spectralkd.spectra.rings import ring_frequencies

K = ring_frequencies(32, 32)


def kernels(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def convolve(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    pad = weight.shape[-1] // 2
    return functional.conv2d(functional.pad(x, (pad, pad, pad, pad), mode="circular"), weight)


@pytest.mark.parametrize("side", [1, 3, 5])
def test_equation_4_convolution_is_multiplication(side: int) -> None:
    x, kernel = torch.randn(1, 1, 12, 15, dtype=torch.float64), kernels(side, side)
    convolved = torch.fft.rfft2(convolve(x, kernel[None, None]))
    product = kernel_transform(kernel, 12, 15).conj() * torch.fft.rfft2(x)
    torch.testing.assert_close(convolved, product)


def test_equation_5_by_its_nine_terms() -> None:
    w = kernels(3, 3)
    transform = kernel_transform(w, 16, 16)
    for ky, kx in ((0, 0), (3, 5), (15, 8)):
        terms = [
            w[y + 1, x + 1] * torch.exp(torch.tensor(-2j * math.pi * (ky * y + kx * x) / 16))
            for y in (-1, 0, 1)
            for x in (-1, 0, 1)
        ]
        torch.testing.assert_close(transform[ky, kx], sum(terms), check_dtype=False)


def test_equation_6_as_the_paper_writes_it() -> None:
    w = kernels(3, 3)
    edge = w[0, 1] + w[1, 0] + w[1, 2] + w[2, 1]
    corner = w[0, 0] + w[0, 2] + w[2, 0] + w[2, 2]
    k = 2 * math.pi * K
    expected = w[1, 1] + torch.exp(1j * k) * edge + torch.exp(1j * math.sqrt(2) * k) * corner
    torch.testing.assert_close(ring_response(w, K, average="paper"), expected)
    torch.testing.assert_close(power_response(w, K, method="eq6"), expected.abs().square())


def test_equation_7_as_the_paper_writes_it() -> None:
    w = kernels(3, 3)
    edge = w[0, 1] + w[1, 0] + w[1, 2] + w[2, 1]
    corner = w[0, 0] + w[0, 2] + w[2, 0] + w[2, 2]
    k = 2 * math.pi * K
    expected = (
        w[1, 1] ** 2
        + edge**2
        + corner**2
        + edge * corner * torch.cos((1 - math.sqrt(2)) * k)
        + w[1, 1] * edge * torch.cos(k)
        + w[1, 1] * corner * torch.cos(math.sqrt(2) * k)
    )
    torch.testing.assert_close(power_response(w, K, method="eq7"), expected)


@pytest.mark.parametrize("side", [3, 5])
def test_exact_averages_are_those_over_the_angle(side: int) -> None:
    """Bessel functions (torch's are good to 4e-7) against the mean over 720 directions."""
    w, half = kernels(2, side, side), side // 2
    offset = torch.arange(-half, half + 1, dtype=torch.float64)
    angle = torch.arange(720, dtype=torch.float64) * (2 * math.pi / 720)
    for r, k in enumerate((2 * math.pi * K).tolist()):
        wave = torch.exp(
            -1j
            * k
            * (
                angle.sin()[:, None, None] * offset[:, None]
                + angle.cos()[:, None, None] * offset[None, :]
            )
        )
        transform = torch.einsum("cyx,ayx->ca", w.to(wave.dtype), wave)
        amplitude, power = transform.mean(-1), transform.abs().square().mean(-1)
        torch.testing.assert_close(ring_response(w, K)[:, r], amplitude, rtol=0, atol=1e-5)
        torch.testing.assert_close(power_response(w, K)[:, r], power, rtol=0, atol=1e-4)


def test_prediction_holds_for_a_measured_convolution() -> None:
    """White, independent channels are what the prediction supposes."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3000, 2, 32, 32, generator=generator, dtype=torch.float64)
    weight = kernels(3, 2, 3, 3, seed=1)
    measured = radial_power(convolve(x, weight)).mean(0)
    predicted = predict_power(K, torch.ones(2, 16, dtype=torch.float64), [weight])
    # Off the axes a square lattice is not isotropic, hence the tolerance.
    torch.testing.assert_close(predicted, measured, rtol=0.06, atol=0.05)


def test_each_layer_adds_its_own_term_to_the_logarithm() -> None:
    power = 1 / (1 + K[None, :] ** 2)
    layers = [kernels(1, 1, 3, 3, seed=seed) for seed in range(4)]
    logarithm = predict_power(K, power, layers).log()[0]
    terms = [power_response(layer[0, 0], K).log() for layer in layers]
    torch.testing.assert_close(logarithm, power.log()[0] + sum(terms))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: ring_response(kernels(2, 2), K), r"kernel: expected \(..., k, k\), k odd"),
        (lambda: power_response(kernels(3, 5), K), r"kernel: expected \(..., k, k\), k odd"),
        (lambda: power_response(kernels(3, 3), K, method="eq8"), "method: expected one of"),
        (lambda: ring_response(kernels(3, 3), K, average="bessel"), "average: expected one of"),
        (lambda: kernel_transform(kernels(5, 5), 4, 9), "kernel: expected a side of at most 4"),
        (lambda: predict_power(K, K[None], [kernels(2, 3, 3, 3)]), r"layer 1 to be \(C_out, 1, k"),
    ],
)
def test_bad_input_is_refused(call, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()
