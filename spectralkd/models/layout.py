"""Which axes of a layer's output are channels and pixels, and its maps (N, C, H, W).

What is known of a network comes from one pass of two images:

- layers whose type fixes the axes: convolutions, poolings and norms named ``…2d`` put channels
  second, linear layers and layer norms put them last;
- the sizes of maps that those layers show, as far as they have the images' aspect ratio;
- the numbers of class and register tokens, which come before those of the grid.

Any other layer takes the only layout that makes its output a map of a known size; in a network
without linear layers or layer norms on maps, channels are second. Where two layouts do (a map with
as many channels as pixels in a row), nothing is guessed: the caller chooses.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.pooling import (
    _AdaptiveAvgPoolNd,
    _AdaptiveMaxPoolNd,
    _AvgPoolNd,
    _MaxPoolNd,
)

from spectralkd.checks import check_choice
from spectralkd.models.features import (
    Batch,
    Statistics,
    check_layers,
    evaluation,
    first_tensor,
    images_of,
    model_device,
    record,
)

Layout = Literal["nchw", "nhwc", "tokens"]
Layouts = Layout | Mapping[str, Layout] | None

_CHANNELS_SECOND = (
    _ConvNd,
    _BatchNorm,
    _MaxPoolNd,
    _AvgPoolNd,
    _AdaptiveAvgPoolNd,
    _AdaptiveMaxPoolNd,
    nn.GroupNorm,
    nn.Upsample,
    nn.PixelShuffle,
    nn.LocalResponseNorm,
)
_CHANNELS_LAST = (nn.Linear, nn.LayerNorm)
# Parameters (1, k, C) that hold tokens which are no part of the image, under the names in use.
_EXTRA_TOKENS = ("class_token", "cls_token", "dist_token", "reg_token", "register_tokens")


class MapLayer(NamedTuple):
    """A layer's output as maps.

    Attributes:
        layout: ``"nchw"``, ``"nhwc"``, or ``"tokens"`` (N, T, C).
        channels, height, width: of its maps.
        stride: image pixels for one of its pixels, along the height.
        skipped: class and register tokens before those of the grid.
    """

    layout: Layout
    channels: int
    height: int
    width: int
    stride: float
    skipped: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.height, self.width

    def maps(self, output: Tensor) -> Tensor:
        """The layer's output as a view (N, C, H, W).

        Raises:
            ValueError: tokens that do not fill the grid.
        """
        if self.layout == "nchw":
            return output
        if self.layout == "nhwc":
            return output.movedim(-1, 1)
        grid = output[:, self.skipped :]
        if grid.shape[1] != self.height * self.width:
            raise ValueError(
                f"expected {self.skipped} + {self.height}×{self.width} tokens, "
                f"got {output.shape[1]}"
            )
        return grid.transpose(1, 2).unflatten(2, (self.height, self.width))


def map_layers(model: nn.Module, images: Tensor) -> dict[str, MapLayer]:
    """Every layer whose output is maps of a known layout, in the order of their first end.

    Args:
        model: any module that takes one tensor.
        images: (N, C, H, W); the first two are passed through once.

    Returns:
        By layer, for maps of at least 4×4 pixels. Layers of ambiguous layout are left out;
        ``find_layouts`` says of each why.
    """
    seen = _Pass(model, images)
    found = {}
    for layer in seen.outputs:
        known = seen.candidates(layer)
        if not layer.endswith(":input") and len(known) == 1:
            found[layer] = known[0]
    return found


def find_layouts(
    model: nn.Module,
    images: Tensor,
    layers: Sequence[str],
    layout: Layouts = None,
    *,
    least: int = 4,
) -> dict[str, MapLayer]:
    """How the outputs of layers become maps.

    Args:
        model: any module that takes one tensor.
        images: (N, C, H, W); the first two are passed through once.
        layers: names as in ``models.features``.
        layout: of all layers, or of some by name; default: found out, see above.
        least: pixels of the shorter side of a map.

    Raises:
        ValueError: images that the network does not take; an unknown layer (with the nearest
            names) or one that did not run; an output that is no map of such a size, or one of
            several possible layouts (with the choices).
    """
    check_layers(model, layers)
    seen = _Pass(model, images, least)
    return {layer: seen.choose(layer, layout) for layer in layers}


def read_maps(
    model: nn.Module,
    batches: Iterable[Batch],
    layers: Sequence[str],
    *,
    layout: Layouts = None,
    statistics: Statistics = "running",
    progress: bool = True,
) -> Iterator[dict[str, Tensor]]:
    """Run a data set through a network and yield each batch's maps (N, C, H, W) by layer.

    Args:
        model: any module that takes one tensor; runs where its parameters are, without autograd.
        batches: of tensors, or of tuples whose first entry is the tensor.
        layers: names as explained in ``models.features``.
        layout: as ``find_layouts``.
        statistics: as ``evaluation``.
        progress: show a progress bar.

    Raises:
        ValueError, TypeError: as ``find_layouts``; unknown layers before a batch is read; no image.
    """
    check_layers(model, layers)
    device, known = model_device(model), None
    for images in images_of(batches, "activations", progress):
        known = known or find_layouts(model, images, layers, layout)
        with evaluation(model, statistics), record(model, layers) as outputs, torch.no_grad():
            model(images.to(device, non_blocking=True))
        yield {layer: known[layer].maps(outputs[layer]) for layer in layers}


class _Output(NamedTuple):
    shape: torch.Size
    axes: Literal["second", "last"] | None  # where the layer's type says that channels are
    inside_attention: bool


class _Pass:
    """What one pass of two images shows of a network's outputs."""

    def __init__(self, model: nn.Module, images: Tensor, least: int = 4) -> None:
        self.least = least
        pair = images[:2] if len(images) > 1 else images[:1].repeat(2, 1, 1, 1)
        self.height, self.width = images.shape[-2:]
        self.outputs: dict[str, _Output] = {}
        self.extra_tokens = _extra_tokens(model)
        within = {
            f"{layer}."
            for layer, module in model.named_modules()
            if "Attention" in type(module).__name__
        }
        with ExitStack() as stack, torch.no_grad():
            stack.enter_context(evaluation(model))
            for layer, module in model.named_modules():
                inside = any(layer.startswith(prefix) for prefix in within)
                hook = partial(self._note, layer, inside)
                stack.callback(module.register_forward_hook(hook).remove)
            try:
                model(pair.to(model_device(model)))
            except Exception as error:
                raise ValueError(
                    f"images: expected the (3, H, W) that {type(model).__name__} takes, got "
                    f"{tuple(images.shape[1:])}: {error}"
                ) from error
        shown = [self._shown(output) for output in self.outputs.values()]
        self.sizes = {size for size in shown if size and self._fits(*size)}
        self.sizes.add((self.height, self.width))
        self.convolutional = not any(
            o.axes == "last" and len(o.shape) > 2 for o in self.outputs.values()
        )
        self.mixed = any(
            o.axes == "last" and len(o.shape) == 4 and o.shape[1:3] in self.sizes
            for o in self.outputs.values()
        )

    def _note(
        self, layer: str, inside: bool, module: nn.Module, args: tuple[Any, ...], output: object
    ) -> None:
        axes: Literal["second", "last"] | None = None
        if isinstance(module, _CHANNELS_SECOND) or type(module).__name__.endswith("2d"):
            axes = "second"
        elif isinstance(module, _CHANNELS_LAST):
            axes = "last"
        for name, value in ((layer, output), (f"{layer}:input", args[0] if args else None)):
            value = first_tensor(value)
            if value is not None:
                self.outputs[name] = _Output(value.shape, axes, inside)

    def _fits(self, height: int, width: int) -> bool:
        """Whether maps of this size can have the images' aspect ratio."""
        difference = abs(self.height * width - self.width * height)
        return min(height, width) > 0 and difference < max(self.height, self.width)

    def _shown(self, output: _Output) -> tuple[int, int] | None:
        """The size of maps that a layer shows by its type."""
        if len(output.shape) != 4 or output.shape[0] != 2 or output.axes is None:
            return None
        if output.axes == "second":
            return output.shape[2], output.shape[3]
        return None if output.inside_attention else (output.shape[1], output.shape[2])

    def candidates(self, layer: str) -> list[MapLayer]:
        """The layouts in which a layer's output is maps of a known size."""
        shape, axes, inside_attention = self.outputs[layer]
        found: list[MapLayer] = []
        if shape[0] != 2:
            return found  # windows of one image, for example
        if len(shape) == 3 and axes != "second" and shape[1] != shape[2]:
            for height, width in self.sizes:
                for skipped in {0, self.extra_tokens}:
                    if height * width + skipped == shape[1]:
                        found.append(self._layer("tokens", shape[2], height, width, skipped))
        elif len(shape) == 4 and (axes == "second" or not inside_attention):
            size = shape[2], shape[3]
            known = size in self.sizes or (self.convolutional and self._fits(*size))
            if axes != "last" and known:
                found.append(self._layer("nchw", shape[1], *size))
            size = shape[1], shape[2]
            if axes != "second" and self.mixed and size in self.sizes:
                found.append(self._layer("nhwc", shape[3], *size))
        return [each for each in found if min(each.height, each.width) >= self.least]

    def choose(self, layer: str, layout: Layouts) -> MapLayer:
        """The layout of a layer, as asked for or as found out."""
        if layer not in self.outputs:
            raise ValueError(f"layers: {layer} gave no tensor in a pass of the model")
        shape = tuple(self.outputs[layer].shape)
        wanted = layout.get(layer) if isinstance(layout, Mapping) else layout
        if wanted is None:
            found = self.candidates(layer)
            choices = ", ".join(map(repr, get_args(Layout)))
            why = "several layouts fit" if found else "none is known to fit"
            if len(shape) in (3, 4):
                why += f"; layout={{{layer!r}: …}} chooses one of {choices}"
        else:
            check_choice("layout", wanted, Layout)
            found, why = self._asked(shape, wanted), f"not {wanted!r}"
        if len(found) == 1:
            return found[0]
        raise ValueError(
            f"layer {layer!r}: expected maps of at least {self.least}×{self.least} pixels, got "
            f"{shape} for 2 images of {self.height}×{self.width} pixels: {why}"
        )

    def _asked(self, shape: tuple[int, ...], layout: Layout) -> list[MapLayer]:
        found: list[MapLayer] = []
        if layout == "nchw" and len(shape) == 4:
            found = [self._layer(layout, shape[1], shape[2], shape[3])]
        elif layout == "nhwc" and len(shape) == 4:
            found = [self._layer(layout, shape[3], shape[1], shape[2])]
        elif layout == "tokens" and len(shape) == 3:
            for skipped in sorted({0, self.extra_tokens}, reverse=True):
                grid = shape[1] - skipped
                height = max(1, round(math.sqrt(max(grid, 0) * self.height / self.width)))
                if grid % height == 0 and self._fits(height, grid // height):
                    found.append(self._layer(layout, shape[2], height, grid // height, skipped))
        return [each for each in found[:1] if min(each.height, each.width) >= self.least]

    def _layer(
        self, layout: Layout, channels: int, height: int, width: int, skipped: int = 0
    ) -> MapLayer:
        return MapLayer(layout, channels, height, width, self.height / height, skipped)


def _extra_tokens(model: nn.Module) -> int:
    """Class and register tokens, by the network's own word or by its parameters' names."""
    known = getattr(model, "num_prefix_tokens", None)
    if isinstance(known, int):
        return known
    return sum(
        parameter.shape[1]
        for name, parameter in model.named_parameters()
        if name.rpartition(".")[2] in _EXTRA_TOKENS and parameter.ndim == 3
    )
