"""The paper's networks (Tables 1 and 3), by name in ``MODELS``.

======================  ==============================================================
``wrn28_4``             WideResNet, depth and width: teacher of setups a-d
``wrn16_4 wrn28_2``     students a, b
``wrn16_2``             student c
``resnet56``            student d
``pyramidnet200_240``   depth and alpha: teacher of setups e, f (student e is wrn28_4)
``pyramidnet110_84``    student f, the paper's "PyramidNet-100"
``resnet50``            torchvision's, teacher on ImageNet
``mobilenet``           student on ImageNet
======================  ==============================================================

Other sizes of these families go by their names, such as ``wrn10_1`` or ``resnet20``. Every
network has ``stage_table`` and ``image_shape``, the images it was made for.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torchvision
from torch import nn

from spectralkd.models.mobilenet import MobileNet
from spectralkd.models.pyramidnet import PyramidNet
from spectralkd.models.resnet import ResNet
from spectralkd.models.stage import Stage
from spectralkd.models.weights import load_weights
from spectralkd.models.wideresnet import WideResNet
from spectralkd.models.zoo import timm_model, torchvision_model
from spectralkd.registry import find

PRETRAINED = Path(__file__).parent / "pretrained"


def resnet50(num_classes: int = 1000) -> nn.Module:
    """torchvision's ResNet-50; a stage's pre-ReLU map is its last residual sum."""
    model = torchvision.models.resnet50(num_classes=num_classes)
    lasts = [f"layer{n}.{len(getattr(model, f'layer{n}')) - 1}" for n in (1, 2, 3, 4)]
    model.stage_table = tuple(
        Stage(last.split(".")[0], f"{last}.relu:input", f"{last}.bn3") for last in lasts
    )
    model.image_shape = (3, 224, 224)
    return model


# From a name to a function of the number of classes; entries of your own are found as well.
MODELS: dict[str, Callable[[int], nn.Module]] = {
    "wrn28_4": partial(WideResNet, 28, 4),
    "wrn16_4": partial(WideResNet, 16, 4),
    "wrn28_2": partial(WideResNet, 28, 2),
    "wrn16_2": partial(WideResNet, 16, 2),
    "resnet56": partial(ResNet, 56),
    "pyramidnet200_240": partial(PyramidNet, 200, 240),
    "pyramidnet110_84": partial(PyramidNet, 110, 84),
    "mobilenet": MobileNet,
    "resnet50": resnet50,
}

_FAMILIES: dict[str, Callable[..., nn.Module]] = {
    r"wrn(\d+)_(\d+)": WideResNet,
    r"resnet(\d+)": ResNet,
    r"pyramidnet(\d+)_(\d+)": PyramidNet,
}

_ZOOS = {"torchvision": torchvision_model, "timm": timm_model}


def create_model(
    name: str, num_classes: int | None = None, *, pretrained: str | None = None
) -> nn.Module:
    """A network by name.

    Args:
        name: one of ``MODELS``, another size of their families, ``"torchvision/swin_t"``,
            ``"timm/convnext_tiny"`` (see ``models.zoo``), or ``"package.module:function"`` for a
            function of your own that takes the number of classes.
        num_classes: outputs of the last layer; default: 100, or the zoo's own number.
        pretrained: which of the trained weights that come with the package to load, such as
            ``"cifar100-short"`` (see ``pretrained_file``), or ``"DEFAULT"`` for a zoo's, downloaded
            once; default: untrained.

    Raises:
        ValueError: no such network (with the nearest names), no such size or no such weights.
        TypeError: what you named is no function, or returns no network.
        RuntimeError: a network of timm, which is not installed.
    """
    zoo, slash, zoo_name = name.partition("/")
    least = 0 if zoo == "timm" else 1  # timm's networks then have no head
    if num_classes is not None and num_classes < least:
        raise ValueError(f"num_classes: expected at least {least}, got {num_classes}")
    if slash and zoo in _ZOOS:
        return _ZOOS[zoo](zoo_name, num_classes, pretrained)
    model = _create(name, 100 if num_classes is None else num_classes)
    if pretrained is not None:
        load_weights(model, pretrained_file(name, pretrained))
    return model


def _create(name: str, num_classes: int) -> nn.Module:
    for pattern, family in _FAMILIES.items():
        match = re.fullmatch(pattern, name)
        if match and name not in MODELS:
            try:
                return family(*map(int, match.groups()), num_classes)
            except ValueError as error:
                raise ValueError(f"model {name!r}: {error}") from None
    make = find("model", name, MODELS)
    if isinstance(make, nn.Module) or not callable(make):
        raise TypeError(
            f"model: expected {name} to be a function of the number of classes, got an object of "
            f"type {type(make).__name__}"
        )
    model = make(num_classes)
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model: expected a function that returns a network, got {name!r}, which returns "
            f"{type(model).__name__}"
        )
    return model


def pretrained_names(name: str) -> list[str]:
    """Names of the weights of a network that come with the package."""
    files = PRETRAINED.glob(f"{name}-*.safetensors")
    return sorted(file.stem.removeprefix(f"{name}-") for file in files)


def pretrained_file(name: str, pretrained: str) -> Path:
    """The weights of a network that come with the package, in half precision.

    Their metadata (``weights.read_metadata``) hold the recipe, the data set and the error, which
    was measured with these very weights.

    Raises:
        ValueError: there are none of that name.
    """
    path = PRETRAINED / f"{name}-{pretrained}.safetensors"
    if not path.is_file():
        stems = sorted(file.stem for file in PRETRAINED.glob("*.safetensors"))
        pairs = (stem.split("-", 1) for stem in stems)
        known = ", ".join(f"{weights} of {network}" for network, weights in pairs)
        raise ValueError(f"pretrained: expected {known}; got {pretrained!r} of {name}")
    return path


def model_stages(model: nn.Module) -> tuple[Stage, ...]:
    """The stage table of a network: its attribute ``stage_table``.

    Raises:
        TypeError: the network has none.
    """
    stages = getattr(model, "stage_table", None)
    if not (isinstance(stages, tuple) and all(isinstance(stage, Stage) for stage in stages)):
        raise TypeError(
            f"model: expected a network of create_model, or one whose attribute stage_table is a "
            f"tuple of models.stage.Stage, or pairs of layers (layers=, --layers); got "
            f"{type(model).__name__} with {stages!r}"
        )
    return stages


def stage_outputs(model: nn.Module) -> tuple[str, ...]:
    """Names of the stages' outputs; empty for a network without a stage table."""
    try:
        return tuple(stage.output for stage in model_stages(model))
    except TypeError:
        return ()
