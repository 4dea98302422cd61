"""The whole story in two minutes, offline: what a teacher gives a student that sees few images."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from spectralkd.analysis.activations import activation_spectra, image_spectrum
from spectralkd.analysis.agreement import StageAgreement, stage_agreement
from spectralkd.analysis.intervals import interval
from spectralkd.data import Split, load_data
from spectralkd.data.images import ImageArray, ImageData
from spectralkd.figures import report
from spectralkd.figures.tables import Style, format_table
from spectralkd.losses.distiller import Distiller
from spectralkd.models import create_model, stage_outputs
from spectralkd.models.weights import load_weights
from spectralkd.spectra.power import Spectrum
from spectralkd.spectra.powerlaw import PowerLaw, fit_power_law
from spectralkd.training.api import StudentRun, check_students, distill_together, fit, train
from spectralkd.training.recipes import Recipe
from spectralkd.training.run_folder import Run

# The teacher begins with weights that come with the package, and so needs little training.
PRETRAINED, TEACHER_EPOCHS, TEACHER_LR = "cifar100-short", 2, 0.02
STUDENT_IMAGES = 150
MEASURED_IMAGES = 500
TEACHER, ALONE = "teacher", "student alone"


class Demo(NamedTuple):
    """What the demo measured.

    Attributes:
        task: the task in words.
        images: spectrum of the validation images.
        crops: those that the student sees.
        errors: top-1 errors in percent, one a seed, by network: teacher, student alone, and a
            distilled student by method.
        seeds: in the order of the errors.
        spectra: of each network's stages, first seed.
        agreement: of each student with its teacher, by stage, first seed.
    """

    task: str
    images: Spectrum
    crops: ImageArray
    errors: dict[str, list[float]]
    seeds: tuple[int, ...]
    spectra: dict[str, dict[str, Spectrum]]
    agreement: dict[str, dict[str, StageAgreement]]


def run_demo(
    recipe: Recipe,
    folder: str | Path,
    methods: Sequence[str] = ("spectral",),
    seeds: int = 1,
    student_images: int = STUDENT_IMAGES,
    progress: bool = True,
    stop: Callable[[], bool] | None = None,
) -> Demo:
    """Train a teacher on many images, then a student on few of them, alone and distilled.

    The teacher was trained on CIFAR-100 before, with the weights that come with the package.

    Args:
        recipe: see ``recipes.get_recipe``. Students take as many steps as it has with all images.
        folder: of the runs; finished ones are not run again.
        methods: see ``losses.METHODS``.
        seeds: number of repetitions, from the recipe's seed on.
        student_images: how many images of the same halves the student sees, alone and distilled.
        progress: show progress bars.
        stop: as ``training.api.train``.

    Raises:
        ValueError: a number that is too small or too large, held out images; no weights for the
            teacher.
    """
    if seeds < 1:
        raise ValueError(f"seeds: expected at least 1, got {seeds}")
    if recipe.holdout:
        raise ValueError(f"holdout: expected 0, got {recipe.holdout}; the demo has other halves")
    check_students([StudentRun(recipe, folder, method) for method in methods])
    training, data = (_load(recipe, split) for split in ("train", "validation"))
    short = few_images(recipe, student_images, len(training))
    numbers = tuple(range(recipe.seed, recipe.seed + seeds))
    runs: list[dict[str, Run]] = []
    for seed in numbers:
        place, own = Path(folder) / f"seed-{seed}", replace(short, seed=seed)
        watched: dict[str, Any] = {"progress": progress, "stop": stop}
        whole = replace(recipe, seed=seed)
        teacher = _teach(whole, training, data, place / "teacher", **watched)
        alone = train(own, place / "alone", role="student", **watched)
        made = {TEACHER: teacher, ALONE: alone}
        students = [StudentRun(own, place / method, method) for method in methods]
        distilled = distill_together(students, teacher.path, **watched)
        made |= {f"student, {m}": run for m, run in zip(methods, distilled, strict=True)}
        runs.append(made)
    networks = {name: _network(run, len(data.classes)) for name, run in runs[0].items()}
    measured = data.subset(MEASURED_IMAGES)
    return Demo(
        task=_task(recipe, student_images, training, data),
        images=image_spectrum(data, ring="jacobian", progress=False),
        crops=_load(short, "train"),
        errors={
            name: [made[name].last_metrics()["top1_error"] for made in runs] for name in runs[0]
        },
        seeds=numbers,
        spectra={name: _spectra(network, measured) for name, network in networks.items()},
        agreement={
            name: stage_agreement(networks[TEACHER], network, measured.batches(100), progress=False)
            for name, network in networks.items()
            if name != TEACHER
        },
    )


def few_images(recipe: Recipe, images: int, of: int) -> Recipe:
    """The recipe for ``images`` of ``of`` training images, with as many steps in more epochs.

    Raises:
        ValueError: fewer than two images, or more than there are.
    """
    if not 2 <= images <= of:
        raise ValueError(f"student_images: expected 2 to {of}, got {images}")
    batch = min(recipe.batch_size, images)
    steps = recipe.epochs * math.ceil(of / recipe.batch_size)
    epochs = max(1, steps // math.ceil(images / batch))
    return replace(
        recipe, train_images=images, batch_size=batch, epochs=epochs, evaluate_every=epochs
    )


# --- what is said ---------------------------------------------------------------------------------


def demo_table(demo: Demo, style: Style = "text") -> str:
    """Errors over seeds and exponents of the networks side by side."""
    stages = list(next(iter(demo.spectra.values())))
    header = ("network", "top-1 error", *(f"α {stage}" for stage in stages))
    rows = []
    for name, errors in demo.errors.items():
        exponents = (f"{_law(demo.spectra[name][stage]).exponent:.2f}" for stage in stages)
        rows.append((name, f"{statistics.mean(errors):.1f} %", *exponents))
    images = f"(the images: α {_law(demo.images).exponent:.2f})"
    return format_table(header, [*rows, (images, *[""] * (len(stages) + 1))], style)


def seeds_table(demo: Demo, style: Style = "text") -> str:
    """The error of every network at every seed, in percent."""
    header = ("top-1 error (%)", *(f"seed {seed}" for seed in demo.seeds), "mean")
    rows = [
        (name, *(f"{error:.1f}" for error in errors), f"{statistics.mean(errors):.1f}")
        for name, errors in demo.errors.items()
    ]
    return format_table(header, rows, style)


def differences(demo: Demo) -> list[str]:
    """Every network against the student alone, and further methods against the first one."""
    students = [name for name in demo.errors if name not in (TEACHER, ALONE)]
    pairs = [(name, ALONE) for name in (TEACHER, *students)]
    pairs += [(name, students[0]) for name in students[1:]]
    said = []
    for name, other in pairs:
        points = [b - a for a, b in zip(demo.errors[name], demo.errors[other], strict=True)]
        mean = interval(points)
        word = "better" if mean.mean >= 0 else "worse"
        text = f"{name}: {abs(mean.mean):.1f} points {word} than {other}"
        if len(points) > 1:
            text += (
                f" ({min(points):.1f} to {max(points):.1f} over {len(points)} seeds; 95 % "
                f"interval of the mean {mean.low:.1f} to {mean.high:.1f})"
            )
        said.append(text)
    return said


def how_measured(demo: Demo) -> str:
    """The task, and how its numbers were measured."""
    said = (
        f"{demo.task} α: exponent of |k| × ring-mean power over [1/8, 1/2) cycles/pixel, batch "
        f"statistics, {MEASURED_IMAGES} validation crops, seed {demo.seeds[0]}. Settings were "
        "chosen on another seed (102)."
    )
    if len(demo.seeds) == 1:
        said += " This is one seed; --seeds 5 measures how much the errors vary."
    return said


def write_demo(demo: Demo, path: str | Path) -> None:
    """The demo as an HTML page with plots; needs plotly."""
    from spectralkd.figures.agreement import agreement_figure
    from spectralkd.figures.images import contact_sheet
    from spectralkd.figures.runs import errors_figure
    from spectralkd.figures.spectra import plot_spectra

    stages = next(iter(demo.spectra.values()))
    colors = {name: number for number, name in enumerate(demo.errors)}  # as the bars' and spectra's
    differing = "".join(f"<li>{text}</li>" for text in differences(demo))
    sections: list[tuple[str, Any]] = [
        ("What was asked", f"<p>{demo.task}</p>"),
        ("All that the student sees", contact_sheet(demo.crops.images)),
        ("Errors", errors_figure(demo.errors, demo.seeds)),
        ("In numbers", f"{demo_table(demo, 'html')}<ul>{differing}</ul>"),
    ]
    if len(demo.seeds) > 1:
        sections.append(("Seed by seed", seeds_table(demo, "html")))
    sections += [
        (
            "At which scales a student agrees with its teacher",
            "<p>Ring correlation (Eq. 8) of the teacher's maps with the student's after the best "
            "1×1 convolution, by stage: 1 where waves of that length stand in the same places. "
            "Fine detail is to the right.</p>",
        ),
        ("", agreement_figure(demo.agreement, ceiling=False, colors=colors)),
        ("The images", plot_spectra({"images": demo.images}, {"images": _law(demo.images)})),
    ]
    for stage in stages:
        spectra = {name: spectra[stage] for name, spectra in demo.spectra.items()}
        fits = {name: _law(spectrum) for name, spectrum in spectra.items()}
        figure = plot_spectra(spectra, fits, normalize=True, y_range=(3e-3, 10))
        sections.append((f"Maps of {stage}", figure))
    sections.append(("How measured", f"<p>{how_measured(demo)}</p>"))
    report.write_report(path, "What a teacher gives: spectralkd demo", sections)


def _load(recipe: Recipe, split: Split) -> ImageArray:
    data = load_data(recipe.data, split, root=recipe.root, image_size=recipe.image_size)
    count = recipe.train_images if split == "train" else recipe.validation_images
    data = data.subset(count) if count else data
    if not isinstance(data, ImageArray):
        raise ValueError(f"data: expected images held in memory, got {recipe.data!r}")
    return data


def _teach(
    recipe: Recipe, training: ImageData, validation: ImageData, folder: Path, **watched: Any
) -> Run:
    """Train the teacher from its weights of CIFAR-100, but for the last layer."""
    torch.manual_seed(recipe.seed)
    teacher = create_model(recipe.teacher_model, len(training.classes))
    before = create_model(recipe.teacher_model, pretrained=PRETRAINED).state_dict()
    fitting = {k: before[k] for k, v in teacher.state_dict().items() if before[k].shape == v.shape}
    teacher.load_state_dict(fitting, strict=False)
    short = replace(recipe, epochs=TEACHER_EPOCHS, lr=TEACHER_LR)
    distiller = Distiller(None, teacher, "baseline")
    name = recipe.teacher_model
    return fit(distiller, training, validation, short, folder, name=name, **watched)


def _task(recipe: Recipe, few: int, training: ImageData, validation: ImageData) -> str:
    crops = "gray, tinted, noisy, turned crop" if recipe.data == "photos-hard" else "crop"
    return (
        f"The task: from which of {len(validation.classes)} photographs is a {crops}? The teacher "
        f"({recipe.teacher_model}) was trained on CIFAR-100, then on {len(training):,} labeled "
        f"crops of one half of each photograph; the student ({recipe.student_model}), alone or "
        f"distilled, sees {few} such crops and no others. Errors are on "
        f"{len(validation):,} crops of the other halves; guessing gives "
        f"{100 - 100 / len(validation.classes):.1f} %."
    )


def _network(run: Run, classes: int) -> nn.Module:
    model = create_model(run.read_config()["network"], classes)
    load_weights(model, run.weights_file)
    return model


def _spectra(model: nn.Module, data: ImageData) -> dict[str, Spectrum]:
    return activation_spectra(
        model,
        data.batches(100),
        stage_outputs(model),
        ring="jacobian",
        statistics="batch",
        progress=False,
    )


def _law(spectrum: Spectrum) -> PowerLaw:
    return fit_power_law(spectrum.frequency, spectrum.power)
