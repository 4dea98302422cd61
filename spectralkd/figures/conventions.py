"""One set of maps by every definition of its spectrum."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from spectralkd.analysis.conventions import Convention
from spectralkd.figures.style import frequency_axis, layout, look
from spectralkd.figures.tables import Style, format_table


def conventions_figure(found: Sequence[Convention], title: str | None = None) -> go.Figure:
    """What ``conventions`` returns, each curve over its value at the first ring beyond zero."""
    figure = go.Figure()
    for number, each in enumerate(found):
        figure.add_trace(
            go.Scatter(
                x=each.frequency[1:].numpy(),
                y=(each.value[1:] / each.value[1]).numpy(),
                name=f"{each.name}: exponent {each.exponent:.2f}",
                mode="lines+markers",
                **look(number),
            )
        )
    frequency_axis(figure)
    figure.update_yaxes(title="value (first ring = 1)", type="log", dtick=1, exponentformat="power")
    figure.update_layout(**layout(title))
    return figure


def conventions_table(found: Sequence[Convention], style: Style = "text") -> str:
    """What ``conventions`` returns, with definitions and the offsets of the exponents."""
    base = found[0].exponent
    rows = [
        (each.name, each.definition, f"{each.exponent:.3f}", f"{each.exponent - base:+.3f}")
        for each in found
    ]
    header = ("convention", "definition", "exponent", "against the ring mean")
    return format_table(header, rows, style)
