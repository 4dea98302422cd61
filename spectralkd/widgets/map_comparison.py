"""Distort a student's maps with sliders, and see what each distance measures."""

from __future__ import annotations

import math
from typing import Any

import ipywidgets as widgets
import plotly.graph_objects as go
from torch import Tensor

from spectralkd.analysis.distances import compare, perturb
from spectralkd.figures.distances import NAMES, UNITS, comparison_data, comparison_figure
from spectralkd.figures.tables import format_table
from spectralkd.widgets.base import Panel, SliderNames, csv_link, remember, table_box


class MapComparison(Panel):
    """Sliders that ``perturb`` R_T, with ``comparison_figure`` and a table of ``compare``.

    Args:
        maps: (N, H, W) of a teacher before its ReLU.
        margin: initial value of its slider, in map units.
        name: comparisons of the same name in one kernel share their settings, so that running
            the cell again keeps them.

    Attributes:
        controls: the sliders, by the names of ``perturb``'s arguments, ``margin`` and ``shown``.
        figure: changed in place when a slider moves.
        table: HTML of the distances.
        csv: HTML of a link to the distances and the ring correlation as a file.

    Raises:
        TypeError, ValueError: as ``compare``.
    """

    def __init__(self, maps: Tensor, margin: float, *, name: str = "comparison") -> None:
        self.maps = maps.contiguous()  # widget messages need contiguous arrays
        shared: dict[str, Any] = {
            "style": {"description_width": "19em"},
            "layout": widgets.Layout(width="40em"),
        }

        def slider(label: str, most: float, step: float) -> widgets.FloatSlider:
            return widgets.FloatSlider(0, max=most, step=step, description=label, **shared)

        self.controls: dict[str, Any] = {
            "shift": widgets.IntSlider(0, 0, 16, description="Shift (pixels)", **shared),
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
        remember(name, self.controls)
        self.figure = go.FigureWidget(comparison_figure(maps, maps, margin=margin))
        self.table, self.csv = table_box(), widgets.HTML()
        for control in self.controls.values():
            control.observe(self._redraw, "value")
        self._redraw()
        sliders = widgets.VBox(list(self.controls.values()))
        apart = widgets.Layout(margin="0 0 0 2em")
        numbers = widgets.VBox([self.table, self.csv], layout=apart)
        super().__init__([widgets.HBox([sliders, numbers]), self.figure, SliderNames()])

    def _redraw(self, _: object = None) -> None:
        values = {key: control.value for key, control in self.controls.items()}
        margin, shown = values.pop("margin"), values.pop("shown")
        student = perturb(self.maps.clamp_min(margin), **values)
        data = comparison_data(self.maps, student, margin, shown)
        numbers = {trace.meta: number for number, trace in enumerate(self.figure.data)}
        # Not batch_update: plotly 7 deletes from the page what only other traces of a batch
        # change. Here each message holds the same keys for all of its traces.
        for keys in (["z"], ["x", "y"]):
            names = [name for name, values in data.items() if list(values) == keys]
            changes = {key: [data[name][key] for name in names] for key in keys}
            self.figure.plotly_restyle(changes, [numbers[name] for name in names])
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
