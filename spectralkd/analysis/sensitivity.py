"""What a network loses when one frequency of its input, or one ring of a layer, is disturbed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from spectralkd.checks import check_choice, check_size
from spectralkd.data.images import ImageData, first_image, normalized
from spectralkd.models.features import Statistics, altered, evaluation, model_device
from spectralkd.models.layout import Layout, MapLayer, find_layouts
from spectralkd.spectra.rings import at_least_float32, cached_rings, ring_frequencies

Reference = Literal["labels", "clean"]


class FourierSensitivity(NamedTuple):
    """Errors under noise of single frequencies: V of them vertically, H horizontally.

    Attributes:
        vertical, horizontal: (V,) and (H,) cycles/pixel, zero in the middle.
        error: (V, H) percent of images, rows vertical. A real image holds k and -k
            alike, so the map is symmetric about its center.
        loss: (V, H) cross-entropy in nats.
        clean_error, clean_loss: without noise.
        amplitude: root mean square of the noise, of pixels in [0, 1].
    """

    vertical: Tensor
    horizontal: Tensor
    error: Tensor
    loss: Tensor
    clean_error: float
    clean_loss: float
    amplitude: float


class RingScrambling(NamedTuple):
    """Errors where the phases of one ring of a layer's maps are random; R - 1 rings.

    Attributes:
        layer: its name.
        frequency: (R - 1,) mean |k| of each ring beyond zero, in cycles per pixel of the map.
        error: (R - 1,) percent of images.
        stderr: (R - 1,) standard error of ``error - clean_error`` over images, in points; both
            are of the same images.
        loss: (R - 1,) cross-entropy in nats.
        joint_error, joint_stderr, joint_loss: the same where the phases of all these rings are
            random at once.
        clean_error, clean_loss: of the undisturbed network.
    """

    layer: str
    frequency: Tensor
    error: Tensor
    stderr: Tensor
    loss: Tensor
    joint_error: float
    joint_stderr: float
    joint_loss: float
    clean_error: float
    clean_loss: float


@torch.no_grad()
def fourier_sensitivity(
    model: nn.Module,
    data: ImageData,
    *,
    amplitude: float = 0.125,
    frequencies: int = 15,
    reference: Reference = "labels",
    batch_size: int = 250,
    seed: int = 0,
    progress: bool = True,
) -> FourierSensitivity:
    """The heat map of Yin et al. 2019 (arXiv 1906.08988): errors under noise of one frequency.

    The noise, a cosine with a random sign for each channel and image, is added to the image in
    [0, 1] before its normalization. It is not clipped, which would spread it over other
    frequencies.

    Args:
        model: a classifier.
        data: as ``load_data`` returns it.
        amplitude: root mean square of the noise, of pixels in [0, 1]. Yin et al. give the
            Euclidean norm instead: 4 at 32×32 pixels (0.125), 15.7 at 224×224 (0.070).
        frequencies: how many beyond zero along each axis, evenly spaced (but whole cycles per
            image) up to the last below Nyquist; as many as there are, if there are fewer.
        reference: what an answer is compared with: the ``"labels"``, or the network's own
            answer to the ``"clean"`` image, which needs no labels.
        batch_size: images at a time; memory does not grow with their number.
        seed: of the signs.
        progress: show a progress bar.

    Raises:
        ValueError: an unknown reference, an amplitude that is not positive, fewer than one
            frequency, images below 4 pixels, no image.
    """
    check_choice("reference", reference, Reference)
    if not amplitude > 0:
        raise ValueError(f"amplitude: expected a positive number, got {amplitude}")
    if frequencies < 1:
        raise ValueError(f"frequencies: expected at least 1, got {frequencies}")
    image = first_image(data)
    height, width = image.shape[-2:]
    check_size(height, width)
    rows, columns = (_spaced(size, frequencies) for size in (height, width))
    # k and -k are one: the rows from zero on, of which the first needs columns from zero on.
    wanted = [(i, j) for i in rows[len(rows) // 2 :] for j in columns if i > 0 or j >= 0]
    device = model_device(model)
    score = _Scores(len(wanted))
    signs = torch.Generator().manual_seed(seed)
    pixels = torch.arange(height)[:, None] / height, torch.arange(width)[None, :] / width
    with evaluation(model):
        for images, labels, bar in _batches(data, batch_size, len(wanted), progress):
            clean = model(_inputs(images, data, device))
            targets = labels.to(device) if reference == "labels" else clean.argmax(1)
            score.clean(clean, targets)
            for number, (i, j) in enumerate(wanted):
                wave = torch.cos(2 * torch.pi * (i * pixels[0] + j * pixels[1]))
                wave *= amplitude / wave.square().mean().sqrt()
                sign = torch.randint(0, 2, (*images.shape[:2], 1, 1), generator=signs) * 2 - 1
                noisy = _inputs(images + (sign * wave).to(images), data, device)
                score.add(number, model(noisy), targets)
                bar.update()
    error, loss = (
        _mirrored(values, wanted, rows, columns) for values in (score.error(), score.loss())
    )
    return FourierSensitivity(
        torch.tensor(rows, dtype=torch.float64) / height,
        torch.tensor(columns, dtype=torch.float64) / width,
        error,
        loss,
        *score.clean_values(),
        amplitude,
    )


@torch.no_grad()
def ring_scrambling(
    model: nn.Module,
    data: ImageData,
    layer: str,
    *,
    layout: Layout | None = None,
    reference: Reference = "labels",
    statistics: Statistics = "running",
    batch_size: int = 250,
    seed: int = 0,
    progress: bool = True,
) -> RingScrambling:
    """Which rings of a layer's maps the rest of the network relies on.

    For one complete ring after the other, and then for all of them at once, the phases of their
    modes are drawn at random in every map. Each mode keeps its power, so the power spectrum of
    every map stays what it was to the last mode: only where things are changes, and only at that
    scale.

    Args:
        model: a classifier.
        data: as ``load_data`` returns it.
        layer: whose output (or input, ``path:input``) is disturbed; see ``models.features``.
        layout: of that layer; default: found out, see ``models.layout``.
        reference, batch_size, progress: as ``fourier_sensitivity``.
        statistics: as ``models.features.evaluation``.
        seed: of the phases.

    Raises:
        ValueError: an unknown layer or reference, a layer without maps, no image.
    """
    check_choice("reference", reference, Reference)
    image = first_image(data)
    maps = find_layouts(model, image, [layer], layout)[layer]
    device = model_device(model)
    frequency = ring_frequencies(maps.height, maps.width)[1:]
    rings = [*range(1, len(frequency) + 1), None]
    score = _Scores(len(rings))
    phases, joint = (torch.Generator(device).manual_seed(seed + n) for n in (0, 1))
    with evaluation(model, statistics):
        for images, labels, bar in _batches(data, batch_size, len(rings), progress):
            inputs = _inputs(images, data, device)
            clean = model(inputs)
            targets = labels.to(device) if reference == "labels" else clean.argmax(1)
            score.clean(clean, targets)
            for number, ring in enumerate(rings):
                change = partial(_scrambled, maps, ring, phases if ring else joint)
                with altered(model, [layer], change):
                    score.add(number, model(inputs), targets)
                bar.update()
    error, stderr, loss = score.error(), score.stderr(), score.loss()
    return RingScrambling(
        layer,
        frequency,
        *(error[:-1], stderr[:-1], loss[:-1]),
        *(float(error[-1]), float(stderr[-1]), float(loss[-1])),
        *score.clean_values(),
    )


def scramble_ring(x: Tensor, ring: int | None, generator: torch.Generator | None = None) -> Tensor:
    """Maps with random phases in one ring; all powers and all other modes are kept.

    Args:
        x: (..., H, W) real floating-point maps.
        ring: its number, see ``spectra.rings``; None for all complete rings beyond zero.
        generator: of the phases, on the device of ``x``.

    Returns:
        As ``x``. The phases are those of white noise, so that the result is real.
    """
    height, width = x.shape[-2:]
    maps = at_least_float32(x)
    rings = cached_rings(height, width, maps.dtype, x.device)
    number = rings.index[::2].view(height, -1)
    inside = number == ring if ring is not None else (number > 0) & (number < rings.count)
    with torch.autocast(x.device.type, enabled=False):
        noise = torch.randn(x.shape, dtype=maps.dtype, device=x.device, generator=generator)
        turn = torch.fft.rfft2(noise)
        modes = torch.fft.rfft2(maps)
        # Self-conjugate modes get a sign from noise too: theirs is real.
        modes = torch.where(inside, modes.abs() * turn / turn.abs(), modes)
        return torch.fft.irfft2(modes, s=(height, width)).to(x)


def _scrambled(
    maps: MapLayer, ring: int | None, phases: torch.Generator, _: str, value: Tensor
) -> Tensor:
    """A layer's value whose maps have random phases in one ring, or in all."""
    changed = value.clone()
    view = maps.maps(changed)
    view.copy_(scramble_ring(view, ring, phases))
    return changed


