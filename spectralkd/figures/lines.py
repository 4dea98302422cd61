"""Named curves over one axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from torch import Tensor

from spectralkd.figures.style import frequency_axis, layout, look, mode, power_axis, slots


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

    A dashed curve whose name begins as ``"measured, "``, after the name of another curve, has that
    curve's color.

    Args:
        x: (L,) positions.
        curves: (L,) values by name.
        x_label, y_label: with their units.
        log_x: a logarithmic axis of |k|.
        y_range: limits of the values, in their own units also on a logarithmic axis.
    """
    figure = go.Figure()
    of = {name: _described(name, curves) if name in dashed else name for name in curves}
    slot = slots(name for name in curves if of[name] == name)
    for name, values in curves.items():
        figure.add_trace(
            go.Scatter(
                x=x.detach().numpy(),
                y=values.detach().numpy(),
                name=name,
                mode="lines" if name in dashed else mode(len(x)),
                **look(slot[of[name]], name in dashed),
            )
        )
    if log_x:
        frequency_axis(figure)
    figure.update_xaxes(title=x_label)
    limits = y_range and ([math.log10(v) for v in y_range] if log_y else list(y_range))
    figure.update_yaxes(title=y_label, range=limits)
    if log_y:
        power_axis(figure, y_range or [v for curve in curves.values() for v in curve.tolist()])
    figure.update_layout(**layout(title))
    return figure


def _described(name: str, curves: Mapping[str, Tensor]) -> str:
    """The curve that a prediction or fit describes, by its name; else itself."""
    return next((other for other in curves if name.startswith(f"{other}, ")), name)
