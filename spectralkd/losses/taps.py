"""The layers of two networks that a method compares: their maps, sizes and margins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from spectralkd.checks import check_choice, nearest
from spectralkd.losses.base import StageMap
from spectralkd.losses.overhaul import margin
from spectralkd.models import model_stages
from spectralkd.models.features import evaluation, record
from spectralkd.models.layout import Layouts, MapLayer, find_layouts

Resize = Literal["pool", "bilinear"]
Pairs = Sequence[tuple[str, str]]


class Reads(NamedTuple):
    """Layers of one network, and how their outputs become what a method gets.

    Attributes:
        layers: named as in ``models.features``.
        found: layout and size of each.
        sizes: (H, W) of each as the method gets it.
        resize: how a larger map comes to that size.
    """

    layers: tuple[str, ...] = ()
    found: tuple[MapLayer, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    resize: Resize | None = None

    @property
    def shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(C, H, W) of each layer's maps as the method gets them."""
        return tuple((f.channels, *size) for f, size in zip(self.found, self.sizes, strict=True))

    def maps(self, outputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """(N, C, H, W) of each layer, from the outputs of a ``FeatureReader``.

        Raises:
            ValueError: maps of another size than those that were found.
        """
        read = []
        for layer, f, size in zip(self.layers, self.found, self.sizes, strict=True):
            maps = f.maps(outputs[layer])
            if maps.shape[-2:] != (f.height, f.width):
                raise ValueError(
                    f"images: expected those that the Distiller was made for, with maps of "
                    f"{f.height}×{f.width} pixels at {layer}, got {maps.shape[-2]}×{maps.shape[-1]}"
                    "; make it with image_shape= or images= of this size"
                )
            read.append(_resized(maps, size, self.resize))
        return tuple(read)


def paired_layers(
    networks: Sequence[nn.Module], reads: StageMap | None, layers: Pairs | None
) -> list[tuple[str, ...]]:
    """The layers that are read of each network, (teacher's and) student's.

    Args:
        networks: (teacher and) student.
        reads: which map of each stage, if ``layers`` is omitted; None for no layers at all.
        layers: pairs of names.

    Raises:
        TypeError: ``layers`` is omitted and a network has no stage table.
        ValueError: no such map; the networks have different numbers of stages; ``layers`` is
            empty or not of pairs.
    """
    if reads is None:
        return [() for _ in networks]
    check_choice("reads", reads, StageMap)
    if layers is None:
        found = [tuple(getattr(s, reads) for s in model_stages(network)) for network in networks]
        if len(found[0]) != len(found[-1]):
            raise ValueError(
                f"student: expected {len(found[0])} stages as the teacher, got {len(found[-1])}"
            )
        return found
    if not layers or any(isinstance(pair, str) or len(pair) != 2 for pair in layers):
        raise ValueError(
            f"layers: expected pairs of a teacher's and a student's layer, got {layers!r}"
        )
    teacher_and_student = list(zip(*layers, strict=True))
    return teacher_and_student[-len(networks) :]


def read_layers(
    networks: Sequence[nn.Module],
    layers: Sequence[tuple[str, ...]],
    images: Tensor,
    *,
    layout: Layouts = None,
    resize: Resize | None = None,
) -> list[Reads]:
    """Layouts and sizes of the layers, found by passing images through the networks.

    Raises:
        ValueError: a network does not take such images; a layer that does not exist, does not
            run or does not give maps; maps of a stage that differ in size without ``resize``.
    """
    if resize is not None:
        check_choice("resize", resize, Resize)
    found = []
    for network, names in zip(networks, layers, strict=True):
        like = next(network.parameters(), images)
        known = find_layouts(network, images.to(like.dtype), names, layout, least=1)
        found.append([known[name] for name in names])
    common = []
    for number, stage in enumerate(zip(*found, strict=True)):
        sizes = [(each.height, each.width) for each in stage]
        if len(set(sizes)) > 1 and resize is None:
            shown = [
                f"{h}×{w} at {side[number]}" for (h, w), side in zip(sizes, layers, strict=True)
            ]
            raise ValueError(
                f"resize: stage {number + 1} has maps of {' and '.join(shown)}; expected one of "
                f"{', '.join(map(repr, get_args(Resize)))} to bring them to one size, got None"
            )
        common.append(min(sizes))
    return [
        Reads(names, tuple(own), tuple(common), resize)
        for names, own in zip(layers, found, strict=True)
    ]


def margins(model: nn.Module, reads: Reads, images: Tensor | None) -> tuple[Tensor, ...]:
    """(C,) margins of a teacher's maps, the mean of a channel's negative values.

    They follow from the batch norm that a stage names, or that the layer is. Without one they
    are measured over ``images``.

    Raises:
        TypeError: a stage names a norm that is no batch norm of its map.
        ValueError: there is no batch norm, and no images.
    """
    norms = [
        _norm_of(model, layer, found.channels)
        for layer, found in zip(reads.layers, reads.found, strict=True)
    ]
    without = [layer for layer, norm in zip(reads.layers, norms, strict=True) if norm is None]
    measured = {}
    if without:
        if images is None:
            raise ValueError(
                f"images: {', '.join(without)} of the teacher are no batch norms and have none in "
                f"a stage table, so the margins are measured: expected a batch of images (some "
                f"hundreds), got None"
            )
        measured = _measured_margins(model, reads, images)
    return tuple(
        measured[layer] if norm is None else margin(norm.weight.detach(), norm.bias.detach())
        for layer, norm in zip(reads.layers, norms, strict=True)
    )


def _norm_of(model: nn.Module, layer: str, channels: int) -> nn.BatchNorm2d | None:
    modules = dict(model.named_modules())
    table = getattr(model, "stage_table", ())
    named = next((stage.norm for stage in table if stage.pre_relu == layer), None)
    norm = modules.get(named or layer)
    if isinstance(norm, nn.BatchNorm2d) and norm.num_features == channels:
        return norm
    if named is None:
        return None
    known = [name for name, module in modules.items() if isinstance(module, nn.BatchNorm2d)]
    raise TypeError(
        f"stage_table: expected a BatchNorm2d of {channels} channels as the norm of {layer}, "
        f"such as {nearest(named, known) or 'none'}; got {named!r}"
    )


def _measured_margins(model: nn.Module, reads: Reads, images: Tensor) -> dict[str, Tensor]:
    like = next(model.parameters())
    total = {
        layer: torch.zeros(2, f.channels, dtype=torch.float64)
        for layer, f in zip(reads.layers, reads.found, strict=True)
    }
    for part in images.split(50):
        with evaluation(model), record(model, reads.layers) as outputs, torch.no_grad():
            model(part.to(like))
        for layer, f in zip(reads.layers, reads.found, strict=True):
            maps = f.maps(outputs[layer]).double().cpu()
            rest = maps < 0
            total[layer] += torch.stack([(maps * rest).sum((0, 2, 3)), rest.sum((0, 2, 3))])
    # A channel that is never negative has no margin: its map is above 0 anyway.
    return {layer: (t[0] / t[1].clamp_min(1)).to(like) for layer, t in total.items()}


def _resized(maps: Tensor, size: tuple[int, int], how: Resize | None) -> Tensor:
    if maps.shape[-2:] == size:
        return maps
    if how == "pool":
        return functional.adaptive_avg_pool2d(maps, size)
    return functional.interpolate(maps, size, mode="bilinear", antialias=True)
