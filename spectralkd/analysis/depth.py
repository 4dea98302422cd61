"""How spectra change with depth: a few numbers for every block of a network, in one pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spectralkd.analysis.activations import fit_or_none
from spectralkd.analysis.layers import LayerView, layer_views
from spectralkd.models.features import Batch, Statistics
from spectralkd.models.layout import Layouts, MapLayer, find_layouts, map_layers
from spectralkd.spectra.correlation import correlation_length
from spectralkd.spectra.powerlaw import BAND

HIGH = 1 / 4  # cycles/pixel: half the Nyquist frequency
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class BlockProfile(NamedTuple):
    """One layer's place in the network and the numbers of its mean spectrum.

    Attributes:
        layer: how its output is maps; ``layer.stride`` is image pixels for one of its own.
        view: its spectrum, plane of frequencies, Δ log amplitude and correlation.
        exponent: of the ring-mean power over the band; NaN with fewer than 3 rings in it, or
            one without power. A power law has the same exponent in its own and in image pixels.
        stderr: standard error of the exponent.
        high_share: share of the power beyond the mean at |k| >= 1/4 cycles/pixel of its own, over
            the whole plane of frequencies. White noise has 0.80 (1 - π/16 of the plane) in large
            maps, 0.81 in maps of 32×32 pixels, 0.87 of 8×8 and 1 of 4×4.
        correlation_length: pixels of its own until C(r) falls to C(0)/e (Eq. 2).
        image_correlation_length: the same in image pixels.
    """

    layer: MapLayer
    view: LayerView
    exponent: float
    stderr: float
    high_share: float
    correlation_length: float
    image_correlation_length: float


def depth_profile(
    model: nn.Module,
    batches: Iterable[Batch],
    layers: Sequence[str] | None = None,
    *,
    band: tuple[float, float] = BAND,
    layout: Layouts = None,
    statistics: Statistics = "running",
    progress: bool = True,
) -> dict[str, BlockProfile]:
    """Measure every block of a network over a data set.

    Args:
        model, batches, layout, statistics, progress: as ``layer_views``.
        layers: default: ``block_layers`` of the first batch.
        band: of the exponent, in cycles/pixel of each layer's own.

    Returns:
        By layer, in the order of ``layers``.

    Raises:
        ValueError, TypeError: as ``layer_views``; there is no block.
    """
    rest = iter(batches)
    first = next(rest, None)
    if first is None:
        raise ValueError("batches: expected at least one image, got an empty data set")
    images = first if isinstance(first, Tensor) else first[0]
    names = block_layers(model, images) if layers is None else layers
    if not names:
        raise ValueError("layers: the network has no repeated blocks of maps; name its layers")
    known = find_layouts(model, images, names, layout)
    views = layer_views(
        model,
        chain([first], rest),
        names,
        layout=layout,
        statistics=statistics,
        progress=progress,
    )
    return {name: _profile(known[name], view, band) for name, view in views.items()}


def block_layers(model: nn.Module, images: Tensor) -> list[str]:
    """The repeated parts of a network whose outputs are maps, in their order.

    They are the outermost modules whose class occurs more than once, containers and whole stages
    aside: the residual blocks of a ResNet, the blocks of a transformer. A network may have none.
    """
    found = map_layers(model, images)
    modules = dict(model.named_modules())

    def may_be_block(module: nn.Module) -> bool:
        stage = "Stage" in type(module).__name__
        return any(module.children()) and not stage and not isinstance(module, _CONTAINERS)

    counts = Counter(type(m) for m in modules.values() if may_be_block(m))
    blocks: list[str] = []
    for name in modules:  # parents before their children
        inside = any(name.startswith(f"{block}.") for block in blocks)
        repeated = may_be_block(modules[name]) and counts[type(modules[name])] > 1
        if name in found and repeated and not inside:
            blocks.append(name)
    return blocks


def _profile(layer: MapLayer, view: LayerView, band: tuple[float, float]) -> BlockProfile:
    fit = fit_or_none(view.spectrum, band)
    length = float(correlation_length(view.distance, view.correlation))
    return BlockProfile(
        layer,
        view,
        fit.exponent if fit else float("nan"),
        fit.stderr if fit else float("nan"),
        _high_share(view.plane),
        length,
        length * layer.stride,
    )


def _high_share(plane: Tensor) -> float:
    """Share of a centered plane's power, zero frequency aside, at |k| >= ``HIGH``."""
    height, width = plane.shape
    ky = torch.fft.fftshift(torch.fft.fftfreq(height, dtype=torch.float64))
    kx = torch.fft.fftshift(torch.fft.fftfreq(width, dtype=torch.float64))
    length = torch.hypot(ky[:, None], kx[None, :])
    return float(plane[length >= HIGH].sum() / plane[length > 0].sum())
