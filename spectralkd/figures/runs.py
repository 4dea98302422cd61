"""Metrics of training runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from spectralkd.figures.style import COLORS, layout, look, mode, power_axis, slots
from spectralkd.training.meter import FIELDS


def curves_figure(
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    key: str,
    label: str,
    *,
    title: str | None = None,
) -> go.Figure:
    """One metric of several runs against the epoch.

    Args:
        runs: lines of ``metrics.jsonl`` by the run's name; lines without the metric are left out.
        key: name of the metric.
        label: of its axis, with the unit.
    """
    figure = go.Figure()
    slot = slots(runs)
    for name, lines in runs.items():
        points = [(epoch, line[key]) for epoch, line in enumerate(lines, start=1) if key in line]
        figure.add_trace(
            go.Scatter(
                x=[epoch for epoch, _ in points],
                y=[value for _, value in points],
                name=name,
                mode=mode(len(points)),
                **look(slot[name]),
            )
        )
    figure.update_xaxes(title="epoch", rangemode="tozero")
    figure.update_yaxes(title=label, rangemode="tozero")
    figure.update_layout(**layout(title))
    return figure


def errors_figure(errors: Mapping[str, Sequence[float]], seeds: Sequence[int]) -> go.Figure:
    """Top-1 errors of networks as bars of their means, with a point for each seed.

    Args:
        errors: in percent, one a seed, by the network's name.
        seeds: their numbers.
    """
    names, means = list(errors), [sum(values) / len(values) for values in errors.values()]
    figure = go.Figure(
        go.Bar(
            x=means,
            y=names,
            orientation="h",
            marker={"color": [COLORS[n % len(COLORS)] for n in range(len(names))]},
            text=[f"{mean:.1f} %" for mean in means],
            insidetextanchor="start",
            textangle=0,
            insidetextfont={"size": 18, "color": "white"},
            outsidetextfont={"size": 18},
            hoverinfo="skip",
            showlegend=False,
        )
    )
    if len(seeds) > 1:
        points = [(e, name, s) for name in names for e, s in zip(errors[name], seeds, strict=True)]
        figure.add_trace(
            go.Scatter(
                x=[error for error, _, _ in points],
                y=[name for _, name, _ in points],
                text=[f"seed {seed}: {error:.2f} %" for error, _, seed in points],
                mode="markers",
                marker={"color": "black", "symbol": "line-ns-open", "size": 14},
                hoverinfo="text",
                name="a seed",
            )
        )
    figure.update_xaxes(title="top-1 error (%)", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_layout(**layout(None))
    figure.update_layout(height=110 + 60 * len(names))
    return figure


def runs_figure(
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    title: str | None = None,
    colors: Mapping[str, int] | None = None,
) -> go.Figure:
    """Error, weighted loss terms and exponents: a color a run, a dash a term or stage.

    Exponents, of |k| × ring mean, are a panel where a run has measured them.

    Args:
        runs: lines of ``metrics.jsonl`` by the run's name.
        title: above the figure.
        colors: by the run's name; default: ``style.slots``.
    """
    panels = {"top-1 error (%)": _error, "loss terms, weighted": _terms}
    if any("exponents" in line for lines in runs.values() for line in lines):
        panels["exponents, |k| × ring mean"] = _exponents
    figure = make_subplots(1, len(panels), subplot_titles=list(panels), horizontal_spacing=0.08)
    slot = colors or slots(runs)
    for column, read in enumerate(panels.values(), start=1):
        curves = {name: _column(lines, read) for name, lines in runs.items()}
        labels = list(dict.fromkeys(label for found in curves.values() for label in found))
        for name, found in curves.items():
            for label, points in found.items():
                figure.add_trace(
                    go.Scatter(
                        x=list(points),
                        y=list(points.values()),
                        name=name if column == 1 else f"{name}: {label}",
                        legendgroup=name,
                        showlegend=column == 1,
                        mode=mode(len(points)),
                        **look(slot[name], labels.index(label)),
                    ),
                    1,
                    column,
                )
        if column > 1:
            group = ("loss terms", "stages")[column - 2]
            figure.add_traces([_key(labels.index(label), label, group) for label in labels])
    figure.update_xaxes(title="epoch", rangemode="tozero")
    figure.update_yaxes(range=[0, 100], row=1, col=1)
    terms = [value for lines in runs.values() for line in lines for value in _terms(line).values()]
    power_axis(figure, terms, row=1, col=2)
    figure.update_layout(**layout(title))
    figure.update_annotations(font_size=14)
    return figure.update_layout(margin_t=70 if title else 40, legend_groupclick="toggleitem")


def _key(dash: int, label: str, group: str) -> go.Scatter:
    """A gray line of the legend alone: what a dash stands for."""
    gray = look(6, dash) | {"mode": "lines", "x": [None], "y": [None]}
    return go.Scatter(name=label, legendgroup=group, legendgrouptitle_text=group, **gray)


def _error(line: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"error": line.get("top1_error")}


def _terms(line: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in line.items() if name not in FIELDS}


def _exponents(line: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = line.get("exponents", {})
    return found


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
