"""Power spectra on logarithmic axes (Figs. 1 and 2)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import plotly.graph_objects as go
import torch
from torch import Tensor

from spectralkd.figures.style import COLORS, frequency_axis, layout, look, mode, power_axis
from spectralkd.spectra.power import Spectrum
from spectralkd.spectra.powerlaw import PowerLaw

_POWER = {"mean": "ring-mean power", "jacobian": "|k| × ring-mean power"}
_UNITS = {"mean": "map units²", "jacobian": "map units² · cycles/pixel"}


def plot_spectra(
    spectra: Mapping[str, Spectrum],
    fits: Mapping[str, PowerLaw] | None = None,
    *,
    title: str | None = None,
    normalize: bool = False,
    y_range: tuple[float, float] | None = None,
    styles: Mapping[str, tuple[int, int]] | None = None,
) -> go.Figure:
    """Power against |k| on logarithmic axes, as in Figs. 1 and 2.

    Each spectrum makes three traces, in this order: a band of two standard errors, the curve,
    and its fit.

    Args:
        spectra: by name; all with one ring reduction, which the axis names.
        fits: power laws by the same names, drawn dashed over their band and written into the
            legend; default: none.
        title: above the figure; default: none.
        normalize: divide each curve by its power at the first ring beyond DC, to compare shapes.
        y_range: limits of the power axis; default: as the curves need.
        styles: indices of color and dash pattern by name; default: a color for each curve.

    Raises:
        ValueError: no spectrum, or several ring reductions.
    """
    rings = {spectrum.ring for spectrum in spectra.values()}
    if len(rings) != 1:
        raise ValueError(f"spectra: expected one ring reduction, got {sorted(rings) or 'none'}")
    figure = go.Figure()
    drawn: list[float] = []
    for number, (name, spectrum) in enumerate(spectra.items()):
        tint, dash = (styles or {}).get(name, (number, 0))
        color = COLORS[tint % len(COLORS)]
        scale = float(spectrum.power[1]) if normalize else 1.0
        k, power = spectrum.frequency[1:], spectrum.power[1:] / scale
        drawn += power.tolist()
        error = 2 * torch.nan_to_num(spectrum.stderr[1:]) / scale
        label, ends = name, torch.empty(0, dtype=torch.float64)
        law = ends
        if fit := (fits or {}).get(name):
            label = f"{name}: α = {fit.exponent:.2f} ± {fit.stderr:.2f}"
            ends = torch.tensor([max(fit.band[0], float(k[0])), fit.band[1]], dtype=torch.float64)
            law = fit(ends) / scale
        figure.add_trace(
            _band(k, (power - error).clamp_min(power / 1e3), power + error, color, name)
        )
        figure.add_trace(
            go.Scatter(
                x=k.numpy(),
                y=power.numpy(),
                name=label,
                legendgroup=name,
                mode=mode(len(k)),
                **look(tint, dash),
                hovertemplate="|k| = %{x:.3f} cycles/pixel<br>P = %{y:.3g}",
            )
        )
        figure.add_trace(
            go.Scatter(
                x=ends.numpy(),
                y=law.numpy(),
                legendgroup=name,
                showlegend=False,
                mode="lines",
                line={"color": color, "dash": "dash", "width": 1},
                hoverinfo="skip",
            )
        )
    ring = rings.pop()
    shaded = any(torch.nan_to_num(s.stderr[1:]).any() for s in spectra.values())
    unit = "first ring = 1" if normalize else _UNITS[ring]
    label = f"{_POWER[ring]}<br>({unit}){'<br>shaded: ± 2 standard errors' if shaded else ''}"
    frequency_axis(figure)
    power_axis(figure, y_range or drawn)
    limits = [math.log10(value) for value in y_range] if y_range else None
    figure.update_yaxes(title=label, range=limits)
    figure.update_layout(**layout(title))
    return figure.update_layout(margin_l=110)


def _band(x: Tensor, low: Tensor, high: Tensor, color: str, group: str) -> go.Scatter:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return go.Scatter(
        x=torch.cat([x, x.flip(0)]).numpy(),
        y=torch.cat([high, low.flip(0)]).numpy(),
        mode="lines",
        fill="toself",
        fillcolor=f"rgba({red},{green},{blue},0.2)",
        line={"width": 0},
        legendgroup=group,
        showlegend=False,
        hoverinfo="skip",
    )
