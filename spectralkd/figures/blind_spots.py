"""What each loss sees (``analysis.blind_spots``)."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go

from spectralkd.figures.style import layout


def blind_spots_figure(found: Mapping[str, Mapping[str, float]]) -> go.Figure:
    """Losses down, distortions across; a cell is white where the loss sees nothing.

    Colors end at twice the loss of white noise; the number in a cell does not.

    Args:
        found: as ``blind_spots`` gives it.
    """
    values = [list(row.values()) for row in found.values()]
    figure = go.Figure(
        go.Heatmap(
            x=list(next(iter(found.values()))),
            y=list(found),
            z=values,
            text=[[f"{value:.2f}" for value in row] for row in values],
            texttemplate="%{text}",
            colorscale=[(0, "white"), (0.5, "#56B4E9"), (1, "#0072B2")],
            zmin=0,
            zmax=2,
            xgap=2,
            ygap=2,
            colorbar={"title": {"text": "white noise = 1", "side": "right"}, "thickness": 12},
        )
    )
    figure.update_yaxes(autorange="reversed", title="loss")
    figure.update_xaxes(tickangle=-30)
    figure.update_layout(**layout(None))
    return figure.update_layout(height=410, margin={"l": 90, "r": 10, "t": 20, "b": 110})
