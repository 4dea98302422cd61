"""Power spectra of images and of a network's activations over a data set (Figs. 1 and 2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import nn
from tqdm.auto import tqdm

from spectralkd.data.images import ImageData, first_image
from spectralkd.models import model_stages, stage_outputs
from spectralkd.models.features import Batch, Statistics
from spectralkd.models.layout import Layouts, find_layouts, read_maps
from spectralkd.spectra.power import RadialPowerSpectrum, Ring, Spectrum, Window
from spectralkd.spectra.powerlaw import BAND, PowerLaw, fit_power_law
from spectralkd.spectra.rings import ring_frequencies

SPECTRUM_IMAGES = 500
POOLED = ", 2×2 average-pooled"


def image_spectrum(
    data: ImageData,
    *,
    ring: Ring = "mean",
    window: Window = "none",
    pool: int = 1,
    batch_size: int = 250,
    progress: bool = True,
) -> Spectrum:
    """Mean radial power spectrum of the images themselves, in [0, 1] (Fig. 1).

    Args:
        data: as ``load_data`` returns it.
        ring, window, pool: as ``RadialPowerSpectrum``.
        batch_size: images at a time.
        progress: show a progress bar.

    Raises:
        ValueError, TypeError: as ``RadialPowerSpectrum``.
    """
    spectrum = RadialPowerSpectrum(ring=ring, window=window, pool=pool, sync_on_compute=False)
    batches = data.batches(batch_size, normalize=False)
    for images, _ in tqdm(batches, "images", unit="batch", disable=not progress, leave=False):
        spectrum.update(images)
    return spectrum.compute()


def activation_spectra(
    model: nn.Module,
    batches: Iterable[Batch],
    layers: Sequence[str],
    *,
    ring: Ring = "mean",
    window: Window = "none",
    layout: Layouts = None,
    statistics: Statistics = "running",
    pooled: Sequence[str] = (),
    progress: bool = True,
) -> dict[str, Spectrum]:
    """Mean radial power spectrum of each layer over a data set, in one pass (Figs. 1 and 2).

    Args:
        model, batches, layers, layout, statistics, progress: as ``read_maps``.
        ring, window: as ``radial_power``.
        pooled: those of the layers that are also measured after 2×2 average pooling, under
            their names with ``POOLED`` appended.

    Raises:
        ValueError, TypeError: as ``read_maps``, and ``RadialPowerSpectrum.update`` with the
            layer's name.
    """
    # Every process measures all images: nothing is summed over processes.
    metric = partial(RadialPowerSpectrum, ring=ring, window=window, sync_on_compute=False)
    spectra = {layer: metric() for layer in layers}
    for layer in pooled:
        spectra[layer + POOLED] = metric(pool=2)
    for maps in read_maps(
        model, batches, layers, layout=layout, statistics=statistics, progress=progress
    ):
        for name, spectrum in spectra.items():
            layer = name.removesuffix(POOLED)
            try:
                spectrum.update(maps[layer])
            except (TypeError, ValueError) as error:
                raise type(error)(f"layer {layer!r}: {error}") from error
    return {name: spectrum.compute() for name, spectrum in spectra.items()}


def figure_spectra(
    model: nn.Module,
    data: ImageData,
    layers: Sequence[str] | None = None,
    *,
    ring: Ring = "jacobian",
    window: Window = "none",
    layout: Layouts = None,
    statistics: Statistics = "batch",
    batch_size: int = 100,
    band: tuple[float, float] | None = None,
    progress: bool = True,
) -> dict[str, Spectrum]:
    """What Figs. 1 and 2 show: the spectra of images and layers, two of them also pooled.

    Wrong arguments are refused at the first image or batch, not after the long work.

    Args:
        model: any module that takes one tensor.
        data: as ``load_data`` returns it; the images are measured in [0, 1] and normalized for
            the model.
        layers: as ``activation_spectra``; default: the outputs of the network's stages.
        ring, window, layout, statistics, progress: as ``activation_spectra``.
        batch_size: images at a time.
        band: in cycles/pixel; refused if it holds fewer than three rings of the images.

    Returns:
        By name: ``"images"``, the layers, and, if they have 8 pixels a side or more, the images
        and the last layer after 2×2 average pooling, with ``POOLED`` appended to their names.

    Raises:
        ValueError: as ``activation_spectra``; images below 4 pixels; the band.
        TypeError: as ``activation_spectra``; ``layers`` is omitted and the network has no stages.
    """
    names = [stage.output for stage in model_stages(model)] if layers is None else layers
    image = first_image(data)
    frequency = ring_frequencies(*image.shape[-2:])
    if band is not None:
        fit_power_law(frequency, torch.ones_like(frequency), band=band)
    known = find_layouts(model, image, names, layout)
    large = [name for name in names[-1:] if min(known[name].shape[1:]) >= 8]
    spectra = activation_spectra(
        model,
        data.batches(batch_size),
        names,
        ring=ring,
        window=window,
        layout=layout,
        statistics=statistics,
        pooled=large,
        progress=progress,
    )
    images = {
        f"images{suffix}": image_spectrum(
            data, ring=ring, window=window, pool=pool, batch_size=batch_size, progress=progress
        )
        for suffix, pool in (("", 1), (POOLED, 2))
        if min(image.shape[-2:]) >= 4 * pool
    }
    return images | spectra


def stage_exponents(model: nn.Module, data: ImageData) -> dict[str, float | None]:
    """Exponent of each stage's output in the paper's convention; None as in ``fit_or_none``.

    |k| × ring-mean power over [1/8, 1/2) cycles/pixel, batch statistics, 500 images. Empty for a
    network without stages.
    """
    outputs = stage_outputs(model)
    exponents: dict[str, float | None] = dict.fromkeys(outputs)
    if not outputs:
        return exponents
    image = first_image(data)
    known = find_layouts(model, image, outputs, least=1)
    large = [name for name in outputs if min(known[name].shape[1:]) >= 4]
    if large:
        batches = data.subset(SPECTRUM_IMAGES).batches(100)
        spectra = activation_spectra(
            model, batches, large, ring="jacobian", statistics="batch", progress=False
        )
        for name, spectrum in spectra.items():
            fit = fit_or_none(spectrum)
            exponents[name] = fit.exponent if fit else None
    return exponents


def fit_or_none(spectrum: Spectrum, band: tuple[float, float] = BAND) -> PowerLaw | None:
    """The power law, or None if the band holds fewer than 3 rings, or one without power."""
    k = spectrum.frequency
    power = spectrum.power[(k >= band[0]) & (k < band[1]) & (k > 0)]
    if len(power) < 3 or (power == 0).any():
        return None
    return fit_power_law(k, spectrum.power, band=band)
