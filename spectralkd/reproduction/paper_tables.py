"""The paper's Tables 2 and 3, and the same tables from finished runs."""

from __future__ import annotations

import html
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from spectralkd.figures.tables import Style, format_table
from spectralkd.losses.options import named_options, own_options
from spectralkd.reproduction.records import Record
from spectralkd.training.recipes import FREE_FIELDS, RECIPES, Recipe, get_recipe
from spectralkd.training.run_folder import Run, find_runs

# Error in percent on CIFAR-100's validation set, setups a-f: Table 2 of the paper.
TABLE_2: dict[str, tuple[float, ...]] = {
    "teacher": (21.09, 21.09, 21.09, 21.09, 15.57, 15.57),
    "baseline": (22.72, 24.88, 27.32, 27.68, 21.09, 22.58),
    "kd": (21.69, 23.43, 26.47, 26.76, 20.97, 21.68),
    "fitnets": (21.85, 23.94, 26.30, 26.35, 22.16, 23.79),
    "at": (22.07, 23.80, 26.56, 26.66, 19.28, 19.93),
    "jacobian": (22.18, 23.70, 26.71, 26.60, 20.59, 23.49),
    "ft": (21.72, 23.41, 25.91, 26.20, 19.04, 19.53),
    "ab": (21.36, 23.19, 26.02, 26.04, 20.46, 20.89),
    "overhaul": (20.72, 22.15, 24.27, 25.11, 18.03, 19.07),
    "spectral": (20.37, 21.45, 24.42, 24.87, 17.99, 18.67),
}
# The row that Overhaul's authors publish with their code (clovaai/overhaul-distillation).
OVERHAUL_CODE = (20.89, 21.98, 24.08, 24.44, 17.80, 18.89)
# Top-1 and top-5 error in percent on ILSVRC 2012's validation set: Table 3 of the paper.
TABLE_3: dict[str, tuple[float, float]] = {
    "teacher": (23.84, 7.14),
    "baseline": (31.13, 11.24),
    "kd": (31.42, 11.02),
    "at": (30.44, 10.67),
    "ft": (30.12, 10.50),
    "ab": (31.11, 11.29),
    "overhaul": (28.75, 9.66),
    "spectral": (27.49, 8.99),
}


class Group(NamedTuple):
    """Finished runs that differ in their seed only.

    Attributes:
        setup: name of the recipe.
        method: ``"teacher"``, or one of ``losses.METHODS``.
        preset: of the recipe.
        changes: settings that differ from the preset's, ``name=value``.
        top1, top5: last errors in percent by seed.
    """

    setup: str
    method: str
    preset: str
    changes: tuple[str, ...]
    top1: dict[int, float]
    top5: dict[int, float]


def results_table(paths: Iterable[str | Path], style: Style = "text") -> str:
    """Table 2 or 3 from finished runs beside the paper's numbers; unfinished runs below it.

    Args:
        paths: folders of runs.
        style: as ``format_table``; ``"csv"`` has no place for unfinished runs.

    Returns:
        For each setup, method, preset and change: the error published in the paper (for Overhaul
        also by its authors) where data and networks are the paper's, the median of the runs' last
        errors, its spread and the number of seeds.

    Raises:
        FileNotFoundError: a folder holds no run.
    """
    groups, unfinished = group_runs(paths)
    header = ("setup", "method", "preset", "changes", "paper", "median", "spread", "top-5", "seeds")
    rows = [
        (
            group.setup,
            group.method,
            group.preset,
            " ".join(group.changes) or "none",
            published(group.setup, group.method) if _papers(group) else "–",
            f"{statistics.median(group.top1.values()):.2f}",
            f"{min(group.top1.values()):.2f} to {max(group.top1.values()):.2f}",
            f"{statistics.median(group.top5.values()):.2f}",
            str(len(group.top1)),
        )
        for group in groups
    ]
    table = format_table(header, rows, style)
    if unfinished and style != "csv":
        note = f"Unfinished: {'; '.join(unfinished)}"
        shown = {"html": f"\n<p>{html.escape(note)}</p>", "latex": f"\n% {note}"}
        table += shown.get(style, f"\n\n{note}")
    return table


def _papers(group: Group) -> bool:
    """Whether runs are of the data and the networks of the paper's setup."""
    others = {"data", "image_size", "train_images", "validation_images", "holdout"}
    others |= {"network", "teacher_model", "student_model"}
    return not any(change.partition("=")[0] in others for change in group.changes)


