"""What a job of the study is: one run behind the paper's tables, or a measurement on a teacher.

Choices: students of one teacher's network share its weights, of preset ``heo``; they come with the
package in half precision, so that anyone can distill from the very same network. Hyper-parameters
are chosen on 5,000 training images kept aside (``holdout``), never on the validation set.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from spectralkd.losses.base import Method
from spectralkd.training.api import StudentRun
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

    @property
    def epochs(self) -> int:
        """Of all phases of the method; none for a measurement."""
        measured = self.kind in ("spectra", "scrambling")
        return 0 if measured else sum(self.recipe.phase_epochs(self.made().phases))

    def made(self) -> Method:
        """The method with its options."""
        return StudentRun(self.recipe, self.name, self.method, self.options).made()


# Names of the shipped weights: of a list's teachers; and what those of three students add.
WEIGHTS = {"full": "cifar100", "short": "cifar100-short"}
STUDENTS = {"baseline": "", "overhaul": "-overhaul", "spectral": "-spectral"}


def teacher_name(network: str, preset: str = "heo") -> str:
    """Name of the job that trains a teacher."""
    return f"teacher-{network}-{preset}-0"
