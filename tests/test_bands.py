"""Does the grid of bands hold the fits it names, and is the bootstrap's error right?"""

from __future__ import annotations

import pytest
import torch
from plane import field

from spectralkd.analysis.bands import band_grid, bootstrap_exponents
from spectralkd.figures.bands import band_figure
from spectralkd.spectra.power import RadialPowerSpectrum, radial_power
from spectralkd.spectra.powerlaw import fit_power_law
from spectralkd.spectra.rings import ring_frequencies

MAPS = field(200, 32, -2.0).float()


def spectrum():  # type: ignore[no-untyped-def]
    metric = RadialPowerSpectrum(ring="jacobian")
    metric.update(MAPS)
    return metric.compute()


def test_each_element_is_the_fit_over_its_rings() -> None:
    s = spectrum()
    grid = band_grid(s)
    assert int(grid.isfinite().sum()) == 13 * 14 // 2
    assert not grid[0].isfinite().any()
    for first, last in ((1, 15), (4, 15), (4, 6), (13, 15)):
        k = s.frequency
        fit = fit_power_law(k, s.power, band=(float(k[first]) - 1e-9, float(k[last]) + 1e-9))
        assert float(grid[first, last]) == pytest.approx(fit.exponent)
    figure = band_figure(s, "maps", mark=-1.0)
    assert figure.data[0].z.shape == (16, 16)


def test_the_bootstraps_error_is_that_of_new_images() -> None:
    k = ring_frequencies(32, 32)
    spread = []
    for seed in range(40):
        power = radial_power(field(50, 32, -2.0, seed=seed).float())[:, 0]
        spread.append(fit_power_law(k, power.double().mean(0)).exponent)
    expected = float(torch.tensor(spread).std())
    power = radial_power(field(50, 32, -2.0, seed=99).float())[:, 0]
    found = bootstrap_exponents(k, power)
    assert float(found.std()) == pytest.approx(expected, rel=0.4)
    mean = fit_power_law(k, power.double().mean(0)).exponent
    assert float(found.mean()) == pytest.approx(mean, abs=2 * expected)


def test_copies_of_an_image_add_nothing_if_they_are_one_group() -> None:
    k = ring_frequencies(32, 32)
    power = radial_power(MAPS[:30])[:, 0]
    copies, groups = power.repeat(9, 1), torch.arange(30).repeat(9)
    alone = bootstrap_exponents(k, power).std()
    assert float(bootstrap_exponents(k, copies, groups=groups).std()) == pytest.approx(float(alone))
    assert bootstrap_exponents(k, copies).std() < alone / 2


def test_what_does_not_fit_together_is_refused() -> None:
    k = ring_frequencies(32, 32)
    with pytest.raises(ValueError, match=r"power: expected \(N, R\) with R = 16"):
        bootstrap_exponents(k, torch.ones(3, 4))
    with pytest.raises(ValueError, match=r"groups: expected \(3,\), got \(2,\)"):
        bootstrap_exponents(k, torch.ones(3, 16), groups=torch.arange(2))
    with pytest.raises(ValueError, match="groups: expected at least two to draw from, got 1"):
        bootstrap_exponents(k, torch.ones(3, 16), groups=torch.zeros(3))
