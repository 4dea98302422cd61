"""All that one wants to know of a network's spectra: stages, blocks, downsampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from spectralkd.analysis.activations import figure_spectra, fit_or_none
from spectralkd.analysis.aliasing import Aliasing, aliasing
from spectralkd.analysis.depth import BlockProfile, block_layers, depth_profile
from spectralkd.data.images import ImageData, first_image
from spectralkd.models.features import Statistics
from spectralkd.models.layout import Layouts
from spectralkd.spectra.power import Ring, Spectrum, Window
from spectralkd.spectra.powerlaw import BAND, PowerLaw


class Survey(NamedTuple):
    """A network's spectra over a data set.

    Attributes:
        spectra: as ``figure_spectra``.
        fits: their power laws over ``band``; None as in ``fit_or_none``.
        blocks: as ``depth_profile``; empty for a network without repeated blocks.
        folded: as ``aliasing``.
        band: in cycles/pixel.
    """

    spectra: dict[str, Spectrum]
    fits: dict[str, PowerLaw | None]
    blocks: dict[str, BlockProfile]
    folded: dict[str, Aliasing]
    band: tuple[float, float]


class Table(NamedTuple):
    """A table with the convention of its numbers in a sentence or two."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    convention: str


def survey(
    model: nn.Module,
    data: ImageData,
    layers: Sequence[str] | None = None,
    *,
    ring: Ring = "jacobian",
    window: Window = "none",
    layout: Layouts = None,
    statistics: Statistics = "batch",
    batch_size: int = 100,
    band: tuple[float, float] = BAND,
    progress: bool = True,
) -> Survey:
    """Measure a network in three passes: stages, blocks, downsampling layers.

    Args:
        model, data, layers, ring, window, layout, statistics, batch_size, progress: as
            ``figure_spectra``.
        band: of all exponents, in cycles/pixel of each map's own.

    Raises:
        ValueError, TypeError: as ``figure_spectra``.
    """
    spectra = figure_spectra(
        model,
        data,
        layers,
        ring=ring,
        window=window,
        layout=layout,
        statistics=statistics,
        batch_size=batch_size,
        band=band,
        progress=progress,
    )
    image = first_image(data)
    names = block_layers(model, image)
    blocks = {}
    if names:
        blocks = depth_profile(
            model,
            data.batches(batch_size),
            names,
            band=band,
            layout=layout,
            statistics=statistics,
            progress=progress,
        )
    folded = aliasing(model, data.batches(batch_size), statistics=statistics, progress=progress)
    fits = {name: fit_or_none(spectrum, band) for name, spectrum in spectra.items()}
    return Survey(spectra, fits, blocks, folded, band)


def survey_tables(found: Survey) -> list[Table]:
    """The numbers of a survey; parts without any are left out."""
    tables = [_exponents(found), _blocks(found), _aliasing(found)]
    return [table for table in tables if table.rows]


def _exponents(found: Survey) -> Table:
    rows = []
    for name, spectrum in found.spectra.items():
        fit, rings = found.fits[name], str(len(spectrum.frequency))
        if fit is None:
            rows.append((name, rings, "under 3 rings in the band, or no power", "–"))
        else:
            exponent = f"{fit.exponent:.3f} ± {fit.stderr:.3f}"
            rows.append((name, rings, exponent, f"{fit.r_squared:.3f}"))
    return Table(
        "Exponents",
        ("map", "rings", "exponent", "R²"),
        rows,
        "Exponents of ring means are smaller by 1 than those of |k| × ring mean.",
    )


def _blocks(found: Survey) -> Table:
    rows = [
        (
            name,
            f"{block.layer.height}×{block.layer.width}",
            block.layer.layout,
            f"{block.layer.stride:g}",
            f"{block.exponent:.2f} ± {block.stderr:.2f}",
            f"{block.high_share:.3f}",
            f"{block.correlation_length:.2f}",
            f"{block.image_correlation_length:.1f}",
            f"{block.view.log_amplitude[-1]:.2f}",
        )
        for name, block in found.blocks.items()
    ]
    return Table(
        "Blocks",
        (
            "block",
            "pixels",
            "layout",
            "stride",
            "exponent",
            "high share",
            "length",
            "in image",
            "Δ",
        ),
        rows,
        "Exponent: of the ring mean over the band, cycles per pixel of the map. High share: of the "
        "power beyond the mean, at |k| ≥ 1/4 cycles per pixel of the map (white noise: 0.80 in "
        "large maps, 0.87 in 8×8 pixels). "
        "Length: where the correlation of pixels falls to 1/e, in pixels of the map and of the "
        "image. Δ: log amplitude at the highest frequency of the half diagonal minus that at zero, "
        "natural logarithm (Park & Kim 2022).",
    )


def _aliasing(found: Survey) -> Table:
    rows = [
        (
            name,
            f"{layer.stride[0]}×{layer.stride[1]}",
            "×".join(map(str, layer.size)),
            f"{100 * layer.share:.1f} %",
        )
        for name, layer in found.folded.items()
    ]
    return Table(
        "Aliasing",
        ("downsampling layer", "stride", "pixels after", "folded"),
        rows,
        "Share of the power beyond the mean that lies beyond the new Nyquist frequency before the "
        "layer samples its output, and is folded onto lower frequencies (white noise at stride 2: "
        "75 % of large maps, 62 % of maps of 8×8 pixels before).",
    )
