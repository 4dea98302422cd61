"""Plotly figures of spectra: axes with units and fixed ranges, colours for any colour vision."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor

from spectralkd.agreement import StageAgreement
from spectralkd.powerlaw import PowerLaw
from spectralkd.spectrum import Spectrum
from spectralkd.views import LayerView

# Okabe & Ito's palette, told apart with any colour vision; yellow left out, too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("solid", "dash", "dot", "dashdot")
_RATE = "images_per_second"
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x")

_POWER = {"mean": "ring-mean power", "jacobian": "|k| × ring-mean power"}
_UNITS = {"mean": "map units²", "jacobian": "map units² · cycles/pixel"}


def spectra_figure(
    spectra: Mapping[str, Spectrum],
    fits: Mapping[str, PowerLaw] | None = None,
    *,
    title: str | None = None,
    normalise: bool = False,
    y_range: tuple[float, float] | None = None,
    styles: Mapping[str, tuple[int, int]] | None = None,
) -> go.Figure:
    """Power against |k| on logarithmic axes, as in Figs. 1 and 2.

    Each spectrum makes three traces, in this order: a band of two standard errors, the curve,
    and its fit.

    Args:
        spectra: by name; all with one ring reduction, which the axis names.
        fits: power laws by the same names, drawn dashed over their band and written into the
            legend.
        title: above the figure.
        normalise: divide each curve by its power at the first ring beyond DC, to compare shapes.
        y_range: fixed range of the power, for figures to be compared.
        styles: numbers of a curve's colour and of its dashes, by name; a colour each without.

    Raises:
        ValueError: no spectrum, or several ring reductions.
    """
    rings = {spectrum.ring for spectrum in spectra.values()}
    if len(rings) != 1:
        raise ValueError(f"spectra: expected one ring reduction, got {sorted(rings) or 'none'}")
    figure = go.Figure()
    for number, (name, spectrum) in enumerate(spectra.items()):
        tint, dash = (styles or {}).get(name, (number, 0))
        colour = COLOURS[tint % len(COLOURS)]
        scale = float(spectrum.power[1]) if normalise else 1.0
        k, power = spectrum.frequency[1:], spectrum.power[1:] / scale
        error = 2 * torch.nan_to_num(spectrum.stderr[1:]) / scale
        figure.add_trace(
            _band(k, (power - error).clamp_min(power / 1e3), power + error, colour, name)
        )
        figure.add_trace(
            go.Scatter(
                x=k.numpy(),
                y=power.numpy(),
                name=name,
                legendgroup=name,
                mode="lines+markers",
                line={"color": colour, "dash": DASHES[dash % len(DASHES)]},
                marker={"size": 5, "symbol": _SYMBOLS[tint % 5] + ("-open" if dash else "")},
                hovertemplate="|k| = %{x:.3f} cycles/pixel<br>P = %{y:.3g}",
            )
        )
        figure.add_trace(
            go.Scatter(
                legendgroup=name,
                showlegend=False,
                mode="lines",
                line={"color": colour, "dash": "dash", "width": 1},
                hoverinfo="skip",
            )
        )
    draw_fits(figure, spectra, fits or {}, normalise=normalise)
    ring = rings.pop()
    label = f"{_POWER[ring]} ({'first ring = 1' if normalise else _UNITS[ring]})"
    _frequency_axis(figure)
    limits = [math.log10(value) for value in y_range] if y_range else None
    figure.update_yaxes(title=label, type="log", dtick=1, exponentformat="power", range=limits)
    figure.update_layout(**layout(title))
    return figure


def draw_fits(
    figure: go.Figure,
    spectra: Mapping[str, Spectrum],
    fits: Mapping[str, PowerLaw],
    *,
    normalise: bool = False,
) -> None:
    """Redraw the fits of a figure that ``spectra_figure`` made of the same spectra."""
    for number, (name, spectrum) in enumerate(spectra.items()):
        curve, line = figure.data[3 * number + 1], figure.data[3 * number + 2]
        fit = fits.get(name)
        if fit is None:
            curve.name, line.x, line.y = name, [], []
            continue
        scale = float(spectrum.power[1]) if normalise else 1.0
        low = max(fit.band[0], float(spectrum.frequency[1]))
        ends = torch.tensor([low, fit.band[1]], dtype=torch.float64)
        curve.name = f"{name}: α = {fit.exponent:.2f} ± {fit.stderr:.2f}"
        line.x, line.y = ends.numpy(), (fit(ends) / scale).numpy()


def layer_figure(view: LayerView, name: str) -> go.Figure:
    """One layer: some of its maps, its power over the plane of frequencies, and C(r) (Eq. 2)."""
    figure = make_subplots(
        1,
        3,
        subplot_titles=("maps of the first image", "log₁₀ power", "correlation of pixels"),
        horizontal_spacing=0.16,
    )
    figure.add_trace(
        go.Heatmap(z=_montage(view.maps).numpy(), colorscale="Greys_r", showscale=False), 1, 1
    )
    height, width = view.plane.shape
    figure.add_trace(
        go.Heatmap(
            z=view.plane.clamp_min(1e-30).log10().numpy(),
            x=torch.fft.fftshift(torch.fft.fftfreq(width, dtype=torch.float64)).numpy(),
            y=torch.fft.fftshift(torch.fft.fftfreq(height, dtype=torch.float64)).numpy(),
            colorscale="Cividis",
            colorbar={"x": 0.62, "thickness": 10},
            hovertemplate="kx = %{x:.3f}, ky = %{y:.3f} cycles/pixel<br>log₁₀ P = %{z:.2f}",
        ),
        1,
        2,
    )
    figure.add_trace(
        go.Scatter(
            x=view.distance.numpy(),
            y=(view.correlation / view.correlation[0].clamp_min(1e-30)).numpy(),
            mode="lines+markers",
            line={"color": COLOURS[0]},
            showlegend=False,
        ),
        1,
        3,
    )
    figure.update_layout(**layout(name))
    figure.update_layout(height=330)
    figure.update_xaxes(visible=False, row=1, col=1)
    figure.update_yaxes(visible=False, autorange="reversed", scaleanchor="x", row=1, col=1)
    figure.update_xaxes(title="kx (cycles/pixel)", range=[-0.5, 0.5], row=1, col=2)
    figure.update_yaxes(title="ky (cycles/pixel)", range=[-0.5, 0.5], row=1, col=2)
    figure.update_xaxes(title="distance r (pixels)", rangemode="tozero", row=1, col=3)
    figure.update_yaxes(title="C(r) / C(0)", range=[-0.5, 1.05], row=1, col=3)
    return figure


def agreement_figure(
    students: Mapping[str, Mapping[str, StageAgreement]],
    title: str | None = None,
    *,
    ceiling: bool = True,
) -> go.Figure:
    """Ring correlation of students with their teacher against |k|, a panel a stage.

    Args:
        students: by name what ``agreement.stage_agreement`` returned, of one teacher.
        title: above the figure.
        ceiling: draw the best that any connector could do, dotted.
    """
    stages = list(next(iter(students.values())))
    figure = make_subplots(1, len(stages), subplot_titles=stages, shared_yaxes=True)
    for number, (name, result) in enumerate(students.items()):
        colour = COLOURS[number % len(COLOURS)]
        for column, stage in enumerate(stages, start=1):
            agreement = result[stage]
            curves = [(name, agreement.correlation, "solid")]
            if ceiling:
                curves.append((f"{name}, any connector", agreement.ceiling, "dot"))
            for label, values, dash in curves:
                figure.add_trace(
                    go.Scatter(
                        x=agreement.frequency[1:].numpy(),
                        y=values[1:].numpy(),
                        name=label,
                        legendgroup=label,
                        showlegend=column == 1,
                        mode="lines+markers" if dash == "solid" else "lines",
                        line={"color": colour, "dash": dash},
                        marker={"size": 5, "symbol": _SYMBOLS[number % 5]},
                    ),
                    1,
                    column,
                )
    _frequency_axis(figure)
    figure.update_yaxes(range=[-0.05, 1.05])
    figure.update_yaxes(title="ring correlation (no unit)", row=1, col=1)
    figure.update_layout(**layout(title))
    figure.update_layout(height=380, margin_t=70 if title else 40)
    return figure


def show_instead(shown: go.FigureWidget, figure: go.Figure) -> None:
    """Replace what a widget shows by another figure, in the same place."""
    with shown.batch_update():
        shown.data = ()
        shown.add_traces(figure.data)
        shown.layout = figure.layout


def _montage(maps: Tensor) -> Tensor:
    """Up to 12 maps (M, H, W) beside and below each other, each scaled to [0, 1]."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    scaled = torch.nn.functional.pad((maps - low) / (high - low).clamp_min(1e-12), (0, 1, 0, 1))
    columns = min(4, len(scaled))
    rows = [torch.cat(list(row), 1) for row in scaled.split(columns) if len(row) == columns]
    return torch.cat(rows)


