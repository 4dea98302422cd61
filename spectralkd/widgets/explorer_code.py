"""The settings of an explorer as code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spectralkd.widgets.measurements import BATCH

_HEAD = """\
import torch
import spectralkd as skd
from spectralkd.analysis.activations import fit_or_none
from spectralkd.analysis.layers import layer_views
from spectralkd.data.images import suited
from spectralkd.spectra.power import with_ring

# explorer = SpectrumExplorer(…), whose networks and images are used
data = explorer.data[{data!r}]
options = {{"pool": {pool}, "window": {window!r}, "progress": False}}
views = {{}}
"""
_IMAGES = """\
batches = data.subset({images}).batches({batch}, normalize=False)
views["images"] = layer_views(torch.nn.Identity(), batches, [""], **options)[""]
"""
_NETWORKS = """\
for weights in {weights!r}:
    model = explorer.models[{network!r}][weights]
    batches = suited(data, model).subset({images}).batches({batch})
    found = layer_views(
        model, batches, {layers!r}, statistics={statistics!r}, **options
    )
    views |= {{f"{{layer}}, {{weights}}": view for layer, view in found.items()}}
"""
_TAIL = """\
spectra = {{name: with_ring(view.spectrum, {ring!r}) for name, view in views.items()}}
fits = {{name: fit_or_none(s, {band!r}) for name, s in spectra.items()}}
fits = {{name: fit for name, fit in fits.items() if fit}}
figure = skd.plot_spectra(spectra, fits, normalize={normalize!r})
figure
"""


def explorer_code(settings: Mapping[str, Any], images: int) -> str:
    """Plain calls that measure and draw what an explorer shows.

    Args:
        settings: the values of its controls.
        images: how many are measured.
    """
    layers = [layer for layer in settings["layers"] if layer != "images"]
    values = {**settings, "layers": layers, "weights": list(settings["weights"])}
    parts = [_HEAD]
    if len(layers) < len(settings["layers"]):
        parts.append(_IMAGES)
    if layers:
        parts.append(_NETWORKS)
    return "".join([*parts, _TAIL]).format(**values, images=images, batch=BATCH)
