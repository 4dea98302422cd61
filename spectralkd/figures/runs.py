"""Metrics of training runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from spectralkd.figures.style import COLORS, DASHES, SYMBOLS, layout

_RATE = "images_per_second"


def curves_figure(
    runs: Mapping[str, Sequence[Mapping[str, Any]]], key: str, label: str, title: str | None = None
) -> go.Figure:
    """One metric of several runs against the epoch.

    Args:
        runs: lines of ``metrics.jsonl`` by the run's name; lines without the metric are left out.
        key: name of the metric.
        label: of its axis, with the unit.
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
                line={"color": COLORS[number % len(COLORS)]},
                marker={"size": 5, "symbol": SYMBOLS[number % 5]},
            )
        )
    figure.update_xaxes(title="epoch", rangemode="tozero")
    figure.update_yaxes(title=label, rangemode="tozero")
    figure.update_layout(**layout(title))
    return figure


def runs_figure(
    runs: Mapping[str, Sequence[Mapping[str, Any]]], title: str | None = None
) -> go.Figure:
    """Error, loss terms and exponents; a color for each run, a dash for each term or stage.

    Args:
        runs: lines of ``metrics.jsonl`` by the run's name.
        title: above the figure.
    """
    panels = ("top-1 error (%)", "loss terms (nats, weighted)", "exponents of the stages")
    figure = make_subplots(1, 3, subplot_titles=panels, horizontal_spacing=0.08)
    known = {"phase", "epoch", "lr", "loss", "top1_error", "top5_error", "nll", "exponents"}
    known |= {"gradients", "runs"}
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
                            "color": COLORS[number % len(COLORS)],
                            "dash": DASHES[dash % len(DASHES)],
                        },
                        marker={"size": 5, "symbol": SYMBOLS[number % 5]},
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
    """Each line's values, by name and line number."""
    found: dict[str, dict[int, float]] = {}
    for number, line in enumerate(lines, start=1):
        for name, value in read(line).items():
            if value is not None:
                found.setdefault(name, {})[number] = value
    return found