def lines_figure(
    x: Tensor,
    curves: Mapping[str, Tensor],
    *,
    x_label: str,
    y_label: str,
    title: str | None = None,
    log_x: bool = False,
    log_y: bool = False,
    dashed: Sequence[str] = (),
    y_range: tuple[float, float] | None = None,
) -> go.Figure:
    """Named curves over one axis; those named in ``dashed`` are predictions or fits.

    Args:
        x: (L,) positions.
        curves: (L,) values by name.
        x_label, y_label: with their units.
        y_range: fixed range of the values (in their own units, also on a logarithmic axis).
    """
    figure = go.Figure()
    for number, (name, values) in enumerate(curves.items()):
        figure.add_trace(
            go.Scatter(
                x=x.detach().numpy(),
                y=values.detach().numpy(),
                name=name,
                mode="lines" if name in dashed else "lines+markers",
                line={
                    "color": COLOURS[number % len(COLOURS)],
                    "dash": DASHES[1 + number % 3] if name in dashed else "solid",
                },
                marker={"size": 5, "symbol": _SYMBOLS[number % 5]},
            )
        )
    if log_x:
        _frequency_axis(figure)
    figure.update_xaxes(title=x_label)
    limits = y_range and ([math.log10(v) for v in y_range] if log_y else list(y_range))
    figure.update_yaxes(title=y_label, type="log" if log_y else "linear", range=limits)
    if log_y:
        figure.update_yaxes(dtick=1, exponentformat="power")
    figure.update_layout(**layout(title))
    return figure