class _Scores:
    """Errors, losses and answers unlike the clean ones of disturbances, summed over images."""

    def __init__(self, count: int) -> None:
        self.sums = torch.zeros(count + 1, 3, dtype=torch.float64)
        self.images = 0

    def add(self, number: int, logits: Tensor, targets: Tensor) -> None:
        wrong = logits.argmax(1) != targets
        self.sums[number, 0] += wrong.sum().cpu()
        self.sums[number, 1] += functional.cross_entropy(
            logits.float(), targets, reduction="sum"
        ).cpu()
        self.sums[number, 2] += (wrong != self.clean_wrong).sum().cpu()

    def clean(self, logits: Tensor, targets: Tensor) -> None:
        self.clean_wrong = logits.argmax(1) != targets
        self.add(-1, logits, targets)
        self.images += len(logits)

    def error(self) -> Tensor:
        return 100 * self.sums[:-1, 0] / self.images

    def loss(self) -> Tensor:
        return self.sums[:-1, 1] / self.images

    def stderr(self) -> Tensor:
        """Of each error less the clean one, a mean of -1, 0 and 1 over images; in points."""
        mean = (self.sums[:-1, 0] - self.sums[-1, 0]) / self.images
        variance = self.sums[:-1, 2] / self.images - mean.square()
        return 100 * (variance.clamp_min(0) / max(1, self.images - 1)).sqrt()

    def clean_values(self) -> tuple[float, float]:
        error, loss = (self.sums[-1, :2] / self.images).tolist()
        return 100 * error, loss


