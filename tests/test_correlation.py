"""Are the correlations right? Verified against plain sums over modes and over pairs of pixels."""

from __future__ import annotations

import math

import pytest
import torch
from plane import BAD_MAPS, SIZES, field, modes_by_ring, noise, transform
from torch import Tensor

from spectralkd.spectra.correlation import (
    _lags,
    correlation_function,
    correlation_length,
    ring_correlation,
)
from spectralkd.spectra.power import radial_power

# --- at each |k| ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_ring_correlation_agrees_with_a_plain_sum(height: int, width: int) -> None:
    x, y = noise(2, height, width, dtype=torch.float64)
    fx, fy = transform(x), transform(y)
    expected = []
    for modes in modes_by_ring(height, width).values():
        cross = sum(complex(fx[mode] * fy[mode].conj()) for mode in modes).real
        power = sum(abs(fx[m]) ** 2 for m in modes) * sum(abs(fy[m]) ** 2 for m in modes)
        expected.append(cross / math.sqrt(power))
    torch.testing.assert_close(ring_correlation(x, y), torch.tensor(expected).double())


def test_ring_correlation_is_a_correlation() -> None:
    x, y = noise(2, 5, 3, 16, 16, dtype=torch.float64)
    correlation = ring_correlation(x, y)
    assert correlation.shape == (5, 3, 8)
    assert correlation.abs().max() <= 1 + 1e-12
    scale = noise(3, 1, 1, seed=1, dtype=torch.float64).abs() + 0.1
    torch.testing.assert_close(ring_correlation(x * scale, y), correlation)
    torch.testing.assert_close(ring_correlation(x, scale * x), torch.ones_like(correlation))
    torch.testing.assert_close(ring_correlation(x, -x), -torch.ones_like(correlation))
    torch.testing.assert_close(
        ring_correlation(x[:1], y), ring_correlation(x[:1].expand(5, -1, -1, -1), y)
    )


