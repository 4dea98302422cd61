"""What the widgets share: memory between runs of a cell, CSV links, names for screen readers."""

from __future__ import annotations

import asyncio
import base64
import csv
import html
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import anywidget
import ipywidgets as widgets
import plotly.graph_objects as go
from traitlets import TraitError, Tuple, observe, validate

T = TypeVar("T")
_memory: dict[str, dict[str, Any]] = {}


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


def show_instead(shown: go.FigureWidget, figure: go.Figure) -> None:
    """Replace the figure that a widget shows."""
    with shown.batch_update():
        shown.data = ()
        shown.add_traces(figure.data)
        shown.layout = figure.layout


class Panel(widgets.VBox):
    """A widget of several parts; its text in a notebook is the same at every run."""

    def __repr__(self) -> str:
        return f"{type(self).__name__} (run this cell to see the widget)"


class TickList(widgets.VBox):
    """Named checkboxes that keyboards and screen readers can use.

    Attributes:
        options: names of the boxes, in order.
        value: names of those ticked, in the order of the boxes.
    """

    options: tuple[str, ...] = Tuple()  # type: ignore[assignment]
    value: tuple[str, ...] = Tuple()  # type: ignore[assignment]

    def __init__(self, label: str, *, height: str | None = None) -> None:
        self._heading = widgets.HTML(f"<b>{html.escape(label)}</b>")
        self._boxes: dict[str, widgets.Checkbox] = {}
        self._list = widgets.VBox(layout=widgets.Layout(max_height=height, overflow="auto"))
        super().__init__([self._heading, self._list], layout=widgets.Layout(width="20em"))

    @observe("options")
    def _make_boxes(self, _: object) -> None:
        line = widgets.Layout(width="18em", height="1.6em", flex="0 0 auto")
        self._boxes = {
            name: widgets.Checkbox(description=name, indent=False, layout=line)
            for name in self.options
        }
        for box in self._boxes.values():
            box.observe(self._read_boxes, "value")
        self._list.children = tuple(self._boxes.values())
        self.value = tuple(name for name in self.options if name in self.value)
        self._tick({"new": self.value})

    @observe("value")
    def _tick(self, change: Mapping[str, Any]) -> None:
        for name, box in self._boxes.items():
            box.value = name in change["new"]

    @validate("value")
    def _check(self, proposal: Mapping[str, Any]) -> tuple[str, ...]:
        if unknown := set(proposal["value"]) - set(self.options):
            raise TraitError(f"value: expected names among {self.options}, got {sorted(unknown)}")
        return tuple(name for name in self.options if name in proposal["value"])

    def _read_boxes(self, _: object) -> None:
        self.value = tuple(name for name, box in self._boxes.items() if box.value)


class Background(widgets.VBox):
    """A thread that runs one job after the other, with a progress bar and a line for errors.

    Only the kernel's own thread changes widgets. Without an event loop, as in a script, the
    caller waits instead.
    """

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(1)
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None
        hidden = widgets.Layout(width="26em", visibility="hidden")
        self._bar = widgets.IntProgress(description="Measuring", layout=hidden)
        self._message = widgets.HTML()
        super().__init__([self._bar, self._message])

    @property
    def error(self) -> str:
        """The last error as HTML; empty if there was none."""
        return str(self._message.value)

    def submit(self, work: Callable[[], T], then: Callable[[T], None]) -> None:
        """Call ``work`` in the thread, then ``then`` with its result in the kernel's."""
        self._message.value = ""
        if self._loop is None:
            then(work())
            return
        loop = self._loop

        def finish(future: Future[T]) -> None:
            loop.call_soon_threadsafe(self._finish, future, then)

        self._worker.submit(work).add_done_callback(finish)

    def show_error(self, error: BaseException) -> None:
        """Say why something was not measured, until the next job begins."""
        self._message.value = f"<b>Not measured: {html.escape(str(error))}</b>"

    def watched(self, batches: Iterable[T], total: int) -> Iterator[T]:
        """Yield the batches and show progress on the bar."""
        for number, batch in enumerate(batches, start=1):
            yield batch
            if self._loop:
                self._loop.call_soon_threadsafe(self._show, number, total)

    def close(self) -> None:
        """Cancel jobs that have not begun, and remove the widget."""
        self._worker.shutdown(wait=False, cancel_futures=True)
        super().close()

    def _finish(self, future: Future[T], then: Callable[[T], None]) -> None:
        self._show(0, 0)
        if future.cancelled():
            return
        if error := future.exception():
            self.show_error(error)
            return
        then(future.result())

    def _show(self, done: int, total: int) -> None:
        self._bar.max, self._bar.value = max(total, 1), done
        self._bar.layout.visibility = "visible" if total else "hidden"


def table_box() -> widgets.HTML:
    """A widget for ``format_table(…, style="html")`` that looks like a table of the notebook."""
    box = widgets.HTML()
    box.add_class("jp-RenderedHTMLCommon")
    return box


def csv_link(filename: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """An HTML link that saves a table as a file, without a server."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    data = base64.b64encode(text.getvalue().encode()).decode()
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
