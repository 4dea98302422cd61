"""What the widgets share: memory between runs of a cell, links to numbers, names for readers."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import anywidget
import ipywidgets as widgets
from traitlets import TraitError

_memory: dict[str, dict[str, Any]] = {}


def remember(name: str, controls: Mapping[str, widgets.Widget]) -> None:
    """Give controls the values that those of the same names had before, and note new ones.

    A cell that is run twice makes new controls; they begin where the old ones were left. What
    no longer fits, such as a layer of another network, is passed over.
    """
    known = _memory.setdefault(name, {})
    for key, control in controls.items():
        if key in known:
            try:
                control.value = known[key]
            except TraitError:
                del known[key]
        control.observe(lambda change, key=key: known.__setitem__(key, change["new"]), "value")


def csv_link(filename: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """An HTML link that saves a table as a file, without a server."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    data = base64.b64encode(text.getvalue().encode()).decode()
    return f'<a download="{filename}" href="data:text/csv;base64,{data}">Numbers as CSV</a>'


class SliderNames(anywidget.AnyWidget):
    """Names the handles of all sliders on the page by their labels, for screen readers.

    ipywidgets draws a slider's label beside it and leaves its handles nameless.
    """

    _esm = """
    function name() {
      for (const slider of document.querySelectorAll('.widget-slider')) {
        const label = slider.querySelector('.widget-label')?.textContent
        const handles = slider.querySelectorAll('.noUi-handle')
        handles.forEach((handle, n) => handle.setAttribute('aria-label',
          handles.length == 1 ? label : `${label}, ${n ? 'upper' : 'lower'} end`))
      }
    }
    export default { render({ el }) {
      el.style.display = 'none'
      const watch = new MutationObserver(name)
      watch.observe(document.body, { childList: true, subtree: true })
      name()
      return () => watch.disconnect()
    } }
    """
