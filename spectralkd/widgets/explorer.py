"""Explore the spectra of a network's layers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple

import ipywidgets as widgets
import plotly.graph_objects as go
from torch import nn

from spectralkd.analysis.layers import LayerView, layer_views
from spectralkd.data.images import ImageData, suited
from spectralkd.figures.layers import layer_figure
from spectralkd.figures.spectra import draw_fits, plot_spectra
from spectralkd.figures.style import layout
from spectralkd.figures.tables import format_table
from spectralkd.models import model_stages
from spectralkd.models.layout import MapLayer, map_layers
from spectralkd.spectra.power import Spectrum, with_ring
from spectralkd.spectra.powerlaw import PowerLaw, fit_power_law
from spectralkd.widgets.base import (
    Background,
    Panel,
    SliderNames,
    TickList,
    csv_link,
    remember,
    show_instead,
    table_box,
)

IMAGES = "images"
BATCH = 50

_RINGS = (("|k| × ring mean (the paper)", "jacobian"), ("ring mean", "mean"))
_STATISTICS = (("of the batch", "batch"), ("running averages", "running"))
_POOLS = (("none", 1), ("2×2", 2), ("4×4", 4))
_WINDOWS = (("none", "none"), ("Hann", "hann"))

_INPUT = nn.Identity()  # whose output is the images themselves


class _Measured(NamedTuple):
    net: nn.Module
    source: ImageData
    view: LayerView


# The last explorer of each name: when its cell is run again, the next one takes over.
_latest: dict[str, SpectrumExplorer] = {}


class SpectrumExplorer(Panel):
    """Spectra of images and layers, and power laws fitted over a band that a slider sets.

    ``analysis.layers.layer_views`` measures each layer once, in a background thread;
    everything is drawn from what it returns. (Without an event loop, as in a script, the caller
    waits.) Networks are copied when they are measured, so a cell may continue to train them.

    Args:
        models: networks by name; or, for each name, the same network with several weights, such
            as ``{"wrn16_2": {"trained": a, "untrained": b}}``.
        data: a data set, or several by name.
        images: number of images to measure, spread evenly over the data set.
        name: explorers of the same name in one kernel share their settings, so that running the
            cell again keeps them.

    Raises:
        ValueError: no network, no data, or fewer than one image.
    """

    def __init__(
        self,
        models: Mapping[str, nn.Module | Mapping[str, nn.Module]],
        data: ImageData | Mapping[str, ImageData],
        *,
        images: int = 300,
        name: str = "explorer",
    ) -> None:
        self.models = {
            key: dict(value) if isinstance(value, Mapping) else {"as given": value}
            for key, value in models.items()
        }
        if not self.models or not all(self.models.values()):
            raise ValueError("models: expected at least one network, got none")
        self.data = dict(data) if isinstance(data, Mapping) else {"data": data}
        if not self.data:
            raise ValueError("data: expected at least one data set, got none")
        self.images = images
        self.background = Background()
        self._measured = self._take_over(name)
        self.spectra: dict[str, Spectrum] = {}
        self.fits: dict[str, PowerLaw] = {}
        self._views: dict[str, LayerView] = {}
        self._layers: dict[str, MapLayer] = {}
        self._found: dict[str, MapLayer | None] = {}
        self._refusal: ValueError | None = None
        self.controls = self._make_controls()
        self.figure = go.FigureWidget(layout=layout(None))
        self.detail_figure = go.FigureWidget(layout=layout(None))
        self.table, self.csv = table_box(), table_box()
        self._remember(name)
        self._observe()
        super().__init__(self._arranged())
        self._measure()

    # --- parts ---

    def _take_over(self, name: str) -> dict[tuple[Any, ...], _Measured]:
        """What the last explorer of this name measured of the same networks and images."""
        mine = {id(o) for o in (_INPUT, *self.data.values())}
        mine |= {id(net) for nets in self.models.values() for net in nets.values()}
        last = _latest.get(name)
        _latest[name] = self
        if last is None:
            return {}
        last.background.close()
        return {
            key: entry
            for key, entry in last._measured.copy().items()
            if {id(entry.net), id(entry.source)} <= mine
        }

    def _make_controls(self) -> dict[str, Any]:
        wide, box = {"description_width": "9em"}, widgets.Layout(width="26em")

        def menu(label: str, options: Iterable[Any]) -> widgets.Dropdown:
            return widgets.Dropdown(
                options=list(options), description=label, style=wide, layout=box
            )

        return {
            "data": menu("Images", self.data),
            "network": menu("Network", self.models),
            "weights": TickList("Weights"),
            "layers": TickList("Layers", height="15em"),
            "ring": menu("Power of a ring", _RINGS),
            "statistics": menu("Batch norms use", _STATISTICS),
            "pool": menu("Average pooling", _POOLS),
            "window": menu("Window", _WINDOWS),
            "normalize": widgets.Checkbox(
                description="First ring = 1", indent=False, layout=widgets.Layout(width="12em")
            ),
            "band": widgets.FloatRangeSlider(
                value=(1 / 8, 1 / 2),
                min=1 / 32,
                max=1 / 2,
                step=1 / 64,
                description="Fit from, to (cycles/pixel)",
                readout_format=".3f",
                style={"description_width": "13em"},
                layout=widgets.Layout(width="46em"),
            ),
            "detail": widgets.Dropdown(
                description="Look at", style={"description_width": "5em"}, layout=box
            ),
        }

    def _remember(self, name: str) -> None:
        """Restore earlier settings: data and network first, because they determine the layers."""
        c = self.controls
        remember(f"{name}/first", {key: c[key] for key in ("data", "network")})
        self._offer_layers()
        later = {k: v for k, v in c.items() if k not in ("data", "network", "detail")}
        remember(name, later)

    def _observe(self) -> None:
        c = self.controls
        c["network"].observe(lambda _: self._offer_layers(), "value")
        for key in ("data", "network", "weights", "layers", "statistics", "pool", "window"):
            c[key].observe(lambda _: self._measure(), "value")
        for key in ("ring", "normalize"):
            c[key].observe(lambda _: self._draw(), "value")
        c["band"].observe(lambda _: self._fit(), "value")
        c["detail"].observe(lambda _: self._draw_detail(), "value")

    def _arranged(self) -> list[widgets.Widget]:
        c = self.controls
        names = ("data", "network", "ring", "statistics", "pool", "window", "normalize")
        menus = widgets.VBox([*(c[name] for name in names), self.background])
        return [
            SliderNames(),
            widgets.HBox([menus, c["layers"], c["weights"]]),
            c["band"],
            self.figure,
            widgets.HBox([self.table, self.csv]),
            c["detail"],
            self.detail_figure,
        ]

    # --- what is chosen ---

    def _offer_layers(self) -> None:
        nets = self.models[self.controls["network"].value]
        weights, layers = self.controls["weights"], self.controls["layers"]
        weights.options = weights.value = tuple(nets)
        net = next(iter(nets.values()))
        source = suited(self.data[self.controls["data"].value], net)
        ((batch, _),) = source.subset(1).batches(1)
        try:
            self._layers = map_layers(net, batch)
        except ValueError as error:  # images of a size that the network does not take
            self._layers, self._refusal = {}, error
            layers.options = layers.value = (IMAGES,)
            return
        self._refusal = None
        known = tuple(self._layers)
        try:
            ends = tuple(stage.output for stage in model_stages(net))
        except TypeError:
            ends = tuple({m.shape[1:]: layer for layer, m in self._layers.items()}.values())
        layers.options = (IMAGES, *ends, *(layer for layer in known if layer not in ends))
        layers.value = (IMAGES, *ends)

    def _chosen(self) -> Iterator[tuple[str, nn.Module, str, tuple[int, int]]]:
        """Label, network, layer and style of each chosen curve."""
        value = {key: control.value for key, control in self.controls.items()}
        for color, layer in enumerate(value["layers"]):
            if layer == IMAGES:
                yield IMAGES, _INPUT, "", (color, 0)
                continue
            for dash, weights in enumerate(value["weights"]):
                label = layer if len(value["weights"]) == 1 else f"{layer}, {weights}"
                yield label, self.models[value["network"]][weights], layer, (color, dash)

    def _key(self, net: nn.Module, layer: str) -> tuple[Any, ...]:
        """Everything that a view depends on, including the version of the weights."""
        c = self.controls
        version = sum(tensor._version for tensor in net.state_dict().values())
        statistics = c["statistics"].value if layer else "running"
        source = id(self.data[c["data"].value])
        options = (self.images, statistics, c["pool"].value, c["window"].value)
        return (id(net), version, layer, source, *options)

    # --- measuring, in the worker's thread ---

    def _measure(self) -> None:
        """Measure what is chosen and not yet measured; draw the rest."""
        c = self.controls
        missing: dict[nn.Module, dict[str, tuple[Any, ...]]] = {}
        for _, net, layer, _ in self._chosen():
            key = self._key(net, layer)
            if key not in self._measured:
                missing.setdefault(net, {})[layer] = key
        for net, keys in missing.items():
            read = partial(
                self._read,
                net,
                deepcopy(net),  # as it is now: a cell may continue to train it
                self.data[c["data"].value],
                keys,
                statistics="running" if net is _INPUT else c["statistics"].value,
                pool=c["pool"].value,
                window=c["window"].value,
            )
            self.background.submit(read, lambda _: self._draw())
        if self._refusal:
            self.background.show_error(self._refusal)
        self._draw()

    def _read(
        self,
        net: nn.Module,
        copy: nn.Module,
        source: ImageData,
        keys: Mapping[str, tuple[Any, ...]],
        **options: Any,
    ) -> None:
        """Measure layers, except those that an earlier job has measured meanwhile."""
        layers = [layer for layer, key in keys.items() if key not in self._measured]
        if not layers:
            return
        shown = suited(source, copy).subset(self.images)
        batches = shown.batches(BATCH, normalize=net is not _INPUT)
        watched = self.background.watched(batches, len(batches))
        for layer, view in layer_views(copy, watched, layers, progress=False, **options).items():
            self._measured[keys[layer]] = _Measured(net, source, view)

    # --- drawing, from what was measured ---

    def _draw(self) -> None:
        """Draw all chosen curves that are measured."""
        ring, styles = self.controls["ring"].value, {}
        self._views, self.spectra, self._found = {}, {}, {}
        for label, net, layer, style in self._chosen():
            known = self._measured.get(self._key(net, layer))
            if known:
                self._views[label], styles[label] = known.view, style
                self._found[label] = self._layers.get(layer)
                self.spectra[label] = with_ring(known.view.spectrum, ring)
        if self.spectra:
            normalize = self.controls["normalize"].value
            show_instead(
                self.figure,
                plot_spectra(
                    self.spectra,
                    styles=styles,
                    normalize=normalize,
                    y_range=_decades(self.spectra, normalize),
                ),
            )
        self._fit()
        detail = self.controls["detail"]
        kept = detail.value
        if detail.options != tuple(self._views):
            detail.options = tuple(self._views)
            detail.value = kept if kept in self._views else next(iter(self._views), None)
        self._draw_detail()
        rows = [
            (label, float(k), float(p), float(e))
            for label, s in self.spectra.items()
            for k, p, e in zip(s.frequency, s.power, s.stderr, strict=True)
        ]
        header = ("layer", "|k| (cycles/pixel)", f"power ({ring})", "standard error")
        self.csv.value = csv_link("spectra.csv", header, rows)

    def _fit(self) -> None:
        """Fit again, over the slider's band."""
        band = tuple(self.controls["band"].value)
        self.fits, rows = {}, []
        for label, s in self.spectra.items():
            height, width = self._views[label].plane.shape
            known = self._found[label]
            place = (f"{height}×{width}", known.layout if known else "–")
            try:
                fit = fit_power_law(s.frequency, s.power, band=band)
            except ValueError:
                rows.append((label, *place, "–", "–", "–"))
                continue
            self.fits[label] = fit
            numbers = f"{fit.exponent:.2f}", f"± {fit.stderr:.2f}", f"{fit.r_squared:.3f}"
            rows.append((label, *place, *numbers))
        if self.spectra:
            with self.figure.batch_update():
                draw_fits(
                    self.figure,
                    self.spectra,
                    self.fits,
                    normalize=self.controls["normalize"].value,
                )
        self.table.value = format_table(
            ("layer", "pixels", "layout", "exponent", "error", "R²"), rows, style="html"
        )

    def _draw_detail(self) -> None:
        label = self.controls["detail"].value
        if label in self._views:
            show_instead(self.detail_figure, layer_figure(self._views[label], label))


def _decades(spectra: Mapping[str, Spectrum], normalize: bool) -> tuple[float, float]:
    """Whole decades around all curves: an axis that does not change while a fit moves."""
    powers = [
        float(p) / (float(s.power[1]) if normalize else 1.0)
        for s in spectra.values()
        for p in s.power[1:]
        if p > 0
    ]
    low, high = math.floor(math.log10(min(powers))), math.ceil(math.log10(max(powers)))
    return 10.0**low, 10.0 ** max(high, low + 1)
