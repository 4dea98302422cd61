"""Commands that take a recipe, and the one that prints it."""

from __future__ import annotations

import functools
import inspect
import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_origin

import typer

from spectralkd.figures.tables import format_table
from spectralkd.training.recipes import (
    RECIPES,
    Preset,
    get_recipe,
    read_settings,
    recipe_like,
    recipe_options,
)


def recipe_command(fixed: str | None = None, without: tuple[str, ...] = ()) -> Callable[..., Any]:
    """Make a command of a function whose parameter ``recipe`` is a finished ``Recipe``.

    Its name (unless ``fixed``), its preset and every field but those of ``without`` become
    parameters of the command. They are built from the dataclass, so that a field is described in
    one place only.
    """
    fields = {name: of for name, of in recipe_options().items() if name not in without}
    added = [
        _parameter(name, _option_type(kind), typer.Option(help=_help(text), show_default=False))
        for name, (kind, text) in fields.items()
    ]
    if fixed is None:
        preset = typer.Option(help="Numbers of the paper (default), or of Heo et al.")
        added.append(_parameter("preset", Preset | None, preset))
        names = typer.Argument(help=f"One of {', '.join(RECIPES)}; or none, with --config.")
        added.append(_parameter("recipe", str | None, names))
        like = typer.Option(
            *("--config", "--like"),
            help="Take all settings from a run's folder or a file, such as recipe --json prints, "
            "but those given here.",
        )
        added.append(_parameter("config", Path | None, like))

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [
            p.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for p in inspect.signature(command, eval_str=True).parameters.values()
            if p.name not in ("recipe", "settings", "chosen")
        ]
        signature = inspect.Signature([*own, *added])

        @functools.wraps(command)
        def wrapped(**given: Any) -> None:
            name, preset = given.pop("recipe", fixed), given.pop("preset", None)
            config = given.pop("config", None)
            changes = {field: given.pop(field) for field in fields}
            changes = {field: value for field, value in changes.items() if value not in (None, [])}
            if "drops" in changes:
                changes["drops"] = tuple(changes["drops"])
            if "chosen" in inspect.signature(command).parameters:
                given["chosen"] = frozenset(changes)
            if config is None:
                command(recipe=get_recipe(name or "", preset or "paper", **changes), **given)
                return
            if name or preset:
                raise ValueError(
                    f"config: expected no recipe or preset beside {config}, which has its own, "
                    f"got {name or preset}"
                )
            settings = read_settings(config)
            if "settings" in inspect.signature(command).parameters:
                given["settings"] = settings
            command(recipe=recipe_like(settings, **changes), **given)

        wrapped.__signature__ = signature  # type: ignore[attr-defined]
        wrapped.__annotations__ = {name: p.annotation for name, p in signature.parameters.items()}
        return wrapped

    return decorate


def _parameter(name: str, kind: Any, option: Any) -> inspect.Parameter:
    annotation = Annotated[kind, option]
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _option_type(kind: Any) -> Any:
    """The type of an option that may be omitted; several values are given one by one."""
    return list[float] | None if get_origin(kind) is tuple else kind | None


def _help(text: str) -> str:
    return text if "default" in text else f"{text[:-1]}; default: the recipe's."


def recipe(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(RECIPES)}.")],
    preset: Annotated[Preset, typer.Option(help="Numbers of the paper or of Heo et al.")] = "paper",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a file for --config instead of a table.")
    ] = False,
) -> None:
    """Print every setting of a recipe with its meaning."""
    values = vars(get_recipe(name, preset))
    if as_json:
        print(json.dumps({"recipe": values}, indent=2))
        return
    rows = [(f, str(values[f]), textwrap.fill(t, 60)) for f, (_, t) in recipe_options().items()]
    print(format_table(("setting", "value", "meaning"), rows))
