"""The distillation methods of Table 2, one file each, by name in ``METHODS``.

A method is made for a pair of networks by ``create_method`` and called with what both made of a
batch; it returns its weighted terms by name::

    method = create_method("spectral", teacher, student, gamma=0.02)
    terms = method(reading_of_student, reading_of_teacher, labels)
    sum(terms.values()).backward()
"""

from __future__ import annotations

import difflib
import inspect
from typing import Any

from torch import nn

from spectralkd.losses.ab import AB
from spectralkd.losses.at import AT
from spectralkd.losses.baseline import Baseline
from spectralkd.losses.fitnets import FitNets
from spectralkd.losses.ft import FT
from spectralkd.losses.jacobian import Jacobian
from spectralkd.losses.kd import KD
from spectralkd.losses.method import Method, Phase, Reading, Taps, read_taps
from spectralkd.losses.overhaul import Overhaul
from spectralkd.losses.spectral import Spectral

__all__ = ["METHODS", "Method", "Phase", "Reading", "Taps", "create_method", "method_options"]

METHODS: dict[str, type[Method]] = {
    "baseline": Baseline,
    "kd": KD,
    "fitnets": FitNets,
    "at": AT,
    "jacobian": Jacobian,
    "ft": FT,
    "ab": AB,
    "overhaul": Overhaul,
    "spectral": Spectral,
}


def create_method(
    name: str,
    teacher: nn.Module,
    student: nn.Module,
    image_shape: tuple[int, int, int] = (3, 32, 32),
    **options: Any,
) -> Method:
    """A method for a pair of networks.

    Args:
        name: one of ``METHODS``.
        teacher, student: with tables of taps, as ``models.create_model`` gives them. Margins are
            read from the teacher as it is now: load its weights first.
        image_shape: (3, H, W) of the images to come.
        options: the method's own arguments.

    Raises:
        ValueError: no such method or option (with those there are), or networks whose stages
            cannot be compared.
    """
    method = _find(name)
    known = method_options(name)
    if unknown := [option for option in options if option not in known]:
        raise ValueError(
            f"method {name!r}: expected options among {', '.join(known) or 'none'}, "
            f"got {', '.join(unknown)}"
        )
    taps = [read_taps(model, method.reads, image_shape) for model in (teacher, student)]
    return method(*taps, **options)


def method_options(name: str) -> dict[str, Any]:
    """The options of a method with their defaults.

    Raises:
        ValueError: no such method.
    """
    parameters = list(inspect.signature(_find(name)).parameters.values())
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _find(name: str) -> type[Method]:
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, cutoff=0.4) or METHODS
        raise ValueError(f"method: expected one of {', '.join(near)}, got {name!r}")
    return METHODS[name]
