"""Are these the losses' distances? Held against plain formulas and the losses."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from smooth import MARGIN, maps
from torch import Tensor

from spectralkd.analysis.distances import (
    Distances,
    compare,
    correlation,
    partial_cost,
    perturb,
    relative,
    scrambled_rings,
    white_noise,
)
from spectralkd.losses import overhaul
from spectralkd.losses.base import Taps
from spectralkd.losses.spectral import Spectral
from spectralkd.spectra.correlation import ring_correlation
from spectralkd.spectra.power import radial_power
from spectralkd.spectra.rings import ring_frequencies

pytestmark = pytest.mark.usefixtures("one_thread")


# --- perturb: is the student distorted as it says? ------------------------------------------------


def test_nothing_asked_for_is_nothing_done() -> None:
    x = maps()
    kept = x.clone()
    assert torch.equal(perturb(x), x)
    perturb(x, shift=2, blur=1, scramble=(0, 1), flip=0.5, noise=1)
    assert torch.equal(x, kept)


def test_shift_goes_right_and_around_the_edge() -> None:
    x = maps()
    shifted = perturb(x, shift=3)
    for column in range(16):
        assert torch.equal(shifted[..., (column + 3) % 16], x[..., column])


@settings(max_examples=10)
@given(st.floats(0.4, 2), st.integers(5, 12), st.integers(5, 12))
def test_blur_multiplies_every_mode_by_a_gaussian(sigma: float, height: int, width: int) -> None:
    x = torch.randn(height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    modes = np.fft.fft2(x.numpy())
    for row in range(height):
        for column in range(width):
            square = np.fft.fftfreq(height)[row] ** 2 + np.fft.fftfreq(width)[column] ** 2
            modes[row, column] *= math.exp(-2 * math.pi**2 * sigma**2 * square)
    truth = np.fft.ifft2(modes).real
    np.testing.assert_allclose(perturb(x, blur=sigma).numpy(), truth, atol=1e-12)


def test_each_ring_is_scrambled_by_itself() -> None:
    x = maps(3).double()
    scrambled = scrambled_rings(x)
    assert len(scrambled) == len(ring_frequencies(16, 16)) - 1
    for number, changed in enumerate(scrambled, start=1):
        kept = ring_correlation(x, changed).mean(0) > 1 - 1e-9
        assert [ring for ring, same in enumerate(kept.tolist()) if not same] == [number]


def test_blur_spreads_a_point_by_sigma_pixels() -> None:
    point = torch.zeros(33, 33, dtype=torch.float64)
    point[16, 16] = 1
    blurred = perturb(point, blur=2)
    distance = torch.arange(33, dtype=torch.float64) - 16
    weights = torch.exp(-(distance**2) / 8) / math.sqrt(8 * math.pi)
    torch.testing.assert_close(blurred, torch.outer(weights, weights), atol=1e-8, rtol=0)


@settings(max_examples=15)
@given(st.integers(0, 7), st.integers(0, 7), st.integers(0, 100))
def test_scrambling_keeps_power_and_everything_outside_the_band(
    first: int, second: int, seed: int
) -> None:
    x = maps(1).double()
    low, high = (ring / 16 - 1 / 32 for ring in sorted((first, second)))
    modes, found = (
        np.fft.fft2(m.numpy()) for m in (x[0], perturb(x, scramble=(low, high), seed=seed)[0])
    )
    k = np.hypot(np.fft.fftfreq(16)[:, None], np.fft.fftfreq(16)[None, :])
    inside = (k >= low) & (k < high)
    np.testing.assert_allclose(np.abs(found), np.abs(modes), atol=1e-9)
    np.testing.assert_allclose(found[~inside], modes[~inside], atol=1e-9)
    if inside.sum() > 8:
        assert np.abs(found - modes)[inside].mean() > 0.2 * np.abs(modes)[inside].mean()


def test_random_phases_correlate_with_nothing() -> None:
    x = maps(200)
    scrambled = perturb(x, scramble=(0.2, 0.3))
    found = correlation(x, scrambled, margin=-math.inf)
    k = ring_frequencies(16, 16)[1:]
    inside, outside = (k > 0.23) & (k < 0.27), (k < 0.16) | (k > 0.34)
    assert found[inside].abs().max() < 0.1
    assert found[outside].min() > 0.999


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_flips_turn_a_share_of_the_signs_and_nothing_else(share: float) -> None:
    x = maps(40)
    flipped = perturb(x, flip=share)
    assert torch.equal(flipped.abs(), x.abs())
    assert float((flipped != x).float().mean()) == pytest.approx(share, abs=0.02)


def test_a_larger_share_of_flips_holds_the_smaller() -> None:
    x = maps()
    few, many = (perturb(x, flip=share) != x for share in (0.2, 0.4))
    assert (few & ~many).sum() == 0
    assert many.sum() > few.sum()


def test_noise_is_white_and_of_the_strength_asked_for() -> None:
    x = 3 * maps(200) + 7
    noise = perturb(x, noise=0.5) - x
    power = radial_power(noise / x.std((-2, -1), keepdim=True)).mean(0)
    torch.testing.assert_close(power[1:], torch.full((7,), 0.25), rtol=0.1, atol=0)


def test_a_student_that_knows_nothing_has_mean_and_deviation_of_the_map() -> None:
    x = 3 * maps(50, size=32) + 7
    found = white_noise(x)
    torch.testing.assert_close(found.mean((1, 2)), x.mean((1, 2)), atol=0.5, rtol=0)
    torch.testing.assert_close(found.std((1, 2)), x.std((1, 2)), rtol=0.1, atol=0)
    assert correlation(x, found, margin=-math.inf).abs().max() < 0.1


def test_one_seed_is_one_student() -> None:
    x = maps()
    everything: dict[str, Any] = {"blur": 1, "scramble": (0.2, 0.4), "flip": 0.3, "noise": 0.5}
    assert torch.equal(perturb(x, **everything), perturb(x, **everything))
    assert not torch.equal(perturb(x, **everything), perturb(x, **everything, seed=1))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"blur": -1.0}, "blur: expected a number from 0 to inf, got -1"),
        ({"flip": 1.5}, "flip: expected a number from 0 to 1, got 1.5"),
        ({"noise": math.nan}, "noise: expected a number from 0 .* got nan"),
    ],
)
def test_a_strength_out_of_range_is_named(options: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        perturb(maps(), **options)  # type: ignore[arg-type]


def test_what_is_no_map_is_refused() -> None:
    with pytest.raises(TypeError, match="maps: expected a real floating-point tensor, got .*int64"):
        perturb(torch.zeros(4, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match=re.escape("maps: expected (..., H, W), got shape (4,)")):
        white_noise(torch.zeros(4))


# --- compare: are these the losses' own numbers? --------------------------------------------------


def by_loops(teacher: Tensor, student: Tensor, margin: float) -> Distances:
    """All distances by their formulas, element by element and mode by mode."""
    count, size, _ = teacher.shape
    l1 = l2 = partial = spectral = 0.0
    correlations = []
    for t, s in zip(teacher.double().numpy(), student.double().numpy(), strict=True):
        t = np.maximum(t, margin)
        for a, b in zip(t.flat, s.flat, strict=True):
            l1 += abs(a - b)
            l2 += (a - b) ** 2
            if a > 0 or b > a:
                partial += (a - b) ** 2
        ft, fs = np.fft.fft2(t, norm="ortho"), np.fft.fft2(s, norm="ortho")
        spectral += np.abs(ft - fs).sum()
        for ring in range(1, (size + 1) // 2):
            cross = tt = ss = 0.0
            for y in range(size):
                for x in range(size):
                    length = size * math.hypot(np.fft.fftfreq(size)[y], np.fft.fftfreq(size)[x])
                    if ring - 0.5 <= length < ring + 0.5:
                        cross += (ft[y, x] * fs[y, x].conj()).real
                        tt += abs(ft[y, x]) ** 2
                        ss += abs(fs[y, x]) ** 2
            correlations.append(cross / math.sqrt(tt * ss))
    n = count * size * size
    return Distances(l1 / n, l2 / n, partial / n, spectral / n, 1 - float(np.mean(correlations)))


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("margin", [-math.inf, -0.8, -0.1])
def test_distances_are_those_of_plain_loops(size: int, margin: float) -> None:
    teacher = maps(2, size)
    student = perturb(teacher, shift=1, noise=0.4)
    found = compare(teacher, student, margin=margin)
    assert found == pytest.approx(by_loops(teacher, student, margin), rel=1e-4)


def test_distances_are_the_loss_s_own() -> None:
    weight, bias = torch.tensor([1.3]), torch.tensor([-0.2])
    taps = Taps(((1, 16, 16),), (overhaul.margin(weight, bias),))
    loss = Spectral(l1_reduction="mean")
    loss.build(taps, taps)
    teacher = maps()
    student = perturb(teacher, shift=1, noise=0.3)
    m = float(overhaul.margin(weight, bias))
    pair = (teacher[:, None].clamp_min(m), student[:, None])  # one channel of images
    l1, cps = loss.stage_terms(0, *pair)
    found = compare(teacher, student, margin=m)
    assert found.spectral_l1 == pytest.approx(float(l1), rel=1e-5)
    assert found.cps == pytest.approx(float(cps), rel=1e-5)
    total = float(overhaul.partial_l2(*pair))
    assert found.partial_l2 == pytest.approx(total / teacher.numel(), rel=1e-5)


def test_a_student_at_the_target_is_at_no_distance() -> None:
    teacher = maps()
    found = compare(teacher, teacher.clamp_min(MARGIN), margin=MARGIN)
    assert found == pytest.approx((0, 0, 0, 0, 0), abs=1e-6)


def test_costs_of_elements_add_up_to_the_partial_l2() -> None:
    teacher = maps()
    student = perturb(teacher, noise=1)
    cost = partial_cost(teacher, student, margin=MARGIN)
    assert cost.shape == teacher.shape
    assert float(cost.mean()) == pytest.approx(
        compare(teacher, student, margin=MARGIN).partial_l2, rel=1e-5
    )


@pytest.mark.parametrize(
    ("teacher", "student", "cost"),
    [
        (2.0, 1.0, 1.0),  # awake: every difference counts
        (2.0, -1.0, 9.0),
        (-3.0, 0.2, 1.0),  # rests at the margin: the student is too high by 1
        (-3.0, -0.9, 0.0),  # rests, and so does the student
        (-0.5, -0.6, 0.0),
        (-0.5, -0.3, 0.04),
    ],
)
def test_what_one_element_costs(teacher: float, student: float, cost: float) -> None:
    found = partial_cost(torch.tensor([teacher]), torch.tensor([student]), margin=MARGIN)
    assert float(found) == pytest.approx(cost, abs=1e-6)


def test_the_depth_of_the_correlation_is_l_cps() -> None:
    teacher = maps()
    student = perturb(teacher, shift=1, noise=0.2)
    curve = correlation(teacher, student, margin=MARGIN)
    assert curve.shape == (7,)
    found = compare(teacher, student, margin=MARGIN).cps
    assert 1 - float(curve.mean()) == pytest.approx(found, rel=1e-4)


def test_white_noise_is_the_unit_of_relative_distances() -> None:
    teacher = maps(30)
    target = teacher.clamp_min(MARGIN)
    found = relative(teacher, white_noise(target, seed=1), margin=MARGIN)
    assert found == pytest.approx((1, 1, 1, 1, 1), rel=0.05)
    student = perturb(target, noise=0.5)
    ratio = [
        compare(teacher, student, margin=MARGIN)[n]
        / compare(teacher, white_noise(target), margin=MARGIN)[n]
        for n in range(5)
    ]
    assert relative(teacher, student, margin=MARGIN) == pytest.approx(ratio)


def test_maps_of_different_sizes_are_refused() -> None:
    says = re.escape("student: expected shape (4, 16, 16) as the teacher, got (1, 16, 16)")
    for function in (compare, relative, partial_cost, correlation):
        with pytest.raises(ValueError, match=says):
            function(maps(), maps(1), margin=MARGIN)  # type: ignore[operator]


# --- what the notebook says -----------------------------------------------------------------------


def test_a_pixelwise_distance_does_not_know_where_pixels_are() -> None:
    teacher = maps()
    student = perturb(teacher, blur=1)
    order = torch.randperm(256, generator=torch.Generator().manual_seed(0))
    before = compare(teacher, student, margin=MARGIN)
    after = compare(*(m.flatten(1)[:, order].view_as(m) for m in (teacher, student)), margin=MARGIN)
    assert after[:3] == pytest.approx(before[:3], rel=1e-5)
    assert abs(after.spectral_l1 / before.spectral_l1 - 1) > 0.05
    assert after.cps > before.cps + 0.05


def test_l2_in_frequency_is_l2_in_pixels_and_l1_is_not() -> None:
    teacher = maps().clamp_min(MARGIN)
    pixel = torch.zeros(16, 16)
    pixel[3, 5] = 16
    wave = math.sqrt(2) * torch.cos(2 * math.pi * torch.arange(16.0) * 3 / 16).expand(16, 16)
    one, other = (compare(teacher, teacher + 0.1 * e, margin=MARGIN) for e in (pixel, wave))
    for error in (pixel, wave):
        modes = torch.fft.fft2(0.1 * error, norm="ortho").abs().square().mean()
        assert float(modes) == pytest.approx(one.l2, rel=1e-4)
    assert one.l2 == pytest.approx(other.l2, rel=1e-4)
    # One pixel holds 256 modes of one size; a wave holds two.
    assert one.spectral_l1 / other.spectral_l1 == pytest.approx(256 / math.sqrt(2 * 256), rel=1e-3)
    assert one.l1 < other.l1 / 10


@settings(max_examples=10)
@given(st.floats(0.1, 10))
def test_l_cps_does_not_see_a_factor(factor: float) -> None:
    teacher = maps().clamp_min(MARGIN)
    found = compare(teacher, factor * teacher, margin=MARGIN)
    assert found.cps == pytest.approx(0, abs=1e-4)
    assert found.spectral_l1 == pytest.approx(
        abs(factor - 1) * compare(teacher, 0 * teacher, margin=MARGIN).spectral_l1, abs=1e-3
    )


def test_depth_at_rest_costs_overhaul_nothing_and_l_l1_something() -> None:
    teacher = maps().clamp_min(MARGIN)
    found = compare(teacher, torch.where(teacher <= 0, teacher - 1, teacher), margin=MARGIN)
    assert found.partial_l2 == 0
    assert found.spectral_l1 > 0.1


def test_a_shift_turns_phases_as_j0_says() -> None:
    white = torch.randn(400, 32, 32, generator=torch.Generator().manual_seed(0))
    found = correlation(white, perturb(white, shift=1), margin=-math.inf)
    k = ring_frequencies(32, 32)[1:]
    # J0 as the mean of a plane wave over angles; rings are one mode wide, hence the tolerance.
    angles = torch.arange(360.0, dtype=torch.float64) * math.pi / 180
    truth = torch.cos(2 * math.pi * k[:, None] * torch.cos(angles)).mean(1)
    torch.testing.assert_close(found.double(), truth, atol=0.03, rtol=0)
