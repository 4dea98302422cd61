"""Are the fits right? Held against numpy's polynomial fit and against exact laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectralkd.spectra.powerlaw import fit_correlation_law, fit_power_law

K = torch.arange(16, dtype=torch.float64) / 32


@given(exponent=st.floats(-4, 2), amplitude=st.floats(1e-6, 1e6))
def test_an_exact_law_is_found(exponent: float, amplitude: float) -> None:
    power = amplitude * K.clamp_min(1e-9) ** exponent
    law = fit_power_law(K, power)
    assert law.exponent == pytest.approx(exponent, abs=1e-9)
    assert law.log_amplitude == pytest.approx(math.log(amplitude), abs=1e-9)
    assert law.r_squared == pytest.approx(1) or abs(exponent) < 1e-6
    torch.testing.assert_close(law(K[4:]), power[4:])


def test_a_noisy_law_agrees_with_numpy() -> None:
    rng = np.random.default_rng(0)
    k, noise = K[4:].numpy(), rng.normal(size=12) * 0.1
    power = torch.ones(16, dtype=torch.float64)
    power[4:] = torch.from_numpy(np.exp(1.5 - 2 * np.log(k) + noise))
    line, covariance = np.polyfit(np.log(k), np.log(power[4:].numpy()), 1, cov=True)
    law = fit_power_law(K, power)
    assert law.exponent == pytest.approx(line[0])
    assert law.log_amplitude == pytest.approx(line[1])
    assert law.stderr == pytest.approx(math.sqrt(covariance[0, 0]))
    assert law.r_squared == pytest.approx(
        np.corrcoef(np.log(k), power[4:].log().numpy())[0, 1] ** 2
    )


def test_the_band_is_half_open_and_leaves_dc_out() -> None:
    power = torch.where(K < 0.25, K.clamp_min(1e-9) ** -2, K.clamp_min(1e-9) ** -5)
    assert fit_power_law(K, power, band=(0, 0.25)).exponent == pytest.approx(-2)
    assert fit_power_law(K, power, band=(0.25, 0.5)).exponent == pytest.approx(-5)


def test_equation_2_gives_its_constants_back() -> None:
    r = torch.arange(20, dtype=torch.float64)
    correlation = -0.3 + 0.8 * r.clamp_min(1e-9) ** -(2 - 1.5)
    law = fit_correlation_law(r, correlation, -1.5)
    assert (law.offset, law.amplitude) == pytest.approx((-0.3, 0.8))
    torch.testing.assert_close(law(r[1:]), correlation[1:])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda: fit_power_law(K, K, band=(0.4, 0.45)),
            r"band: .* 3 rings in \[0.4, 0.45\), got 2",
        ),
        (
            lambda: fit_power_law(K, K, band=(0.4, 0.1)),
            r"band: expected \(low, high\), 0 <= low < high",
        ),
        (lambda: fit_power_law(K, K, band=0.1), r"band: expected \(low, high\), .*, got 0.1"),
        (lambda: fit_power_law(K, K[1:]), r"power: expected shape \(16,\)"),
        (lambda: fit_power_law(K[None], K[None]), "frequency: expected one dimension"),
        (lambda: fit_power_law(K, -K), "power: expected positive, finite"),
        (lambda: fit_power_law(K, K * math.nan), "power: expected positive, finite"),
        (lambda: fit_correlation_law(K, K, -2), "exponent: expected any number but -2"),
        (lambda: fit_correlation_law(K, K, -1), "band: expected at least 3 distances"),
        (lambda: fit_power_law(K[4].expand(3), K[:3] + 1), "3 rings in .*, got 1 of"),
    ],
)
def test_bad_input_is_refused(call, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()
