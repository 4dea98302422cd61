"""Spectra against depth, of one or several networks."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from spectralkd.analysis.depth import BlockProfile
from spectralkd.figures.style import COLORS, SYMBOLS, layout

_PANELS = (
    ("exponent", "exponent of the ring mean"),
    ("high_share", "share of power at |k| ≥ 1/4 cycles/pixel"),
    ("correlation_length", "correlation length (pixels of the map)"),
    ("image_correlation_length", "correlation length (pixels of the image)"),
)


def depth_figure(
    networks: Mapping[str, Mapping[str, BlockProfile]], title: str | None = None
) -> go.Figure:
    """Exponent, high-frequency share and correlation lengths of every block against depth.

    Args:
        networks: what ``depth_profile`` returns, by the network's name. The axis is the share of
            blocks passed, so that networks of any depth compare.
    """
    figure = make_subplots(2, 2, subplot_titles=[label for _, label in _PANELS])
    for number, (name, blocks) in enumerate(networks.items()):
        depth = [(place + 1) / len(blocks) for place in range(len(blocks))]
        for panel, (key, _) in enumerate(_PANELS):
            errors = [block.stderr for block in blocks.values()] if key == "exponent" else None
            figure.add_trace(
                go.Scatter(
                    x=depth,
                    y=[getattr(block, key) for block in blocks.values()],
                    error_y=errors and {"array": errors, "thickness": 1, "width": 2},
                    text=[f"{n}, {b.layer.height}×{b.layer.width}" for n, b in blocks.items()],
                    name=name,
                    legendgroup=name,
                    showlegend=panel == 0,
                    mode="lines+markers",
                    line={"color": COLORS[number % len(COLORS)]},
                    marker={"size": 5, "symbol": SYMBOLS[number % 5]},
                ),
                row=panel // 2 + 1,
                col=panel % 2 + 1,
            )
    figure.update_layout(**(layout(title) | {"height": 640}))
    figure.update_xaxes(range=[0, 1.04])
    figure.update_xaxes(title="share of blocks passed", row=2)
    figure.update_yaxes(rangemode="tozero", row=2)
    figure.update_yaxes(range=[0, 1], row=1, col=2)
    return figure
