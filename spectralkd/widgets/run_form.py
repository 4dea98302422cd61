"""A form that describes a run: recipe, method, networks, teacher and every setting."""

from __future__ import annotations

import html
import inspect
import shlex
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import ipywidgets as widgets
import torch

from spectralkd.losses import METHODS
from spectralkd.losses.options import named_options, nested_options, typed_options, with_recipe
from spectralkd.models import PRETRAINED, create_model
from spectralkd.training.launch import Launch, cautions, launch_command, obstacles
from spectralkd.training.recipes import (
    RECIPES,
    Preset,
    Recipe,
    get_recipe,
    parse_value,
    recipe_options,
)
from spectralkd.training.run_folder import Run
from spectralkd.widgets.base import Together, remember, row
from spectralkd.widgets.code import Code

FIRST = "train it first"
_TASKS = (
    ("distill teacher into student", "distill"),
    ("train the teacher", "teacher"),
    ("train the student alone", "student"),
)
_STYLE: dict[str, Any] = {"description_width": "10em"}
_BOX = widgets.Layout(width="30em", max_width="98%")
# Settings shown at once; the recipe's others are folded away.
_MAIN = ("epochs", "seed", "train_images", "root", "teacher_model", "student_model")


class RunForm(widgets.VBox):
    """A form and the run that it describes.

    Args:
        folder: where runs are made.
        recipe: initial choice among ``training.recipes.RECIPES``.
        changes: values of the recipe's fields, in place of every recipe's own.

    Attributes:
        controls: task, recipe, method and the like, by name.
        settings: fields of the recipe, by name.
        options: arguments of the chosen method by name, of a sum's by method.name.
        obstacles: why the run cannot be launched; empty where it can.
    """

    def __init__(self, folder: Path, recipe: str, changes: dict[str, Any]) -> None:
        self.folder, self._changes = folder, changes
        self.obstacles: list[str] = []
        self.on_check: Callable[[], None] = lambda: None
        self.controls = _make_controls(recipe)
        self.settings = {
            name: _field(name, kind, text) for name, (kind, text) in recipe_options().items()
        }
        self.options: dict[str, widgets.Widget] = {}
        self.option_box = widgets.VBox()
        self.command, self.notes = Code("Command"), widgets.HTML()
        self.check = Together(self._check)
        self._observe()
        others = [control for name, control in self.settings.items() if name not in _MAIN]
        folded = widgets.Accordion([widgets.VBox(others)], titles=["All settings of the recipe"])
        main = widgets.VBox([*(self.settings[name] for name in _MAIN), self.option_box])
        parts = [row(widgets.VBox([*self.controls.values()]), main), folded]
        super().__init__([*parts, self.command, self.notes])
        self.check()

    def launch(self) -> Launch:
        """The run that the form describes.

        Raises:
            ValueError: a field does not hold a valid value.
        """
        c = self.controls
        return Launch(
            run=run_inside(self.folder, c["run"].value),
            recipe=self._recipe(),
            task=c["task"].value,
            method=self._method(),
            teacher=self._teacher(),
            processes=c["processes"].value,
            port=c["port"].value,
            options=self._options() if c["task"].value == "distill" else {},
        )

    def offer_teachers(self, runs: list[str]) -> None:
        """Offer finished runs as teachers, beside the weights that come with the package."""
        shipped = sorted(file.stem for file in PRETRAINED.glob("*.safetensors"))
        options = (FIRST, *runs, *shipped)
        menu = self.controls["teacher"]
        if options != menu.options:
            kept = menu.value
            with self.check.changes():
                menu.options = options
                menu.value = kept if kept in options else FIRST

    def _observe(self) -> None:
        """Fill the form, restore earlier settings, and react to changes."""
        c = self.controls
        self._fill()
        self._offer_options()
        for key in ("recipe", "preset"):
            c[key].observe(lambda _: self._fill(), "value")
        for key in ("method", "others"):
            c[key].observe(lambda _: self._offer_options(), "value")
        remember(f"panel {self.folder}", {**c, **self.settings})
        for control in (c["teacher"], c["teacher_file"]):
            control.observe(lambda _: self._match_teacher(), "value")
        for control in (*c.values(), *self.settings.values()):
            control.observe(self.check, "value")

    def _fill(self) -> None:
        """Show the recipe's settings, and the changes to it."""
        with self.check.changes():
            recipe = get_recipe(self.controls["recipe"].value, self.controls["preset"].value)
            for name, value in (vars(recipe) | self._changes).items():
                if name in self.settings:
                    self.settings[name].value = _shown(value, self.settings[name])

    def _method(self) -> str:
        """The chosen method, or the sum of it and others."""
        others = self.controls["others"].value.split("+")
        return "+".join([self.controls["method"].value, *filter(None, map(str.strip, others))])

    def _offer_options(self) -> None:
        """A field for each argument of the method that is not a field of the recipe."""
        try:
            known = _known_options(self._method())
        except (ValueError, TypeError):  # no such method, which the check says
            known = {}
        self.options = {
            name: _field(name, kind, f"Option of the method; default: {default}")
            for name, (kind, default) in known.items()
        }
        for name, control in self.options.items():
            control.value = _shown(known[name][1], control)
        remember(f"panel {self.folder}, {self._method()}", self.options)
        for control in self.options.values():
            control.observe(self.check, "value")
        self.option_box.children = tuple(self.options.values())

    def _options(self) -> dict[str, Any]:
        """The method's options that differ from their defaults; of a sum, each method's own."""
        chosen: dict[str, Any] = {}
        for name, (kind, default) in _known_options(self._method()).items():
            value = self.options[name].value
            if isinstance(value, str):
                value = parse_value(name, kind, value)
            if value != default:
                chosen[name] = value
        return nested_options(chosen)

    def _recipe(self) -> Recipe:
        c = self.controls
        plain = get_recipe(c["recipe"].value, c["preset"].value)
        changes = {}
        for name, (kind, _) in recipe_options().items():
            value = self.settings[name].value
            if isinstance(value, str):
                value = parse_value(name, kind, value)
            if value != getattr(plain, name):
                changes[name] = value
        return get_recipe(c["recipe"].value, c["preset"].value, **changes)

    def _teacher(self) -> Path | None:
        chosen, file = self.controls["teacher"].value, self.controls["teacher_file"].value.strip()
        if file:
            return Path(file).expanduser().absolute()
        if chosen == FIRST:
            return None
        shipped = PRETRAINED / f"{chosen}.safetensors"
        return shipped if shipped.is_file() else self.folder / chosen

    def _match_teacher(self) -> None:
        """The network of a chosen teacher, as the recipe's."""
        teacher = self._teacher()
        if teacher is None or self.controls["teacher_file"].value.strip():
            return
        if teacher.is_dir():
            name = Run(teacher).read_config()["network"]
        else:
            name = teacher.stem.partition("-")[0]
        self.settings["teacher_model"].value = name

    def _check(self) -> None:
        """Show the command, or the reason why there is none."""
        c = self.controls
        for key in ("method", "others", "teacher", "teacher_file"):
            c[key].disabled = c["task"].value != "distill"
        try:
            launch = self.launch()
            self.command.text = _to_copy(launch)
            self.obstacles = obstacles(launch) + _wrong_networks(launch)
            known = cautions(launch)
        except (ValueError, TypeError) as error:
            self.command.text, self.obstacles, known = "", [str(error)], []
        lines = [f"<b>Cannot be launched.</b> {html.escape(text)}" for text in self.obstacles]
        lines += [f"Note: {html.escape(text)}" for text in known]
        self.notes.value = "<br>".join(lines)
        self.on_check()


