"""What can be chosen in an explorer, and the presets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import ipywidgets as widgets

from spectralkd.spectra.powerlaw import BAND
from spectralkd.widgets.base import menu
from spectralkd.widgets.ticks import TickList

_RINGS = (("|k| × ring mean (the paper)", "jacobian"), ("ring mean", "mean"))
STATISTICS = (("of the batch", "batch"), ("running averages", "running"))
_POOLS = (("none", 1), ("2×2", 2), ("4×4", 4))
_WINDOWS = (("none", "none"), ("Hann", "hann"))

_PAPER: dict[str, Any] = {
    "ring": "jacobian",
    "statistics": "batch",
    "pool": 1,
    "window": "none",
    "normalize": False,
    "band": BAND,
}
PRESETS = {
    "As in the paper": _PAPER,
    "Power spectral density": _PAPER
    | {"ring": "mean", "statistics": "running", "window": "hann", "band": (1 / 16, 1 / 2)},
}


def make_controls(data: Iterable[str], networks: Iterable[str]) -> dict[str, Any]:
    """The controls by name, as in the paper; names of data sets and networks are offered."""
    return {
        "data": menu("Images", data),
        "network": menu("Network", networks),
        "weights": TickList("Weights"),
        "layers": TickList("Layers"),
        "ring": menu("Power of a ring", _RINGS),
        "statistics": menu("Batch norms use", STATISTICS),
        "pool": menu("Average pooling", _POOLS),
        "window": menu("Window", _WINDOWS),
        "normalize": widgets.Checkbox(
            description="First ring = 1", indent=False, layout=widgets.Layout(width="10em")
        ),
        "band": widgets.FloatRangeSlider(
            value=_PAPER["band"],
            min=1 / 32,
            max=1 / 2,
            step=1 / 64,
            description="Fit from, to (cycles/pixel)",
            readout_format=".3f",
            style={"description_width": "13em"},
            layout=widgets.Layout(width="46em", max_width="98%"),
        ),
        "detail": menu("Look at", ()),
    }
