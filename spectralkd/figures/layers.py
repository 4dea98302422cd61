"""One layer: its maps, its power over the plane of frequencies, and C(r) (Eq. 2)."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torchvision.utils import make_grid

from spectralkd.analysis.layers import LayerView
from spectralkd.figures.style import COLORS, layout, mode


def layer_figure(view: LayerView, name: str) -> go.Figure:
    """One layer: some of its maps, its power over the plane of frequencies, and C(r) (Eq. 2)."""
    figure = make_subplots(
        1,
        3,
        subplot_titles=(
            "maps of the first image,<br>each with its own grays",
            "log₁₀ of power<br>(map units²)",
            "correlation of pixels<br>C(r) / C(0)",
        ),
        horizontal_spacing=0.16,
    )
    low, high = view.maps.amin((1, 2), keepdim=True), view.maps.amax((1, 2), keepdim=True)
    grays = (view.maps - low) / (high - low).clamp_min(1e-12)
    sheet = make_grid(grays[:, None], 4, padding=1, pad_value=torch.nan)[0]
    figure.add_trace(go.Heatmap(z=sheet.numpy(), colorscale="Greys_r", showscale=False), 1, 1)
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
            mode=mode(len(view.distance)),
            line={"color": COLORS[0]},
            showlegend=False,
        ),
        1,
        3,
    )
    figure.update_layout(**layout(name))
    figure.update_layout(height=370, margin_t=85)
    figure.update_annotations(font_size=14)
    rows, columns = sheet.shape
    figure.update_xaxes(
        visible=False, range=[-0.5, columns - 0.5], constrain="domain", row=1, col=1
    )
    downward: dict[str, Any] = {"range": [rows - 0.5, -0.5], "constrain": "domain"}
    figure.update_yaxes(visible=False, scaleanchor="x", **downward, row=1, col=1)
    figure.update_yaxes(constraintoward="top")
    plane: dict[str, Any] = {"range": [-0.5, 0.5], "constrain": "domain"}
    figure.update_xaxes(title="kx (cycles/pixel)", **plane, row=1, col=2)
    figure.update_yaxes(title="ky (cycles/pixel)", scaleanchor="x2", **plane, row=1, col=2)
    figure.update_xaxes(title="distance r (pixels)", rangemode="tozero", row=1, col=3)
    figure.update_yaxes(range=[-0.5, 1.05], row=1, col=3)
    return figure
