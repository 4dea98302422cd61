"""The options of methods by name, with their types, as text, and as far as a recipe sets them.

Those of a sum stand by its methods' names, ``{"kd": {"temperature": 3.0}, "at": {}}``, or in one
level as ``{"kd.temperature": 3.0}``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, get_type_hints

from spectralkd.losses import METHODS, find_method
from spectralkd.losses.base import method_options


def typed_options(method: str) -> dict[str, tuple[Any, Any]]:
    """Type and default of each option (``inspect.Parameter.empty`` for none), in one level.

    Args:
        method: one, or the names of several joined by ``+``.

    Raises:
        ValueError, TypeError: as ``find_method``.
    """
    found = {}
    names = method.split("+")
    for part in names:
        kind = find_method(part)
        hints = get_type_hints(kind)
        for name, default in method_options(kind).items():
            label = f"{part}.{name}" if len(names) > 1 else name
            found[label] = (hints.get(name, type(default)), default)
    return found


def with_recipe(
    method: str, options: Mapping[str, Any], recipe: Mapping[str, Any]
) -> dict[str, Any]:
    """Options of a method or a sum, and those of a recipe that a method takes from there.

    Args:
        method, options: as ``make_method``.
        recipe: its fields by name.

    Raises:
        ValueError: no such method, or one that asks for what no recipe has.
    """
    if "+" in method:
        own = {name: options.get(name, {}) for name in method.split("+")}
        made = {name: with_recipe(name, given, recipe) for name, given in own.items()}
        return {**options, **made}
    of_recipe = find_method(method).of_recipe
    if unknown := [name for name in of_recipe if name not in recipe]:
        raise ValueError(
            f"method {method!r}: expected of_recipe to name fields of a recipe, got "
            f"{', '.join(unknown)}"
        )
    return {name: recipe[name] for name in of_recipe} | dict(options)


def own_options(
    method: str,
    options: Mapping[str, Any],
    recipe: Mapping[str, Any],
    of_recipe: Callable[[str], Collection[str]] | None = None,
) -> dict[str, Any]:
    """Options without those that ``with_recipe`` would set alike.

    Args:
        method, options, recipe: as ``with_recipe``.
        of_recipe: what a method takes from a recipe, by its name. By default no code of a user's
            own method is imported: it is supposed to take all that is named and valued alike.
    """
    if "+" in method:
        return {name: own_options(name, own, recipe, of_recipe) for name, own in options.items()}
    if of_recipe:
        taken = of_recipe(method)
    else:
        taken = METHODS[method].of_recipe if method in METHODS else recipe
    return {
        name: value
        for name, value in options.items()
        if name not in taken or value != recipe.get(name)
    }


def named_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options in one level: those of a sum by ``method.name``."""
    named: dict[str, Any] = {}
    for name, value in options.items():
        own = isinstance(value, Mapping)
        named |= {f"{name}.{key}": v for key, v in value.items()} if own else {name: value}
    return named


def nested_options(named: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of ``named_options``, but for methods of a sum without options."""
    options: dict[str, Any] = {}
    for name, value in named.items():
        method, _, own = name.rpartition(".")
        place = options.setdefault(method, {}) if method else options
        place[own] = value
    return options
