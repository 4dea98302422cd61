"""Does the demo set the task that it describes, and say no more than it measured?"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from spectralkd.cli import demo as command
from spectralkd.data import load_data
from spectralkd.figures.images import contact_sheet
from spectralkd.figures.report import write_report
from spectralkd.models import create_model
from spectralkd.reproduction.demo import Demo, differences, few_images, run_demo, seeds_table
from spectralkd.training.recipes import get_recipe
from spectralkd.training.run_folder import Run

TINY = {"epochs": 1, "train_images": 60, "validation_images": 60, "batch_size": 20}


def measured(errors: dict[str, list[float]]) -> Demo:
    """A demo of these errors."""
    seeds = tuple(range(len(errors["teacher"])))
    return Demo("", None, None, errors, seeds, {}, {})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Demo, Path]:
    folder = tmp_path_factory.mktemp("demo")
    recipe = get_recipe("demo", seed=3, teacher_model="wrn16_1", **TINY)
    found = run_demo(recipe, folder, ("spectral", "kd"), 2, student_images=15, progress=False)
    return found, folder


def test_teacher_and_students_see_what_the_task_says(tiny: tuple[Demo, Path]) -> None:
    demo, folder = tiny
    assert "on 60 labeled crops" in demo.task
    assert "sees 15 such crops" in demo.task
    assert torch.equal(demo.crops.images, load_data("photos-hard", "train").subset(15).images)
    for seed in (3, 4):
        teacher = Run(folder / f"seed-{seed}" / "teacher").read_config()
        assert (teacher["images"], teacher["recipe"]["seed"]) == ([60, 60], seed)
        for name in ("alone", "spectral", "kd"):
            recipe = Run(folder / f"seed-{seed}" / name).read_config()["recipe"]
            # Three steps, as with all sixty images.
            assert (recipe["train_images"], recipe["epochs"], recipe["seed"]) == (15, 3, seed)


def test_the_teacher_begins_with_what_it_learned_before(tiny: tuple[Demo, Path]) -> None:
    weights = load_file(Run(tiny[1] / "seed-3" / "teacher").weights_file)
    before = create_model("wrn16_1", pretrained="cifar100-short").state_dict()
    change = {
        k: float((weights[k] - v).norm() / v.norm()) for k, v in before.items() if "conv" in k
    }
    assert 0 < max(change.values()) < 0.5


def test_its_errors_are_those_of_the_runs(tiny: tuple[Demo, Path]) -> None:
    demo, folder = tiny
    last = [Run(folder / f"seed-{seed}" / "kd").read_metrics()[-1] for seed in demo.seeds]
    assert demo.errors["student, kd"] == [line["top1_error"] for line in last]
    assert list(demo.agreement) == ["student alone", "student, spectral", "student, kd"]
    assert len(demo.spectra) == 4


def test_a_student_takes_as_many_steps_as_with_all_images() -> None:
    recipe = get_recipe("demo", epochs=4, batch_size=50)
    for images in (15, 60, 75, 150, 3000):
        few = few_images(recipe, images, 3000)
        per_epoch = -(-images // few.batch_size)
        assert few.train_images == images
        assert abs(few.epochs * per_epoch - 4 * 60) < per_epoch


def test_numbers_that_cannot_be_are_refused(tmp_path: Path) -> None:
    recipe = get_recipe("demo", **TINY)
    with pytest.raises(ValueError, match="student_images: expected 2 to 60, got 61"):
        run_demo(recipe, tmp_path, student_images=61)
    with pytest.raises(ValueError, match="seeds: expected at least 1, got 0"):
        run_demo(recipe, tmp_path, seeds=0)
    with pytest.raises(ValueError, match="holdout: expected 0, got 50"):
        run_demo(replace(recipe, holdout=50), tmp_path)


def test_a_difference_is_judged_over_the_seeds() -> None:
    errors = {
        "teacher": [10.0, 10.0, 10.0],
        "student alone": [30.0, 31.0, 32.0],
        "student, spectral": [20.0, 32.0, 30.0],
        "student, kd": [40.0, 41.0, 42.5],
    }
    teacher, spectral, kd, versus = differences(measured(errors))
    assert "21.0 points better" in teacher
    # By hand: Student's t of 2 degrees is 4.303, the deviation 1.
    assert "20.0 to 22.0 over 3 seeds; 95 % interval of the mean 18.5 to 23.5" in teacher
    assert "3.7 points better" in spectral
    assert "interval of the mean -10.5 to 17.8" in spectral
    assert "10.2 points worse" in kd
    assert "-10.9 to -9.4" in kd
    assert versus.startswith("student, kd: 13.8 points worse than student, spectral")
    (one, *_) = differences(measured({name: values[:1] for name, values in errors.items()}))
    assert one == "teacher: 20.0 points better than student alone"
    assert seeds_table(measured(errors)).splitlines()[-1].split()[-1] == "41.2"


@pytest.mark.parametrize(
    ("terminal", "environment", "opens"),
    [
        (True, {"DISPLAY": ":0"}, True),
        (True, {"WAYLAND_DISPLAY": "w"}, True),
        (True, {}, False),
        (False, {"DISPLAY": ":0"}, False),
        (True, {"DISPLAY": ":0", "CI": "true"}, False),
    ],
)
def test_a_page_opens_only_where_someone_looks(
    terminal: bool, environment: dict[str, str], opens: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "CI"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    assert command._has_display() is opens


def test_a_page_fits_a_phone(tmp_path: Path) -> None:
    import plotly.graph_objects as go

    figure = go.Figure(go.Scatter(x=[1], y=[2], name="a"), {"width": 860, "height": 400})
    images = torch.zeros(3, 4, 4, 3, dtype=torch.uint8)
    write_report(tmp_path / "p.html", "t", [("A", figure), ("", contact_sheet(images))])
    page = (tmp_path / "p.html").read_text()
    assert "name='viewport'" in page
    assert '"width":860' not in page.replace(" ", "")
    assert figure.layout.width == 860
    assert page.count("<h2>") == 1
    assert 'alt="3 images of 4 by 4 pixels"' in page
