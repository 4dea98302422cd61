"""Views of layers, measured once each in the background and kept."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from copy import deepcopy
from functools import partial
from typing import NamedTuple

from torch import nn

from spectralkd.analysis.layers import LayerView, layer_views
from spectralkd.data.images import ImageData, suited
from spectralkd.models.features import Statistics
from spectralkd.spectra.power import Window
from spectralkd.widgets.background import Background, Cancelled, Job, names

BATCH = 50
IMAGES = nn.Identity()  # the network whose output is the images themselves

_Found = tuple[dict[str, LayerView], dict[str, str]]


class Request(NamedTuple):
    """A layer's view under given settings. The images are the layer ``""`` of ``IMAGES``."""

    net: nn.Module
    layer: str
    source: ImageData
    images: int
    statistics: Statistics
    pool: int
    window: Window

    def key(self) -> Hashable:
        """Everything that the view depends on, including the version of the weights."""
        version = sum(tensor._version for tensor in self.net.state_dict().values())
        return (id(self.net), version, self.layer, id(self.source), *self[3:])


class _Kept(NamedTuple):
    request: Request  # holds network and images, so that no other object gets their ids
    view: LayerView | None
    reason: str


class Measurements:
    """Measures requests in the background of a widget.

    Args:
        background: where jobs run and show their progress.
        changed: called in the kernel's thread when something has been measured.
        earlier: measurements of a widget that this one replaces.
    """

    def __init__(
        self,
        background: Background,
        changed: Callable[[], None],
        earlier: Measurements | None = None,
    ) -> None:
        self._background, self._changed = background, changed
        self._kept: dict[Hashable, _Kept] = {} if earlier is None else earlier._kept.copy()

    def view(self, request: Request) -> LayerView | None:
        """What was measured, if it was."""
        kept = self._kept.get(request.key())
        return kept.view if kept else None

    def reason(self, request: Request) -> str:
        """Why there is no view: it cannot be measured, was cancelled, or is measured now."""
        key = request.key()
        if key in self._background.pending():
            return "is measured now"
        return self._kept[key].reason if key in self._kept else "the network has changed since"

    def want(self, requests: Iterable[Request]) -> None:
        """Measure what is missing, and cancel what nobody wants any more."""
        asked = {request.key(): request for request in requests}
        self._background.keep(asked)
        done = self._kept.keys() | self._background.pending()
        missing: dict[nn.Module, dict[Hashable, Request]] = {}
        for key, request in asked.items():
            if key not in done:
                missing.setdefault(request.net, {})[key] = request
        for net, group in missing.items():
            job = Job(group, names(request.layer or "the images" for request in group.values()))
            # The network as it is now: a cell may continue to train it.
            work = partial(_measure, deepcopy(net), list(group.values()))
            self._background.submit(job, work, partial(self._keep, job, group))

    def retry(self, requests: Iterable[Request]) -> None:
        """Measure again what failed or was cancelled."""
        for request in requests:
            kept = self._kept.get(request.key())
            if kept and kept.view is None:
                del self._kept[request.key()]

    def _keep(
        self, job: Job, group: Mapping[Hashable, Request], found: _Found | BaseException
    ) -> None:
        if isinstance(found, Cancelled) and not job.refused:
            return  # abandoned for other settings
        for key, request in group.items():
            if isinstance(found, BaseException):
                reason = str(found) or type(found).__name__
                self._kept[key] = _Kept(request, None, reason)
            else:
                views, skipped = found
                view = views.get(request.layer)
                self._kept[key] = _Kept(request, view, skipped.get(request.layer, ""))
        self._changed()


def _measure(copy: nn.Module, group: list[Request], job: Job) -> _Found:
    first, layers = group[0], [request.layer for request in group]
    images = first.net is IMAGES
    batches = suited(first.source, copy).subset(first.images).batches(BATCH, normalize=not images)
    skipped: dict[str, str] = {}
    with job.watched(copy, batches=len(batches)):
        views = layer_views(
            copy,
            batches,
            layers,
            statistics="running" if images else first.statistics,
            pool=first.pool,
            window=first.window,
            progress=False,
            skipped=skipped,
        )
    return views, skipped
