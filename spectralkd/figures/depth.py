"""Spectra against depth, of one network or several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from spectralkd.analysis.depth import BlockProfile
from spectralkd.figures.style import frequency_axis, layout, look, power_axis
from spectralkd.spectra.powerlaw import PowerLaw

_PANELS = (
    ("exponent", "exponent of the ring mean<br>± 1 standard error"),
    ("high_share", "share of power at<br>|k| ≥ 1/4 cycles/pixel"),
    ("correlation_length", "correlation length<br>(map pixels)"),
    ("image_correlation_length", "correlation length<br>(image pixels)"),
)


def depth_figure(
    networks: Mapping[str, Mapping[str, BlockProfile]], *, title: str | None = None
) -> go.Figure:
    """Exponent, high-frequency share and correlation lengths of every block against depth.

    Args:
        networks: what ``depth_profile`` returns, by the network's name. The axis is the share of
            blocks passed, so that networks of any depth compare.
    """
    figure = make_subplots(
        2, 2, subplot_titles=[label for _, label in _PANELS], vertical_spacing=0.18
    )
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
                    **look(number),
                ),
                row=panel // 2 + 1,
                col=panel % 2 + 1,
            )
    figure.update_layout(**layout(title))
    figure.update_layout(height=660, margin_t=95 if title else 55, legend_y=-0.12)
    figure.update_annotations(font_size=14)
    figure.update_xaxes(range=[0, 1.04])
    figure.update_xaxes(title="share of blocks passed", row=2)
    figure.update_yaxes(rangemode="tozero", row=2)
    figure.update_yaxes(range=[0, 1], row=1, col=2)
    return figure


def exponents_figure(
    fits: Mapping[str, Mapping[str, PowerLaw]],
    layers: Sequence[str],
    *,
    title: str | None = None,
    label: str = "exponent",
) -> go.Figure:
    """Exponents of layers in the order in which they run; a dash for each set of weights.

    Args:
        fits: power laws by layer, by the name of the weights.
        layers: in order; those without a fit are left out.
        title: above the figure; default: none.
        label: of the exponents' axis: whose power.
    """
    figure = go.Figure()
    shown = [layer for layer in layers if any(layer in laws for laws in fits.values())]
    for number, (name, laws) in enumerate(fits.items()):
        here = [layer for layer in shown if layer in laws]
        figure.add_trace(
            go.Scatter(
                x=here,
                y=[laws[layer].exponent for layer in here],
                error_y={
                    "array": [laws[layer].stderr for layer in here], "thickness": 1, "width": 2
                },
                name=name,
                mode="lines+markers",
                showlegend=len(fits) > 1,
                **look(6, number),
            )
        )  # fmt: skip
    figure.update_xaxes(
        categoryorder="array", categoryarray=shown, title="layer, from first to last"
    )
    figure.update_xaxes(nticks=16, tickangle=-45, automargin=True)
    figure.update_yaxes(title=f"{label}<br>± 1 standard error of the fit")
    if drawn := [fit for laws in fits.values() for fit in laws.values()]:
        # Whole units, so that the axis seldom moves while a band is chosen.
        low = math.floor(min(fit.exponent - fit.stderr for fit in drawn))
        high = math.ceil(max(fit.exponent + fit.stderr for fit in drawn))
        figure.update_yaxes(range=[low - 0.05, high + 0.05])
    figure.update_layout(**layout(title))
    return figure.update_layout(legend_y=-0.3)


def blocks_figure(blocks: Mapping[str, BlockProfile], *, title: str | None = None) -> go.Figure:
    """The spectrum of every block: its ring mean, and the Δ log amplitude of Park & Kim.

    Args:
        blocks: what ``depth_profile`` returns. Early blocks are dark, late ones light.
        title: above the figure; default: none.
    """
    labels = ("ring mean of power<br>(first ring = 1)", "Δ log amplitude<br>at kx = ky")
    figure = make_subplots(1, 2, subplot_titles=labels, horizontal_spacing=0.12)
    powers: list[float] = []
    places = [place / max(1, len(blocks) - 1) for place in range(len(blocks))]
    for color, (name, block) in zip(
        sample_colorscale("Cividis", places), blocks.items(), strict=True
    ):
        spectrum = block.view.spectrum
        curves = (
            (spectrum.frequency[1:], spectrum.power[1:] / spectrum.power[1]),
            (block.view.diagonal, block.view.log_amplitude),
        )
        powers += curves[0][1].tolist()
        for column, (x, y) in enumerate(curves, start=1):
            figure.add_trace(
                go.Scatter(
                    x=x.numpy(),
                    y=y.numpy(),
                    name=name,
                    legendgroup=name,
                    showlegend=column == 1,
                    mode="lines",
                    line={"color": color, "width": 1.5},
                ),
                1,
                column,
            )
    frequency_axis(figure)
    power_axis(figure, powers, row=1, col=1)
    figure.update_xaxes(
        title="kx = ky (Nyquist frequency = 1)", type="linear", range=[0, 1], row=1, col=2
    )
    figure.update_xaxes(tickvals=[0, 0.25, 0.5, 0.75, 1], ticktext=None, row=1, col=2)
    figure.update_layout(**layout(title))
    figure.update_layout(margin_t=95 if title else 55, legend_font_size=10)
    return figure.update_annotations(font_size=14)
