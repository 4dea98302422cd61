"""Small networks and short runs, 5,000 images: every step of the pipeline on real CIFAR-100."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from spectralkd.reproduction.jobs import WEIGHTS, Job, table_job, teacher_name
from spectralkd.reproduction.lists.full import (
    ABLATIONS,
    METHODS,
    MORE_METHODS,
    PAPER_WEIGHTS,
    SEEDS,
)
from spectralkd.training.recipes import get_recipe

# The small stand-ins: less depth, less width, both, and another family.
_STUDENTS = {"a": "wrn10_2", "b": "wrn16_1", "c": "wrn10_1", "d": "resnet20"}
_SETTINGS = {
    "teacher_model": "wrn16_2",
    "epochs": 10,
    "train_images": 5000,
    "batch_size": 32,
    "evaluate_every": 5,
    "spectra_every": 5,
}


def jobs() -> Iterator[Job]:
    """Teacher and spectra, setup (c), some ablations, setup (d), other methods."""
    settings = {"spectra_every": 1, "teacher_model": "wrn16_2", "student_model": "wrn16_1"}
    recipe = get_recipe("c", "heo", epochs=12, **settings)
    name = teacher_name("wrn16_2")
    yield Job(1, name, "teacher", recipe, "teacher", ships=WEIGHTS["small"])
    yield Job(2, "spectra-wrn16_2", "spectra", recipe, "spectra", teacher=name)
    for seed in SEEDS:
        for method in METHODS:
            yield _student(3, "c", method, seed)
        yield _student(3, "c", "spectral", seed, "spectral paper weights", PAPER_WEIGHTS)
    for row in ("neither term", "L1 alone", "CPS alone", "both terms"):
        changes, options = ABLATIONS[row]
        yield _student(4, "c", "spectral", 0, row, {"holdout": 5000, **changes}, options)
    for method in ("baseline", "spectral"):
        yield _student(5, "d", method, 0)
    for method in MORE_METHODS:
        yield _student(6, "c", method, 0)


def _student(
    step: int,
    setup: str,
    method: str,
    seed: int,
    row: str | None = None,
    changes: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
) -> Job:
    settings = _SETTINGS | {"seed": seed, "student_model": _STUDENTS[setup]}
    recipe = get_recipe(setup, "heo", **(settings | (changes or {})))
    return table_job("small", step, recipe, method, row, options or {})
