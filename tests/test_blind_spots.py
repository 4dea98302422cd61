"""Is what each loss sees of a distortion what its formula says?"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spectralkd.analysis.blind_spots import (
    LOSSES,
    blind_spots,
    distortions,
    gradient_spectra,
    ring_weights,
)
from spectralkd.analysis.distances import compare, perturb
from spectralkd.figures.blind_spots import blind_spots_figure
from spectralkd.spectra.power import radial_power
from spectralkd.spectra.rings import ring_modes


def maps(size: int = 16, count: int = 6) -> Tensor:
    """Maps that are smoother than white noise and have a mean."""
    white = torch.randn(count, 5, size, size, generator=torch.Generator().manual_seed(0)).double()
    return perturb(white, blur=0.5) + 0.3 * white + 0.5


def test_what_is_not_seen() -> None:
    teacher = maps()
    found = blind_spots(teacher, distortions(teacher))
    seen = {
        name: {label for label, value in row.items() if value > 1e-9} for name, row in found.items()
    }
    every = set(distortions(teacher))
    assert seen["L2"] == seen["fft_align"] == seen["focal"] == seen["L_L1"] == every
    assert seen["at"] == every - {"twice the map", "channels shuffled"}
    assert seen["wavelet"] == every - {"without its mean"}
    assert seen["ufd"] == every - {"twice the map"}
    assert seen["L_CPS"] == every - {"twice the map", "without its mean"}


def test_distortions_are_what_their_names_say() -> None:
    teacher = maps()
    made, modes = distortions(teacher), torch.fft.rfft2(teacher)
    assert torch.equal(made["shift by 1 pixel"], teacher.roll(1, -1))
    noise = made["noise, half the deviation"] - teacher
    assert float(noise.std() / teacher.std((-2, -1)).mean()) == pytest.approx(0.5, rel=0.05)
    kx, ky = torch.fft.rfftfreq(16).double(), torch.fft.fftfreq(16).double()[:, None]
    gain = torch.exp(-2 * (torch.pi * torch.hypot(kx, ky)).square())
    torch.testing.assert_close(torch.fft.rfft2(made["blur, σ = 1 pixel"]), modes * gain)
    low, high = ((1, 0), (0, 1)), ((2, 0), (0, 3))  # 2 of 16 pixels: |k| is 1/8
    for name, disturbed, kept in (("low", low, high), ("high", high, low)):
        changed = torch.fft.rfft2(made[f"{name} phases random"])
        torch.testing.assert_close(changed.abs(), modes.abs())
        for at in disturbed:
            assert not torch.allclose(changed[..., *at], modes[..., *at])
        for at in ((0, 0), *kept):
            torch.testing.assert_close(changed[..., *at], modes[..., *at])


def test_losses_are_those_of_their_methods() -> None:
    teacher, student = maps(), perturb(maps(), noise=0.5)
    found = compare(teacher, student, margin=-torch.inf)
    assert float(LOSSES["L2"](teacher, student)) == pytest.approx(found.l2)
    assert float(LOSSES["L_L1"](teacher, student)) == pytest.approx(found.spectral_l1)
    flat = [m.flatten(0, 1)[:, None] for m in (teacher, student)]
    assert float(LOSSES["L_CPS"](*flat)) == pytest.approx(found.cps)


def test_l2_weighs_a_ring_by_its_power_and_cps_all_rings_alike() -> None:
    teacher = maps(count=60)
    weights = ring_weights(teacher, {name: LOSSES[name] for name in ("L2", "L_CPS")})
    power = radial_power(teacher).mean((0, 1))[1:] * ring_modes(16, 16)[1:]
    torch.testing.assert_close(weights["L2"].double(), power / power.sum(), rtol=0.1, atol=0)
    torch.testing.assert_close(weights["L_CPS"], torch.full((7,), 1 / 7), rtol=0.03, atol=0)


def test_the_gradient_of_l2_is_the_error() -> None:
    teacher, student = maps(), perturb(maps(), noise=0.5)
    error = radial_power(student - teacher).mean((0, 1))[1:]
    spectra = gradient_spectra(teacher, student)
    assert spectra.keys() == LOSSES.keys()
    torch.testing.assert_close(spectra["L2"], error / error.mean())
    assert all(torch.isfinite(power).all() for power in spectra.values())


def test_the_figure_shows_every_number() -> None:
    figure = blind_spots_figure({"L2": {"a": 0.5, "b": 3.25}, "at": {"a": 0.0, "b": 1.0}})
    (heat,) = figure.data
    assert (list(heat.x), list(heat.y)) == (["a", "b"], ["L2", "at"])
    assert [list(row) for row in heat.text] == [["0.50", "3.25"], ["0.00", "1.00"]]
