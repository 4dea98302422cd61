"""Training and distillation (Tables 2 and 3)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from spectralkd.cli.recipe import recipe_command
from spectralkd.cli.signals import terminated
from spectralkd.cli.values import parse_layouts, parse_options, parse_pairs
from spectralkd.losses import METHODS, find_method
from spectralkd.losses.distiller import given
from spectralkd.losses.options import own_options
from spectralkd.losses.taps import Resize
from spectralkd.training import api
from spectralkd.training.accelerator import is_main_process
from spectralkd.training.recipes import Recipe, recipe_options
from spectralkd.training.run_folder import Run


@recipe_command()
def train(
    recipe: Recipe,
    run: Annotated[Path, typer.Option(help="Folder of the run; an unfinished one is resumed.")],
    student: Annotated[
        bool, typer.Option("--student", help="Train the student alone instead of the teacher.")
    ] = False,
    tracker: Annotated[
        str | None,
        typer.Option(help="Experiment tracker, such as trackio or tensorboard; default: none."),
    ] = None,
) -> None:
    """Train the teacher of a recipe, or its student alone (the baseline)."""
    role: Literal["teacher", "student"] = "student" if student else "teacher"
    # Also the networks that only a later command uses.
    api.check_students([api.StudentRun(recipe, run, "baseline")])
    _report(api.train(recipe, run, role=role, tracker=tracker, stop=terminated()))


@recipe_command(without=("seed",))
def distill(
    recipe: Recipe,
    run: Annotated[
        Path,
        typer.Option(
            help="Folder of the run, an unfinished one is resumed; of several methods or seeds, "
            "the folder of their runs METHOD-SEED."
        ),
    ],
    method: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{', '.join(METHODS)} or package.module:Class; several are summed: kd+spectral; "
            "may be repeated: all students of a seed are trained behind one pass of the teacher; "
            "default: spectral."
        ),
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(
            help=f"{recipe_options()['seed'][1][:-1]}; may be repeated; default: the recipe's. A "
            "teacher that is trained first takes the first of them."
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Finished run, file of weights or name of those that come with the package, such "
            "as cifar100 of wrn28_4; if omitted and needed, a teacher is trained first.",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            help="Option of the method as name=value, of one of several as METHOD.name=value "
            "(also in a sum with that method); may be repeated."
        ),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            help="Layers to compare as TEACHER_LAYER=STUDENT_LAYER, one pair a stage; default: "
            "the networks' stage tables. May be repeated."
        ),
    ] = None,
    layout: Annotated[list[str] | None, typer.Option(help="As in the command spectra.")] = None,
    resize: Annotated[
        Resize | None,
        typer.Option(
            help="How the larger map of a stage comes to the size of the smaller; default: sizes "
            "that differ are refused."
        ),
    ] = None,
    tracker: Annotated[
        str | None,
        typer.Option(help="Experiment tracker, such as trackio or tensorboard; default: none."),
    ] = None,
    settings: dict[str, Any] | None = None,
    chosen: frozenset[str] = frozenset(),
) -> None:
    """Distill the teacher of a recipe into its student (Tables 2 and 3)."""
    like = _distillation(settings or {})
    connection = given(
        layers=parse_pairs(layers) if layers else None,
        layout=parse_layouts(layout) if layout else None,
        resize=resize,
    )
    methods = list(dict.fromkeys(method or [like["method"]]))
    seeds = list(dict.fromkeys(seed or [recipe.seed]))
    options = {name: parse_options(name, option or [], methods) for name in methods}
    if (old := like["method"]) in options:
        options[old] = _merged(_without(old, like["options"], chosen), options[old])
    for name in _unused(options, chosen):
        why = f"no method takes it, or --option {name}= goes before"
        print(f"spectralkd: --{name} is not used: {why}", file=sys.stderr)
    several = len(methods) * len(seeds) > 1
    # Of several methods, those of logits leave the layers to the others.
    only = connection if len(methods) == 1 else {}
    students = [
        api.StudentRun(
            replace(recipe, seed=number),
            run / f"{name.replace(':', '.')}-{number}" if several else run,
            name,
            options[name],
            like["connection"] | connection if _reads_maps(name) else only,
        )
        for number in seeds
        for name in methods
    ]
    stop = terminated()
    taught: str | Path | None = teacher
    if taught is None:
        if "teacher_sha256" in (settings or {}) and not Run(run / "teacher").finished:
            print("spectralkd: a teacher is trained first; --teacher names one", file=sys.stderr)
        taught = api.train_teacher(students, run / "teacher", tracker=tracker, stop=stop)
    for made in api.distill_together(students, taught, tracker=tracker, stop=stop):
        _report(made)


def _report(run: Run) -> None:
    last = run.last_metrics()
    errors = ", ".join(
        f"{name} {last[key]:.2f} %"
        for name, key in (("top-1 error", "top1_error"), ("top-5 error", "top5_error"))
    )
    if is_main_process():
        print(f"{run.path}: {errors} after epoch {last['epoch']}")


def _distillation(settings: dict[str, Any]) -> dict[str, Any]:
    """Method, options and layers in the settings of a run; defaults where none was distilled."""
    if settings.get("role") != "distill":
        settings = {}
    method = settings.get("method", "spectral")
    options, recipe = settings.get("options", {}), settings.get("recipe", {})
    own = own_options(method, options, recipe, of_recipe=lambda name: find_method(name).of_recipe)
    places = {name: settings.get(name) for name in ("layers", "layout", "resize")}
    return {"method": method, "options": own, "connection": given(**places)}


def _reads_maps(method: str) -> bool:
    return any(find_method(name).reads for name in method.split("+"))


def _unused(options: Mapping[str, Mapping[str, Any]], chosen: frozenset[str]) -> list[str]:
    """Weights of the recipe, such as alpha, that were given and that no method takes from there.

    Args:
        options: of each method, or of each method of a sum.
        chosen: fields of the recipe that were given.
    """
    taken = set()
    for names, own in options.items():
        for name in names.split("+"):
            set_apart = own.get(name, {}) if "+" in names else own
            taken |= set(find_method(name).of_recipe) - set(set_apart)
    weights = {name for kind in METHODS.values() for name in kind.of_recipe}
    return sorted((chosen & weights) - taken)


def _without(method: str, options: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """Options but for those that a method takes from a recipe by one of these names."""
    if "+" in method:
        return {name: _without(name, own, names) for name, own in options.items()}
    taken = names & set(find_method(method).of_recipe)
    return {name: value for name, value in options.items() if name not in taken}


def _merged(options: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Options with some of them, or of those of a sum's methods, replaced."""
    inner = {k: {**options.get(k, {}), **v} for k, v in changes.items() if isinstance(v, dict)}
    return {**options, **changes, **inner}
