"""Arms of a comparison, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go

from spectralkd.analysis.intervals import interval
from spectralkd.figures.style import COLORS, layout

_MEAN, _SEED = COLORS[0], COLORS[6]


def differences_figure(
    arms: Mapping[str, Mapping[int, float]],
    reference: str,
    *,
    title: str | None = None,
) -> go.Figure:
    """Each arm minus one of them, over the seeds that both have.

    A small circle for each seed; a dot and a bar for the mean of several and its 95 % interval. An
    arm whose bar crosses 0 is not told apart from the reference.

    Args:
        arms: values by seed, by the arm's name, such as an entry of
            ``reproduction.comparison.last_errors``. Arms without a seed of the reference's are
            left out.
        reference: the arm that is subtracted.
        title: above the figure; default: none.

    Raises:
        ValueError: there is no arm of that name, or no other one with a seed of its own.
    """
    if reference not in arms:
        raise ValueError(f"reference: expected one of {sorted(arms)}, got {reference!r}")
    base = arms[reference]
    others = {
        name: {seed: values[seed] - base[seed] for seed in values if seed in base}
        for name, values in arms.items()
        if name != reference and set(values) & set(base)
    }
    if not others:
        raise ValueError(
            f"arms: expected one with a seed of {reference}'s, {sorted(base)}, got {sorted(arms)}"
        )
    means = {name: interval(list(differences.values())) for name, differences in others.items()}
    order = sorted(others, key=lambda name: means[name].mean, reverse=True)  # the best on top
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(
            x=[difference for name in order for difference in others[name].values()],
            y=[name for name in order for _ in others[name]],
            text=[f"seed {seed}" for name in order for seed in others[name]],
            mode="markers",
            marker={"color": _SEED, "symbol": "circle-open", "size": 7},
            hovertemplate="%{y}, %{text}: %{x:+.2f}<extra></extra>",
            name="a seed",
        )
    )
    several = {name: means[name] for name in order if means[name].n > 1}
    figure.add_trace(
        go.Scatter(
            x=[mean.mean for mean in several.values()],
            y=list(several),
            error_x={
                "array": [mean.high - mean.mean for mean in several.values()],
                "thickness": 3,
                "width": 8,
            },
            text=[str(mean) for mean in several.values()],
            mode="markers",
            marker={"color": _MEAN, "size": 11},
            hovertemplate="%{y}: %{text}<extra></extra>",
            name="mean with its 95 % interval",
        )
    )
    figure.add_vline(x=0, line={"color": _SEED, "dash": "dash", "width": 1})
    figure.update_xaxes(title=f"top-1 error minus that of {reference} (percentage points)")
    figure.update_yaxes(automargin=True)
    figure.update_layout(**layout(title))
    return figure.update_layout(height=200 + 40 * len(order), legend_y=-75 / (40 * len(order)))
