"""Entries by name, and a user's own by ``"package.module:object"``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TypeVar

from spectralkd.checks import nearest

T = TypeVar("T")


def find(kind: str, name: str, known: Mapping[str, T]) -> T:
    """The entry of a registry, or the object that ``"package.module:object"`` names.

    Args:
        kind: name of the argument, for error messages.
        name: what to look up.
        known: the registry.

    Raises:
        ValueError: no such entry (with the nearest names), module or object.
    """
    if name in known:
        return known[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ValueError(
            f"{kind}: expected one of {nearest(name, known)} (or package.module:name), got {name!r}"
        )
    try:
        found: T = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{kind}: expected an importable package.module:name, got {name!r}: {error}"
        ) from error
    return found
