"""The list of runs behind the paper's tables and figures.

It comes in two sizes: ``full`` is the paper's, for a GPU; ``small`` has the same rows with networks
and lengths that two CPU cores can train, and shows that every step runs on CIFAR-100.

Choices: students of one size share one teacher, preset ``heo``, whose weights come with the
package in half precision, so that anyone can distill from the very same network. Hyper-parameters
are chosen on 5,000 training images kept aside (``holdout``), never on the validation set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

from spectralkd.reproduction.records import Size
from spectralkd.training.recipes import Preset, Recipe, get_recipe

Kind = Literal["teacher", "student", "distill", "spectra"]

SEEDS = (0, 1, 2)
METHODS = ("baseline", "kd", "at", "overhaul", "spectral")
MORE_METHODS = ("fitnets", "jacobian", "ft", "ab")
WEIGHTS = {"full": "cifar100", "small": "cifar100-small"}  # names of the shipped weights

_TEACHERS = {"full": "wrn28_4", "small": "wrn16_2"}
# The small stand-ins: less depth, less width, both, and another family.
_SMALL_STUDENTS = {"a": "wrn10_2", "b": "wrn16_1", "c": "wrn10_1", "d": "resnet20"}
_SMALL_TEACHER = {"teacher_model": "wrn16_2", "student_model": "wrn16_1", "epochs": 12}
_SMALL_STUDENT = {
    "teacher_model": "wrn16_2",
    "epochs": 10,
    "train_images": 5000,
    "batch_size": 32,
    "evaluate_every": 5,
    "spectra_every": 5,
}
_PAPER_WEIGHTS = {"alpha": 1e-4, "beta": 1e-4}

# What each variant of the spectral loss changes: fields of the recipe, options of the method.
ABLATIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "neither term": ({"beta": 0.0, "gamma": 0.0}, {}),
    "L1 alone": ({"gamma": 0.0}, {}),
    "CPS alone": ({"beta": 0.0}, {}),
    "both terms": ({}, {}),
    "L1 and CPS without overhaul": ({"alpha": 0.0}, {}),
    "whole teacher map": ({}, {"teacher_map": "identity"}),
    "beta times 0.1": ({"beta": 1e-3 * 0.1}, {}),
    "gamma times 0.1": ({"gamma": 1e-2 * 0.1}, {}),
    "beta times 10": ({"beta": 1e-3 * 10.0}, {}),
    "gamma times 10": ({"gamma": 1e-2 * 10.0}, {}),
    "gamma times 100": ({"gamma": 1.0}, {}),
    "L1 mean": ({"beta": 1.0}, {"l1_reduction": "mean"}),
    "L1 stages equal": ({}, {"l1_stages": "equal"}),
    "CPS stages weighted": ({}, {"cps_stages": "overhaul"}),
    "CPS all rings": ({}, {"cps_rings": "all"}),
}


@dataclass(frozen=True)
class Job:
    """One run of the study.

    Attributes:
        step: of the order of work, from 1.
        name: of its folder and its record.
        row: of a table it belongs to: a method, or what an ablation changes.
        recipe: see ``recipes``.
        kind: what to do.
        method, options: as ``training.api.distill``.
        teacher: name of the job that trains the teacher; None where there is none.
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


def study_jobs(size: Size) -> list[Job]:
    """The whole list, in the order of work."""
    jobs = _full() if size == "full" else _small()
    return sorted(jobs, key=lambda job: job.step)


def _full() -> Iterator[Job]:
    """Teachers and figures, setup (c), ablations, setups (a), (b), (d), other methods, (e), (f)."""
    yield _teacher("full", 1, "c", "heo")
    yield _teacher("full", 1, "c", "paper")
    yield _spectra("full", 2)
    for seed in SEEDS:
        for method in METHODS:
            yield _student("full", 3, "c", method, seed)
        yield _student("full", 3, "c", "spectral", seed, "spectral paper weights", _PAPER_WEIGHTS)
    for seed, method in product(SEEDS, METHODS):
        yield _student("full", 3, "c", method, seed, preset="paper")
    for row in ABLATIONS:
        yield _ablation("full", 4, row)
    for setup, seed, method in product("abd", SEEDS, METHODS):
        yield _student("full", 5, setup, method, seed)
    for seed, method in product(SEEDS, MORE_METHODS):
        yield _student("full", 6, "c", method, seed)
    yield _teacher("full", 7, "e", "heo")
    for setup, method in product("ef", METHODS):
        yield _student("full", 7, setup, method, 0)


def _small() -> Iterator[Job]:
    """One run of each kind first; step 8 is everything else."""
    yield _teacher("small", 1, "c", "heo")
    yield _spectra("small", 2)
    for seed in SEEDS:
        step = 3 if seed == 0 else 8
        for method in METHODS:
            yield _student("small", step, "c", method, seed)
        yield _student(
            "small", step, "c", "spectral", seed, "spectral paper weights", _PAPER_WEIGHTS
        )
    for method in METHODS:
        yield _student("small", 8, "c", method, 0, preset="paper")
    for number, row in enumerate(ABLATIONS):
        yield _ablation("small", 4 if number < 4 else 8, row)
    for setup, method in product("abd", METHODS):
        first = setup == "d" and method in ("baseline", "spectral")
        yield _student("small", 5 if first else 8, setup, method, 0)
    for method in MORE_METHODS:
        yield _student("small", 6, "c", method, 0)
    yield _teacher("small", 8, "c", "paper")


def _teacher(size: Size, step: int, setup: str, preset: Preset) -> Job:
    changes = {"spectra_every": 10} if size == "full" else {"spectra_every": 1, **_SMALL_TEACHER}
    recipe = get_recipe(setup, preset, **changes)
    name = f"teacher-{recipe.teacher_model}-{preset}-0"
    ships = WEIGHTS[size] if preset == "heo" else None
    return Job(step, name, "teacher", recipe, "teacher", ships=ships)


def _spectra(size: Size, step: int) -> Job:
    teacher = _teacher(size, step, "c", "heo")
    name = f"spectra-{_TEACHERS[size]}"
    return Job(step, name, "spectra", teacher.recipe, "spectra", teacher=teacher.name)


def _ablation(size: Size, step: int, row: str) -> Job:
    changes, options = ABLATIONS[row]
    changes = {"holdout": 5000, **changes}
    return _student(size, step, "c", "spectral", 0, row, changes, options)


def _student(
    size: Size,
    step: int,
    setup: str,
    method: str,
    seed: int,
    row: str | None = None,
    changes: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    preset: Preset = "heo",
) -> Job:
    settings: dict[str, Any] = {"seed": seed, "spectra_every": 10}
    if size == "small":
        settings |= _SMALL_STUDENT | {"student_model": _SMALL_STUDENTS[setup]}
    recipe = get_recipe(setup, preset, **(settings | (changes or {})))
    label = (row or method).replace(" ", "-").replace("=", "-")
    alone = method == "baseline"
    teacher = None if alone else f"teacher-{recipe.teacher_model}-heo-0"
    ships = None
    if (setup, preset, seed) == ("c", "heo", 0) and label in ("baseline", "overhaul", "spectral"):
        ships = WEIGHTS[size] + ("" if alone else f"-{method}")
    return Job(
        step,
        f"{setup}-{preset}-{label}-{seed}",
        row or method,
        recipe,
        "student" if alone else "distill",
        method,
        options or {},
        teacher,
        ships,
    )
