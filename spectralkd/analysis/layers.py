"""Layer summaries: spectrum, plane of frequencies, correlation and maps, in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from spectralkd.analysis.conventions import half_diagonal
from spectralkd.models.features import Batch, Statistics
from spectralkd.models.layout import Layouts, read_maps
from spectralkd.spectra.correlation import correlation_function
from spectralkd.spectra.power import RadialPowerSpectrum, Spectrum, Window, power_plane

SHOWN_MAPS = 12


class LayerView(NamedTuple):
    """A layer over a data set, averaged over channels and images.

    Attributes:
        spectrum: ring means; ``with_ring`` gives the paper's reduction.
        plane: (H, W) mean power of each frequency, zero frequency at [H//2, W//2].
        log_amplitude: (R,) Δ log amplitude of Park & Kim 2022 (arXiv 2202.06709): the mean of
            log(|F| + 1e-6) over images and channels at kx = ky >= 0, minus that at zero, F being
            the modes of the transform that is not normalized, as in their code.
        diagonal: (R,) the frequencies of ``log_amplitude``: |kx| = |ky| in units of the Nyquist
            frequency (their π).
        distance: (L,) pixels.
        correlation: (L,) C(r) of Eq. 2 in squared units of the map.
        maps: (M, H, W) the first channels of the first image, at most 12.
    """

    spectrum: Spectrum
    plane: Tensor
    log_amplitude: Tensor
    diagonal: Tensor
    distance: Tensor
    correlation: Tensor
    maps: Tensor


def layer_views(
    model: nn.Module,
    batches: Iterable[Batch],
    layers: Sequence[str],
    *,
    layout: Layouts = None,
    statistics: Statistics = "running",
    pool: int = 1,
    window: Window = "none",
    progress: bool = True,
    skipped: dict[str, str] | None = None,
) -> dict[str, LayerView]:
    """Measure layers in one pass.

    Args:
        model, batches, layers, layout, statistics, progress: as ``read_maps``. The images
            themselves are the layer ``""`` of ``torch.nn.Identity()``.
        pool: average-pool each map by this factor first.
        window: of the spectrum and the plane, as ``radial_power``.
        skipped: a layer whose maps cannot be measured is left out, and entered here with the
            reason; default: it raises.

    Raises:
        ValueError, TypeError: as ``activation_spectra``; a correlation is not finite.
    """
    seen = {layer: _Sums(pool, window) for layer in layers}
    for maps in read_maps(
        model, batches, layers, layout=layout, statistics=statistics, progress=progress
    ):
        for layer, sums in list(seen.items()):
            try:
                sums.add(maps[layer])
            except (TypeError, ValueError) as error:
                if skipped is None:
                    raise type(error)(f"layer {layer!r}: {error}") from error
                skipped[layer] = str(error)
                del seen[layer]
    return {layer: sums.view() for layer, sums in seen.items()}


class _Sums:
    def __init__(self, pool: int, window: Window) -> None:
        self.metric = RadialPowerSpectrum(pool=pool, window=window, sync_on_compute=False)
        self.pool, self.window, self.count = pool, window, 0

    def add(self, maps: Tensor) -> None:
        self.metric.update(maps)
        if self.pool > 1:
            maps = functional.avg_pool2d(maps, self.pool)
        planes = power_plane(maps, window=self.window)
        plane = planes.mean(1).sum(0).double().cpu()
        self.diagonal, power = half_diagonal(planes)
        amplitude = (power.double() * planes[0, 0].numel()).sqrt() + 1e-6
        log_amplitude = amplitude.log().mean(1).sum(0).cpu()
        self.distance, each = correlation_function(maps)
        correlation = each.mean(1).sum(0).double().cpu()
        if self.count == 0:
            self.plane = self.correlation = self.log_amplitude = plane.new_zeros(())
            self.maps = maps[0, :SHOWN_MAPS].clone().cpu()  # a view would keep the batch
        self.plane, self.correlation = self.plane + plane, self.correlation + correlation
        self.log_amplitude = self.log_amplitude + log_amplitude
        self.count += len(maps)

    def view(self) -> LayerView:
        return LayerView(
            self.metric.compute(),
            self.plane / self.count,
            (self.log_amplitude - self.log_amplitude[0]) / self.count,
            self.diagonal * 2**0.5,  # |k| is √2 kx, and Nyquist 1/2
            self.distance,
            self.correlation / self.count,
            self.maps,
        )