def run_inside(folder: Path, name: str) -> Path:
    """The folder of a run of that name.

    Raises:
        ValueError: the name is empty, leads out of ``folder`` or too deep into it.
    """
    run = (folder / name.strip()).resolve()
    if folder.resolve() not in run.parents[:2]:  # as deep as find_runs looks
        raise ValueError(
            f"run: expected the name of a folder inside {folder} or inside one of its folders, "
            f"got {name!r}"
        )
    return run


def _to_copy(launch: Launch) -> str:
    """The command as a person types it in the present folder, with the environment active."""
    here = f"{Path.cwd().resolve()}/"
    _, *words = launch_command(launch)
    return shlex.join(["python", *(word.removeprefix(here) for word in words)])


def _known_options(method: str) -> dict[str, tuple[Any, Any]]:
    """``typed_options`` that have a default and are not fields of the recipe."""
    of_recipe = named_options(with_recipe(method, {}, vars(Recipe())))
    return {
        name: (kind, default)
        for name, (kind, default) in typed_options(method).items()
        if name not in of_recipe and default is not inspect.Parameter.empty
    }


def _wrong_networks(launch: Launch) -> list[str]:
    kinds = {"distill": ("teacher", "student")}.get(launch.task, (launch.task,))
    found = {kind: _no_network(getattr(launch.recipe, f"{kind}_model")) for kind in kinds}
    return [f"{kind}_model: {text}" for kind, text in found.items() if text]


@cache
def _no_network(name: str) -> str:
    """Why there is no network of that name; it is made without its weights to see."""
    try:
        with torch.device("meta"):
            create_model(name, 10)
    except Exception as error:  # of a function of the user's own
        return str(error)
    return ""


def _menu(label: str, options: Any, value: Any) -> widgets.Dropdown:
    return widgets.Dropdown(
        options=options, value=value, description=label, style=_STYLE, layout=_BOX
    )


def _make_controls(recipe: str) -> dict[str, Any]:
    common: dict[str, Any] = {"style": _STYLE, "layout": _BOX}
    return {
        "recipe": _menu("Recipe", RECIPES, recipe),
        "preset": _menu("Preset", get_args(Preset), "paper"),
        "task": _menu("Task", _TASKS, "distill"),
        "method": _menu("Method", list(METHODS), "spectral"),
        "others": widgets.Text(
            description="and, summed",
            placeholder="other methods, as kd or kd+overhaul",
            continuous_update=False,  # names are imported
            **common,
        ),
        "teacher": _menu("Teacher", [FIRST], FIRST),
        "teacher_file": widgets.Text(
            description="or its file or run", placeholder="path; instead of the menu", **common
        ),
        "processes": widgets.BoundedIntText(
            value=1, min=1, max=64, description="Processes (GPUs)", **common
        ),
        "port": widgets.BoundedIntText(
            value=29500, min=1024, max=65535, description="Their port", **common
        ),
        "run": widgets.Text(value="first", description="Name of the run", **common),
    }


def _field(name: str, kind: Any, text: str) -> widgets.Widget:
    common = {"description": name.replace("_", " "), "style": _STYLE, "layout": _BOX}
    if kind is bool:
        return widgets.Checkbox(tooltip=text, indent=True, **common)
    if get_origin(kind) is Literal:
        return widgets.Dropdown(options=get_args(kind), tooltip=text, **common)
    return widgets.Text(placeholder=text, tooltip=text, **common)


def _shown(value: Any, field: widgets.Widget) -> Any:
    if not isinstance(field, widgets.Text):
        return value
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
