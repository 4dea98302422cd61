"""Words of the command line as values."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch

from spectralkd.checks import check_choice
from spectralkd.losses.options import nested_options, typed_options
from spectralkd.models.features import best_device
from spectralkd.models.layout import Layout, Layouts
from spectralkd.training.recipes import parse_value


def find_device(name: str | None) -> str:
    """The device of that name, once it was seen to work; by default the best."""
    if name is None:
        return best_device()
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        known = "cpu or cuda" if torch.cuda.is_available() else "cpu, no GPU was found"
        raise ValueError(f"device: expected {known}, got {name!r}") from error
    return name


def check_output(path: Path) -> None:
    """Refuse a place for a page before the work is done."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ValueError(f"output: expected a file in an existing folder, got {str(path)!r}")


def parse_layouts(texts: list[str]) -> Layouts:
    """One layout for all layers, or those of single ones by name."""
    if len(texts) == 1 and "=" not in texts[0]:
        check_choice("layout", texts[0], Layout)
        return cast(Layout, texts[0])
    for text in texts:
        if "=" not in text:
            raise ValueError(f"layout: expected LAYER=LAYOUT, or one layout for all, got {text!r}")
        check_choice("layout", text.rpartition("=")[2], Layout)
    parts = [text.rpartition("=") for text in texts]
    return {layer: cast(Layout, kind) for layer, _, kind in parts}


def parse_pairs(texts: list[str]) -> list[tuple[str, str]]:
    pairs = []
    for text in texts:
        teacher, equals, student = text.partition("=")
        if not (teacher and equals and student):
            raise ValueError(f"layers: expected TEACHER_LAYER=STUDENT_LAYER, got {text!r}")
        pairs.append((teacher, student))
    return pairs


def parse_options(method: str, given: list[str], methods: list[str]) -> dict[str, Any]:
    """Options of one of several methods: those for all of them, and those that name it."""
    if len(methods) == 1:
        return _own_options(method, given)
    own: list[str] = []
    of_part: list[str] = []
    for text in given:
        of = next((name for name in methods if text.startswith(f"{name}.")), None)
        if of in (None, method):
            own.append(text.removeprefix(f"{method}."))
        elif of in method.split("+"):
            of_part.append(text)
    return _own_options(method, of_part + own)  # the sum's own come last and win


def _own_options(method: str, given: list[str]) -> dict[str, Any]:
    """``name=value`` as the types of the method's options; of a sum, ``method.name=value``."""
    known = typed_options(method)
    named: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name not in known:
            raise ValueError(
                f"option: expected name=value with a name among {', '.join(known) or 'none'} for "
                f"{method}, got {text!r}"
            )
        named[name] = parse_value(name, known[name][0], value)
    return nested_options(named)
