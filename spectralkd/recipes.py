"""The paper's setups (Tables 1 and 3, Section 5), each in two presets, and a small one to try.

``paper``
    the numbers of the paper's text;
``heo``
    those of the reference code of Heo et al. 2019, whose setup the paper says it uses: weight
    decay 5e-4 on CIFAR, Nesterov momentum that starts anew at each drop of the learning rate,
    and α ten times as large. β then follows α, as in the paper, and γ stays.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_type_hints

from spectralkd.spectrum import check_choice

Preset = Literal["paper", "heo"]
Precision = Literal["auto", "float32", "bf16"]
Compile = Literal["auto", "yes", "no", "graph"]


@dataclass(frozen=True)
class Recipe:
    """Everything that a run depends on but its method.

    Every field but the first two, which say where it comes from, is a command-line option.
    """

    setup: str = "custom"
    preset: str = "paper"
    data: Annotated[str, "Data set: photos, cifar10, cifar100 or imagefolder."] = "cifar100"
    root: Annotated[str | None, "Folder of the data set."] = None
    image_size: Annotated[int, "Side of imagefolder's images in pixels."] = 32
    teacher_model: Annotated[str, "The teacher's network."] = "wrn28_4"
    student_model: Annotated[str, "The student's network."] = "wrn16_2"
    epochs: Annotated[int, "Passes over the training images."] = 200
    batch_size: Annotated[int, "Images a step, of all processes together."] = 128
    lr: Annotated[float, "Learning rate at the start."] = 0.1
    drops: Annotated[tuple[float, ...], "Parts of the epochs after which it drops."] = (0.5, 0.75)
    drop_factor: Annotated[float, "What it is multiplied with at a drop."] = 0.1
    momentum: Annotated[float, "Of SGD."] = 0.9
    nesterov: Annotated[bool, "Nesterov's form of the momentum."] = False
    restart_momentum: Annotated[bool, "Forget the momentum at a drop."] = False
    weight_decay: Annotated[float, "L2 regularisation of all parameters."] = 1e-4
    alpha: Annotated[float, "Weight of L_overhaul (overhaul, spectral)."] = 1e-4
    beta: Annotated[float, "Weight of L_L1 (spectral)."] = 1e-4
    gamma: Annotated[float, "Weight of L_CPS (spectral)."] = 1e-2
    seed: Annotated[int, "Of weights, orders and augmentations."] = 0
    train_images: Annotated[int | None, "Use so many training images only."] = None
    validation_images: Annotated[int | None, "Use so many validation images only."] = None
    holdout: Annotated[int, "Evaluate on so many training images kept aside instead."] = 0
    evaluate_every: Annotated[int, "Epochs between evaluations; the last is always one."] = 1
    spectra_every: Annotated[int, "Epochs between measurements of spectra; 0 is never."] = 0
    precision: Annotated[Precision, "auto is bf16 on GPUs that have it."] = "auto"
    compile: Annotated[
        Compile, "torch.compile; graph also replays whole steps on a GPU; auto is yes on GPUs."
    ] = "auto"
    checkpoint_seconds: Annotated[float, "Least time between checkpoints."] = 60.0
    workers: Annotated[int, "Processes that read image files."] = 4

    def __post_init__(self) -> None:
        check_choice("precision", self.precision, Precision)
        check_choice("compile", self.compile, Compile)
        for name in ("epochs", "batch_size", "evaluate_every", "image_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not all(0 < part < 1 for part in self.drops):
            raise ValueError(f"drops: expected parts of the epochs in (0, 1), got {self.drops}")

    def lr_at(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0."""
        return self.lr * self.drop_factor ** sum(epoch >= drop for drop in self.drop_epochs())

    def drop_epochs(self) -> tuple[int, ...]:
        """The first epochs of each lower learning rate."""
        return tuple(round(part * self.epochs) for part in self.drops)


def recipe_changes(recipe: Recipe) -> dict[str, Any]:
    """The fields that a recipe sets otherwise than the setup and preset it names."""
    plain = get_recipe(recipe.setup, recipe.preset)  # type: ignore[arg-type]
    return {
        name: getattr(recipe, name)
        for name in recipe_options()
        if getattr(recipe, name) != getattr(plain, name)
    }


# What may differ between a run and its resumption: it does not change what is computed.
FREE_FIELDS = ("root", "checkpoint_seconds", "workers")

_CIFAR_HEO: dict[str, Any] = {
    "nesterov": True,
    "restart_momentum": True,
    "weight_decay": 5e-4,
    "alpha": 1e-3,
    "beta": 1e-3,
}
_SETUPS: dict[str, dict[str, Any]] = {
    "a": {"student_model": "wrn16_4"},
    "b": {"student_model": "wrn28_2"},
    "c": {"student_model": "wrn16_2"},
    "d": {"student_model": "resnet56"},
    "e": {"teacher_model": "pyramidnet200_240", "student_model": "wrn28_4", "batch_size": 64},
    "f": {
        "teacher_model": "pyramidnet200_240",
        "student_model": "pyramidnet110_84",
        "batch_size": 64,
    },
}
_IMAGENET: dict[str, Any] = {
    "data": "imagefolder",
    "image_size": 224,
    "teacher_model": "resnet50",
    "student_model": "mobilenet",
    "epochs": 100,
    "batch_size": 256,
    "drops": (0.3, 0.6, 0.9),
    "alpha": 1e-5,
    "beta": 1e-5,
    "gamma": 1e-3,
}
_DEMO: dict[str, Any] = {
    "data": "photos",
    "teacher_model": "wrn10_2",
    "student_model": "wrn10_1",
    "epochs": 8,
    "batch_size": 50,
    "nesterov": True,
    "weight_decay": 5e-4,
}

RECIPES = ("demo", *_SETUPS, "imagenet")


def recipe_options() -> dict[str, tuple[Any, str]]:
    """Type and description of each field that can be chosen."""
    hints = get_type_hints(Recipe, include_extras=True)
    return {
        name: (get_args(hint)[0], hint.__metadata__[0])
        for name, hint in hints.items()
        if hasattr(hint, "__metadata__")
    }


def get_recipe(name: str, preset: Preset = "paper", **changes: Any) -> Recipe:
    """A setup by name.

    Args:
        name: ``demo``, ``a`` to ``f`` (Table 1) or ``imagenet`` (Table 3).
        preset: ``paper`` or ``heo``; see the head of this module. ``demo`` has one.
        changes: fields of the recipe to set otherwise.

    Raises:
        ValueError: no such recipe, preset or field.
    """
    check_choice("preset", preset, Preset)
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES) or RECIPES
        raise ValueError(f"recipe: expected one of {', '.join(near)}, got {name!r}")
    if name == "demo":
        settings = _DEMO
    elif name == "imagenet":
        heo = {"nesterov": True, "alpha": 1e-4, "beta": 1e-4}
        settings = _IMAGENET | (heo if preset == "heo" else {})
    else:
        settings = _SETUPS[name] | (_CIFAR_HEO if preset == "heo" else {})
    if unknown := sorted(set(changes) - set(recipe_options())):
        raise ValueError(
            f"recipe: unknown fields {', '.join(unknown)}; see spectralkd train --help"
        )
    return Recipe(**(settings | {"setup": name, "preset": preset} | changes))