def curves_figure(
    runs: Mapping[str, Sequence[Mapping[str, Any]]], key: str, label: str, title: str | None = None
) -> go.Figure:
    """One number of each epoch of several runs.

    Args:
        runs: lines of ``metrics.jsonl`` by the run's name; lines without the number are left out.
        key: of the number.
        label: of the axis, with its unit.
    """
    figure = go.Figure()
    for number, (name, lines) in enumerate(runs.items()):
        points = [(epoch, line[key]) for epoch, line in enumerate(lines, start=1) if key in line]
        figure.add_trace(
            go.Scatter(
                x=[epoch for epoch, _ in points],
                y=[value for _, value in points],
                name=name,
                mode="lines+markers",
                line={"color": COLOURS[number % len(COLOURS)]},
                marker={"size": 5, "symbol": _SYMBOLS[number % 5]},
            )
        )
    figure.update_xaxes(title="epoch", rangemode="tozero")
    figure.update_yaxes(title=label, rangemode="tozero")
    figure.update_layout(**layout(title))
    return figure


def runs_figure(
    runs: Mapping[str, Sequence[Mapping[str, Any]]], title: str | None = None
) -> go.Figure:
    """Error, loss terms and exponents of several runs: a colour a run, dashes a term or stage.

    Args:
        runs: lines of ``metrics.jsonl`` by the run's name.
        title: above the figure.
    """
    panels = ("top-1 error (%)", "loss terms (nats, weighted)", "exponents of the stages")
    figure = make_subplots(1, 3, subplot_titles=panels, horizontal_spacing=0.08)
    known = {"phase", "epoch", "lr", "loss", "top1_error", "top5_error", "exponents"}
    for number, (name, lines) in enumerate(runs.items()):
        error = _column(lines, lambda line: {"error": line.get("top1_error")})
        terms = _column(
            lines, lambda line: {k: v for k, v in line.items() if k not in {*known, _RATE}}
        )
        exponents = _column(lines, lambda line: line.get("exponents", {}))
        for column, curves in enumerate((error, terms, exponents), start=1):
            for dash, (label, points) in enumerate(curves.items()):
                figure.add_trace(
                    go.Scatter(
                        x=list(points),
                        y=list(points.values()),
                        name=name if column == 1 else f"{name}: {label}",
                        legendgroup=name,
                        mode="lines+markers",
                        line={
                            "color": COLOURS[number % len(COLOURS)],
                            "dash": DASHES[dash % len(DASHES)],
                        },
                        marker={"size": 5, "symbol": _SYMBOLS[number % 5]},
                    ),
                    1,
                    column,
                )
    figure.update_xaxes(title="epoch", rangemode="tozero")
    figure.update_yaxes(range=[0, 100], row=1, col=1)
    figure.update_yaxes(type="log", exponentformat="power", row=1, col=2)
    figure.update_layout(**layout(title))
    figure.update_layout(width=1080, height=460, margin_t=70 if title else 40)
    figure.update_layout(legend={"font": {"size": 11}, "tracegroupgap": 4})
    return figure


