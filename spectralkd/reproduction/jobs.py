"""What a job of the study is: one run behind the paper's tables, or a measurement on a teacher.

Choices: students of one list share one teacher, preset ``heo``, whose weights come with the
package in half precision, so that anyone can distill from the very same network. Hyper-parameters
are chosen on 5,000 training images kept aside (``holdout``), never on the validation set.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from spectralkd.reproduction.records import Size
from spectralkd.training.recipes import Recipe

Kind = Literal["teacher", "distill", "spectra", "scrambling"]


@dataclass(frozen=True)
class Job:
    """One run of the study, or one measurement on a trained teacher.

    Attributes:
        step: of the order of work, from 1.
        name: of its folder and its record.
        row: of a table it belongs to: a method, or what an ablation changes.
        recipe: see ``recipes``.
        kind: what to do.
        method, options: as ``training.api.distill``.
        teacher: name of the job that trains the teacher; None for that job itself.
        ships: name under which its network comes with the package, in half precision.
    """

    step: int
    name: str
    row: str
    recipe: Recipe
    kind: Kind
    method: str = "baseline"
    options: dict[str, Any] = field(default_factory=dict)
    teacher: str | None = None
    ships: str | None = None


# Names of the shipped weights: of a list's teacher of a network.
WEIGHTS = {"full": "cifar100", "short": "cifar100-short", "small": "cifar100-small"}


def teacher_name(network: str, preset: str = "heo") -> str:
    """Name of the job that trains a teacher."""
    return f"teacher-{network}-{preset}-0"


def table_job(
    size: Size, step: int, recipe: Recipe, method: str, row: str | None, options: dict[str, Any]
) -> Job:
    """A student of a table of the lists ``full`` and ``small``, named by setup, preset and row.

    The first of each of three methods in setup (c) ships.
    """
    row = row or method
    label, ships = row.replace(" ", "-"), None
    first = (recipe.setup, recipe.preset, recipe.seed) == ("c", "heo", 0)
    if first and label in ("baseline", "overhaul", "spectral"):
        ships = WEIGHTS[size] + ("" if label == "baseline" else f"-{method}")
    name = f"{recipe.setup}-{recipe.preset}-{label}-{recipe.seed}"
    teacher = teacher_name(recipe.teacher_model)
    return Job(step, name, row, recipe, "distill", method, options, teacher, ships)
