"""What networks lose when one frequency, or one ring of a layer, is disturbed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor

from spectralkd.analysis.sensitivity import FourierSensitivity, RingScrambling
from spectralkd.figures.style import layout, look

Value = Literal["error", "loss"]
_UNITS = {"error": "%", "loss": "nats"}
_LABELS = {"error": "error (%)", "loss": "rise of the loss (nats)"}


def sensitivity_figure(
    networks: Mapping[str, FourierSensitivity],
    *,
    title: str | None = None,
    value: Value = "error",
) -> go.Figure:
    """Errors under noise of each frequency, one heat map a network, with one scale of colors.

    Args:
        networks: what ``fourier_sensitivity`` returns, by the network's name.
        title: above the figure; default: none.
        value: the ``"error"`` in percent, or how far the ``"loss"`` rises, in nats.
    """
    unit = _UNITS[value]
    names = [
        f"{name}<br>noise of {s.amplitude:g}; {getattr(s, f'clean_{value}'):.3g} {unit} without"
        for name, s in networks.items()
    ]
    figure = make_subplots(1, len(names), subplot_titles=names, horizontal_spacing=0.08)
    for column, sensitivity in enumerate(networks.values(), start=1):
        figure.add_trace(
            go.Heatmap(
                x=sensitivity.horizontal.numpy(),
                y=sensitivity.vertical.numpy(),
                z=_shown(sensitivity, value).numpy(),
                coloraxis="coloraxis",
                hovertemplate="kx = %{x:.3f}, ky = %{y:.3f} cycles/pixel<br>%{z:.3g} " + unit,
            ),
            1,
            column,
        )
        anchor = "x" if column == 1 else f"x{column}"
        figure.update_yaxes(scaleanchor=anchor, row=1, col=column)
    plane = {"range": (-0.5, 0.5), "constrain": "domain"}
    figure.update_xaxes(title="kx (cycles/pixel)", **plane)
    figure.update_yaxes(constraintoward="top", **plane)
    figure.update_yaxes(title="ky (cycles/pixel)", col=1)
    figure.update_layout(**layout(title))
    figure.update_annotations(font_size=13)
    figure.update_layout(
        height=400,
        margin_t=90 if title else 60,
        coloraxis={
            "colorscale": "Cividis",
            "colorbar": {"title": {"text": _LABELS[value], "side": "right"}, "thickness": 12},
        },
    )
    if value == "error":
        figure.update_layout(coloraxis={"cmin": 0, "cmax": 100})
    return figure


def scrambling_figure(
    layers: Mapping[str, RingScrambling],
    *,
    title: str | None = None,
    value: Value = "error",
) -> go.Figure:
    """Error or loss against the ring whose phases are random, one curve a layer.

    Args:
        layers: what ``ring_scrambling`` returns, by the name of the curve, which gets the value
            with all rings scrambled at once. The dotted lines are the undisturbed networks; bars
            are standard errors of an error's rise.
        title: above the figure; default: none.
        value: as ``sensitivity_figure``.
    """
    figure = go.Figure()
    levels = {result.clean_error if value == "error" else 0.0 for result in layers.values()}
    for level in sorted(levels):
        figure.add_hline(
            level,
            line={"dash": "dot", "color": "#888"},
            annotation={"text": "undisturbed", "font": {"color": "#888"}},
            annotation_position="top left",
        )
    for number, (name, result) in enumerate(layers.items()):
        figure.add_trace(
            go.Scatter(
                x=result.frequency.numpy(),
                y=_shown(result, value).numpy(),
                name=f"{name} (all rings: {_joint(result, value)})",
                error_y={"array": result.stderr.numpy(), "visible": value == "error"},
                mode="lines+markers",
                **look(number),
            )
        )
    figure.update_xaxes(title="scrambled ring, |k| (cycles per pixel of the layer)", range=[0, 0.5])
    figure.update_yaxes(title=_LABELS[value], rangemode="tozero")
    if value == "error":
        own = levels == {0.0}  # errors are changes of the network's own answers
        label = "answers changed (%)" if own else _LABELS[value]
        figure.update_yaxes(title=f"{label}<br>± 1 standard error", range=[0, 100])
    figure.update_layout(**layout(title))
    return figure


def _joint(found: RingScrambling, value: Value) -> str:
    if value == "error":
        return f"{found.joint_error:.1f} %"
    return f"{found.joint_loss - found.clean_loss:+.2f} nats"


def _shown(found: FourierSensitivity | RingScrambling, value: Value) -> Tensor:
    return found.error if value == "error" else found.loss - found.clean_loss
