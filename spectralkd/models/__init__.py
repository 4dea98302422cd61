"""The paper's networks (Tables 1 and 3), made by name.

======================  ==============================================================
``wrn28_4``             WideResNet, depth and width: teacher of setups a-d
``wrn16_4 wrn28_2``     students a, b
``wrn16_2``             student c; any ``wrn{6n+4}_{width}`` goes, ``wrn16_1`` for demos
``resnet56``            student d; any ``resnet{6n+2}`` that is not ImageNet's resnet50
``pyramidnet200_240``   depth and alpha: teacher of setups e, f (student e is wrn28_4)
``pyramidnet110_84``    student f, the paper's "PyramidNet-100"
``resnet50``            torchvision's, teacher on ImageNet
``mobilenet``           student on ImageNet
======================  ==============================================================

Every network has ``stages``, its table of taps, which ``model_stages`` reads: see ``Stage``.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import torchvision
from torch import nn

from spectralkd.models.mobilenet import MobileNet
from spectralkd.models.pyramidnet import PyramidNet
from spectralkd.models.resnet import ResNet
from spectralkd.models.stage import Stage
from spectralkd.models.wideresnet import WideResNet
from spectralkd.weights import load_weights

__all__ = ["MODELS", "PRETRAINED", "Stage", "create_model", "model_stages", "pretrained_file"]

PRETRAINED = Path(__file__).parent / "pretrained"

MODELS = (
    "wrn28_4",
    "wrn16_4",
    "wrn28_2",
    "wrn16_2",
    "resnet56",
    "pyramidnet200_240",
    "pyramidnet110_84",
    "mobilenet",
    "resnet50",
)

_FAMILIES = {
    r"wrn(\d+)_(\d+)": WideResNet,
    r"resnet(\d+)": ResNet,
    r"pyramidnet(\d+)_(\d+)": PyramidNet,
    r"mobilenet": MobileNet,
}


def create_model(name: str, num_classes: int = 100, *, pretrained: str | None = None) -> nn.Module:
    """A network with its table of taps in ``stages``.

    Args:
        name: one of ``MODELS``, or another size of their families; see the head of this module.
        num_classes: outputs of the last layer.
        pretrained: which of the trained weights that come with the package to load, such as
            ``"cifar100"``; untrained without. See ``PRETRAINED`` and ``pretrained_file``.

    Raises:
        ValueError: no such network (with the nearest names), no such size or no such weights.
    """
    if pretrained is not None:
        model = create_model(name, num_classes)
        load_weights(model, pretrained_file(name, pretrained))
        return model
    if name == "resnet50":
        return _resnet50(num_classes)
    for pattern, family in _FAMILIES.items():
        if match := re.fullmatch(pattern, name):
            try:
                return family(*map(int, match.groups()), num_classes=num_classes)
            except ValueError as error:
                raise ValueError(f"model {name!r}: {error}") from None
    near = difflib.get_close_matches(name, MODELS, n=3, cutoff=0.3) or MODELS
    raise ValueError(f"model: expected a name such as {', '.join(near)}, got {name!r}")


def pretrained_file(name: str, pretrained: str) -> Path:
    """The weights of a network that come with the package, in half precision.

    Their metadata (``weights.read_metadata``) tell the recipe, the data set and the error, which
    was measured with these very weights.

    Raises:
        ValueError: there are none of that name.
    """
    path = PRETRAINED / f"{name}-{pretrained}.safetensors"
    if not path.is_file():
        known = sorted(file.stem for file in PRETRAINED.glob("*.safetensors"))
        raise ValueError(
            f"pretrained: expected one of {', '.join(known)}, got {f'{name}-{pretrained}'!r}"
        )
    return path


def model_stages(model: nn.Module) -> tuple[Stage, ...]:
    """The table of taps of a network made by ``create_model``, or given one by hand.

    Raises:
        TypeError: the network has none.
    """
    stages = getattr(model, "stages", None)
    if not (isinstance(stages, tuple) and all(isinstance(stage, Stage) for stage in stages)):
        raise TypeError(
            f"model: expected one of create_model's, or one whose attribute stages is a tuple of "
            f"models.Stage; got {type(model).__name__} with stages {stages!r}"
        )
    return stages


def _resnet50(num_classes: int) -> nn.Module:
    """torchvision's ResNet-50; the map before a stage's ReLU is its last residual sum."""
    model = torchvision.models.resnet50(num_classes=num_classes)
    lasts = [f"layer{n}.{len(getattr(model, f'layer{n}')) - 1}" for n in (1, 2, 3, 4)]
    model.stages = tuple(
        Stage(last.split(".")[0], f"{last}.relu:input", f"{last}.bn3") for last in lasts
    )
    return model
