"""Does notebook 04 show what the losses compute? Held against plain formulas and the losses."""

from __future__ import annotations

import base64
import csv
import io
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spectralkd.losses import overhaul
from spectralkd.losses.method import Taps
from spectralkd.losses.spectral import Spectral
from spectralkd.notebook import widget
from spectralkd.notebook.comparison import (
    Distances,
    MapComparison,
    compare,
    comparison_figure,
    correlation,
    correlation_figure,
    frequency_figure,
    margin_figure,
    partial_cost,
    perturb,
    relative,
    terms_figure,
    white_noise,
)
from spectralkd.spectrum import radial_power, ring_frequencies, ring_modes

MARGIN = -0.8


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Maps this small gain nothing from threads, and lose where other programs run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def maps(count: int = 4, size: int = 16, seed: int = 0) -> Tensor:
    """Smooth random maps, (count, size, size) float32 of deviation about 1."""
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(count, size, size, generator=generator)
    smooth = white + white.roll(1, -1) + white.roll(1, -2)
    return smooth / smooth.std()


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


@settings(max_examples=10, deadline=None)
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


def test_blur_spreads_a_point_by_sigma_pixels() -> None:
    point = torch.zeros(33, 33, dtype=torch.float64)
    point[16, 16] = 1
    blurred = perturb(point, blur=2)
    distance = torch.arange(33, dtype=torch.float64) - 16
    weights = torch.exp(-(distance**2) / 8) / math.sqrt(8 * math.pi)
    torch.testing.assert_close(blurred, torch.outer(weights, weights), atol=1e-8, rtol=0)


@settings(max_examples=15, deadline=None)
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
    taps = Taps(("map",), ((1, 16, 16),), ((weight, bias),))
    loss = Spectral(taps, taps, l1_reduction="mean")
    teacher = maps()
    student = perturb(teacher, shift=1, noise=0.3)
    m = float(overhaul.margin(weight, bias))
    pair = (student[:, None], teacher[:, None].clamp_min(m))
    l1, cps = loss.spectral_terms([pair])
    found = compare(teacher, student, margin=m)
    assert found.spectral_l1 == pytest.approx(float(l1), rel=1e-5)
    assert found.cps == pytest.approx(float(cps), rel=1e-5)
    total = float(overhaul.overhaul_distance([pair]))
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
    for function in (compare, relative, partial_cost, correlation, comparison_figure):
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


@settings(max_examples=10, deadline=None)
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


# --- figures: do they show these numbers, on axes that stay? --------------------------------------


def test_the_margin_is_drawn_where_it_is() -> None:
    found = margin_figure(2.0, -0.5, 2 * maps() - 0.5)
    lines = {trace.name: trace for trace in found.data if trace.name}
    sample = np.random.default_rng(0).normal(-0.5, 2, 1_000_000)
    m = sample[sample < 0].mean()
    assert lines["margin"].x == pytest.approx([m, m], abs=0.01)
    assert min(lines["max(x, margin)"].y) == pytest.approx(m, abs=0.01)
    assert min(lines["max(x, 0)"].y) == 0
    for name in ("N(β, γ²)", "measured"):
        assert np.trapezoid(lines[name].y, lines[name].x) == pytest.approx(1, abs=0.01)
    half = np.trapezoid(lines["negative half"].y, lines["negative half"].x)
    assert half == pytest.approx((sample < 0).mean(), abs=0.02)


def test_the_zero_region_is_where_both_rest() -> None:
    plane = margin_figure(1.0, 0.0).data[-1]
    for row, s in enumerate(plane.y):
        for column, t in enumerate(plane.x):
            target = max(t, -math.sqrt(2 / math.pi))
            free = target <= 0 and s <= target
            assert plane.z[row][column] == pytest.approx(0 if free else (s - target) ** 2, abs=1e-5)


def test_a_channel_of_weight_0_has_no_margin_to_draw() -> None:
    with pytest.raises(ValueError, match="weight: expected a number other than 0"):
        margin_figure(0.0, 1.0)


def test_the_comparison_shows_the_functions_numbers() -> None:
    teacher = maps()
    student = perturb(teacher.clamp_min(MARGIN), shift=2)
    target, other, _, cost, bars, rings, pairs = comparison_figure(
        teacher, student, margin=MARGIN, shown=2
    ).data
    assert bars.x == pytest.approx(relative(teacher, student, margin=MARGIN))
    assert np.array_equal(target.z, teacher[2].clamp_min(MARGIN))
    assert np.array_equal(other.z, student[2])
    assert np.array_equal(rings.y, correlation(teacher, student, margin=MARGIN))
    assert np.array_equal(pairs.x, teacher[2].flatten())
    assert np.array_equal(pairs.y, student[2].flatten())
    assert np.array_equal(cost.z, partial_cost(teacher[2], student[2], margin=MARGIN))


