"""Networks of torchvision and timm, by ``"torchvision/swin_t"`` and ``"timm/convnext_tiny"``."""

from __future__ import annotations

from functools import partial
from itertools import groupby
from typing import Any

import torch
import torchvision
from torch import nn

from spectralkd.checks import nearest
from spectralkd.models.layout import map_layers
from spectralkd.models.stage import Stage

STAGES = 4
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def torchvision_model(name: str, num_classes: int | None, pretrained: str | None) -> nn.Module:
    """A classifier of torchvision, with ``image_shape``, ``normalization`` and ``stage_table``.

    Args:
        name: as ``torchvision.models.get_model``.
        num_classes: outputs; default: 1000. A head of another size than the weights' is new.
        pretrained: weights such as ``"DEFAULT"`` or ``"IMAGENET1K_V1"``, downloaded once;
            default: untrained.

    Raises:
        ValueError: no such network (with the nearest names) or no such weights.
    """
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise ValueError(
            f"model: expected torchvision/ and one of {nearest(name, known)}; got {name!r}"
        )
    untrained = partial(torchvision.models.get_model, name, weights=None)
    if pretrained is None:
        return _described(untrained(num_classes=num_classes or 1000), (3, 224, 224), _IMAGENET)
    choices = torchvision.models.get_model_weights(name)
    if pretrained not in choices.__members__:
        raise ValueError(
            f"pretrained: expected one of {', '.join(choices.__members__)}, got {pretrained!r}"
        )
    weights = choices[pretrained]
    # Torchvision's own builder: it knows of renamed keys, sizes and inputs that belong to weights.
    model = torchvision.models.get_model(name, weights=weights)
    if num_classes is not None:
        new = untrained(num_classes=num_classes)
        for path, layer in list(model.named_modules()):
            if not list(layer.children()) and _shapes(layer) != _shapes(new.get_submodule(path)):
                model.set_submodule(path, new.get_submodule(path))
    size = weights.transforms().crop_size[0]
    return _described(model, (3, size, size), _IMAGENET)


def _shapes(layer: nn.Module) -> list[torch.Size]:
    return [parameter.shape for parameter in layer.parameters()]


def timm_model(name: str, num_classes: int | None, pretrained: str | None) -> nn.Module:
    """A network of timm, with ``image_shape``, ``normalization`` and ``stage_table``.

    Args:
        name: as ``timm.create_model``; with a tag, such as ``convnext_tiny.fb_in1k``.
        num_classes: outputs; default: the network's own.
        pretrained: ``"DEFAULT"`` for the weights of the name and tag, from the Hugging Face Hub,
            or the path of a file of weights; default: untrained.

    Raises:
        ValueError: no such network (with the nearest names).
        RuntimeError: timm is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise RuntimeError("model: timm/… needs timm: pip install timm") from error
    if name.partition(".")[0] not in timm.list_models():
        known = nearest(name, timm.list_models())
        raise ValueError(f"model: expected timm/ and one of {known}; got {name!r}")
    options: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    if pretrained == "DEFAULT":
        options["pretrained"] = True
    elif pretrained is not None:
        options["checkpoint_path"] = pretrained
    model = timm.create_model(name, **options)
    config = timm.data.resolve_data_config({}, model=model)
    return _described(model, config["input_size"], (config["mean"], config["std"]))


def _described(
    model: nn.Module,
    image_shape: tuple[int, int, int],
    normalization: tuple[tuple[float, ...], tuple[float, ...]],
) -> nn.Module:
    """Say of a network which images it takes, their mean and deviation, and its stages."""
    stages = stages_by_size(model, image_shape)
    vars(model).update(
        image_shape=tuple(image_shape), normalization=normalization, stage_table=stages
    )
    return model


def stages_by_size(model: nn.Module, image_shape: tuple[int, int, int]) -> tuple[Stage, ...]:
    """A stage table from what one pass shows.

    The outermost layers of each size of maps, the last of them where there are several, of the
    four smallest sizes from 4×4 pixels. A network of fewer than three sizes has four of its blocks
    instead, evenly spaced, the last one included.
    """
    found = map_layers(model, torch.zeros(2, *image_shape))
    last: dict[tuple[int, ...], str] = {}
    for name, layer in found.items():
        size = layer.shape[1:]
        if size not in last or name.count(".") <= last[size].count("."):
            last[size] = name
    ends = list(last.values())[-STAGES:]
    if len(last) < 3:
        blocks = max(_siblings(list(found)), key=len)
        ends = [blocks[-(-len(blocks) * (n + 1) // STAGES) - 1] for n in range(STAGES)]
    return tuple(Stage(end, end) for end in ends)


def _siblings(layers: list[str]) -> list[list[str]]:
    """Layers grouped by the module that holds them."""
    parents = sorted(layers, key=lambda layer: layer.rpartition(".")[0])
    groups = [list(group) for _, group in groupby(parents, lambda layer: layer.rpartition(".")[0])]
    return [sorted(group, key=layers.index) for group in groups]
