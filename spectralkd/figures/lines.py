"""Named curves over one axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from torch import Tensor

from spectralkd.figures.style import COLORS, DASHES, SYMBOLS, frequency_axis, layout


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
        log_x: a logarithmic axis of |k|.
        y_range: limits of the values, in their own units also on a logarithmic axis.
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
                    "color": COLORS[number % len(COLORS)],
                    "dash": DASHES[1 + number % 3] if name in dashed else "solid",
                },
                marker={"size": 5, "symbol": SYMBOLS[number % 5]},
            )
        )
    if log_x:
        frequency_axis(figure)
    figure.update_xaxes(title=x_label)
    limits = y_range and ([math.log10(v) for v in y_range] if log_y else list(y_range))
    figure.update_yaxes(title=y_label, type="log" if log_y else "linear", range=limits)
    if log_y:
        figure.update_yaxes(dtick=1, exponentformat="power")
    figure.update_layout(**layout(title))
    return figure