def record_table(
    records: Mapping[str, Record], *, preset: str = "heo", style: Style = "text"
) -> str:
    """Table 2 from the study's records: errors in percent on CIFAR-100's validation set.

    Args:
        records: as ``records.read_records`` gives them.
        preset: of the recipes.
        style: as ``results_table``.

    Returns:
        A row a method, a column a setup and pair of networks that have a record: the median of
        the last errors and, of several seeds, their range and number. For ``full`` records, whose
        networks are the paper's, its error stands before it; others have nothing in the paper to
        be compared with.
    """
    cells: dict[tuple[str, _Column], list[float]] = defaultdict(list)
    teachers: dict[str, list[float]] = defaultdict(list)
    full = {record["size"] for record in records.values()} == {"full"}
    columns = set()
    for record in records.values():
        recipe = record["config"].get("recipe")
        if not recipe or recipe["preset"] != preset or recipe["holdout"]:
            continue
        column = _Column(recipe["setup"], recipe["teacher_model"], recipe["student_model"])
        is_teacher = record["row"] == "teacher"
        errors = teachers[column.teacher] if is_teacher else cells[record["row"], column]
        errors.append(record["metrics"][-1]["top1_error"])
        if full or not is_teacher:
            columns.add(column)
    for column in columns:
        cells["teacher", column] = teachers.get(column.teacher, [])
    ordered = sorted(columns)
    rows = []
    for method in (*TABLE_2, "spectral paper weights"):
        measured = [cells.get((method, column), []) for column in ordered]
        if any(measured):
            known = [f"{published(c.setup, method)} / " if full else "" for c in ordered]
            shown = zip(known, measured, strict=True)
            rows.append([method, *(paper + _cell(errors) for paper, errors in shown)])
    setups = Counter(column.setup for column in ordered)
    header = ["method"]
    for setup, teacher, student in ordered:
        networks = "" if full and setups[setup] == 1 else f", {teacher} → {student}"
        header.append(f"{'paper / measured, ' if full else ''}setup {setup}{networks}")
    return format_table(header, rows, style)


class _Column(NamedTuple):
    setup: str
    teacher: str
    student: str


def _cell(errors: list[float]) -> str:
    if not errors:
        return "–"
    if len(errors) == 1:
        return f"{errors[0]:.2f}"
    middle, low, high = statistics.median(errors), min(errors), max(errors)
    return f"{middle:.2f} ({low:.2f} to {high:.2f}, {len(errors)} seeds)"


def group_runs(paths: Iterable[str | Path]) -> tuple[list[Group], list[str]]:
    """Finished runs grouped over seeds, and a line on each unfinished one."""
    groups: dict[tuple[str, str, str, tuple[str, ...]], Group] = {}
    unfinished = []
    for path in _run_folders(paths):
        run = Run(path)
        if not run.finished:
            done, total = run.progress()
            unfinished.append(f"{path} ({done} epochs of {total})")
            continue
        config, last = run.read_config(), run.last_metrics()
        recipe = config["recipe"]
        method = "teacher" if config["role"] == "teacher" else config["method"]
        setup = "custom" if config["role"] == "custom" else recipe["setup"]
        key = (setup, method, recipe["preset"], changes_of(config))
        group, seed = groups.setdefault(key, Group(*key, {}, {})), recipe["seed"]
        if seed in group.top1:
            raise ValueError(f"runs: {path} repeats seed {seed} of {' '.join(key[:3])}")
        group.top1[seed], group.top5[seed] = last["top1_error"], last["top5_error"]
    order = {name: number for number, name in enumerate((*RECIPES, "custom"))}
    methods = {name: number for number, name in enumerate(TABLE_2)}
    ordered = sorted(
        groups.values(), key=lambda g: (order.get(g.setup, 99), methods.get(g.method, 99), g[2:4])
    )
    return ordered, unfinished


def _run_folders(paths: Iterable[str | Path]) -> Iterator[Path]:
    """Folders of runs; a folder of such folders stands for the runs in it."""
    for path in map(Path, paths):
        inside = [path] if (path / "config.json").is_file() else find_runs(path)
        runs = [run for run in inside if (run / "config.json").is_file()]
        if not runs:
            raise FileNotFoundError(
                f"runs: expected folders of runs, or of several runs, got {str(path)!r}"
            )
        yield from runs


def changes_of(config: dict[str, Any]) -> tuple[str, ...]:
    """Settings of a run that differ from its preset, seed and folders aside."""
    recipe = config["recipe"]
    known = recipe["setup"] in RECIPES
    plain = vars(get_recipe(recipe["setup"], recipe["preset"]) if known else Recipe())
    ignored = {*FREE_FIELDS, "seed", "setup", "preset"}
    own = config["role"] == "custom" or not known
    changed: dict[str, Any] = {"network": config["network"]} if own else {}
    changed |= {
        name: value
        for name, value in recipe.items()
        if name not in ignored and value != _as_json(plain[name])
    }
    options = named_options(own_options(config["method"], config["options"], recipe))
    paired = {name: config[name] for name in ("layers", "layout", "resize") if name in config}
    return tuple(f"{name}={value}" for name, value in (changed | options | paired).items())


def published(setup: str, method: str) -> str:
    """The paper's error for a cell of Table 2 or 3, as it prints it."""
    if setup == "imagenet" and method in TABLE_3:
        return " / ".join(f"{value:.2f}" for value in TABLE_3[method])
    if setup in "abcdef" and method in TABLE_2:
        column = "abcdef".index(setup)
        paper = f"{TABLE_2[method][column]:.2f}"
        return f"{paper} (code {OVERHAUL_CODE[column]:.2f})" if method == "overhaul" else paper
    return "–"


def _as_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