def test_axes_have_titles_and_do_not_follow_the_student() -> None:
    teacher = maps()
    figures = [
        comparison_figure(teacher, perturb(teacher, noise=noise), margin=margin)
        for noise, margin in ((0, -0.8), (2, -0.1))
    ]
    layouts = [figure.layout for figure in figures]
    for number in ("", *map(str, range(2, 7))):
        assert layouts[0][f"xaxis{number}"].title.text
        for axis in ("xaxis", "yaxis"):
            first, second = (layout[f"{axis}{number}"] for layout in layouts)
            assert first.range == second.range
            assert first.range is not None or first.autorange == "reversed"
    for axis in ("coloraxis", "coloraxis2"):
        first, second = (layout[axis] for layout in layouts)
        assert (first.cmin, first.cmax) == (second.cmin, second.cmax)
        assert first.colorbar.title.text in ("map units", "map units²")


def test_terms_are_relative_distances_of_growing_perturbations() -> None:
    teacher = maps()
    figure = terms_figure(teacher, margin=MARGIN)
    assert len(figure.data) == 4 * 5
    target = teacher.clamp_min(MARGIN)
    for number, options in enumerate(({"shift": 8}, {"blur": 2.0}, {"noise": 2.0}, {"flip": 1.0})):
        lines = figure.data[5 * number : 5 * number + 5]
        last = relative(teacher, perturb(target, **options), margin=MARGIN)  # type: ignore[arg-type]
        assert [line.y[-1] for line in lines] == pytest.approx(last)
        assert [line.y[0] for line in lines] == pytest.approx([0] * 5, abs=1e-6)
    assert [line.name for line in lines] == ["L1", "L2", "partial L2", "L_L1", "L_CPS"]


def test_l2_sees_a_ring_by_its_power_and_l_cps_sees_all_alike() -> None:
    k = torch.hypot(torch.fft.fftfreq(32)[:, None], torch.fft.rfftfreq(32)[None, :])
    white = torch.randn(200, 32, 32, generator=torch.Generator().manual_seed(0))
    steep = torch.fft.irfft2(torch.fft.rfft2(white) * k.clamp_min(1 / 32) ** -1.5, s=(32, 32))
    figure = frequency_figure({"steep": steep}, margin=-math.inf)
    lines = {line.name: np.array(line.y) for line in figure.data}
    power = (radial_power(steep).mean(0) * ring_modes(32, 32))[1:]
    share = (power / power.sum()).numpy()
    np.testing.assert_allclose(lines["L2"] / lines["L2"].sum(), share, rtol=0.3)
    assert lines["L2"][0] > 50 * lines["L2"][-1]
    np.testing.assert_allclose(lines["L_CPS"], 1 / 15, rtol=0.2)
    assert figure.data[0].x == pytest.approx(ring_frequencies(32, 32)[1:].tolist())


def test_every_teacher_has_its_panel_of_its_own_target() -> None:
    teachers = {"one": maps(), "other": maps(seed=1)}
    figure = frequency_figure(teachers, margin=MARGIN)
    for panel, teacher in enumerate(teachers.values()):
        student = perturb(teacher.clamp_min(MARGIN), scramble=(2.5 / 16, 3.5 / 16))
        lines = figure.data[5 * panel : 5 * panel + 5]
        found = [line.y[2] for line in lines]
        assert found == pytest.approx(relative(teacher, student, margin=MARGIN))
        assert {line.showlegend for line in lines} == {panel == 0}
    assert [note.text for note in figure.layout.annotations] == list(teachers)


def test_correlations_are_drawn_beside_predictions() -> None:
    teacher = maps()
    student = perturb(teacher, shift=1)
    expected = torch.linspace(1, 0, 7)
    figure = correlation_figure(
        teacher, {"shifted": student}, margin=MARGIN, predictions={"a line": expected}
    )
    measured, predicted = figure.data
    assert np.array_equal(measured.y, correlation(teacher, student, margin=MARGIN))
    assert np.array_equal(predicted.y, expected)
    assert (measured.name, predicted.name) == ("shifted", "a line")
    assert predicted.line.dash != measured.line.dash
    assert tuple(figure.layout.yaxis.range) == (-1.05, 1.05)


# --- the widget -----------------------------------------------------------------------------------


@pytest.fixture
def comparison(monkeypatch: pytest.MonkeyPatch) -> MapComparison:
    monkeypatch.setattr(widget, "_memory", {})
    return MapComparison(maps(), MARGIN)


def shown(comparison: MapComparison) -> list[dict[str, Any]]:
    """Numbers of every trace."""
    return [
        {key: np.array(getattr(trace, key)) for key in ("x", "y", "z") if trace[key] is not None}
        if trace.type == "heatmap"
        else {"x": np.array(trace.x), "y": np.array(trace.y)}
        for trace in comparison.figure.data
    ]


