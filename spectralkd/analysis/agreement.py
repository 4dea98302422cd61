"""At which scales a student's maps agree with its teacher's, up to a mixing of channels.

The ring correlation of Eq. 8 compares maps in pairs, but teacher and student differ in number and
order of channels. Here the student's channels are first mapped to the teacher's by the
least-squares 1×1 convolution, the connector. It is found in closed form from the cross power of
all channels at each ring, in one pass and constant memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spectralkd.checks import check_choice
from spectralkd.losses.base import StageMap
from spectralkd.losses.taps import Resize, paired_layers, read_layers
from spectralkd.models import stage_outputs
from spectralkd.models.features import (
    Batch,
    Statistics,
    evaluation,
    images_of,
    model_device,
    record,
)
from spectralkd.models.layout import Layouts
from spectralkd.spectra.rings import cached_rings, ring_frequencies, ring_modes


class StageAgreement(NamedTuple):
    """Agreement of one stage at each ring; R = (min(H, W) + 1)//2, DC first.

    Attributes:
        frequency: (R,) mean |k|, cycles/pixel.
        correlation: (R,) ring correlation of the teacher's maps with the connected student's:
            Re⟨T conj S⟩ / sqrt(⟨|T|²⟩⟨|S|²⟩) with ⟨·⟩ over the ring and all images, averaged over
            the teacher's channels.
        ceiling: (R,) the same if each ring had its own connector: an upper bound for every
            single connector. Where it is below 1, no 1×1 convolution can make up for what the
            student's maps lack, or have in other places: a shift lowers it too. It is nearly 1 in
            any case where a ring's modes, times images, are few compared with the student's
            channels.
        power: (R,) the teacher's ring-mean power, averaged over channels, in squared units of
            its map.
    """

    frequency: Tensor
    correlation: Tensor
    ceiling: Tensor
    power: Tensor


def stage_agreement(
    teacher: nn.Module,
    student: nn.Module,
    batches: Iterable[Batch],
    *,
    layers: Sequence[tuple[str, str]] | None = None,
    reads: StageMap = "pre_relu",
    layout: Layouts = None,
    resize: Resize | None = None,
    statistics: Statistics = "running",
    progress: bool = True,
) -> dict[str, StageAgreement]:
    """Compare two networks stage by stage over a data set.

    Args:
        teacher, student: any modules that take one tensor.
        batches: of tensors, or of tuples whose first entry is the tensor.
        layers: pairs of the teacher's and the student's layer; default: those of the networks'
            stages that ``reads`` selects.
        reads: which map of a stage, if ``layers`` is omitted: ``"pre_relu"``, the one that is
            distilled, or ``"output"``.
        layout, resize: as ``Distiller``.
        statistics: as ``features.evaluation``.
        progress: show a progress bar.

    Returns:
        By the teacher's layer, or by its stage's output if ``layers`` is omitted. The connector
        is fitted over all rings but DC, which the bias of a batch norm would match.

    Raises:
        TypeError: ``layers`` is omitted and a network has no stages.
        ValueError: an unknown layer, ``reads``, ``resize`` or ``statistics``; an empty data set;
            the numbers of stages differ; a layer gives no maps, or maps below 4×4 pixels.
    """
    check_choice("reads", reads, StageMap)
    pairs = paired_layers((teacher, student), reads, layers)
    names = stage_outputs(teacher) if layers is None else pairs[0]
    sums, read = [_CrossPower() for _ in names], None
    with (
        evaluation(teacher, statistics),
        evaluation(student, statistics),
        record(teacher, pairs[0]) as teacher_maps,
        record(student, pairs[1]) as student_maps,
        torch.no_grad(),
    ):
        for images in images_of(batches, "agreement", progress):
            read = read or read_layers(
                (teacher, student), pairs, images, layout=layout, resize=resize
            )
            for model in (teacher, student):
                model(images.to(model_device(model), non_blocking=True))
            maps = zip(read[0].maps(teacher_maps), read[1].maps(student_maps), strict=True)
            for name, (t, s), stage in zip(names, maps, sums, strict=True):
                try:
                    stage.add(t, s)
                except ValueError as error:
                    raise ValueError(f"layer {name!r}: {error}") from error
    return {name: stage.agreement() for name, stage in zip(names, sums, strict=True)}


class _CrossPower:
    """Cross power of all channels at each ring, summed over images."""

    images = 0

    def add(self, teacher: Tensor, student: Tensor) -> None:
        if self.images == 0:
            self.size = height, width = teacher.shape[-2:]
            self.rings = cached_rings(height, width, torch.float32, teacher.device)
            self.tt = self.ts = self.ss = torch.zeros((), dtype=torch.float64)
        ft, fs = (
            self.rings.transform(maps.float().flatten(0, 1)).unflatten(0, maps.shape[:2])
            for maps in (teacher, student)
        )
        power = self.rings.mean(ft.flatten(0, 1).square()).unflatten(0, teacher.shape[:2])
        self.tt = self.tt + power.sum(0).T.double().cpu()
        self.ts = self.ts + self.rings.cross_power(ft, fs).double().cpu()
        self.ss = self.ss + self.rings.cross_power(fs, fs).double().cpu()
        self.images += len(teacher)

    def agreement(self) -> StageAgreement:
        ts, ss, tt = (power / self.images for power in (self.ts, self.ss, self.tt))
        modes = ring_modes(*self.size)[1:, None, None]
        connector = _least_squares((modes * ss[1:]).sum(0), (modes * ts[1:]).sum(0))
        cross = (ts * connector).sum(-1)
        own = ((connector @ ss) * connector).sum(-1)
        ceiling = torch.stack(
            [(t * _least_squares(s, t)).sum(-1) for s, t in zip(ss, ts, strict=True)]
        )
        floor = 1e-12 * tt.max()
        correlation = cross / (own.clamp_min(floor) * tt.clamp_min(floor)).sqrt()
        share = (ceiling / tt.clamp_min(floor)).clamp(0, 1)
        return StageAgreement(
            ring_frequencies(*self.size), correlation.mean(1), share.sqrt().mean(1), tt.mean(1)
        )


def _least_squares(ss: Tensor, ts: Tensor) -> Tensor:
    """The (D, C) matrix W that makes W S closest to T, where ⟨S Sᵀ⟩ = ss and ⟨T Sᵀ⟩ = ts."""
    # Dead or equal channels make ss singular: the pseudo-inverse leaves them out.
    return ts @ torch.linalg.pinv(ss, rtol=1e-7, hermitian=True)
