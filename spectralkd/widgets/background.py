"""Measuring in a thread, with progress, time left and a way to cancel."""

from __future__ import annotations

import asyncio
import html
import threading
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import ipywidgets as widgets
from torch import nn

T = TypeVar("T")
_SECONDS = 0.2  # between two messages to the page


class Cancelled(BaseException):
    """A job was told to end; no ``except Exception`` on the way takes it for an error."""

    def __str__(self) -> str:
        return "cancelled"


class Job:
    """One piece of work: what it measures, how far it is, and whether it is to end.

    Attributes:
        keys: what it will have measured.
        title: of the progress bar.
        share: part of the work that is done, 0 to 1.
        refused: a person cancelled it; else, a cancelled job was for settings of before.
    """

    def __init__(self, keys: Collection[Hashable], title: str) -> None:
        self.keys, self.title = frozenset(keys), title
        self.share, self.begun, self.cancelled = 0.0, 0.0, threading.Event()
        self.refused = False
        self.report: Callable[[], None] = lambda: None
        self._told = 0.0

    def advance(self, share: float) -> None:
        """Note the progress.

        Raises:
            Cancelled: the result is no longer wanted.
        """
        if self.cancelled.is_set():
            raise Cancelled
        self.share = min(1.0, share)
        if time.monotonic() > self._told + _SECONDS:
            self._told = time.monotonic()
            self.report()

    def left(self) -> float | None:
        """Estimated seconds to the end, or None while there is nothing to estimate it from."""
        passed = time.monotonic() - self.begun
        return passed * (1 - self.share) / self.share if self.share > 0 and passed > 0.5 else None

    @contextmanager
    def watched(self, *models: nn.Module, batches: int) -> Iterator[None]:
        """Advance with every layer that runs: the first batch of a large network takes long."""
        leaves = [m for net in models for m in net.modules() if not any(m.children())]
        total, done = max(1, len(leaves)) * (batches + 1), 0  # a pass more finds the layouts

        def count(*_: object) -> None:
            nonlocal done
            done += 1
            self.advance(done / total)

        hooks = [leaf.register_forward_hook(count) for leaf in leaves]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


class Background(widgets.VBox):
    """A thread that does one job after the other, with a progress bar and a line for errors.

    Only the kernel's own thread changes widgets. Without an event loop, as in a script, the
    caller waits instead.

    Attributes:
        jobs: those that wait or run, in order.
    """

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(1)
        self.jobs: list[Job] = []
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None
        self._bar = widgets.FloatProgress(max=1, layout=widgets.Layout(width="12em"))
        self._bar.add_class("spectralkd-progress")
        self._words = widgets.HTML()
        self._stop = widgets.Button(description="Cancel", layout=widgets.Layout(width="6em"))
        self._stop.on_click(lambda _: self.cancel())
        self._line = widgets.HBox([self._bar, self._stop, self._words])
        self._message = widgets.HTML()
        super().__init__([self._line, self._message])
        self._show()

    @property
    def error(self) -> str:
        """The last error as HTML; empty if there was none."""
        return str(self._message.value)

    def submit(
        self, job: Job, work: Callable[[Job], T], then: Callable[[T | BaseException], None]
    ) -> None:
        """Call ``work`` in the thread, then ``then`` in the kernel's with its result or error.

        A job that has been cancelled ends with ``Cancelled``.
        """
        self.show_error("")
        if self._loop is None:
            then(_outcome(work, job))
            return
        loop = self._loop
        self.jobs.append(job)

        def report() -> None:
            loop.call_soon_threadsafe(self._show)

        job.report = report
        self._show()

        def finish(future: Future[T | BaseException]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._finish, job, future.result(), then)

        self._worker.submit(_outcome, work, job).add_done_callback(finish)

    def keep(self, wanted: Collection[Hashable]) -> None:
        """Cancel the jobs of which nothing is wanted any more."""
        for job in self.jobs:
            if not job.keys & set(wanted):
                job.cancelled.set()
        self._show()

    def cancel(self) -> None:
        """Cancel all jobs, as a person asks for it."""
        for job in self.jobs:
            job.refused = True
        self.keep(())

    def pending(self) -> set[Hashable]:
        """What the jobs will have measured that are not cancelled."""
        return {key for job in self.jobs if not job.cancelled.is_set() for key in job.keys}

    def show_error(self, error: BaseException | str) -> None:
        """Say why something was not measured; an empty text removes that."""
        text = html.escape(str(error))
        self._message.value = f'<b role="status">Not measured: {text}</b>' if text else ""

    def rest(self) -> None:
        """Cancel all jobs and end the thread; another job begins another."""
        self.keep(())
        self._worker.shutdown(wait=False)
        self._worker = ThreadPoolExecutor(1)  # which has no thread before its first job

    def close(self) -> None:
        """Cancel all jobs, and remove the widget."""
        self.rest()
        super().close()

    def _finish(
        self, job: Job, found: T | BaseException, then: Callable[[T | BaseException], None]
    ) -> None:
        self.jobs.remove(job)
        then(found)
        self._show()  # last: once it is gone, what was measured is on its way to the page

    def _show(self) -> None:
        """Progress of the first job that is not cancelled."""
        wanted = [job for job in self.jobs if not job.cancelled.is_set()]
        self._line.layout.visibility = "visible" if wanted else "hidden"
        if not wanted:
            return
        job, others = wanted[0], len(wanted) - 1
        self._bar.value = job.share
        left = job.left() if job.begun else None
        time_left = "" if left is None else f", {duration(left)} left"
        more = f", then {others} more" if others else ""
        self._words.value = html.escape(f"Measuring {job.title}{time_left}{more}")


def duration(seconds: float) -> str:
    """A time as a person says it: ``8 s``, ``5 min``, ``2 h 10 min``."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def names(labels: Iterable[str]) -> str:
    """A list of names for a line of text: the first three, and how many more."""
    known = list(labels)
    return ", ".join(known[:3]) + (f" and {len(known) - 3} more" if len(known) > 3 else "")


def _outcome(work: Callable[[Job], T], job: Job) -> T | BaseException:
    """What the work returns, or how it ended."""
    job.begun = time.monotonic()
    try:
        job.advance(0)
        return work(job)
    except (Exception, Cancelled) as error:
        return error
