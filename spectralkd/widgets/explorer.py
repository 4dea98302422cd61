"""Explore the spectra of a network's layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from io import BytesIO
from typing import NamedTuple

import ipywidgets as widgets
from PIL import Image, UnidentifiedImageError
from torch import nn

from spectralkd.analysis.depth import block_layers
from spectralkd.analysis.layers import LayerView
from spectralkd.data.images import ImageArray, ImageData, ImageFiles, first_image, suited
from spectralkd.figures.depth import exponents_figure
from spectralkd.figures.layers import layer_figure
from spectralkd.figures.spectra import plot_spectra
from spectralkd.figures.style import nothing
from spectralkd.figures.tables import format_table
from spectralkd.models import stage_outputs
from spectralkd.models.layout import MapLayer, map_layers
from spectralkd.spectra.power import Spectrum, with_ring
from spectralkd.spectra.powerlaw import PowerLaw, fit_power_law
from spectralkd.widgets.background import Background
from spectralkd.widgets.base import (
    Panel,
    SliderNames,
    Together,
    csv_link,
    in_this_cell,
    remember,
    row,
    table_box,
)
from spectralkd.widgets.code import Code
from spectralkd.widgets.explorer_code import explorer_code
from spectralkd.widgets.explorer_controls import PRESETS, make_controls
from spectralkd.widgets.measurements import IMAGES, Measurements, Request
from spectralkd.widgets.plot import Plot

IMAGES_LABEL = "images"
OWN_IMAGES = "your images"


class _Curve(NamedTuple):
    label: str
    layer: str  # "" for the images
    weights: str
    request: Request
    style: tuple[int, int]  # color and dash: the layer's and the weights' own


# The last explorer of each name and cell: when the cell is run again, the next one takes over.
_latest: dict[str, SpectrumExplorer] = {}


class SpectrumExplorer(Panel):
    """Spectra of images and layers, and power laws fitted over a band that a slider sets.

    ``analysis.layers.layer_views`` measures each layer once, in a background thread;
    everything is drawn from what it returns. (Without an event loop, as in a script, the caller
    waits.) Networks are copied when they are measured, so a cell may continue to train them.

    Args:
        models: networks by name; or, for each name, the same network with several weights, such
            as ``{"wrn16_2": {"trained": a, "untrained": b}}``.
        data: a data set, or several by name. A person can add images of their own.
        images: number of images to measure, spread evenly over the data set.
        name: explorers of the same name in one cell share their settings, so that running the
            cell again keeps them.

    Attributes:
        models, data: as given, by name.
        controls: everything that can be chosen, by name.
        spectra, fits: of the curves that are drawn, by label.
        plot, depth_plot, detail_plot: each with its ``figure``.

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
        if images < 1:
            raise ValueError(f"images: expected at least 1, got {images}")
        self.images = images
        self.background = Background()
        place = in_this_cell(name)
        last = _latest.get(place)
        earlier = last.measured if last else None
        self.measured: Measurements = Measurements(self.background, lambda: self._draw(), earlier)
        self.spectra: dict[str, Spectrum] = {}
        self.fits: dict[str, PowerLaw] = {}
        self.views: dict[str, LayerView] = {}
        self._curves: list[_Curve] = []
        self._layers: dict[str, MapLayer] = {}
        self._refusal = ""
        self.controls = make_controls(self.data, self.models)
        self.upload = widgets.FileUpload(accept="image/*", multiple=True, description="Your images")
        self.again = widgets.Button(description="Measure again")
        self.plot = Plot("Power spectra", nothing("Measuring …"))
        self.depth_plot = Plot("Exponent against depth", nothing("Measuring …"))
        self.detail_plot = Plot("One layer", nothing("Measuring …"))
        self.table, self.csv, self.code = table_box(), table_box(), Code("Python code")
        self._measure = Together(self._measure_all)
        self._offer_layers()
        self._remember(place)
        self._observe()
        super().__init__(self._arranged())
        if last and place != name:  # a cell run again; without cells, both go on
            last.background.rest()
        _latest[place] = self
        self._measure()

    def busy(self) -> bool:
        return bool(self.background.pending())

    def problems(self) -> list[str]:
        reasons = [
            f"{curve.label}: {self.measured.reason(curve.request)}"
            for curve in self._curves
            if curve.label not in self.views
        ]
        return [self._refusal, *reasons] if self._refusal else reasons

    def reset(self) -> None:
        """Return to the first network, data set, layers and the paper's settings."""
        with self._measure.changes():
            for key in ("data", "network"):
                self.controls[key].value = self.controls[key].options[0]
            weights, layers = self.controls["weights"], self.controls["layers"]
            weights.value, layers.value = weights.options, tuple(layers.groups["stages"])
            self.choose("As in the paper")

    def choose(self, preset: str) -> None:
        """Set everything but network, data and layers as one of ``PRESETS``."""
        with self._measure.changes():
            for key, value in PRESETS[preset].items():
                self.controls[key].value = value

    # --- parts ---

    def _remember(self, place: str) -> None:
        """Restore earlier settings: data and network first, because they determine the layers."""
        c = self.controls
        remember(f"{place}/first", {key: c[key] for key in ("data", "network")})
        self._offer_layers()
        later = {k: v for k, v in c.items() if k not in ("data", "network", "detail")}
        remember(place, later)

    def _observe(self) -> None:
        c = self.controls
        for key in ("data", "network"):
            c[key].observe(lambda _: self._offer_layers(), "value")
        for key in ("data", "network", "weights", "layers", "statistics", "pool", "window"):
            c[key].observe(self._measure, "value")
        for key in ("ring", "normalize"):
            c[key].observe(lambda _: self._draw(), "value")
        c["band"].observe(lambda _: self._fit(), "value")
        c["detail"].observe(lambda _: self._draw_detail(), "value")
        self.upload.observe(lambda _: self._add_images(), "value")
        self.again.on_click(lambda _: self._retry())

    def _arranged(self) -> list[widgets.Widget]:
        c = self.controls
        names = ("data", "network", "ring", "statistics", "pool", "window")
        buttons = []
        for text in PRESETS:
            button = widgets.Button(description=text, layout=widgets.Layout(width="auto"))
            button.on_click(lambda _, text=text: self.choose(text))
            buttons.append(button)
        reset = widgets.Button(description="Reset", layout=widgets.Layout(width="auto"))
        reset.on_click(lambda _: self.reset())
        menus = widgets.VBox(
            [*(c[name] for name in names), row(*buttons, reset), row(c["normalize"], self.upload)]
        )
        folded = widgets.Accordion([self.code], titles=["These settings as code"])
        for plot, layout in (
            (self.plot, widgets.Layout(flex="3 1 48em", min_width="0")),
            (self.depth_plot, widgets.Layout(flex="2 1 30em", min_width="0")),
        ):
            plot.layout = layout
        return [
            SliderNames(),
            row(menus, c["layers"], c["weights"]),
            widgets.HBox([self.background, self.again]),
            c["band"],
            row(self.plot, self.depth_plot),
            row(self.table, self.csv),
            c["detail"],
            self.detail_plot,
            folded,
        ]

    # --- what is chosen ---

    def _offer_layers(self) -> None:
        """Offer the network's layers, its stages first, and tick images and stages."""
        nets = self.models[self.controls["network"].value]
        net = next(iter(nets.values()))
        source = suited(self.data[self.controls["data"].value], net)
        batch = first_image(source)
        stages: tuple[str, ...] = ()
        blocks: list[str] = []
        try:
            found = map_layers(net, batch)
            self._layers = {layer: place for layer, place in found.items() if layer}
            self._refusal = ""
            ends = {found.shape[1:]: layer for layer, found in self._layers.items()}
            # Of a network without a stage table, the last layer of each size.
            stages = stage_outputs(net) or tuple(ends.values())
            blocks = block_layers(net, batch)
        except ValueError as error:  # images of a size that the network does not take
            self._layers, self._refusal = {}, str(error)
        weights, layers = self.controls["weights"], self.controls["layers"]
        options = (IMAGES_LABEL, *stages, *(name for name in self._layers if name not in stages))
        if options == layers.options and tuple(nets) == weights.options:
            return
        with self._measure.changes():
            weights.options = weights.value = tuple(nets)
            layers.groups = {}
            layers.options = options
            layers.groups = {"stages": [IMAGES_LABEL, *stages]} | (
                {"blocks": [IMAGES_LABEL, *blocks]} if blocks else {}
            )
            layers.value = (IMAGES_LABEL, *stages)

    def _chosen(self) -> list[_Curve]:
        value = {key: control.value for key, control in self.controls.items()}
        source = self.data[value["data"]]
        options = value["pool"], value["window"]
        nets = self.models[value["network"]]
        found = []
        for color, layer in enumerate(self.controls["layers"].options):
            if layer not in value["layers"]:
                continue
            if layer == IMAGES_LABEL:
                request = Request(IMAGES, "", source, self.images, "running", *options)
                found.append(_Curve(layer, "", "", request, (color, 0)))
                continue
            for dash, (weights, net) in enumerate(nets.items()):
                if weights in value["weights"]:
                    label = layer if len(nets) == 1 else f"{layer}, {weights}"
                    request = Request(
                        net, layer, source, self.images, value["statistics"], *options
                    )
                    found.append(_Curve(label, layer, weights, request, (color, dash)))
        return found

    def _add_images(self) -> None:
        """Add a person's images to the data sets, cut to the size of the present ones."""
        menu = self.controls["data"]
        like = self.data[menu.value]
        side = like.images.shape[1] if isinstance(like, ImageArray) else like.image_size
        pictures, refused = [], []
        for file in self.upload.value:
            try:
                picture = Image.open(BytesIO(file["content"])).convert("RGB")
            except (UnidentifiedImageError, OSError):
                refused.append(f"{file['name']}: expected an image")
                continue
            if min(picture.size) < side:  # enlarged, it would show the interpolation's spectrum
                size = "{}×{}".format(*picture.size)
                refused.append(
                    f"{file['name']}: expected at least {side}×{side} pixels, got {size}"
                )
            else:
                pictures.append((picture, 0))
        if pictures:
            own = ImageFiles(pictures, side, ("yours",), like.mean, like.std, crop=1.0)  # type: ignore[arg-type]
            self.data[OWN_IMAGES] = own
            with self._measure.changes():
                menu.options = list(self.data)
                menu.value = OWN_IMAGES
                self._measure()
        if refused:
            self.background.show_error("; ".join(refused))

    # --- measuring and drawing ---

    def _measure_all(self) -> None:
        """Measure what is chosen and not yet measured; draw the rest."""
        self.measured.want(curve.request for curve in self._chosen())
        self.background.show_error(self._refusal)
        self._draw()

    def _retry(self) -> None:
        self.measured.retry(curve.request for curve in self._chosen())
        self._measure()

    def _draw(self) -> None:
        """Draw the chosen curves that are measured, and nothing else."""
        ring = self.controls["ring"].value
        self._curves = self._chosen()
        views = {curve.label: self.measured.view(curve.request) for curve in self._curves}
        self.views = {label: view for label, view in views.items() if view}
        self.spectra = {label: with_ring(v.spectrum, ring) for label, v in self.views.items()}
        missing = len(self.views) < len(self._curves) and not self.busy()
        self.again.layout.visibility = "visible" if missing else "hidden"
        self._fit()
        detail = self.controls["detail"]
        kept = detail.value
        if detail.options != tuple(self.views):
            detail.options = tuple(self.views)
            detail.value = kept if kept in self.views else next(iter(self.views), None)
        self._draw_detail()
        rows = [
            (label, float(k), float(p), float(e))
            for label, s in self.spectra.items()
            for k, p, e in zip(s.frequency, s.power, s.stderr, strict=True)
        ]
        header = ("layer", "|k| (cycles/pixel)", f"power ({ring})", "standard error")
        self.csv.value = csv_link("spectra.csv", header, rows) if rows else ""

    def _fit(self) -> None:
        """Fit again, over the slider's band."""
        band = tuple(self.controls["band"].value)
        self.fits, rows = {}, []
        for curve in self._curves:
            known = self._layers.get(curve.layer)
            view = self.views.get(curve.label)
            size = "×".join(map(str, view.plane.shape)) if view else "–"
            place = (curve.label, size, known.layout if known else "–")
            try:
                if view is None:
                    raise ValueError(self.measured.reason(curve.request))
                s = self.spectra[curve.label]
                fit = fit_power_law(s.frequency, s.power, band=band)
            except ValueError as error:
                rows.append((*place, "–", "–", str(error)))
                continue
            self.fits[curve.label] = fit
            numbers = f"{fit.exponent:.2f}", f"± {fit.stderr:.2f}", f"R² {fit.r_squared:.3f}"
            rows.append((*place, *numbers))
        header = ("layer", "pixels", "layout", "exponent", "error", "fit")
        self.table.value = format_table(header, rows, style="html") if rows else ""
        self._draw_spectra()
        self._draw_depth()
        self.code.text = explorer_code({k: c.value for k, c in self.controls.items()}, self.images)

    def _why_nothing(self) -> str:
        if not self._curves:
            return "Tick a layer to see its spectrum."
        return "Measuring …" if self.busy() else "; ".join(dict.fromkeys(self.problems()))

    def _draw_spectra(self) -> None:
        if not self.spectra:
            self.plot.show(nothing(self._why_nothing()))
            return
        normalize = self.controls["normalize"].value
        figure = plot_spectra(
            self.spectra,
            self.fits,
            styles={curve.label: curve.style for curve in self._curves},
            normalize=normalize,
            y_range=_decades(self.spectra, normalize),
        )
        self.plot.show(figure)

    def _draw_depth(self) -> None:
        laws: dict[str, dict[str, PowerLaw]] = {w: {} for w in self.controls["weights"].value}
        for curve in self._curves:
            if curve.label in self.fits:
                for weights in [curve.weights] if curve.layer else laws:
                    laws[weights][curve.layer or IMAGES_LABEL] = self.fits[curve.label]
        if not any(laws.values()):
            why = "No layer has three rings in the band." if self.spectra else self._why_nothing()
            self.depth_plot.show(nothing(why))
            return
        ring = "|k| × ring mean" if self.controls["ring"].value == "jacobian" else "ring mean"
        order = [IMAGES_LABEL, *self._layers]
        self.depth_plot.show(exponents_figure(laws, order, label=f"exponent of the {ring}"))

    def _draw_detail(self) -> None:
        label = self.controls["detail"].value
        if label in self.views:
            self.detail_plot.show(layer_figure(self.views[label], label))
        else:
            self.detail_plot.show(nothing(self._why_nothing()))


def _decades(spectra: Mapping[str, Spectrum], normalize: bool) -> tuple[float, float]:
    """Whole decades around all curves: an axis that does not change while a fit moves."""
    powers = [
        float(p) / (float(s.power[1]) if normalize else 1.0)
        for s in spectra.values()
        for p in s.power[1:]
        if p > 0
    ]
    if not powers:
        return 0.1, 1.0
    low, high = math.floor(math.log10(min(powers))), math.ceil(math.log10(max(powers)))
    return 10.0**low, 10.0 ** max(high, low + 1)
