"""What the widgets share: memory between runs of a cell, tables to download, slider names."""

from __future__ import annotations

import asyncio
import base64
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import anywidget
import ipywidgets as widgets
from traitlets import TraitError

from spectralkd.figures.tables import format_table

_memory: dict[str, dict[str, Any]] = {}
_panels: WeakSet[Panel] = WeakSet()


class Panel(widgets.VBox):
    """A widget of several parts; its text in a notebook is the same at every run."""

    def __init__(self, parts: Sequence[widgets.Widget]) -> None:
        super().__init__(parts, layout=widgets.Layout(width="100%"))
        _panels.add(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__} (run this cell to see the widget)"

    def busy(self) -> bool:
        """Whether something that it will show is still measured."""
        return False

    def problems(self) -> list[str]:
        """What it says could not be shown."""
        return []


async def finished() -> None:
    """Wait until no widget of this kernel measures any more.

    Raises:
        RuntimeError: some of them say that something could not be shown.
    """
    while any(panel.busy() for panel in _panels):
        await asyncio.sleep(0.05)
    if found := [text for panel in _panels for text in panel.problems()]:
        raise RuntimeError("; ".join(found))


def in_this_cell(name: str) -> str:
    """A name for a widget that it keeps when its cell runs again; another cell's differs."""
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    parent = shell.get_parent() if hasattr(shell, "get_parent") else {}
    return f"{name} {parent.get('metadata', {}).get('cellId', '')}".strip()


def remember(name: str, controls: Mapping[str, widgets.Widget]) -> None:
    """Restore the values that controls of the same names had before, and record new ones.

    A cell that is run twice makes new controls; they begin where the old ones were left. A value
    that is no longer valid, such as a layer of another network, is ignored.
    """
    known = _memory.setdefault(name, {})
    for key, control in controls.items():
        if key in known:
            try:
                control.value = known[key]
            except TraitError:
                del known[key]
        control.observe(lambda change, key=key: known.__setitem__(key, change["new"]), "value")


class Together:
    """Many changes, one reaction: calls during ``with changes():`` are one call at its end."""

    def __init__(self, react: Any) -> None:
        self._react, self._depth, self._asked = react, 0, False

    def __call__(self, *_: object) -> None:
        self._asked = True
        if not self._depth:
            self._asked = False
            self._react()

    @contextmanager
    def changes(self) -> Iterator[None]:
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
        if self._asked:
            self()


def menu(label: str, options: Iterable[Any]) -> widgets.Dropdown:
    """A choice of one, as wide as those above and below it."""
    style, layout = {"description_width": "9em"}, widgets.Layout(width="26em", max_width="98%")
    return widgets.Dropdown(options=list(options), description=label, style=style, layout=layout)


def table_box() -> widgets.HTML:
    """A widget for ``format_table(…, style="html")`` that looks like a table of the notebook."""
    box = widgets.HTML(layout=widgets.Layout(max_width="100%", overflow="auto"))
    box.add_class("jp-RenderedHTMLCommon")
    return box


def row(*parts: widgets.Widget) -> widgets.HBox:
    """Parts beside each other, or below each other where the page is narrow."""
    return widgets.HBox(parts, layout=widgets.Layout(flex_flow="row wrap", grid_gap="0.5em 2em"))


def csv_link(filename: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """An HTML link that saves a table as a file, without a server."""
    text = format_table(header, [[str(value) for value in row] for row in rows], "csv")
    data = base64.b64encode(f"{text}\n".encode()).decode()
    return f'<a download="{filename}" href="data:text/csv;base64,{data}">Numbers as CSV</a>'


class SliderNames(anywidget.AnyWidget):
    """Gives the handles of all sliders on the page the names of their labels, for screen readers.

    ipywidgets draws a slider's label beside it and gives the handles no name.
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
