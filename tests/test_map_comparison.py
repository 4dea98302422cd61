"""Does notebook 04 show what the distances say?"""

from __future__ import annotations

import base64
import csv
import io
import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from smooth import MARGIN, maps

from spectralkd.analysis.distances import compare, correlation, partial_cost, perturb, relative
from spectralkd.figures.distances import (
    comparison_figure,
    correlation_figure,
    frequency_figure,
    margin_figure,
    terms_figure,
)
from spectralkd.spectra.power import radial_power
from spectralkd.spectra.rings import ring_frequencies, ring_modes
from spectralkd.widgets import base as widget
from spectralkd.widgets.map_comparison import MapComparison

pytestmark = pytest.mark.usefixtures("one_thread")


def traces(figure: Any) -> dict[str, Any]:
    """Traces of ``comparison_figure`` by name."""
    return {trace.meta: trace for trace in figure.data}


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
    (plane,) = (trace for trace in margin_figure(1.0, 0.0).data if trace.type == "heatmap")
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
    trace = traces(comparison_figure(teacher, student, margin=MARGIN, shown=2))
    assert trace["distances"].x == pytest.approx(relative(teacher, student, margin=MARGIN))
    assert np.array_equal(trace["teacher"].z, teacher[2].clamp_min(MARGIN))
    assert np.array_equal(trace["student"].z, student[2])
    assert np.array_equal(trace["rings"].y, correlation(teacher, student, margin=MARGIN))
    assert np.array_equal(trace["pairs"].x, teacher[2].flatten())
    assert np.array_equal(trace["pairs"].y, student[2].flatten())
    assert np.array_equal(trace["cost"].z, partial_cost(teacher[2], student[2], margin=MARGIN))


def test_a_figure_of_maps_of_different_sizes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"student: expected shape \(4, 16, 16\)"):
        comparison_figure(maps(), maps(1), margin=MARGIN)


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
            assert first.range is not None
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
        for trace in comparison.plot.figure.data
    ]


def test_a_moved_slider_moves_the_same_figure(comparison: MapComparison) -> None:
    figure, traces = comparison.plot.figure, comparison.plot.figure.data
    controls = comparison.controls
    controls["shift"].value, controls["noise"].value = 3, 0.5
    controls["margin"].value, controls["shown"].value = -0.4, 2
    assert comparison.plot.figure is figure
    assert comparison.plot.figure.data == traces
    teacher = maps()
    student = perturb(teacher.clamp_min(-0.4), shift=3, noise=0.5)
    fresh = comparison_figure(teacher, student, margin=-0.4, shown=2)
    for trace, new in zip(figure.data, fresh.data, strict=True):
        for key in ("x", "y", "z"):
            if key in new:
                same = np.array_equal(np.array(trace[key]), np.array(new[key]))
                assert same, f"{trace.type}: {key}"


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
    assert np.array_equal(traces(comparison.plot.figure)["pairs"].x, maps()[1].flatten())


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
    assert traces(again.plot.figure)["distances"].x == traces(comparison.plot.figure)["distances"].x
    other = MapComparison(maps(), MARGIN, name="another")
    assert other.controls["shift"].value == 1
    again.reset()
    assert again.controls["shift"].value == 1
    assert again.controls["scramble"].value == (0.5, 0.5)


def test_the_settings_as_code_draw_the_same(comparison: MapComparison) -> None:
    comparison.controls["noise"].value = 0.5
    names: dict[str, Any] = {"comparison": comparison}
    exec(comparison.code.text, names)
    assert traces(names["figure"])["distances"].x == traces(comparison.plot.figure)["distances"].x


def test_table_and_file_hold_the_functions_numbers(comparison: MapComparison) -> None:
    comparison.controls["blur"].value = 1.0
    student = perturb(maps().clamp_min(MARGIN), shift=1, blur=1)
    found = compare(maps(), student, margin=MARGIN)
    found_cells = re.findall(r"<td[^>]*>([^<]*)</td>", comparison.table.value)
    cells = [cell.strip() for cell in found_cells]
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