def _batches(
    data: ImageData, size: int, count: int, progress: bool
) -> Iterator[tuple[Tensor, Tensor, Any]]:
    """Batches of images in [0, 1] and labels, with a bar that counts ``count`` passes of each."""
    batches = data.batches(size, normalize=False)
    bar = tqdm(total=len(batches) * count, unit="pass", disable=not progress, leave=False)
    with bar:
        for images, labels in batches:
            yield images, labels, bar


def _inputs(images: Tensor, data: ImageData, device: torch.device) -> Tensor:
    """Images as the network takes them, in the layout in which convolutions are fastest."""
    return normalized(images, data).to(device, memory_format=torch.channels_last)


def _spaced(size: int, count: int) -> list[int]:
    """Cycles per image, evenly spaced about zero, all below the Nyquist frequency."""
    highest = (size - 1) // 2
    count = min(count, highest)
    positive = [round(highest * number / count) for number in range(1, count + 1)]
    return [*(-i for i in reversed(positive)), 0, *positive]


def _mirrored(
    values: Tensor, wanted: list[tuple[int, int]], rows: list[int], columns: list[int]
) -> Tensor:
    """The whole plane from the half of it that was measured."""
    plane = torch.full((len(rows), len(columns)), torch.nan, dtype=torch.float64)
    for value, (i, j) in zip(values, wanted, strict=True):
        plane[rows.index(i), columns.index(j)] = value
        plane[rows.index(-i), columns.index(-j)] = value
    return plane