def correlated(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Ring correlations but DC, and the gradients of a weighted sum of them."""
    x, y = (maps.clone().requires_grad_() for maps in (x, y))
    correlation = ring_correlation(x, y)[..., 1:]
    weights = torch.arange(1, correlation.shape[-1] + 1).to(correlation)
    return correlation.detach(), *torch.autograd.grad((weights * correlation).sum(), (x, y))


@pytest.mark.parametrize("exponent", [0, -6], ids=["white", "steep"])
@pytest.mark.parametrize("a", [1e-30, 1e-10, 1.0, 1e10, 1e30])
@pytest.mark.parametrize("b", [1e-30, 1.0, 1e30])
def test_amplitudes_do_not_matter_in_float32(a: float, b: float, exponent: float) -> None:
    x, y = (field(3, 16, exponent, seed=seed) for seed in (0, 1))
    x, y = x / x.std(), (x + y) / (x + y).std()
    expected, *gradients = correlated(x, y)
    found, *scaled = correlated((a * x).float(), (b * y).float())
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-3 if exponent else 2e-6)
    for gradient, by_scaled, amplitude in zip(gradients, scaled, (a, b), strict=True):
        error = (amplitude * by_scaled.double() - gradient).norm() / gradient.norm()
        assert error < (1e-2 if exponent else 1e-5)


def test_maps_of_all_amplitudes_stand_in_one_batch() -> None:
    x, y = noise(2, 7, 16, 16)
    amplitude = torch.tensor([0, 1e-30, 1e-9, 1.0, 1e7, 1e9, 1e30])[:, None, None]
    expected, *_ = correlated(x[1:], y[1:])
    found, by_x, by_y = correlated(amplitude * x, y)
    torch.testing.assert_close(found[1:], expected)
    assert not found[0].any()
    assert not by_y[0].any()
    assert torch.isfinite(by_x).all()


def test_eps_is_the_least_ring_power_relative_to_the_map_s_mean() -> None:
    x = field(4, 16, -2)
    power = radial_power(x)
    for amplitude in (1e-8, 1.0, 1e8):
        found = ring_correlation(x, amplitude * x, eps=0.1)
        least = 0.1 * power.mean(-1, keepdim=True)
        torch.testing.assert_close(found, power / power.maximum(least))
    assert (power < least).any()
    assert (power > least).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_map_of_zeros_correlates_0_with_gradient_0(dtype: torch.dtype) -> None:
    dead, alive = torch.zeros(1, 8, 8, dtype=dtype), noise(1, 8, 8, dtype=dtype)
    for pair in ((dead, alive), (alive, dead), (dead, dead)):
        assert all(torch.equal(part, torch.zeros_like(part)) for part in correlated(*pair))
        assert ring_correlation(*pair)[..., 0] == 0


@pytest.mark.parametrize("size", [7, 8, 15, 28, 56])
@pytest.mark.parametrize("level", [1e-10, 0.1, 3.0, 1e10])
def test_rounding_errors_of_a_constant_map_do_not_correlate(size: int, level: float) -> None:
    constant = torch.full((1, size, size), level)
    for other in (3 * constant, noise(1, size, size)):
        correlation, *gradients = correlated(constant, other)
        assert correlation.abs().max() < 0.02
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert ring_correlation(constant, 3 * constant)[..., 0] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("size", [(6, 6), (7, 5), (20, 17)])
def test_gradients(size: tuple[int, int]) -> None:
    x, y = (noise(2, *size, seed=s, dtype=torch.float64).requires_grad_() for s in (0, 1))
    assert torch.autograd.gradcheck(lambda x, y: ring_correlation(x, y)[..., 1:], (x, y))
    assert torch.autograd.gradcheck(lambda x: correlation_function(x)[1], x)


# --- at a distance --------------------------------------------------------------------------------


def test_correlation_function_agrees_with_a_plain_loop() -> None:
    x = noise(7, 9, dtype=torch.float64)
    centered = x - x.mean()
    pairs: dict[int, list[tuple[float, float]]] = {}
    for y1 in range(7):
        for x1 in range(9):
            for y2 in range(7):
                for x2 in range(9):
                    lag = math.hypot(y1 - y2, x1 - x2)
                    product = float(centered[y1, x1] * centered[y2, x2])
                    pairs.setdefault(math.floor(lag + 0.5), []).append((lag, product))
    distance, correlation = correlation_function(x)
    assert len(distance) == 4
    for r in range(4):
        lags, products = zip(*pairs[r], strict=True)
        assert float(distance[r]) == pytest.approx(sum(lags) / len(lags))
        assert float(correlation[r]) == pytest.approx(sum(products) / len(products))


def test_correlation_length_of_a_known_decay() -> None:
    r = torch.arange(0, 30, dtype=torch.float64)
    curves = torch.stack([torch.exp(-r / 5), torch.exp(-r / 12), torch.ones(30)])
    length = correlation_length(r, curves)
    assert length[0] == pytest.approx(5, abs=0.01)
    assert length[1] == pytest.approx(12, abs=0.01)
    assert length[2] == torch.inf


def test_smoother_fields_have_longer_correlations() -> None:
    lengths = []
    for exponent in (-1, -2, -3):
        distance, correlation = correlation_function(field(50, 64, exponent))
        lengths.append(float(correlation_length(distance, correlation.mean((0, 1)))))
    assert lengths == sorted(lengths)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(("x", "error", "says"), BAD_MAPS)
def test_bad_maps_are_refused_by_name(x: Tensor, error: type[Exception], says: str) -> None:
    good = torch.ones(4, 4)
    with pytest.raises(error, match=f"x: .*{says}"):
        ring_correlation(x, good)
    with pytest.raises(error, match=f"y: .*{says}"):
        ring_correlation(good, x)
    with pytest.raises(error, match=f"x: .*{says}"):
        correlation_function(x)


def test_maps_whose_squares_float32_cannot_hold_are_refused() -> None:
    for scale in (1e-30, 1e30):
        with pytest.raises(ValueError, match=r"x: expected values whose squares torch.float32 can"):
            correlation_function(scale * noise(2, 8, 8))
    assert correlation_function(1e-30 * noise(2, 8, 8, dtype=torch.float64))[1][..., 0].all()
    assert not correlation_function(torch.full((8, 8), 1e-30))[1].any()  # has no variance


def test_memory_of_the_correlation_function_grows_with_the_pixels() -> None:
    for side in (64, 256):
        distance, matrix = _lags(side, side)
        assert len(distance) == side // 2 + 1
        assert matrix.indices().nbytes + matrix.values().nbytes <= 24 * 4 * side**2


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="y: expected maps of size"):
        ring_correlation(torch.ones(8, 8), torch.ones(8, 9))
    with pytest.raises(
        ValueError, match=r"y: expected a shape that broadcasts with x's \(2, 8, 8\)"
    ):
        ring_correlation(torch.ones(2, 8, 8), torch.ones(3, 8, 8))
    with pytest.raises(ValueError, match="eps: expected a number above 0, got 0"):
        ring_correlation(torch.ones(8, 8), torch.ones(8, 8), eps=0)
    with pytest.raises(ValueError, match="distance: expected shape"):
        correlation_length(torch.arange(3), torch.ones(4))
