"""Distances between maps (``analysis.distances``), and Overhaul's margin."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import torch
from plotly.colors import get_colorscale
from plotly.subplots import make_subplots
from torch import Tensor

from spectralkd.analysis.distances import (
    correlation,
    partial_cost,
    perturb,
    relative,
    scrambled_rings,
)
from spectralkd.figures.lines import lines_figure
from spectralkd.figures.style import COLORS, layout
from spectralkd.losses import overhaul
from spectralkd.spectra.rings import ring_frequencies

NAMES = ("L1", "L2", "partial L2", "L_L1", "L_CPS")
UNITS = ("map units", "map units²", "map units²", "map units", "none")
_PIXELWISE, _SPECTRAL = COLORS[0], COLORS[1]
# Cividis from light to dark; white at 0, where nothing is counted.
_COST_SCALE = [
    (0, "white"),
    *((max(share, 1e-6), color) for share, color in get_colorscale("Cividis_r")),
]


def margin_figure(weight: float, bias: float, responses: Tensor | None = None) -> go.Figure:
    """Overhaul's margin of one channel, the margin ReLU, and what the partial L2 ignores.

    Args:
        weight, bias: γ and β of the channel's batch norm, in map units.
        responses: values of the channel, any shape, in map units; their density is drawn, too.

    Raises:
        ValueError: ``weight`` is 0, so that all values are equal.
    """
    sigma = abs(weight)
    if sigma == 0:
        raise ValueError("weight: expected a number other than 0, got 0")
    m = float(overhaul.margin(torch.tensor([weight]), torch.tensor([bias])))
    ends = (bias - 3.5 * sigma, bias + 3.5 * sigma)
    x = torch.linspace(*ends, 141)
    density = torch.exp(-((x - bias) / sigma).square() / 2) / (sigma * math.sqrt(2 * math.pi))
    top = 1.5 * float(density.max())
    measured = None
    if responses is not None:
        step = (ends[1] - ends[0]) / 40
        middle = ends[0] + step * (torch.arange(40) + 0.5)
        count = torch.histc(responses.detach().float(), 40, *ends)
        measured = count / (responses.numel() * step)
        top = max(top, 1.05 * float(measured.max()))
    titles = ("Responses<br>of the channel", "Margin ReLU", "Cost of<br>one element")
    figure = make_subplots(1, 3, subplot_titles=titles, horizontal_spacing=0.11)
    left = [
        _line(x[x <= 0], density[x <= 0], "negative half", COLORS[5], width=0, fill="tozeroy"),
        _line(x, density, "N(β, γ²)", COLORS[0]),
        _line(torch.full((2,), m), torch.tensor([0, top]), "margin", COLORS[1], "dash"),
    ]
    if measured is not None:
        left.append(_line(middle, measured, "measured", COLORS[6], "dot"))
    figure.add_traces(left, rows=1, cols=1)
    relus = [
        _line(x, x.clamp_min(m), "max(x, margin)", COLORS[1]),
        _line(x, x.relu(), "max(x, 0)", COLORS[2], "dot"),
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
    figure.update_annotations(font_size=14)
    return figure.update_layout(
        height=390,
        margin={"l": 65, "r": 10, "t": 50, "b": 110},
        legend={"orientation": "h", "y": -0.3, "x": 0},
        coloraxis=_costs(sigma),
    )


def comparison_figure(
    teacher: Tensor, student: Tensor, *, margin: float, shown: int = 0
) -> go.Figure:
    """Every distance over all pairs of maps; one of the pairs, and the cost of its pixels.

    Pixels and pairs of values that cost nothing are white.

    Args:
        teacher, student, margin: as ``compare``; (N, H, W).
        shown: index of the pair whose maps are drawn.

    Raises:
        TypeError, ValueError: as ``compare``.
    """
    data = comparison_data(teacher, student, margin, shown)
    titles = (
        "Distances<br>(white noise = 1)",
        "Teacher R<sub>T</sub>",
        "Student R<sub>S</sub>",
        "Ring correlation",
        "Partial L2<br>of two values",
        "Partial L2<br>of each pixel",
    )
    figure = make_subplots(
        2, 3, subplot_titles=titles, horizontal_spacing=0.09, vertical_spacing=0.24
    )
    reach = _reach(teacher)
    values = _grid((-reach, reach)).numpy()
    bars = {"color": [_PIXELWISE] * 3 + [_SPECTRAL] * 2}
    dots = {"size": 3, "color": COLORS[1]}
    rings = {"line": {"color": _SPECTRAL}, "marker": {"size": 5}}
    traces: dict[str, tuple[Any, tuple[int, int]]] = {
        "teacher": (go.Heatmap(coloraxis="coloraxis"), (1, 2)),
        "student": (go.Heatmap(coloraxis="coloraxis"), (1, 3)),
        "plane": (go.Heatmap(coloraxis="coloraxis2", x=values, y=values), (2, 2)),
        "cost": (go.Heatmap(coloraxis="coloraxis2"), (2, 3)),
        "distances": (go.Bar(orientation="h", marker=bars, texttemplate="%{x:.2f}"), (1, 1)),
        "rings": (go.Scatter(**rings), (2, 1)),
        "pairs": (go.Scatter(mode="markers", marker=dots), (2, 2)),
    }
    for name, (trace, place) in traces.items():
        figure.add_trace(trace.update(meta=name, **data[name]), *place)
    height, width = teacher.shape[-2:]
    for row, column in ((1, 2), (1, 3), (2, 3)):
        x = {"title": "pixels", "range": (-0.5, width - 0.5), "nticks": 5}
        figure.update_xaxes(x, row=row, col=column)
        figure.update_yaxes(range=(height - 0.5, -0.5), nticks=5, row=row, col=column)
    for number in (2, 3, 5, 6):
        top = {"scaleanchor": f"x{number}", "constrain": "domain", "constraintoward": "top"}
        figure.update_layout({f"xaxis{number}": {"constrain": "domain"}, f"yaxis{number}": top})
    figure.update_xaxes(title="no unit", range=(0, 2), row=1, col=1)
    figure.update_yaxes(range=(len(NAMES) - 0.5, -0.5), row=1, col=1)
    figure.update_xaxes(title="|k| (cycles/pixel)", range=(0, 0.5), row=2, col=1)
    figure.update_yaxes(range=(-1.05, 1.05), row=2, col=1)
    figure.update_xaxes(title="F<sub>T</sub> (map units)", range=(-reach, reach), row=2, col=2)
    figure.update_yaxes(title="R<sub>S</sub> (map units)", title_standoff=0, row=2, col=2)
    figure.update_yaxes(range=(-reach, reach), row=2, col=2)
    bar = {"title": {"text": "map units", "side": "right"}, "thickness": 12}
    figure.update_layout(**layout(None))
    figure.update_annotations(font_size=14)
    return figure.update_layout(
        height=660,
        margin={"l": 75, "r": 10, "t": 60, "b": 55},
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
        "noise": ("white noise (map's deviations)", [n / 4 for n in range(9)]),
        "flip": ("signs flipped (share)", [n / 8 for n in range(9)]),
    }
    figure = make_subplots(2, 2, vertical_spacing=0.17, horizontal_spacing=0.08)
    for number, (name, (label, strengths)) in enumerate(sweeps.items()):
        students = [perturb(target, **{name: strength}) for strength in strengths]
        place = {"row": number // 2 + 1, "col": number % 2 + 1}
        traces = _terms(strengths, target, students, margin, legend=number == 0)
        figure.add_traces(traces, rows=place["row"], cols=place["col"])
        figure.update_xaxes(title=label, **place)
    figure.update_yaxes(range=(-0.1, 4.1))
    figure.update_yaxes(title="distance (white noise = 1)", col=1)
    figure.update_layout(**layout(None))
    return figure.update_layout(height=600)


def frequency_figure(teachers: Mapping[str, Tensor], *, margin: float) -> go.Figure:
    """Every distance of R_T from itself with random phases on one ring, against the ring's |k|.

    Args:
        teachers: (..., H, W) by name, one panel each.
        margin: as ``compare``.

    Raises:
        TypeError, ValueError: as ``compare``.
    """
    titles = tuple(name.replace(", ", "<br>") for name in teachers)
    figure = make_subplots(1, len(teachers), subplot_titles=titles, horizontal_spacing=0.08)
    for number, teacher in enumerate(teachers.values(), start=1):
        target = teacher.clamp_min(margin)
        k = ring_frequencies(*teacher.shape[-2:])[1:].tolist()
        traces = _terms(k, target, scrambled_rings(target), margin, legend=number == 1)
        figure.add_traces(traces, rows=1, cols=number)
    figure.update_xaxes(title="|k| (cycles/pixel)", range=(0, 0.5))
    figure.update_yaxes(type="log", range=(-2.6, 0.1), tickvals=(0.003, 0.01, 0.03, 0.1, 0.3, 1))
    figure.update_yaxes(title="distance (white noise = 1)", col=1)
    figure.update_layout(**layout(None))
    figure.update_annotations(font_size=14)
    return figure.update_layout(height=410, margin={"t": 50})


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


def comparison_data(
    teacher: Tensor, student: Tensor, margin: float, shown: int
) -> dict[str, dict[str, Any]]:
    """The data of each trace of ``comparison_figure``, by the name in its ``meta``."""
    target = teacher.clamp_min(margin)
    one, other = target[shown], student[shown]
    reach = _reach(teacher)
    return {
        "teacher": {"z": one.numpy()},
        "student": {"z": other.numpy()},
        "plane": _plane((-reach, reach), margin),
        "cost": {"z": partial_cost(one, other, margin=margin).numpy()},
        "distances": {"x": list(relative(teacher, student, margin=margin)), "y": list(NAMES)},
        "rings": {
            "x": ring_frequencies(*teacher.shape[-2:])[1:].numpy(),
            "y": correlation(teacher, student, margin=margin).numpy(),
        },
        "pairs": {"x": teacher[shown].flatten().numpy(), "y": other.flatten().numpy()},
    }


def _grid(ends: tuple[float, float]) -> Tensor:
    return torch.linspace(*ends, 61)


def _plane(ends: tuple[float, float], margin: float) -> dict[str, Any]:
    """The partial L2 of a teacher's (across) and a student's value (up) on the grid."""
    student, teacher = torch.meshgrid(_grid(ends), _grid(ends), indexing="ij")
    return {"z": partial_cost(teacher, student, margin=margin).numpy()}


def _terms(
    x: Sequence[float], target: Tensor, students: Sequence[Tensor], margin: float, *, legend: bool
) -> list[go.Scatter]:
    """One line for each distance; pixel-wise ones dashed."""
    found = [relative(target, student, margin=margin) for student in students]
    return [
        go.Scatter(
            x=list(x),
            y=[distances[number] for distances in found],
            name=name,
            legendgroup=name,
            showlegend=legend,
            mode="lines+markers",
            line={"color": COLORS[number], "dash": "dash" if number < 3 else "solid"},
            marker={"size": 5, "symbol": number},
        )
        for number, name in enumerate(NAMES)
    ]


def _line(
    x: Tensor,
    y: Tensor,
    name: str,
    color: str,
    dash: str = "solid",
    width: int = 2,
    **options: Any,
) -> go.Scatter:
    line = {"color": color, "dash": dash, "width": width}
    return go.Scatter(x=x.numpy(), y=y.numpy(), name=name, mode="lines", line=line, **options)


def _costs(sigma: float, **place: float) -> dict[str, Any]:
    bar = {"title": {"text": "map units²", "side": "right"}, "thickness": 12, **place}
    return {"colorscale": _COST_SCALE, "cmin": 0, "cmax": (3 * sigma) ** 2, "colorbar": bar}


def _reach(teacher: Tensor) -> float:
    """Three times the root mean square, rounded up to a half."""
    return math.ceil(6 * float(teacher.square().mean().sqrt())) / 2
