"""The whole story in minutes, offline: spectra, a teacher, and a student with and without it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from spectralkd.analysis.activations import activation_spectra, image_spectrum
from spectralkd.data import load_data
from spectralkd.figures import report
from spectralkd.figures.tables import format_table
from spectralkd.models import create_model, model_stages
from spectralkd.models.weights import load_weights
from spectralkd.spectra.power import Spectrum
from spectralkd.spectra.powerlaw import PowerLaw, fit_power_law
from spectralkd.training.api import StudentRun, check_students, distill, train
from spectralkd.training.recipes import Recipe
from spectralkd.training.run_folder import Run

HOW_MEASURED = (
    "α: exponent of |k| × ring-mean power over [1/8, 1/2) cycles/pixel, batch statistics. "
    "Fifteen photographs are an easy task: errors differ by a few percent from seed to seed, so "
    "this shows how it works, not which is better."
)


class Demo(NamedTuple):
    """What the demo measured.

    Attributes:
        images: spectrum of the validation images.
        runs: the finished runs: teacher, student alone, student distilled.
        spectra: of each network's stages, by the runs' names.
    """

    images: Spectrum
    runs: dict[str, Run]
    spectra: dict[str, dict[str, Spectrum]]


def run_demo(
    recipe: Recipe,
    folder: str | Path,
    progress: bool = True,
    stop: Callable[[], bool] | None = None,
) -> Demo:
    """Measure images, train a teacher, then the student alone and with the spectral loss.

    Args:
        recipe: see ``recipes.get_recipe``.
        folder: of the three runs; finished ones are not run again.
        progress: show progress bars.
        stop: as ``training.api.train``.
    """
    check_students([StudentRun(recipe, folder)])
    place = Path(folder)
    data = load_data(recipe.data, root=recipe.root, image_size=recipe.image_size)
    images = image_spectrum(data, ring="jacobian", progress=progress)
    teacher = train(recipe, place / "teacher", role="teacher", progress=progress, stop=stop)
    alone = train(recipe, place / "student", role="student", progress=progress, stop=stop)
    distilled = distill(
        recipe,
        place / "spectral",
        method="spectral",
        teacher=teacher.path,
        progress=progress,
        stop=stop,
    )
    runs = {"teacher": teacher, "student alone": alone, "student, spectral": distilled}
    spectra = {}
    for name, run in runs.items():
        model = create_model(run.read_config()["network"], len(data.classes))
        load_weights(model, run.weights_file)
        outputs = [stage.output for stage in model_stages(model)]
        spectra[name] = activation_spectra(
            model, data.batches(100), outputs, ring="jacobian", statistics="batch", progress=False
        )
    return Demo(images, runs, spectra)


def demo_table(demo: Demo, style: str = "text") -> str:
    """Errors and exponents of the three networks side by side."""
    stages = list(next(iter(demo.spectra.values())))
    header = ("network", "top-1 error", *(f"α {stage}" for stage in stages))
    rows = []
    for name, run in demo.runs.items():
        laws = [_law(demo.spectra[name][stage]) for stage in stages]
        error = run.read_metrics()[-1]["top1_error"]
        rows.append((name, f"{error:.2f} %", *(f"{law.exponent:.2f}" for law in laws)))
    law = _law(demo.images)
    rows.append(("(the images)", "", f"{law.exponent:.2f}", *[""] * (len(stages) - 1)))
    return format_table(header, rows, style)  # type: ignore[arg-type]


def write_demo(demo: Demo, path: str | Path) -> None:
    """The demo as an HTML page with plots; needs plotly."""
    from spectralkd.figures.runs import curves_figure
    from spectralkd.figures.spectra import plot_spectra

    laws = {"images": _law(demo.images)}
    sections: list[tuple[str, Any]] = [
        ("Errors and exponents", demo_table(demo, "html")),
        ("How measured", f"<p>{HOW_MEASURED}</p>"),
        ("The images", plot_spectra({"images": demo.images}, laws)),
    ]
    for stage in next(iter(demo.spectra.values())):
        spectra = {name: spectra[stage] for name, spectra in demo.spectra.items()}
        fits = {name: _law(spectrum) for name, spectrum in spectra.items()}
        figure = plot_spectra(spectra, fits, normalize=True, y_range=(1e-3, 2))
        sections.append((f"Maps of {stage}", figure))
    lines = {name: run.read_metrics() for name, run in demo.runs.items()}
    sections.append(("Error while training", curves_figure(lines, "top1_error", "top-1 error (%)")))
    report.write_report(path, "spectralkd demo", sections)


def _law(spectrum: Spectrum) -> PowerLaw:
    return fit_power_law(spectrum.frequency, spectrum.power)
