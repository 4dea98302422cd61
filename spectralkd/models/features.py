"""Activations of named layers of any ``nn.Module``, read without editing it.

A layer is named by its path in ``model.named_modules()``. The name alone means the layer's
output; ``path:input`` means its input, such as the residual sum that enters ``layer1.2.relu``; an
empty path is the model itself. Where a layer runs several times in a pass, its last run counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle
from tqdm.auto import tqdm

from spectralkd.checks import check_choice, nearest

Statistics = Literal["running", "batch"]
Batch = Tensor | Sequence[Tensor]


class FeatureReader(nn.Module):
    """A network that returns the maps of named layers beside its output.

    Its hooks only fill a dict that ``forward`` returns, so ``torch.compile`` takes the whole as
    one graph. ``remove`` takes the hooks off again; ``record`` does so by itself.

    Args:
        model: any module; it is neither copied nor edited.
        layers: names as explained at the top of this module; none is allowed.

    Raises:
        ValueError: an unknown layer (with the nearest names).
    """

    def __init__(self, model: nn.Module, layers: Sequence[str]) -> None:
        super().__init__()
        self.model, self.layers = model, tuple(layers)
        self._maps: dict[str, Tensor] = {}
        self._handles = _hooks(model, layers, self._maps)

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Tensor]]:
        """The model's output and ``{layer: map}`` in the order of ``layers``, with gradients."""
        self._maps.clear()
        try:
            output = self.model(*args, **kwargs)
            return output, {layer: self._maps[layer] for layer in self.layers}
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
    follows does not change them. Afterwards, also after an exception, the hooks are removed.

    Example:
        >>> with record(model, ["layer1", "layer4.1.relu:input"]) as maps:
        ...     model(images)
        >>> maps["layer1"].shape

    Raises:
        ValueError: no layer, or an unknown one (with the nearest names).
        TypeError: a layer's value is not a tensor.
    """
    if isinstance(layers, str) or not layers:
        raise ValueError(f"layers: expected a list of at least one layer name, got {layers!r}")
    maps: dict[str, Tensor] = {}
    handles = _hooks(model, layers, maps)
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def evaluation(model: nn.Module, statistics: Statistics = "running") -> Iterator[None]:
    """Within the block, the model is in evaluation mode; afterwards its modes are restored.

    Args:
        model: any module.
        statistics: that batch norms use: the ``"running"`` averages of training, or those of the
            present ``"batch"``, without changing the running ones. The paper's untrained
            networks were measured with batch statistics.
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
        layers: names as explained at the top of this module.
        statistics: as ``evaluation``.
        progress: show a progress bar.

    Raises:
        ValueError: no layer, an unknown one (with the nearest names), or one that did not run.
        TypeError: a layer's value is not a tensor.
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
    """Every layer whose output is maps, in the order of their first run.

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


def _hooks(
    model: nn.Module, layers: Sequence[str], maps: dict[str, Tensor]
) -> list[RemovableHandle]:
    """Hooks that leave each layer's map in ``maps``; all names are checked before the first."""
    names = [name for name, _ in model.named_modules()]
    for layer in layers:
        path, colon, port = layer.partition(":")
        if path not in names or (colon and port != "input"):
            raise ValueError(
                f"layers: expected a layer of the model such as {nearest(path, names[1:])} "
                f"(or one with ':input'), got {layer!r}"
            )
    handles = []
    for layer in layers:
        path, _, port = layer.partition(":")
        module = model.get_submodule(path)
        if port == "input":
            hook = partial(_keep_input, maps, layer)
            handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
        else:
            handles.append(module.register_forward_hook(partial(_keep_output, maps, layer)))
    return handles


# Hooks are partials of functions, not closures, so that a hooked network can be copied and pickled.


def _keep_input(
    maps: dict[str, Tensor],
    layer: str,
    _: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    _keep(maps, layer, args[0] if args else next(iter(kwargs.values())))


def _keep_output(
    maps: dict[str, Tensor], layer: str, _: nn.Module, args: tuple[Any, ...], output: object
) -> None:
    _keep(maps, layer, output)


def _keep(maps: dict[str, Tensor], layer: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"layer {layer!r}: expected a tensor, got {type(value).__name__}")
    maps[layer] = value.clone()  # in-place layers that follow do not reach the copy
