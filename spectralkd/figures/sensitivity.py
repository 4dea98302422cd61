"""What networks lose when one frequency, or one ring of a layer, is disturbed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from spectralkd.analysis.sensitivity import FourierSensitivity, RingScrambling
from spectralkd.figures.style import COLORS, SYMBOLS, layout


def sensitivity_figure(
    networks: Mapping[str, FourierSensitivity], title: str | None = None
) -> go.Figure:
    """Errors under noise of each frequency, one heat map a network, with one scale of colors.

    Args:
        networks: what ``fourier_sensitivity`` returns, by the network's name.
        title: above the figure; default: none.
    """
    names = [f"{name}: {s.clean_error:.1f} % without noise" for name, s in networks.items()]
    figure = make_subplots(1, len(names), subplot_titles=names, horizontal_spacing=0.08)
    for column, sensitivity in enumerate(networks.values(), start=1):
        figure.add_trace(
            go.Heatmap(
                x=sensitivity.horizontal.numpy(),
                y=sensitivity.vertical.numpy(),
                z=sensitivity.error.numpy(),
                coloraxis="coloraxis",
                hovertemplate="kx = %{x:.3f}, ky = %{y:.3f} cycles/pixel<br>%{z:.1f} %",
            ),
            1,
            column,
        )
        anchor = "x" if column == 1 else f"x{column}"
        figure.update_yaxes(scaleanchor=anchor, constrain="domain", row=1, col=column)
    figure.update_xaxes(title="kx (cycles/pixel)", constrain="domain")
    figure.update_yaxes(title="ky (cycles/pixel)", col=1)
    figure.update_layout(**layout(title))
    figure.update_layout(
        margin_t=80 if title else 50,
        coloraxis={"colorscale": "Cividis", "cmin": 0, "cmax": 100, "colorbar_title": "error (%)"},
    )
    return figure


def scrambling_figure(layers: Sequence[RingScrambling], title: str | None = None) -> go.Figure:
    """Error and loss against the ring whose phases are random, one curve a layer.

    Args:
        layers: what ``ring_scrambling`` returns, of one network.
        title: above the figure; default: none.
    """
    panels = (("error", "clean_error", "error (%)"), ("loss", "clean_loss", "cross-entropy (nats)"))
    figure = make_subplots(1, 2, horizontal_spacing=0.12)
    for number, result in enumerate(layers):
        for column, (value, _, _) in enumerate(panels, start=1):
            figure.add_trace(
                go.Scatter(
                    x=result.frequency.numpy(),
                    y=getattr(result, value).numpy(),
                    name=result.layer,
                    legendgroup=result.layer,
                    showlegend=column == 1,
                    mode="lines+markers",
                    line={"color": COLORS[number % len(COLORS)]},
                    marker={"size": 5, "symbol": SYMBOLS[number % 5]},
                ),
                1,
                column,
            )
    for column, (_, clean, label) in enumerate(panels, start=1):
        level = getattr(layers[0], clean)
        figure.add_hline(level, line={"dash": "dot", "color": "#888"}, row=1, col=column)
        figure.update_yaxes(title=label, rangemode="tozero", row=1, col=column)
    figure.update_yaxes(range=[0, 100], row=1, col=1)
    figure.update_xaxes(title="scrambled ring, |k| (cycles per pixel of the layer)", range=[0, 0.5])
    figure.update_layout(**layout(title))
    return figure