def _column(
    lines: Sequence[Mapping[str, Any]], read: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> dict[str, dict[int, float]]:
    """What each line says, by name and by the line's number."""
    found: dict[str, dict[int, float]] = {}
    for number, line in enumerate(lines, start=1):
        for name, value in read(line).items():
            if value is not None:
                found.setdefault(name, {})[number] = value
    return found


def layout(title: str | None) -> dict[str, object]:
    """The layout that all figures share."""
    return {
        "title": {"text": title, "x": 0.02} if title else None,
        "template": "plotly_white",
        "width": 860,
        "height": 460,
        "margin": {"l": 80, "r": 20, "t": 50 if title else 20, "b": 60},
        "legend": {"groupclick": "togglegroup"},
    }


def _frequency_axis(figure: go.Figure) -> None:
    """|k| from 1/40, where the maps are large from a lower end by halves, to beyond 1/2."""
    drawn = (trace.x for trace in figure.data if trace.x is not None and len(trace.x))
    smallest = min((min(x) for x in drawn), default=1.0)
    low = 1 / 40
    while low > smallest > 0:
        low /= 2
    ticks = [2.0**-n for n in range(9, 0, -1)]
    figure.update_xaxes(
        title="|k| (cycles/pixel)",
        type="log",
        tickvals=ticks,
        ticktext=[f"1/{round(1 / tick)}" for tick in ticks],
        range=[math.log10(low), math.log10(0.55)],
    )


def _band(x: Tensor, low: Tensor, high: Tensor, colour: str, group: str) -> go.Scatter:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return go.Scatter(
        x=torch.cat([x, x.flip(0)]).numpy(),
        y=torch.cat([high, low.flip(0)]).numpy(),
        mode="lines",
        fill="toself",
        fillcolor=f"rgba({red},{green},{blue},0.2)",
        line={"width": 0},
        legendgroup=group,
        showlegend=False,
        hoverinfo="skip",
    )
