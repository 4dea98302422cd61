"""Two maps, and what each of ``distances`` sees of them: notebook 04's figures and widget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets as widgets
import plotly.graph_objects as go
import torch
from plotly.colors import get_colorscale
from plotly.subplots import make_subplots
from torch import Tensor

from spectralkd.distances import (
    compare,
    correlation,
    partial_cost,
    perturb,
    relative,
)
from spectralkd.losses import overhaul
from spectralkd.notebook.figures import COLOURS, layout, lines_figure
from spectralkd.notebook.widget import Panel, SliderNames, csv_link, remember, table_box
from spectralkd.spectrum import ring_frequencies
from spectralkd.tables import format_table

_NAMES = ("L1", "L2", "partial L2", "L_L1", "L_CPS")
_UNITS = ("map units", "map units²", "map units²", "map units", "none")
_PIXELWISE, _SPECTRAL = COLOURS[0], COLOURS[1]
_PICTURES, _LINES = [0, 1, 2, 3], [4, 5, 6]  # traces of comparison_figure
# Cividis from light to dark, but for white at 0: what costs nothing.
_COST_SCALE = [
    (0, "white"),
    *((max(share, 1e-6), colour) for share, colour in get_colorscale("Cividis_r")),
]


# --- figures --------------------------------------------------------------------------------------


def margin_figure(weight: float, bias: float, responses: Tensor | None = None) -> go.Figure:
    """Overhaul's margin of one channel, the margin ReLU, and what the partial L2 leaves free.

    Args:
        weight, bias: γ and β of the channel's batch norm, in map units.
        responses: of the channel, any shape, in map units: their density is drawn too.

    Raises:
        ValueError: ``weight`` is 0: there is one response alone.
    """
    sigma = abs(weight)
    if sigma == 0:
        raise ValueError("weight: expected a number other than 0, got 0")
    m = float(overhaul.margin(torch.tensor([weight]), torch.tensor([bias])))
    ends = (bias - 3.5 * sigma, bias + 3.5 * sigma)
    x = torch.linspace(*ends, 141)
    density = torch.exp(-((x - bias) / sigma).square() / 2) / (sigma * math.sqrt(2 * math.pi))
    top = 1.5 * float(density.max())
    titles = ("Responses of the channel", "Margin ReLU", "Cost of one element")
    figure = make_subplots(1, 3, subplot_titles=titles, horizontal_spacing=0.11)
    left = [
        _line(x[x <= 0], density[x <= 0], "negative half", COLOURS[5], width=0, fill="tozeroy"),
        _line(x, density, "N(β, γ²)", COLOURS[0]),
        _line(torch.full((2,), m), torch.tensor([0, top]), "margin", COLOURS[1], "dash"),
    ]
    if responses is not None:
        step = (ends[1] - ends[0]) / 40
        count = torch.histc(responses.detach().float(), 40, *ends)
        middle = ends[0] + step * (torch.arange(40) + 0.5)
        measured = count / (responses.numel() * step)
        left.append(_line(middle, measured, "measured", COLOURS[6], "dot"))
    figure.add_traces(left, rows=1, cols=1)
    relus = [
        _line(x, x.clamp_min(m), "max(x, margin)", COLOURS[1]),
        _line(x, x.relu(), "max(x, 0)", COLOURS[2], "dot"),
    ]
    figure.add_traces(relus, rows=1, cols=2)
    values = _grid(ends).numpy()
    plane = go.Heatmap(coloraxis="coloraxis", x=values, y=values, **_plane(ends, m))
    figure.add_trace(plane, 1, 3)
    figure.update_xaxes(title="F<sub>T</sub> (map units)", range=ends)
    figure.update_yaxes(title="density (1 / map units)", range=(0, top), col=1)
    figure.update_yaxes(title="R<sub>T</sub> (map units)", range=ends, col=2)
    figure.update_yaxes(title="R<sub>S</sub> (map units)", range=ends, col=3)
    figure.update_layout(**layout(None))
    return figure.update_layout(
        height=380,
        margin={"l": 65, "r": 10, "t": 40, "b": 110},
        legend={"orientation": "h", "y": -0.3, "x": 0},
        coloraxis=_costs(sigma),
    )


def comparison_figure(
    teacher: Tensor, student: Tensor, *, margin: float, shown: int = 0
) -> go.Figure:
    """Every distance over all pairs of maps, one of the pairs, and what its pixels cost.

    White are the pixels and the pairs of values that cost nothing.

    Args:
        teacher, student, margin: as ``compare``; (N, H, W).
        shown: number of the pair whose maps are drawn.

    Raises:
        TypeError, ValueError: as ``compare``.
    """
    target, other, plane, cost, distances, rings, pairs = _comparison(
        teacher, student, margin, shown
    )
    titles = (
        "Distances (white noise = 1)",
        "Teacher R<sub>T</sub>",
        "Student R<sub>S</sub>",
        "Ring correlation",
        "Partial L2 of two values",
        "Partial L2 of each pixel",
    )
    figure = make_subplots(
        2, 3, subplot_titles=titles, horizontal_spacing=0.09, vertical_spacing=0.2
    )
    reach = _reach(teacher)
    values = _grid((-reach, reach)).numpy()
    bars = {"color": [_PIXELWISE] * 3 + [_SPECTRAL] * 2}
    dots = {"size": 3, "color": COLOURS[1]}
    figure.add_trace(go.Heatmap(coloraxis="coloraxis", **target), 1, 2)
    figure.add_trace(go.Heatmap(coloraxis="coloraxis", **other), 1, 3)
    figure.add_trace(go.Heatmap(coloraxis="coloraxis2", x=values, y=values, **plane), 2, 2)
    figure.add_trace(go.Heatmap(coloraxis="coloraxis2", **cost), 2, 3)
    figure.add_trace(go.Bar(orientation="h", marker=bars, **distances), 1, 1)
    figure.add_trace(go.Scatter(line={"color": _SPECTRAL}, marker={"size": 5}, **rings), 2, 1)
    figure.add_trace(go.Scatter(mode="markers", marker=dots, **pairs), 2, 2)
    height, width = teacher.shape[-2:]
    for row, column in ((1, 2), (1, 3), (2, 3)):
        x = {"title": "pixels", "range": (-0.5, width - 0.5), "nticks": 5}
        figure.update_xaxes(x, row=row, col=column)
        figure.update_yaxes(range=(height - 0.5, -0.5), nticks=5, row=row, col=column)
    figure.update_xaxes(title="no unit", range=(0, 2), row=1, col=1)
    figure.update_yaxes(autorange="reversed", row=1, col=1)
    figure.update_xaxes(title="|k| (cycles/pixel)", range=(0, 0.5), row=2, col=1)
    figure.update_yaxes(range=(-1.05, 1.05), row=2, col=1)
    figure.update_xaxes(title="F<sub>T</sub> (map units)", range=(-reach, reach), row=2, col=2)
    figure.update_yaxes(title="R<sub>S</sub>", title_standoff=0, row=2, col=2)
    figure.update_yaxes(range=(-reach, reach), row=2, col=2)
    bar = {"title": {"text": "map units", "side": "right"}, "thickness": 12}
    figure.update_layout(**layout(None))
    return figure.update_layout(
        height=620,
        margin={"l": 75, "r": 10, "t": 40, "b": 55},
        showlegend=False,
        coloraxis={
            "colorscale": "RdBu_r",
            "cmin": -reach,
            "cmax": reach,
            "colorbar": {"y": 0.8, "len": 0.44, **bar},
        },
        coloraxis2=_costs(reach / 3, y=0.2, len=0.44),
    )


def terms_figure(teacher: Tensor, *, margin: float) -> go.Figure:
    """Every distance against the strength of four perturbations of R_T; white noise is 1.

    Args, Raises: as ``compare``.
    """
    target = teacher.clamp_min(margin)
    sweeps: dict[str, tuple[str, Sequence[Any]]] = {
        "shift": ("shift (pixels)", range(9)),
        "blur": ("Gaussian blur, σ (pixels)", [n / 4 for n in range(9)]),
        "noise": ("white noise (of each map's deviation)", [n / 4 for n in range(9)]),
        "flip": ("signs flipped (share of elements)", [n / 8 for n in range(9)]),
    }
    figure = make_subplots(2, 2, vertical_spacing=0.17, horizontal_spacing=0.08)
    for number, (name, (label, strengths)) in enumerate(sweeps.items()):
        students = [perturb(target, **{name: strength}) for strength in strengths]
        place = {"row": number // 2 + 1, "col": number % 2 + 1}
        traces = _terms(strengths, target, students, margin, legend=number == 0)
        figure.add_traces(traces, rows=place["row"], cols=place["col"])
        figure.update_xaxes(title=label, **place)
    figure.update_yaxes(range=(-0.05, 2.05))
    figure.update_yaxes(title="white noise = 1", col=1)
    figure.update_layout(**layout(None))
    return figure.update_layout(height=600)


def frequency_figure(teachers: Mapping[str, Tensor], *, margin: float) -> go.Figure:
    """Every distance of R_T from itself with random phases on one ring, against its |k|.

    Args:
        teachers: (..., H, W) by name, each in its panel.
        margin: as ``compare``.

    Raises:
        TypeError, ValueError: as ``compare``.
    """
    figure = make_subplots(
        1, len(teachers), subplot_titles=tuple(teachers), horizontal_spacing=0.08
    )
    for number, teacher in enumerate(teachers.values(), start=1):
        target = teacher.clamp_min(margin)
        size = min(teacher.shape[-2:])
        k = ring_frequencies(*teacher.shape[-2:])[1:].tolist()
        students = [
            perturb(target, scramble=((ring - 0.5) / size, (ring + 0.5) / size))
            for ring in range(1, len(k) + 1)
        ]
        traces = _terms(k, target, students, margin, legend=number == 1)
        figure.add_traces(traces, rows=1, cols=number)
    figure.update_xaxes(title="|k| of the ring (cycles/pixel)", range=(0, 0.5))
    figure.update_yaxes(type="log", range=(-2.5, 0.1), tickvals=(0.003, 0.01, 0.03, 0.1, 0.3, 1))
    figure.update_yaxes(title="distance (white noise = 1)", col=1)
    figure.update_layout(**layout(None))
    return figure.update_layout(height=400, margin={"t": 40})


def correlation_figure(
    teacher: Tensor,
    students: Mapping[str, Tensor],
    *,
    margin: float,
    predictions: Mapping[str, Tensor] | None = None,
    title: str | None = None,
) -> go.Figure:
    """Ring correlation against |k|; the mean depth of a curve below 1 is its L_CPS.

    Args:
        teacher, margin: as ``compare``.
        students: as ``compare``, by name.
        predictions: (R - 1,) by name, drawn dashed.
        title: above the figure.

    Raises:
        TypeError, ValueError: as ``compare``.
    """
    curves = {name: correlation(teacher, s, margin=margin) for name, s in students.items()}
    predicted = dict(predictions or {})
    figure = lines_figure(
        ring_frequencies(*teacher.shape[-2:])[1:],
        curves | predicted,
        dashed=list(predicted),
        x_label="|k| (cycles/pixel)",
        y_label="ring correlation (no unit)",
        y_range=(-1.05, 1.05),
        title=title,
    )
    return figure.update_xaxes(range=(0, 0.5))


# --- the widget -----------------------------------------------------------------------------------


class MapComparison(Panel):
    """``comparison_figure`` and a table of ``compare`` under sliders that ``perturb`` R_T.

    Args:
        maps: (N, H, W) of a teacher before its ReLU.
        margin: where its slider begins, in map units.
        name: comparisons of one name in one kernel share their settings, so that running the
            cell again keeps them.

    Attributes:
        controls: the sliders, by the names of ``perturb``'s arguments, ``margin`` and ``shown``.
        figure: changed in place when a slider moves.
        table: HTML of the distances.
        csv: HTML of a link to the distances and the ring correlation as a file.

    Raises:
        TypeError, ValueError: as ``compare``.
    """

    def __init__(self, maps: Tensor, margin: float, *, name: str = "comparison") -> None:
        self.maps = maps.contiguous()  # a channel may lie in memory with gaps: no message may
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
        data = _comparison(self.maps, student, margin, shown)
        # Not batch_update: what some traces of a batch change, the page deletes from the others
        # (plotly 7). Here each message holds all of x, y or z.
        for traces in (_PICTURES, _LINES):
            keys = data[traces[0]]
            changes = {key: [data[number][key] for number in traces] for key in keys}
            self.figure.plotly_restyle(changes, traces)
        found = zip(_NAMES, compare(self.maps, student, margin=margin), _UNITS, strict=True)
        rows = [(title, f"{value:.4f}", unit) for title, value, unit in found]
        self.table.value = format_table(("distance", "value", "unit"), rows, style="html")
        curve = zip(data[5]["x"], data[5]["y"], strict=True)
        self.csv.value = csv_link(
            "comparison.csv",
            ("quantity", "value", "unit", "|k| (cycles/pixel)"),
            [(*row, "") for row in rows]
            + [("ring correlation", f"{y:.6f}", "none", f"{k:.6f}") for k, y in curve],
        )


# --- parts ----------------------------------------------------------------------------------------


def _comparison(
    teacher: Tensor, student: Tensor, margin: float, shown: int
) -> list[dict[str, Any]]:
    """What each trace of ``comparison_figure`` shows, in their order."""
    target = teacher.clamp_min(margin)
    one, other = target[shown], student[shown]
    reach = _reach(teacher)
    return [
        {"z": one.numpy()},
        {"z": other.numpy()},
        _plane((-reach, reach), margin),
        {"z": partial_cost(one, other, margin=margin).numpy()},
        {"x": list(relative(teacher, student, margin=margin)), "y": list(_NAMES)},
        {
            "x": ring_frequencies(*teacher.shape[-2:])[1:].numpy(),
            "y": correlation(teacher, student, margin=margin).numpy(),
        },
        {"x": teacher[shown].flatten().numpy(), "y": other.flatten().numpy()},
    ]


def _grid(ends: tuple[float, float]) -> Tensor:
    return torch.linspace(*ends, 61)


def _plane(ends: tuple[float, float], margin: float) -> dict[str, Any]:
    """The partial L2 of a teacher's (across) and a student's value (up) on the grid."""
    student, teacher = torch.meshgrid(_grid(ends), _grid(ends), indexing="ij")
    return {"z": partial_cost(teacher, student, margin=margin).numpy()}


def _terms(
    x: Sequence[float], target: Tensor, students: Sequence[Tensor], margin: float, *, legend: bool
) -> list[go.Scatter]:
    """One line a distance; pixel-wise ones dashed."""
    found = [relative(target, student, margin=margin) for student in students]
    return [
        go.Scatter(
            x=list(x),
            y=[distances[number] for distances in found],
            name=name,
            legendgroup=name,
            showlegend=legend,
            mode="lines+markers",
            line={"color": COLOURS[number], "dash": "dash" if number < 3 else "solid"},
            marker={"size": 5, "symbol": number},
        )
        for number, name in enumerate(_NAMES)
    ]


def _line(
    x: Tensor,
    y: Tensor,
    name: str,
    colour: str,
    dash: str = "solid",
    width: int = 2,
    **options: Any,
) -> go.Scatter:
    line = {"color": colour, "dash": dash, "width": width}
    return go.Scatter(x=x.numpy(), y=y.numpy(), name=name, mode="lines", line=line, **options)


def _costs(sigma: float, **place: float) -> dict[str, Any]:
    bar = {"title": {"text": "map units²", "side": "right"}, "thickness": 12, **place}
    return {"colorscale": _COST_SCALE, "cmin": 0, "cmax": (3 * sigma) ** 2, "colorbar": bar}


def _reach(teacher: Tensor) -> float:
    """Three times the root mean square, rounded up to a half."""
    return math.ceil(6 * float(teacher.square().mean().sqrt())) / 2
