"""The paper's setups (Tables 1 and 3, Section 5), each in two presets, and a small demo.

``paper``
    the numbers of the paper's text;
``heo``
    those of the reference code of Heo et al. 2019, whose setup the paper says it uses: weight
    decay 5e-4 on CIFAR, Nesterov momentum that restarts at each drop of the learning rate, α ten
    times as large, mixup for the teacher of setups e and f (with α = 1, as mixup's authors
    choose on CIFAR; the code does not say), and on ImageNet drops one epoch earlier. β then
    equals α, as in the paper, and γ stays.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from numbers import Real
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from spectralkd.checks import Range, check_choice, check_ranges, nearest
from spectralkd.losses.base import Phase

Preset = Literal["paper", "heo"]
Precision = Literal["auto", "float32", "bf16"]
Compile = Literal["auto", "yes", "no", "graph"]


@dataclass(frozen=True)
class Recipe:
    """Everything that a run depends on except its method.

    Every field but the first two, which name its origin, is a command-line option.
    """

    setup: str = "custom"
    preset: str = "paper"
    data: Annotated[
        str,
        "Data set: photos, photos-hard, cifar10, cifar100, tiny-imagenet, imagefolder or "
        "package.module:function.",
    ] = "cifar100"
    root: Annotated[str | None, "Folder of the data set; default: where it is downloaded."] = None
    image_size: Annotated[
        int, "Side in pixels of images of photos, imagefolder, tiny-imagenet.", Range(4, 10_000)
    ] = 32
    teacher_model: Annotated[
        str, "Teacher network, such as wrn28_4 or package.module:function."
    ] = "wrn28_4"
    student_model: Annotated[
        str, "Student network, such as wrn16_2 or package.module:function."
    ] = "wrn16_2"
    epochs: Annotated[int, "Number of passes over the training images.", Range(1, 10**6)] = 200
    batch_size: Annotated[int, "Images a step, over all processes.", Range(2, 10**9)] = 128
    lr: Annotated[float, "Initial learning rate.", Range(0)] = 0.1
    drops: Annotated[tuple[float, ...], "Learning-rate milestones as fractions of the run."] = (
        0.5,
        0.75,
    )
    drop_factor: Annotated[
        float, "Decay factor of the learning rate at each milestone.", Range(0, 1, "(]")
    ] = 0.1
    momentum: Annotated[float, "Momentum of SGD.", Range(0, 1, "[)")] = 0.9
    nesterov: Annotated[bool, "Use Nesterov momentum."] = False
    restart_momentum: Annotated[bool, "Reset the momentum at each milestone."] = False
    weight_decay: Annotated[float, "L2 penalty (weight decay) of all parameters.", Range(0)] = 1e-4
    alpha: Annotated[float, "Weight of L_overhaul (methods overhaul and spectral).", Range(0)] = (
        1e-4
    )
    beta: Annotated[float, "Weight of L_L1 (method spectral).", Range(0)] = 1e-4
    gamma: Annotated[float, "Weight of L_CPS (method spectral).", Range(0)] = 1e-2
    seed: Annotated[
        int, "Random seed of weights, data order and augmentation.", Range(0, 2**32 - 1)
    ] = 0
    mixup: Annotated[
        float,
        "Parameter α of the Beta distribution by which the teacher's training images are mixed "
        "in pairs (Zhang et al. 2018); 0: they are not.",
        Range(0),
    ] = 0.0
    train_images: Annotated[
        int | None, "Number of training images; default: all.", Range(1, 10**9)
    ] = None
    validation_images: Annotated[
        int | None, "Number of validation images; default: all.", Range(1, 10**9)
    ] = None
    holdout: Annotated[
        int,
        "Evaluate on this many training images, kept aside, instead of the validation set.",
        Range(0, 10**9),
    ] = 0
    evaluate_every: Annotated[
        int, "Epochs between evaluations; the last epoch has one.", Range(1, 10**6)
    ] = 1
    spectra_every: Annotated[
        int, "Epochs between measurements of the stages' exponents; 0: never.", Range(0, 10**6)
    ] = 0
    precision: Annotated[Precision, "Precision; auto: bf16 on GPUs that support it."] = "auto"
    compile: Annotated[
        Compile,
        "Use torch.compile; graph: also replay whole steps as CUDA graphs; auto: graph on one "
        "GPU (plain steps where it cannot be recorded), yes on several, no on CPUs.",
    ] = "auto"
    checkpoint_seconds: Annotated[
        float, "Least time between checkpoints, in seconds.", Range(0)
    ] = 60.0
    workers: Annotated[int, "Number of processes that read image files.", Range(0, 1024)] = 4

    def __post_init__(self) -> None:
        check_choice("precision", self.precision, Precision)
        check_choice("compile", self.compile, Compile)
        check_ranges(self)
        parts = self.drops
        if not isinstance(parts, tuple):
            raise ValueError(f"drops: expected a tuple of fractions, got {parts!r}")
        numbers = all(isinstance(part, Real) for part in parts)
        if not (numbers and all(0 < p < 1 for p in parts) and sorted(parts) == [*parts]):
            raise ValueError(f"drops: expected growing fractions in (0, 1), got {parts!r}")
        for name in ("nesterov", "restart_momentum"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}: expected True or False, got {getattr(self, name)!r}")
        if self.nesterov and self.momentum == 0:
            raise ValueError("momentum: expected more than 0 where nesterov is used, got 0")
        for name in ("data", "root", "teacher_model", "student_model"):
            text = getattr(self, name)
            named = isinstance(text, str) and text.strip() and "\0" not in text
            if text is not None and not named:
                raise ValueError(f"{name}: expected a name, got {text!r}")

    def phase_epochs(self, phases: Iterable[Phase]) -> list[int]:
        """How many epochs each phase of a method takes."""
        return [self.epochs if phase.epochs is None else phase.epochs for phase in phases]

    def lr_at(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0."""
        return self.lr * self.drop_factor ** sum(epoch >= drop for drop in self.drop_epochs())

    def drop_epochs(self) -> tuple[int, ...]:
        """The first epoch of each lower learning rate, counted from 0.

        Fractions are rounded down, as in the reference code. No drop comes before epoch 1 or
        together with another one, so short runs leave out their last drops.
        """
        epochs: list[int] = []
        for fraction in self.drops:
            earliest = epochs[-1] + 1 if epochs else 1
            # 0.29 × 100 is 28.999… in binary.
            epochs.append(max(earliest, math.floor(fraction * self.epochs + 1e-9)))
        return tuple(epochs)


