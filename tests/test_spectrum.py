"""Are the spectra right? Held against plain loops over all modes, and against known fields."""

from __future__ import annotations

import cmath
import math
from fractions import Fraction
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spectralkd.spectra.correlation import (
    correlation_function,
    correlation_length,
    ring_correlation,
)
from spectralkd.spectra.power import RadialPowerSpectrum, Window, radial_power
from spectralkd.spectra.powerlaw import fit_power_law
from spectralkd.spectra.rings import ring_frequencies, ring_modes

SIZES = [(8, 8), (7, 7), (32, 32), (15, 15), (4, 4), (5, 9), (12, 8), (8, 12), (21, 6)]
sides = st.integers(4, 40)


def modes_by_ring(height: int, width: int) -> dict[int, list[tuple[int, int]]]:
    """The ring of every mode of the full plane, by the definition, in exact arithmetic."""
    short = min(height, width)
    rings: dict[int, list[tuple[int, int]]] = {}
    for ky in range(-((height - 1) // 2), height // 2 + 1):
        for kx in range(-((width - 1) // 2), width // 2 + 1):
            square = 4 * short**2 * (Fraction(ky, height) ** 2 + Fraction(kx, width) ** 2)
            rings.setdefault((math.isqrt(math.floor(square)) + 1) // 2, []).append((ky, kx))
    return {r: rings[r] for r in range((short + 1) // 2)}


def transform(x: Tensor, ky: int, kx: int) -> complex:
    """One coefficient of the orthonormal Fourier transform, by its sum."""
    height, width = x.shape
    total = 0j
    for row in range(height):
        for column in range(width):
            phase = -2j * math.pi * (ky * row / height + kx * column / width)
            total += float(x[row, column]) * cmath.exp(phase)
    return total / math.sqrt(height * width)


def field(count: int, size: int, exponent: float, seed: int = 0) -> Tensor:
    """Gaussian maps whose power is |k|^exponent at every mode (the |k| of DC taken as one ring)."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, 1, size, size, generator=generator, dtype=torch.float64)
    ky = torch.fft.fftfreq(size, dtype=torch.float64)[:, None]
    kx = torch.fft.rfftfreq(size, dtype=torch.float64)[None, :]
    k = torch.hypot(ky, kx).clamp_min(1 / size)
    return torch.fft.irfft2(torch.fft.rfft2(noise) * k ** (exponent / 2), s=(size, size))


# --- rings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [*SIZES, (224, 224), (28, 56)])
def test_rings_are_those_of_the_definition(height: int, width: int) -> None:
    rings = modes_by_ring(height, width)
    assert ring_modes(height, width).tolist() == [len(modes) for modes in rings.values()]
    mean = [
        sum(math.hypot(ky / height, kx / width) for ky, kx in modes) / len(modes)
        for modes in rings.values()
    ]
    torch.testing.assert_close(ring_frequencies(height, width), torch.tensor(mean).double())


def test_number_of_complete_rings() -> None:
    assert len(ring_frequencies(32, 32)) == 16
    assert len(ring_frequencies(8, 8)) == 4
    assert len(ring_frequencies(9, 50)) == 5


# --- power ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_power_and_correlation_agree_with_a_plain_loop(height: int, width: int) -> None:
    x, y = torch.randn(2, height, width, dtype=torch.float64)
    power, correlation = [], []
    for modes in modes_by_ring(height, width).values():
        fx = [transform(x, *mode) for mode in modes]
        fy = [transform(y, *mode) for mode in modes]
        power.append(sum(abs(f) ** 2 for f in fx) / len(modes))
        cross = sum(a * b.conjugate() for a, b in zip(fx, fy, strict=True)).real
        norm = sum(abs(a) ** 2 for a in fx) * sum(abs(b) ** 2 for b in fy)
        correlation.append(cross / math.sqrt(norm))
    expected = torch.tensor(power, dtype=torch.float64)
    torch.testing.assert_close(radial_power(x), expected)
    frequency = ring_frequencies(height, width)
    torch.testing.assert_close(radial_power(x, ring="jacobian"), expected * frequency)
    torch.testing.assert_close(radial_power(x.float()), expected.float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        ring_correlation(x, y), torch.tensor(correlation, dtype=torch.float64)
    )


def test_maps_larger_than_a_ring_matrix_take_the_same_numbers() -> None:
    x = torch.randn(2, 257, 260, dtype=torch.float64)
    ring = torch.fft.fftfreq(257, dtype=torch.float64)[:, None].abs(), torch.fft.fftfreq(260).abs()
    length = 257 * torch.hypot(*ring)
    power = torch.fft.fft2(x, norm="ortho").abs().square()
    expected = torch.stack([power[:, (length + 0.5).floor() == r].mean(-1) for r in range(129)], -1)
    torch.testing.assert_close(radial_power(x), expected)


@given(height=sides, width=sides, seed=st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_every_mode_counts_once(height: int, width: int, seed: int) -> None:
    """Parseval: a map without the modes outside the complete rings keeps its whole energy."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.fft.fft2(torch.randn(height, width, generator=generator, dtype=torch.float64))
    kept = torch.zeros_like(x)
    for modes in modes_by_ring(height, width).values():
        for mode in modes:
            kept[mode] = x[mode]
    limited = torch.fft.ifft2(kept).real
    energy = (radial_power(limited.float()).double() * ring_modes(height, width)).sum()
    torch.testing.assert_close(energy, limited.square().sum(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [8, 15, 32, 56])
def test_white_noise_is_flat_at_its_variance(size: int) -> None:
    spectrum = RadialPowerSpectrum()
    spectrum.update(3 * torch.randn(4000 * 64 // size**2 + 200, 4, size, size))
    result = spectrum.compute()
    error = (result.power - 9) / result.stderr
    assert error.abs().max() < 5
    # The standard error over images is the one of Gaussian modes, a conjugate pair being one.
    gaussian = 9 * (2 / (result.modes * 4 * result.samples).double()).sqrt()
    assert (result.stderr[1:] / gaussian[1:] - 1).abs().max() < 0.25


@given(size=st.integers(32, 80), exponent=st.floats(-2.4, -0.5))
@settings(max_examples=15, deadline=None)
def test_a_known_exponent_is_recovered(size: int, exponent: float) -> None:
    spectrum = RadialPowerSpectrum()
    spectrum.update(field(400, size, exponent))
    result = spectrum.compute()
    assert abs(fit_power_law(result.frequency, result.power).exponent - exponent) < 0.03


def test_the_jacobian_adds_one_to_the_exponent() -> None:
    x = field(20, 32, -2).mean(0)
    k = ring_frequencies(32, 32)
    mean, jacobian = (
        fit_power_law(k, radial_power(x, ring=ring)[0]).exponent for ring in ("mean", "jacobian")
    )
    assert jacobian - mean == pytest.approx(1)


def test_a_hann_window_keeps_white_noise_and_mends_steep_spectra() -> None:
    noise = radial_power(torch.randn(2000, 32, 32, dtype=torch.float64), window="hann").mean(0)
    assert (noise[2:] - 1).abs().max() < 0.05
    steep = field(100, 256, -3.2)[..., 96:160, 96:160]  # a cut-out, whose edges do not meet
    k = ring_frequencies(64, 64)
    plain, hann = (
        fit_power_law(k, radial_power(steep, window=window).mean((0, 1))).exponent
        for window in ("none", "hann")
    )
    assert abs(hann + 3.2) < 0.1 < abs(plain + 3.2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_transformed_in_float32(dtype: torch.dtype) -> None:
    x = torch.randn(3, 32, 32).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        power = radial_power(x)
    assert power.dtype == torch.float32
    torch.testing.assert_close(power, radial_power(x.float()))


# --- gradients and correlations -------------------------------------------------------------------


@pytest.mark.parametrize("size", [(6, 6), (7, 5), (20, 17)])
def test_gradients(size: tuple[int, int]) -> None:
    x, y = (torch.randn(2, *size, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(radial_power, x)
    assert torch.autograd.gradcheck(lambda x: radial_power(x, window="hann", ring="jacobian"), x)
    assert torch.autograd.gradcheck(lambda x, y: ring_correlation(x, y)[..., 1:], (x, y))
    assert torch.autograd.gradcheck(lambda x: correlation_function(x)[1], x)


def test_caches_made_in_inference_mode_serve_autograd() -> None:
    with torch.inference_mode():
        radial_power(torch.randn(1, 37, 41))
    x = torch.randn(1, 37, 41, requires_grad=True)
    radial_power(x).sum().backward()
    assert x.grad is not None


def test_correlation_is_a_correlation() -> None:
    x, y = torch.randn(2, 5, 3, 16, 16, dtype=torch.float64)
    correlation = ring_correlation(x, y)
    assert correlation.shape == (5, 3, 8)
    assert correlation.abs().max() <= 1 + 1e-12
    scale = torch.rand(3, 1, 1, dtype=torch.float64) + 0.1
    torch.testing.assert_close(ring_correlation(x * scale, y), correlation)
    torch.testing.assert_close(ring_correlation(x, scale * x), torch.ones_like(correlation))
    torch.testing.assert_close(ring_correlation(x, -x), -torch.ones_like(correlation))
    torch.testing.assert_close(
        ring_correlation(x[:1], y), ring_correlation(x[:1].expand(5, -1, -1, -1), y)
    )


def test_a_dead_map_correlates_zero_with_a_finite_gradient() -> None:
    x = torch.zeros(1, 8, 8, requires_grad=True)
    correlation = ring_correlation(x, torch.randn(1, 8, 8))
    assert correlation.abs().max() == 0
    correlation.sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


# --- streaming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 40])
@pytest.mark.parametrize("window", ["none", "hann"])
def test_streaming_gives_the_mean_and_its_error(channels: int, window: Window) -> None:
    x = torch.randn(50, channels, 12, 10) * torch.rand(50, 1, 1, 1)
    spectrum = RadialPowerSpectrum(ring="jacobian", window=window)
    for batch in x.to(memory_format=torch.channels_last).split(7):
        spectrum.update(batch)
    result = spectrum.compute()
    each = radial_power(x.double(), ring="jacobian", window=window).mean(1)
    torch.testing.assert_close(result.power, each.mean(0), rtol=1e-5, atol=0)
    torch.testing.assert_close(result.stderr, each.std(0) / 50**0.5, rtol=1e-4, atol=0)
    assert result.samples == 50
    assert result.ring == "jacobian"
    torch.testing.assert_close(result.modes, ring_modes(12, 10))


def test_pooling_averages_first() -> None:
    x = torch.randn(4, 3, 16, 16)
    pooled, plain = RadialPowerSpectrum(pool=2), RadialPowerSpectrum()
    pooled.update(x)
    plain.update(x.view(4, 3, 8, 2, 8, 2).mean((3, 5)))
    torch.testing.assert_close(pooled.compute().power, plain.compute().power)


def test_memory_does_not_grow_and_reset_forgets() -> None:
    spectrum = RadialPowerSpectrum()
    for _ in range(3):
        spectrum.update(torch.randn(5, 2, 16, 16))
    held = sum(state.numel() for state in spectrum.metric_state.values())
    assert held == 2 * 8 + 1 + 2
    spectrum.reset()
    spectrum.update(torch.randn(5, 2, 6, 6))
    assert spectrum.compute().power.shape == (3,)
    assert spectrum(torch.randn(5, 2, 6, 6)).samples == 5


def _share(rank: int, place: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{place}/meet", rank=rank, world_size=2)
    maps = torch.load(f"{place}/maps.pt", weights_only=True)
    spectrum = RadialPowerSpectrum()
    for batch in (maps[:12] if rank == 0 else maps[12:]).split(5):
        spectrum.update(batch)
    result = spectrum.compute()
    torch.save([result.power, result.stderr, result.samples], f"{place}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_give_the_numbers_of_one(tmp_path: Path) -> None:
    maps = torch.randn(30, 3, 16, 16)
    torch.save(maps, tmp_path / "maps.pt")
    torch.multiprocessing.spawn(_share, (str(tmp_path),), nprocs=2)
    alone = RadialPowerSpectrum()
    alone.update(maps)
    expected = alone.compute()
    for rank in range(2):
        power, stderr, samples = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert samples == 30
        torch.testing.assert_close(power, expected.power, rtol=1e-6, atol=0)
        torch.testing.assert_close(stderr, expected.stderr, rtol=1e-6, atol=0)


# --- the correlation function ---------------------------------------------------------------------


def test_correlation_function_agrees_with_a_plain_loop() -> None:
    x = torch.randn(7, 9, dtype=torch.float64)
    centerd = x - x.mean()
    pairs: dict[int, list[tuple[float, float]]] = {}
    for y1 in range(7):
        for x1 in range(9):
            for y2 in range(7):
                for x2 in range(9):
                    lag = math.hypot(y1 - y2, x1 - x2)
                    product = float(centerd[y1, x1] * centerd[y2, x2])
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


@pytest.mark.parametrize(
    ("x", "error", "says"),
    [
        (torch.ones(8, 8, dtype=torch.int64), TypeError, "floating-point tensor, got torch.int64"),
        (torch.ones(8, 8, dtype=torch.complex64), TypeError, "got torch.complex64"),
        ([[1.0]], TypeError, "got list"),
        (torch.ones(8), ValueError, r"expected \(..., H, W\), got shape \(8,\)"),
        (torch.ones(3, 8, 3), ValueError, "at least 4×4 pixels, got 8×3"),
        (torch.full((1, 1, 4, 4), math.nan), ValueError, "got 16 NaN or infinite of 16"),
        (
            torch.tensor([math.inf, -math.inf] * 8).view(1, 1, 4, 4),
            ValueError,
            "16 NaN or infinite",
        ),
    ],
)
def test_bad_maps_are_refused_by_name(x: Tensor, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=f"x: .*{says}"):
        radial_power(x)
    with pytest.raises(error, match=f"y: .*{says}"):
        ring_correlation(torch.ones(4, 4), x)
    with pytest.raises(error, match=f"x: .*{says}"):
        correlation_function(x)
    with pytest.raises(error, match=f"maps: .*{says}"):
        RadialPowerSpectrum().update(x)


def test_values_whose_power_overflows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"x: .* squares torch.float32 can hold, got up to 3e\+38"):
        radial_power(torch.full((4, 4), 3e38))
    assert torch.isfinite(radial_power(torch.full((4, 4), 3e38, dtype=torch.float64))).all()


def test_other_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="ring: expected one of 'mean', 'jacobian', got 'sum'"):
        radial_power(torch.ones(8, 8), ring="sum")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="window: expected one of"):
        RadialPowerSpectrum(window="hamming")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="y: expected maps of size"):
        ring_correlation(torch.ones(8, 8), torch.ones(8, 9))
    with pytest.raises(ValueError, match="at least 4 pixels, got 3×9"):
        ring_frequencies(3, 9)
    with pytest.raises(ValueError, match="pool: expected a factor"):
        RadialPowerSpectrum(pool=0)
    with pytest.raises(ValueError, match="at least 8 pixels a side to pool by 2, got 8×7"):
        RadialPowerSpectrum(pool=2).update(torch.ones(1, 1, 8, 7))
    with pytest.raises(ValueError, match="distance: expected shape"):
        correlation_length(torch.arange(3), torch.ones(4))


def test_a_refused_batch_leaves_the_metric_as_it_was() -> None:
    spectrum = RadialPowerSpectrum()
    with pytest.raises(ValueError, match="empty data set"):
        spectrum.compute()
    spectrum.update(torch.randn(2, 3, 8, 8))
    before = spectrum.compute()
    for bad in (torch.randn(2, 3, 9, 8), torch.randn(3, 8, 8), torch.full((1, 1, 8, 8), math.nan)):
        with pytest.raises(ValueError, match="maps: expected"):
            spectrum.update(bad)
    assert spectrum.samples == 2
    torch.testing.assert_close(spectrum.compute().power, before.power)
