"""Do the figures of spectra show the numbers they are given, each curve as itself?"""

from __future__ import annotations

import pytest
import torch

import spectralkd as skd
from spectralkd.figures.style import SYMBOLS, look, slots
from spectralkd.spectra.power import Spectrum, with_ring
from spectralkd.spectra.rings import ring_frequencies, ring_modes

K = ring_frequencies(32, 32)
STEEP = Spectrum(K, K.clamp_min(1e-3) ** -2, torch.full_like(K, 0.1), ring_modes(32, 32), 9, "mean")


@pytest.mark.parametrize("normalize", [False, True])
def test_curve_band_and_fit_are_drawn_where_they_are(normalize: bool) -> None:
    law = skd.fit_power_law(STEEP.frequency, STEEP.power)
    figure = skd.plot_spectra({"a": STEEP}, {"a": law}, normalize=normalize)
    band, curve, fit = figure.data
    scale = float(STEEP.power[1]) if normalize else 1.0
    assert list(curve.x) == STEEP.frequency[1:].tolist()
    assert list(curve.y) == pytest.approx((STEEP.power[1:] / scale).tolist())
    assert list(band.y[:15]) == pytest.approx(((STEEP.power[1:] + 0.2) / scale).tolist())
    assert list(fit.x) == [1 / 8, 1 / 2]
    assert list(fit.y) == pytest.approx([64 / scale, 4 / scale])
    assert curve.name.startswith("a: α = -2.00")
    unit = "first ring = 1" if normalize else "map units²"
    assert f"ring-mean power<br>({unit})" in figure.layout.yaxis.title.text


def test_spectra_of_one_kind_share_an_axis() -> None:
    with pytest.raises(ValueError, match="spectra: expected one ring reduction, got none"):
        skd.plot_spectra({})
    both = {"mean": STEEP, "paper": with_ring(STEEP, "jacobian")}
    with pytest.raises(ValueError, match="one ring reduction, got .'jacobian', 'mean'."):
        skd.plot_spectra(both)


def test_every_method_looks_like_no_other() -> None:
    slot = slots([*skd.METHODS, "own", "another"])
    assert len(set(slot.values())) == len(slot)
    looks = [look(number) for number in slot.values()]
    pairs = {(each["line"]["color"], each["marker"]["symbol"]) for each in looks}
    assert len(pairs) == len(looks)
    assert len(set(SYMBOLS)) == len(SYMBOLS)
