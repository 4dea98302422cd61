"""Are the spectra right? Verified against plain sums over all modes and fields of known power."""

from __future__ import annotations

import datetime
import math
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from plane import BAD_MAPS, SIZES, field, modes_by_ring, noise, transform
from torch import Tensor

from spectralkd.spectra.power import (
    RadialPowerSpectrum,
    Window,
    power_plane,
    radial_power,
    with_ring,
)
from spectralkd.spectra.powerlaw import fit_power_law
from spectralkd.spectra.rings import ring_frequencies, ring_modes

sides = st.integers(4, 40)


# --- one map --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_power_agrees_with_a_plain_sum(height: int, width: int) -> None:
    x = noise(height, width, dtype=torch.float64)
    plane = transform(x).abs().square()
    rings = modes_by_ring(height, width).values()
    expected = torch.stack([torch.stack([plane[mode] for mode in modes]).mean() for modes in rings])
    torch.testing.assert_close(radial_power(x), expected)
    frequency = ring_frequencies(height, width)
    torch.testing.assert_close(radial_power(x, ring="jacobian"), expected * frequency)
    torch.testing.assert_close(radial_power(x.float()), expected.float(), rtol=1e-4, atol=1e-5)
    shown = power_plane(x)
    for ky, kx in ((0, 0), (1, -1), (-1, 0)):
        torch.testing.assert_close(shown[height // 2 + ky, width // 2 + kx], plane[ky, kx])


def test_maps_larger_than_a_ring_matrix_take_the_same_numbers() -> None:
    x = noise(2, 257, 260, dtype=torch.float64)
    ky, kx = (torch.fft.fftfreq(side, dtype=torch.float64) for side in (257, 260))
    length = 257 * torch.hypot(ky[:, None], kx)
    power = torch.fft.fft2(x, norm="ortho").abs().square()
    expected = torch.stack([power[:, (length + 0.5).floor() == r].mean(-1) for r in range(129)], -1)
    torch.testing.assert_close(radial_power(x), expected)


@given(height=sides, width=sides, seed=st.integers(0, 100))
@settings(max_examples=40)
def test_every_mode_counts_once(height: int, width: int, seed: int) -> None:
    """Parseval: a map without the modes outside the complete rings keeps its whole energy."""
    x = torch.fft.fft2(noise(height, width, seed=seed, dtype=torch.float64))
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
    spectrum.update(3 * noise(4000 * 64 // size**2 + 200, 4, size, size))
    result = spectrum.compute()
    error = (result.power - 9) / result.stderr
    assert error.abs().max() < 5
    # The standard error over images is the one of Gaussian modes, a conjugate pair being one.
    gaussian = 9 * (2 / (result.modes * 4 * result.samples).double()).sqrt()
    assert (result.stderr[1:] / gaussian[1:] - 1).abs().max() < 0.25


@given(size=st.integers(32, 80), exponent=st.floats(-2.4, -0.5))
@settings(max_examples=15)
def test_a_known_exponent_is_recovered(size: int, exponent: float) -> None:
    spectrum = RadialPowerSpectrum()
    spectrum.update(field(400, size, exponent))
    result = spectrum.compute()
    assert abs(fit_power_law(result.frequency, result.power).exponent - exponent) < 0.03


def test_the_jacobian_adds_one_to_the_exponent() -> None:
    x = field(1, 32, -2)[0]
    k = ring_frequencies(32, 32)
    mean, jacobian = (
        fit_power_law(k, radial_power(x, ring=ring)[0]).exponent for ring in ("mean", "jacobian")
    )
    assert jacobian - mean == pytest.approx(1)


def test_a_hann_window_keeps_white_noise_and_corrects_steep_spectra() -> None:
    white = radial_power(noise(2000, 32, 32, dtype=torch.float64), window="hann").mean(0)
    assert (white[2:] - 1).abs().max() < 0.05
    steep = field(100, 256, -3.2)[..., 96:160, 96:160]  # a cut-out, whose edges do not meet
    k = ring_frequencies(64, 64)
    plain, hann = (
        fit_power_law(k, radial_power(steep, window=window).mean((0, 1))).exponent
        for window in ("none", "hann")
    )
    assert abs(hann + 3.2) < 0.1 < abs(plain + 3.2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_transformed_in_float32(dtype: torch.dtype) -> None:
    x = noise(3, 32, 32).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        power = radial_power(x)
    assert power.dtype == torch.float32
    torch.testing.assert_close(power, radial_power(x.float()))


@pytest.mark.parametrize("size", [(6, 6), (7, 5), (20, 17)])
def test_gradients(size: tuple[int, int]) -> None:
    x = noise(2, *size, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(radial_power, x)
    assert torch.autograd.gradcheck(lambda x: radial_power(x, window="hann", ring="jacobian"), x)


def test_caches_made_in_inference_mode_serve_autograd() -> None:
    with torch.inference_mode():
        radial_power(noise(1, 37, 41))
    x = noise(1, 37, 41).requires_grad_()
    radial_power(x).sum().backward()
    assert x.grad is not None


# --- streaming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 40])
@pytest.mark.parametrize("window", ["none", "hann"])
def test_streaming_gives_the_mean_and_its_error(channels: int, window: Window) -> None:
    x = noise(50, channels, 12, 10) * noise(50, 1, 1, 1, seed=1)
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
    x = noise(4, 3, 16, 16)
    pooled, plain = RadialPowerSpectrum(pool=2), RadialPowerSpectrum()
    pooled.update(x)
    plain.update(x.view(4, 3, 8, 2, 8, 2).mean((3, 5)))
    torch.testing.assert_close(pooled.compute().power, plain.compute().power)


def test_memory_does_not_grow_and_reset_forgets() -> None:
    spectrum = RadialPowerSpectrum()
    for _ in range(3):
        spectrum.update(noise(5, 2, 16, 16))
    held = sum(state.numel() for state in spectrum.metric_state.values())
    assert held == 2 * 8 + 1 + 2
    spectrum.reset()
    spectrum.update(noise(5, 2, 6, 6))
    assert spectrum.compute().power.shape == (3,)
    assert spectrum(noise(5, 2, 6, 6)).samples == 5


def _share(rank: int, place: str) -> None:
    dist.init_process_group(
        "gloo",
        init_method=f"file://{place}/meet",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=60),
    )
    maps = torch.load(f"{place}/maps.pt", weights_only=True)
    spectrum = RadialPowerSpectrum()
    for batch in (maps[:12] if rank == 0 else maps[12:]).split(5):
        spectrum.update(batch)
    result = spectrum.compute()
    torch.save([result.power, result.stderr, result.samples], f"{place}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_give_the_result_of_one(tmp_path: Path) -> None:
    maps = noise(30, 3, 16, 16)
    torch.save(maps, tmp_path / "maps.pt")
    both = torch.multiprocessing.spawn(_share, (str(tmp_path),), nprocs=2, join=False, daemon=True)
    end = time.monotonic() + 120
    while not both.join(5):
        assert time.monotonic() < end, "the processes did not finish in two minutes"
    alone = RadialPowerSpectrum()
    alone.update(maps)
    expected = alone.compute()
    for rank in range(2):
        power, stderr, samples = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert samples == 30
        torch.testing.assert_close(power, expected.power, rtol=1e-6, atol=0)
        torch.testing.assert_close(stderr, expected.stderr, rtol=1e-6, atol=0)


def test_the_reductions_convert_into_each_other() -> None:
    spectra = {}
    for ring in ("mean", "jacobian"):
        metric = RadialPowerSpectrum(ring=ring)
        metric.update(noise(6, 2, 12, 10))
        spectra[ring] = metric.compute()
    for ring in ("mean", "jacobian"):
        for spectrum in spectra.values():
            found = with_ring(spectrum, ring)
            assert found.ring == ring
            torch.testing.assert_close(found.power[1:], spectra[ring].power[1:])
            torch.testing.assert_close(found.stderr[1:], spectra[ring].stderr[1:])
    with pytest.raises(ValueError, match="ring: expected one of"):
        with_ring(spectra["mean"], "sum")  # type: ignore[arg-type]


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(("x", "error", "says"), BAD_MAPS)
def test_bad_maps_are_refused_by_name(x: Tensor, error: type[Exception], says: str) -> None:
    for function in (radial_power, power_plane):
        with pytest.raises(error, match=f"x: .*{says}"):
            function(x)
    with pytest.raises(error, match=f"maps: .*{says}"):
        RadialPowerSpectrum().update(x)


def test_values_whose_power_overflows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"x: .* squares torch.float32 can hold, got up to 3e\+38"):
        radial_power(torch.full((4, 4), 3e38))
    assert torch.isfinite(radial_power(torch.full((4, 4), 3e38, dtype=torch.float64))).all()


@pytest.mark.parametrize("scale", [1e-30, 1e19, 1e30])
@pytest.mark.parametrize("window", ["none", "hann"])
def test_the_metric_refuses_what_radial_power_refuses(scale: float, window: Window) -> None:
    spectrum, good = RadialPowerSpectrum(window=window), noise(3, 2, 8, 8)
    spectrum.update(good)
    for add in (spectrum.update, lambda x: radial_power(x, window=window)):
        with pytest.raises(
            ValueError, match="expected values whose squares torch.float32 can hold"
        ):
            add(scale * good)
    only = RadialPowerSpectrum(window=window)
    only.update(good)
    torch.testing.assert_close(spectrum.compute()[:3], only.compute()[:3])
    with pytest.raises(ValueError, match="squares torch.float64 can hold"):
        only.update(1e150 * good.double())
    constant = torch.full((1, 1, 8, 8), 1e-3)
    assert radial_power(constant, window="hann").abs().max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 100])
def test_autocast_changes_no_spectrum(dtype: torch.dtype, channels: int) -> None:
    maps = 30 * noise(4, channels, 16, 16)
    plain, inside = RadialPowerSpectrum(), RadialPowerSpectrum()
    plain.update(maps)
    with torch.autocast("cpu", dtype=dtype):
        inside.update(maps)
    assert torch.equal(inside.compute().power, plain.compute().power)


def test_other_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="ring: expected one of 'mean', 'jacobian', got 'sum'"):
        radial_power(torch.ones(8, 8), ring="sum")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="window: expected one of"):
        RadialPowerSpectrum(window="hamming")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pool: expected a factor"):
        RadialPowerSpectrum(pool=0)
    with pytest.raises(ValueError, match="at least 8 pixels a side to pool by 2, got 8×7"):
        RadialPowerSpectrum(pool=2).update(torch.ones(1, 1, 8, 7))


def test_a_refused_batch_leaves_the_metric_as_it_was() -> None:
    spectrum = RadialPowerSpectrum()
    with pytest.raises(ValueError, match="empty data set"):
        spectrum.compute()
    spectrum.update(noise(2, 3, 8, 8))
    before = spectrum.compute()
    for bad in (noise(2, 3, 9, 8), noise(3, 8, 8), torch.full((1, 1, 8, 8), math.nan)):
        with pytest.raises(ValueError, match="maps: expected"):
            spectrum.update(bad)
    assert spectrum.samples == 2
    torch.testing.assert_close(spectrum.compute().power, before.power)
