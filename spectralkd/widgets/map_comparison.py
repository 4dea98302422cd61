"""Distort a student's maps with sliders, and see what each distance measures."""

from __future__ import annotations

import math
from typing import Any

import ipywidgets as widgets
from torch import Tensor

from spectralkd.analysis.distances import compare, perturb
from spectralkd.figures.distances import NAMES, UNITS, comparison_data, comparison_figure
from spectralkd.figures.tables import format_table
from spectralkd.widgets.base import (
    Panel,
    SliderNames,
    Together,
    csv_link,
    in_this_cell,
    remember,
    row,
    table_box,
)
from spectralkd.widgets.code import Code
from spectralkd.widgets.plot import Plot

_CODE = """\
from spectralkd.analysis.distances import perturb
from spectralkd.figures.distances import comparison_figure

# comparison = MapComparison(…), whose maps are used
teacher = comparison.maps
student = perturb(
    teacher.clamp_min({margin}),
    shift={shift}, blur={blur}, scramble={scramble}, flip={flip}, noise={noise},
)
figure = comparison_figure(teacher, student, margin={margin}, shown={shown})
figure
"""


class MapComparison(Panel):
    """Sliders that ``perturb`` R_T, with ``comparison_figure`` and a table of ``compare``.

    Args:
        maps: (N, H, W) of a teacher before its ReLU.
        margin: initial value of its slider, in map units.
        name: comparisons of the same name in one cell share their settings, so that running
            the cell again keeps them.

    Attributes:
        controls: the sliders, by the names of ``perturb``'s arguments, ``margin`` and ``shown``.
        plot: with its ``figure``, which follows the sliders.
        table: HTML of the distances.
        csv: HTML of a link to the distances and the ring correlation as a file.

    Raises:
        TypeError, ValueError: as ``compare``.
    """

    def __init__(self, maps: Tensor, margin: float, *, name: str = "comparison") -> None:
        self.maps = maps
        shared: dict[str, Any] = {
            "style": {"description_width": "min(19em, 55%)"},
            "layout": widgets.Layout(width="40em", max_width="98%"),
        }

        def slider(label: str, most: float, step: float) -> widgets.FloatSlider:
            return widgets.FloatSlider(0, max=most, step=step, description=label, **shared)

        self.controls: dict[str, Any] = {
            "shift": widgets.IntSlider(1, 0, 16, description="Shift (pixels)", **shared),
            "blur": slider("Blur, σ of a Gaussian (pixels)", 3, 0.1),
            "scramble": widgets.FloatRangeSlider(
                value=(0.5, 0.5),
                max=0.72,
                step=0.01,
                description="Random phases, |k| (cycles/pixel)",
                **shared,
            ),
            "flip": slider("Signs flipped (share of elements)", 1, 0.02),
            "noise": slider("White noise (of each map's deviation)", 2, 0.05),
            "margin": widgets.FloatSlider(
                margin,
                min=math.floor(100 * min(margin, float(maps.min()))) / 100,
                max=0,
                step=0.01,
                description="Margin of the teacher (map units)",
                **shared,
            ),
            "shown": widgets.IntSlider(0, 0, len(maps) - 1, description="Map drawn", **shared),
        }
        self._first = {key: control.value for key, control in self.controls.items()}
        remember(in_this_cell(name), self.controls)
        self._figure = comparison_figure(maps, maps, margin=margin)
        self.plot = Plot("Distances of two maps")
        self.table, self.csv, self.code = table_box(), table_box(), Code("Python code")
        self._redraw = Together(self._draw)
        for control in self.controls.values():
            control.observe(self._redraw, "value")
        reset = widgets.Button(description="Reset")
        reset.on_click(lambda _: self.reset())
        self._redraw()
        sliders = widgets.VBox([*self.controls.values(), reset])
        numbers = widgets.VBox([self.table, self.csv])
        folded = widgets.Accordion([self.code], titles=["These settings as code"])
        super().__init__([row(sliders, numbers), self.plot, folded, SliderNames()])

    def reset(self) -> None:
        """Return all sliders to where they were first."""
        with self._redraw.changes():
            for key, value in self._first.items():
                self.controls[key].value = value

    def _draw(self) -> None:
        values = {key: control.value for key, control in self.controls.items()}
        self.code.text = _CODE.format(**values)
        margin, shown = values.pop("margin"), values.pop("shown")
        student = perturb(self.maps.clamp_min(margin), **values)
        data = comparison_data(self.maps, student, margin, shown)
        for trace in self._figure.data:
            trace.update(data[trace.meta])
        self.plot.show(self._figure)
        found = zip(NAMES, compare(self.maps, student, margin=margin), UNITS, strict=True)
        rows = [(title, f"{value:.4f}", unit) for title, value, unit in found]
        self.table.value = format_table(("distance", "value", "unit"), rows, style="html")
        curve = zip(data["rings"]["x"], data["rings"]["y"], strict=True)
        self.csv.value = csv_link(
            "comparison.csv",
            ("quantity", "value", "unit", "|k| (cycles/pixel)"),
            [(*row, "") for row in rows]
            + [("ring correlation", f"{y:.6f}", "none", f"{k:.6f}") for k, y in curve],
        )
