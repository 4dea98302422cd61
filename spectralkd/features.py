"""Activations of named layers of any ``nn.Module``, read without editing it, and their spectra.

A layer is named by its path in ``model.named_modules()``. The name alone means what the layer
puts out; ``path:input`` means what goes into it, such as the residual sum that enters
``layer1.2.relu``; an empty path is the model itself. Where a layer runs several times in one
pass, its last run counts.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm.auto import tqdm

from spectralkd.spectrum import RadialPowerSpectrum, Ring, Spectrum, Window, check_choice

Statistics = Literal["running", "batch"]
Batch = Tensor | Sequence[Tensor]


class FeatureReader(nn.Module):
    """A network that returns the maps of named layers beside its output.

    Its hooks only fill a dict that ``forward`` hands out, so ``torch.compile`` takes the whole
    as one graph. ``remove`` takes the hooks off again; ``record`` does so by itself.

    Args:
        model: any module; it is neither copied nor edited.
        layers: names as at the head of this module.

    Raises:
        ValueError: no layer, or an unknown one (with the nearest names).
    """

    def __init__(self, model: nn.Module, layers: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self._maps: dict[str, Tensor] = {}
        self._handles = [_hook(model, layer, self._maps) for layer in _check_layers(model, layers)]

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Tensor]]:
        """The model's output and ``{layer: map}``, in the graph of autograd like any output."""
        self._maps.clear()
        try:
            output = self.model(*args, **kwargs)
            return output, dict(self._maps)
        finally:
            self._maps.clear()

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()


@contextmanager
def record(model: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Within the block, every pass of ``model`` leaves its layers' maps in the dict.

    The maps are copies taken at the moment the layer produced them, so an in-place layer that
    follows does not change them. On leaving, by an exception too, the model is as it was.

    Example:
        >>> with record(model, ["layer1", "layer4.1.relu:input"]) as maps:
        ...     model(images)
        >>> maps["layer1"].shape

    Raises:
        ValueError: no layer, or an unknown one (with the nearest names).
        TypeError: a layer's value is no tensor.
    """
    maps: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for layer in _check_layers(model, layers):
            stack.callback(_hook(model, layer, maps).remove)
        yield maps


@contextmanager
def evaluation(model: nn.Module, statistics: Statistics = "running") -> Iterator[None]:
    """Within the block, the model is in evaluation mode; on leaving it is as it was.

    Args:
        model: any module.
        statistics: what its batch norms normalise with: the ``"running"`` averages of training,
            or those of the present ``"batch"``, which leaves the running ones untouched. The
            paper's untrained networks were read with the latter.
    """
    check_choice("statistics", statistics, Statistics)
    training = {module: module.training for module in model.modules()}
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    try:
        model.eval()
        if statistics == "batch":
            for norm in norms:
                norm.training, norm.track_running_stats = True, False
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
        for module, was_training in training.items():
            module.training = was_training


def read_activations(
    model: nn.Module,
    batches: Iterable[Batch],
    layers: Sequence[str],
    *,
    statistics: Statistics = "running",
    progress: bool = True,
) -> Iterator[dict[str, Tensor]]:
    """Run a data set through a network and yield each batch's maps, ``{layer: map}``.

    Args:
        model: any module that takes one tensor; runs where its parameters are, without autograd.
        batches: of tensors, or of tuples whose first entry is the tensor.
        layers: names as at the head of this module.
        statistics: as ``evaluation``.
        progress: show a progress bar.

    Raises:
        ValueError: no layer, an unknown one (with the nearest names), or one that did not run.
        TypeError: a layer's value is no tensor.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with evaluation(model, statistics), record(model, layers) as maps:
        for batch in tqdm(
            batches, desc="activations", unit="batch", disable=not progress, leave=False
        ):
            maps.clear()
            images = batch if isinstance(batch, Tensor) else batch[0]
            with torch.no_grad():
                model(images.to(device, non_blocking=True))
            if missing := [layer for layer in layers if layer not in maps]:
                raise ValueError(f"layers: {', '.join(missing)} did not run in a pass of the model")
            yield dict(maps)


def map_layers(model: nn.Module, images: Tensor) -> dict[str, tuple[int, int, int]]:
    """Every layer that puts out maps, in the order of their first run: what can be read.

    Args:
        model: any module that takes one tensor.
        images: (N, C, H, W), passed through once.

    Returns:
        (C, H, W) by layer, for outputs (N, C, H, W) with H and W at least 4.
    """
    shapes: dict[str, tuple[int, int, int]] = {}

    def note(layer: str, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[-2:]) >= 4:
            shapes[layer] = (output.shape[1], output.shape[2], output.shape[3])

    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with ExitStack() as stack, torch.no_grad():
        stack.enter_context(evaluation(model))
        for layer, module in model.named_modules():
            if layer:
                hook = lambda _, __, output, layer=layer: note(layer, output)  # noqa: E731
                stack.callback(module.register_forward_hook(hook).remove)
        model(images.to(device))
    return shapes


def activation_spectra(
    model: nn.Module,
    batches: Iterable[Batch],
    layers: Sequence[str],
    *,
    ring: Ring = "mean",
    window: Window = "none",
    statistics: Statistics = "running",
    progress: bool = True,
) -> dict[str, Spectrum]:
    """Mean radial power spectrum of each layer over a data set, in one pass (Figs. 1 and 2).

    Args:
        model, batches, layers, statistics, progress: as ``read_activations``; the layers' maps
            are (N, C, H, W) with H and W at least 4.
        ring, window: as ``spectrum.radial_power``.

    Raises:
        ValueError, TypeError: as ``read_activations`` and ``RadialPowerSpectrum.update``, with
            the layer's name; an empty data set.
    """
    spectra = {layer: RadialPowerSpectrum(ring=ring, window=window) for layer in layers}
    for maps in read_activations(model, batches, layers, statistics=statistics, progress=progress):
        for layer, spectrum in spectra.items():
            try:
                spectrum.update(maps[layer])
            except (TypeError, ValueError) as error:
                raise type(error)(f"layer {layer!r}: {error}") from error
    if any(spectrum.samples == 0 for spectrum in spectra.values()):
        raise ValueError("batches: expected at least one image, got an empty data set")
    return {layer: spectrum.compute() for layer, spectrum in spectra.items()}


def _hook(
    model: nn.Module, layer: str, maps: dict[str, Tensor]
) -> torch.utils.hooks.RemovableHandle:
    path, _, port = layer.partition(":")
    module = model.get_submodule(path)

    def keep(value: object) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(f"layer {layer!r}: expected a tensor, got {type(value).__name__}")
        maps[layer] = value.clone()

    def keep_input(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        keep(args[0] if args else next(iter(kwargs.values())))

    def keep_output(_: nn.Module, __: tuple[Any, ...], output: object) -> None:
        keep(output)

    if port == "input":
        return module.register_forward_pre_hook(keep_input, with_kwargs=True)
    return module.register_forward_hook(keep_output)


def _check_layers(model: nn.Module, layers: Sequence[str]) -> list[str]:
    if isinstance(layers, str) or not layers:
        raise ValueError(f"layers: expected a list of at least one layer name, got {layers!r}")
    names = [name for name, _ in model.named_modules()]
    for layer in layers:
        path, colon, port = layer.partition(":")
        if path not in names or (colon and port != "input"):
            near = difflib.get_close_matches(path, names, n=5, cutoff=0.4) or names[1:6]
            raise ValueError(
                f"layers: expected a layer of the model such as {', '.join(near)} "
                f"(or one with ':input'), got {layer!r}"
            )
    return list(layers)
