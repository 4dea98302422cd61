"""The exponent in every band of rings, as a map."""

from __future__ import annotations

import plotly.graph_objects as go

from spectralkd.analysis.bands import band_grid
from spectralkd.figures.style import layout
from spectralkd.spectra.power import Spectrum


def band_figure(spectrum: Spectrum, name: str, mark: float | None = None) -> go.Figure:
    """Exponents by the first and last ring of the band; a cross where one is near ``mark``.

    Args:
        spectrum: see ``analysis.bands.band_grid``.
        name: of what was measured, for the title.
        mark: an exponent; bands within 0.05 of it are marked.
    """
    grid, k = band_grid(spectrum), spectrum.frequency
    convention = "|k| × ring mean" if spectrum.ring == "jacobian" else "ring mean"
    figure = go.Figure(
        go.Heatmap(
            x=k.numpy(),
            y=k.numpy(),
            z=grid.T.numpy(),
            colorscale="Cividis",
            colorbar={"title": "exponent"},
            hovertemplate="from %{x:.3f} to %{y:.3f}: %{z:.2f}<extra></extra>",
        )
    )
    if mark is not None:
        first, last = ((grid - mark).abs() < 0.05).nonzero(as_tuple=True)
        figure.add_scatter(
            x=k[first].numpy(),
            y=k[last].numpy(),
            mode="markers",
            name=f"within 0.05 of {mark:g}",
            marker={"symbol": "x", "color": "white", "line": {"color": "black", "width": 1}},
        )
    figure.update_layout(**layout(f"{name}: exponent of {convention} in every band"))
    figure.update_layout(legend={"x": 0.98, "y": 0.05, "xanchor": "right", "yanchor": "bottom"})
    figure.update_xaxes(title="first ring (cycles/pixel)")
    figure.update_yaxes(title="last ring (cycles/pixel)")
    return figure