def recipe_changes(recipe: Recipe) -> dict[str, Any]:
    """The fields in which a recipe differs from the setup and preset that it names."""
    plain = get_recipe(recipe.setup, recipe.preset)  # type: ignore[arg-type]
    return {
        name: getattr(recipe, name)
        for name in recipe_options()
        if getattr(recipe, name) != getattr(plain, name)
    }


# What may differ between a run and its resumption, because it does not change the result.
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
# α and β as in Overhaul's code: the paper's, ten times smaller, do little in short runs (the
# records of the short list: 42 % error, and 38 % with these).
_DEMO: dict[str, Any] = {
    "data": "photos-hard",
    "teacher_model": "wrn16_2",
    "student_model": "wrn10_1",
    "epochs": 4,
    "batch_size": 30,
    "nesterov": True,
    "weight_decay": 5e-4,
    "alpha": 1e-3,
    "beta": 1e-3,
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
        preset: ``paper`` or ``heo``; see the top of this module. ``demo`` has a single one.
        changes: values of fields that replace the recipe's own.

    Raises:
        ValueError: no such recipe, preset or field.
    """
    check_choice("preset", preset, Preset)
    if name not in RECIPES:
        raise ValueError(f"recipe: expected one of {nearest(name, RECIPES)}, got {name!r}")
    if name == "demo":
        settings = _DEMO
    elif name == "imagenet":
        heo = {"nesterov": True, "alpha": 1e-4, "beta": 1e-4, "drops": (0.29, 0.59, 0.89)}
        settings = _IMAGENET | (heo if preset == "heo" else {})
    else:
        settings = _SETUPS[name] | (_CIFAR_HEO if preset == "heo" else {})
        if name in "ef" and preset == "heo":
            settings = settings | {"mixup": 1.0}
    if unknown := sorted(set(changes) - set(recipe_options())):
        near = nearest(unknown[0], recipe_options())
        raise ValueError(f"recipe: expected a field such as {near}, got {', '.join(unknown)}")
    if isinstance(changes.get("root"), Path):
        changes["root"] = str(changes["root"])
    return Recipe(**(settings | {"setup": name, "preset": preset} | changes))


def read_settings(path: str | Path) -> dict[str, Any]:
    """The settings of a run, given by its folder, or of a JSON file of the same form.

    Raises:
        ValueError: there is no such file, or it holds no recipe.
    """
    place = Path(path)
    place = place / "config.json" if place.is_dir() else place
    try:
        settings: dict[str, Any] = json.loads(place.read_text())
        if not isinstance(settings["recipe"], dict):
            raise TypeError("no recipe")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"config: expected a run's folder, its config.json or a file that spectralkd recipe "
            f"--json prints, got {str(path)!r}"
        ) from error
    return settings


def recipe_like(settings: Mapping[str, Any], **changes: Any) -> Recipe:
    """The recipe among settings of ``read_settings``, with some fields replaced.

    Raises:
        ValueError: a field that no recipe has.
    """
    given: dict[str, Any] = {**settings["recipe"], **changes}
    for name, value in given.items():
        given[name] = tuple(value) if isinstance(value, list) else value
    known = [field.name for field in fields(Recipe)]
    if unknown := [name for name in given if name not in known]:
        raise ValueError(
            f"recipe: expected fields among {', '.join(known)}, got {', '.join(unknown)}"
        )
    return Recipe(**given)


def parse_value(name: str, kind: Any, text: str) -> Any:
    """The value that a text stands for, on the command line and in the notebooks' form.

    Args:
        name: of the field, for error messages.
        kind: its type: str, int, float, bool, a ``Literal`` of strings, one of these or None
            (the empty text), or a tuple of floats (separated by commas).
        text: as a person typed it.

    Raises:
        ValueError: the text is not of that type, or the type is another one.
    """
    text = text.strip()
    kinds = get_args(kind)
    if get_origin(kind) is Literal:
        check_choice(name, text, kind)
        return text
    if NoneType in kinds:
        own = next(kind for kind in kinds if kind is not NoneType)
        return parse_value(name, own, text) if text else None
    if get_origin(kind) is tuple:
        return tuple(parse_value(name, kinds[0], part) for part in text.split(",") if part.strip())
    if kind not in (str, int, float, bool):
        raise ValueError(f"{name}: expected a type that text can name, {kind} is none")
    try:
        return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        expected = {int: "a whole number", float: "a number", bool: "true or false"}[kind]
        raise ValueError(f"{name}: expected {expected}, got {text!r}") from None