def test_a_moved_slider_moves_the_same_figure(comparison: MapComparison) -> None:
    figure, traces = comparison.figure, comparison.figure.data
    controls = comparison.controls
    controls["shift"].value, controls["noise"].value = 3, 0.5
    controls["margin"].value, controls["shown"].value = -0.4, 2
    assert comparison.figure is figure
    assert comparison.figure.data == traces
    teacher = maps()
    student = perturb(teacher.clamp_min(-0.4), shift=3, noise=0.5)
    fresh = comparison_figure(teacher, student, margin=-0.4, shown=2)
    for trace, new in zip(figure.data, fresh.data, strict=True):
        for key in ("x", "y", "z"):
            if key in new:
                same = np.array_equal(np.array(trace[key]), np.array(new[key]))
                assert same, f"{trace.type}: {key}"


def test_a_change_of_one_trace_takes_nothing_from_another(comparison: MapComparison) -> None:
    # plotly's page deletes x, y or z of a trace where a message names it for another one alone.
    sent: list[dict[str, Any]] = []
    comparison.figure.observe(lambda change: sent.append(change["new"]), "_py2js_restyle")
    comparison.figure.observe(lambda change: pytest.fail("a batch"), "_py2js_update")
    comparison.controls["shift"].value = 2
    comparison.controls["shown"].value = 1
    assert {key for message in filter(None, sent) for key in message["restyle_data"]} == set("xyz")
    for message in filter(None, sent):
        for values in message["restyle_data"].values():
            assert len(values) == len(message["restyle_traces"])
            assert all(hasattr(value, "__len__") for value in values)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shift", 2),
        ("blur", 1.0),
        ("scramble", (0.1, 0.4)),
        ("flip", 0.3),
        ("noise", 0.5),
        ("margin", -0.2),
        ("shown", 3),
    ],
)
def test_every_slider_does_something(comparison: MapComparison, name: str, value: Any) -> None:
    before = shown(comparison)
    comparison.controls[name].value = value
    after = shown(comparison)
    assert any(
        not np.array_equal(a[key], b[key]) for a, b in zip(before, after, strict=True) for key in a
    )


def test_a_channel_taken_out_of_a_batch_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(widget, "_memory", {})
    channel = torch.stack([maps(), maps()], -1)[..., 0]
    assert not channel.is_contiguous()
    comparison = MapComparison(channel, MARGIN)
    comparison.controls["shown"].value = 1
    for trace in comparison.figure.data[6:]:
        assert memoryview(trace.x).contiguous
        assert memoryview(trace.y).contiguous
    assert np.array_equal(comparison.figure.data[6].x, maps()[1].flatten())


def test_every_slider_says_in_words_what_it_does(comparison: MapComparison) -> None:
    for control in comparison.controls.values():
        assert re.search(r"[a-z]{3}", control.description)
    assert "(pixels)" in comparison.controls["shift"].description


def test_a_cell_run_again_goes_on_where_it_was(comparison: MapComparison) -> None:
    comparison.controls["shift"].value = 5
    comparison.controls["scramble"].value = (0.2, 0.3)
    again = MapComparison(maps(), MARGIN)
    assert again.controls["shift"].value == 5
    assert again.controls["scramble"].value == (0.2, 0.3)
    assert again.figure.data[4].x == comparison.figure.data[4].x
    other = MapComparison(maps(), MARGIN, name="another")
    assert other.controls["shift"].value == 0


def test_table_and_file_hold_the_functions_numbers(comparison: MapComparison) -> None:
    comparison.controls["blur"].value = 1.0
    student = perturb(maps().clamp_min(MARGIN), blur=1)
    found = compare(maps(), student, margin=MARGIN)
    cells = re.findall(r"<td>([^<]*)</td>", comparison.table.value)
    assert cells[0::3] == ["L1", "L2", "partial L2", "L_L1", "L_CPS"]
    assert [float(cell) for cell in cells[1::3]] == pytest.approx(found, abs=6e-5)
    (data,) = re.findall(r"base64,([^\"]+)", comparison.csv.value)
    header, *rows = csv.reader(io.StringIO(base64.b64decode(data).decode()))
    assert header == ["quantity", "value", "unit", "|k| (cycles/pixel)"]
    assert [float(row[1]) for row in rows[:5]] == pytest.approx(found, abs=6e-5)
    curve = correlation(maps(), student, margin=MARGIN).tolist()
    assert [float(row[1]) for row in rows[5:]] == pytest.approx(curve, abs=1e-6)
    assert [float(row[3]) for row in rows[5:]] == pytest.approx(
        ring_frequencies(16, 16)[1:].tolist(), abs=1e-6
    )


def test_nothing_is_printed(comparison: MapComparison, capsys: pytest.CaptureFixture[str]) -> None:
    comparison.controls["shift"].value = 1
    assert capsys.readouterr().out == ""
