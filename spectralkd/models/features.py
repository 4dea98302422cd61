"""Activations of named layers of any ``nn.Module``, read without editing it.

A layer is named by its path in ``model.named_modules()``. The name alone means the layer's
output; ``path:input`` means its input, such as the residual sum that enters ``layer1.2.relu``; an
empty path is the model itself. Where a layer runs several times in a pass, its last run counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
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
        self._maps = _Maps()
        self._handles = _hooks(model, layers, self._maps)

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Tensor]]:
        """The model's output and ``{layer: map}`` in the order of ``layers``, with gradients."""
        self._maps.wanted = True
        try:
            output = self.model(*args, **kwargs)
            return output, {layer: self._maps[layer] for layer in self.layers}
        finally:
            self._maps.wanted = False
            self._maps.clear()

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()


def images_of(batches: Iterable[Batch], what: str, progress: bool) -> Iterator[Tensor]:
    """The images of each batch, with a progress bar named ``what``.

    Raises:
        ValueError: there is none.
    """
    count = 0
    for batch in tqdm(batches, desc=what, unit="batch", disable=not progress, leave=False):
        images = batch if isinstance(batch, Tensor) else batch[0]
        count += len(images)
        yield images
    if count == 0:
        raise ValueError("batches: expected at least one image, got an empty data set")


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
    check_layers(model, layers)
    maps = _Maps()
    maps.wanted = True
    handles = _hooks(model, layers, maps)
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def altered(
    model: nn.Module, layers: Sequence[str], change: Callable[[str, Tensor], Tensor]
) -> Iterator[None]:
    """Within the block, each layer hands on ``change(layer, map)`` in place of its map.

    Args:
        model: any module.
        layers: names as explained at the top of this module.
        change: gets the layer's name and its tensor, and returns one of the same shape.

    Raises:
        ValueError: no layer, or an unknown one (with the nearest names).
    """
    check_layers(model, layers)

    def change_input(layer: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return _first_changed(change, layer, args), kwargs
        first = next(iter(kwargs))
        return args, {**kwargs, first: _first_changed(change, layer, kwargs[first])}

    with ExitStack() as hooks:
        for layer in layers:
            path, _, port = layer.partition(":")
            module = model.get_submodule(path)
            if port == "input":
                handle = module.register_forward_pre_hook(
                    lambda _, args, kwargs, n=layer: change_input(n, args, kwargs),
                    with_kwargs=True,
                )
            else:
                handle = module.register_forward_hook(
                    lambda _, args, out, n=layer: _first_changed(change, n, out)
                )
            hooks.callback(handle.remove)
        yield


def _first_changed(change: Callable[[str, Tensor], Tensor], layer: str, value: Any) -> Any:
    """The value with its first tensor changed. (A function within another that calls itself would
    keep what ``change`` holds, such as graphs, until Python collects cycles.)
    """
    if isinstance(value, tuple):
        return (_first_changed(change, layer, value[0]), *value[1:])
    return change(layer, value)


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
    norms = {
        m: m.track_running_stats
        for m in model.modules()
        if isinstance(m, _BatchNorm) and m.running_mean is not None
    }
    try:
        model.eval()
        if statistics == "batch":
            for norm in norms:
                norm.training, norm.track_running_stats = True, False
        yield
    finally:
        for norm, tracked in norms.items():
            norm.track_running_stats = tracked
        for module, was_training in training.items():
            module.training = was_training


def best_device() -> str:
    """A GPU where torch finds one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def model_device(model: nn.Module) -> torch.device:
    """Where a network's parameters are; the CPU without any."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def first_tensor(value: object) -> Tensor | None:
    """A tensor, or the first of a tuple's, as attention layers return them; else None."""
    if isinstance(value, tuple) and value:
        value = value[0]
    return value if isinstance(value, Tensor) else None


def check_layers(model: nn.Module, layers: Sequence[str]) -> None:
    """Check that layers exist.

    Raises:
        ValueError: no layer, or an unknown one (with the nearest names).
    """
    if isinstance(layers, str) or not layers:
        raise ValueError(f"layers: expected a list of at least one layer name, got {layers!r}")
    names = [name for name, _ in model.named_modules()]
    for layer in layers:
        path, colon, port = layer.partition(":")
        if path not in names or (colon and port != "input"):
            raise ValueError(
                f"layers: expected a layer of the model such as {nearest(path, names[1:])} "
                f"(or one with ':input'), got {layer!r}"
            )


class _Maps(dict[str, Tensor]):
    """Maps by layer. Passes that nobody reads leave it as it is, and compiled ones valid."""

    wanted = False


def _hooks(model: nn.Module, layers: Sequence[str], maps: _Maps) -> list[RemovableHandle]:
    """Hooks that leave each layer's map in ``maps``; all names are checked before the first."""
    if layers:
        check_layers(model, layers)
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
    maps: _Maps,
    layer: str,
    _: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    _keep(maps, layer, args[0] if args else next(iter(kwargs.values())))


def _keep_output(
    maps: _Maps, layer: str, _: nn.Module, args: tuple[Any, ...], output: object
) -> None:
    _keep(maps, layer, output)


def _keep(maps: _Maps, layer: str, value: object) -> None:
    if not maps.wanted:
        return
    tensor = first_tensor(value)
    if tensor is None:
        raise TypeError(f"layer {layer!r}: expected a tensor, got {type(value).__name__}")
    maps[layer] = tensor.clone()  # in-place layers that follow do not reach the copy
