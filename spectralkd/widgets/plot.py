"""A plotly figure as a widget whose state is the whole figure.

A view that opens later, after a reload or beside another one, draws what every other view shows.
plotly's own ``FigureWidget`` sends changes as messages instead, and a view that is not there yet
loses them.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import anywidget
import plotly.graph_objects as go
import plotly.io as pio
from ipywidgets import widget_serialization
from plotly.offline import get_plotlyjs
from traitlets import Instance, List, Unicode

from spectralkd.widgets.script import Script, script


class _Library(anywidget.AnyWidget):
    """plotly.js, which all plots of a kernel share: it has 5 MB."""

    code = Unicode().tag(sync=True)


@cache
def _library() -> _Library:
    return _Library(code=get_plotlyjs())


class Plot(Script):
    """Shows a figure over the full width, in the page's theme, with buttons that save it.

    Args:
        label: what is drawn, for screen readers and names of files.
        figure: the first figure; default: nothing, until ``show``.

    Attributes:
        figure: what is shown: an ordinary ``plotly.graph_objects.Figure``.
    """

    _esm = script("plot.js")
    _css = Path(__file__).with_name("plot.css")
    library = Instance(_Library).tag(sync=True, **widget_serialization)
    label = Unicode().tag(sync=True)
    drawn = Unicode("{}").tag(sync=True)
    kinds = List(Unicode()).tag(sync=True)

    def __init__(self, label: str, figure: go.Figure | None = None) -> None:
        kinds = ["html"] + (["pdf"] if importlib.util.find_spec("kaleido") else [])
        self.figure = go.Figure() if figure is None else figure
        drawn = pio.to_json(self.figure, validate=False)
        super().__init__(library=_library(), label=label, kinds=kinds, drawn=drawn)
        self.on_msg(self._save)

    def show(self, figure: go.Figure) -> None:
        """Show a figure, or what has changed in the one that is shown."""
        self.figure = figure
        self.drawn = pio.to_json(figure, validate=False)

    def _save(self, _: Plot, message: dict[str, Any], __: Any) -> None:
        kind = message["save"]
        try:
            if kind == "html":
                saved = self.figure.to_html(include_plotlyjs=True).encode()
            else:
                saved = self.figure.to_image(kind, width=860)
        except Exception as error:  # kaleido's own, where it finds no browser
            self.send({"kind": kind, "error": f"Not saved: {error}"})
        else:
            self.send({"kind": kind}, [saved])
