"""How much of a map's power each downsampling layer folds onto lower frequencies."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from copy import copy
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spectralkd.models.features import Batch, Statistics, evaluation, images_of, model_device

_PIECE = 2**24  # numbers of dense maps held at a time


class Aliasing(NamedTuple):
    """A downsampling layer over a data set.

    Attributes:
        stride: (vertical, horizontal) pixels of its input for one of its output.
        share: of the power beyond the mean of its output before the sampling, the part beyond
            the Nyquist frequency of the sampled grid, on either axis: what is folded.
        size: (H, W) of its output.
    """

    stride: tuple[int, int]
    share: float
    size: tuple[int, int]


@torch.no_grad()
def aliasing(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    statistics: Statistics = "running",
    progress: bool = True,
) -> dict[str, Aliasing]:
    """The folded share of power at each layer that samples its own output, in one pass.

    A convolution or pooling of stride s is one of stride 1 of which every s-th pixel is kept. It
    is run again with stride 1 on the same input; frequencies beyond 1/(2 s) cycles/pixel of that
    dense map are folded by the sampling. White noise has a share of 1 - 1/s² in large maps; at
    s = 2, 0.72 in dense maps of 32×32 pixels and 0.62 of 8×8.

    Args:
        model: any module that takes one tensor. Its ``Conv2d``, ``MaxPool2d`` and ``AvgPool2d``
            of stride above 1 are measured. Layers that sample in other ways (slices, as Swin's
            merging of patches, or functions without a module) are not seen.
        batches, statistics, progress: as ``models.layout.read_maps``.

    Returns:
        By layer, in the order of the pass; empty for a network without such layers.

    Raises:
        ValueError: no image.
    """
    sums: dict[str, Tensor] = {}
    found: dict[str, Aliasing] = {}
    with ExitStack() as stack:
        stack.enter_context(evaluation(model, statistics))
        for name, module in model.named_modules():
            stride = _stride(module)
            if max(stride) > 1:
                hook = partial(_measure, sums, found, name, stride)
                stack.callback(module.register_forward_hook(hook).remove)
        for images in images_of(batches, "aliasing", progress):
            model(images.to(model_device(model)))
    return {
        name: layer._replace(share=float(sums[name][0] / sums[name][1]))
        for name, layer in found.items()
    }


def _stride(module: nn.Module) -> tuple[int, int]:
    if not isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        return 1, 1
    stride = module.stride
    return (stride, stride) if isinstance(stride, int) else (stride[0], stride[1])


def _measure(
    sums: dict[str, Tensor],
    found: dict[str, Aliasing],
    name: str,
    stride: tuple[int, int],
    module: nn.Module,
    args: tuple[Any, ...],
    output: Tensor,
) -> None:
    """A hook: add the folded and the whole power of a batch."""
    dense: Any = copy(module)  # shares the weights
    dense.stride = (1, 1)
    each = output[0].numel() * stride[0] * stride[1]
    total = torch.zeros(2, dtype=torch.float64)
    for piece in args[0].split(max(1, _PIECE // each)):
        total += _folded_and_whole(dense.forward(piece), stride).cpu()  # without its hooks
    sums[name] = sums.get(name, 0) + total
    found.setdefault(name, Aliasing(stride, float("nan"), (output.shape[-2], output.shape[-1])))


def _folded_and_whole(maps: Tensor, stride: tuple[int, int]) -> Tensor:
    """Power beyond the sampled grid's Nyquist frequency, and all beyond the mean, (2,)."""
    height, width = maps.shape[-2:]
    with torch.autocast(maps.device.type, enabled=False):
        modes = torch.fft.rfft2(maps.float() if maps.dtype != torch.float64 else maps)
    power = modes.abs().square().double().sum((0, 1))  # (H, W//2 + 1)
    power[:, 1 : (width + 1) // 2] *= 2  # k and -k
    power[0, 0] = 0
    ky = torch.fft.fftfreq(height, device=maps.device).abs()[:, None]
    kx = torch.fft.rfftfreq(width, device=maps.device)[None, :]
    beyond = (ky > 0.5 / stride[0]) | (kx > 0.5 / stride[1])
    return torch.stack([power[beyond].sum(), power.sum()])
