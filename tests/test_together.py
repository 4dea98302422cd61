"""Is each of several students behind one teacher's pass what it would be alone?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from typer.testing import CliRunner

from spectralkd.cli.app import app
from spectralkd.losses.at import AT
from spectralkd.losses.distiller import Distiller, share_teacher
from spectralkd.models import create_model
from spectralkd.training.api import StudentRun, distill, distill_together
from spectralkd.training.recipes import Recipe, get_recipe
from spectralkd.training.run_folder import Run
from spectralkd.training.together import Stopped

# Logits alone, running statistics, batch statistics, two phases, a teacher's graph of its own.
METHODS = ("kd", "at", "spectral", "ft", "jacobian")
OPTIONS = {"ft": {"paraphraser_epochs": 1}}


def tiny(**changes: Any) -> Recipe:
    settings = {"epochs": 2, "batch_size": 20, "train_images": 70, "validation_images": 40}
    return get_recipe("demo", **(settings | {"teacher_model": "wrn10_1"} | changes))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "t.safetensors"
    save_file(create_model("wrn10_1", 15).state_dict(), path)
    return path


def lines(run: Run) -> list[dict[str, Any]]:
    differs = ("images_per_second", "runs")
    return [{k: v for k, v in line.items() if k not in differs} for line in run.read_metrics()]


def equal(a: Run, b: Run) -> bool:
    ends = [load_file(run.weights_file) for run in (a, b)]
    return lines(a) == lines(b) and all(torch.equal(ends[0][n], ends[1][n]) for n in ends[0])


@pytest.fixture(scope="module")
def alone(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    place = tmp_path_factory.mktemp("alone")
    return {
        method: distill(
            tiny(spectra_every=1),
            place / method,
            method=method,
            teacher=teacher,
            options=OPTIONS.get(method),
            progress=False,
        )
        for method in METHODS
    }


def students(folder: Path, **changes: Any) -> list[StudentRun]:
    recipe = tiny(spectra_every=1, **changes)
    return [StudentRun(recipe, folder / m, m, OPTIONS.get(m, {})) for m in METHODS]


def test_each_student_is_what_it_would_be_alone(
    teacher: Path, alone: dict[str, Run], tmp_path: Path
) -> None:
    together = distill_together(students(tmp_path), teacher, progress=False)
    for method, run in zip(METHODS, together, strict=True):
        assert equal(run, alone[method]), method
        assert run.read_config() == alone[method].read_config()
    assert [line["runs"] for line in together[0].read_metrics()] == [5, 5]
    assert [line["runs"] for line in together[3].read_metrics()] == [5, 5, 1]  # FT goes on alone


def test_the_teacher_runs_once_a_batch_in_each_mode(teacher: Path, tmp_path: Path) -> None:
    network = create_model("wrn10_1", 15)
    distillers = [
        Distiller(network, create_model("wrn10_1", 15), method)
        for method in ("kd", "at", "overhaul", "spectral")
    ]
    share_teacher(distillers)
    passes: dict[Any, Any] = {}
    count = 0

    def counted(*_: Any) -> None:
        nonlocal count
        count += 1

    network.register_forward_hook(counted)
    images = torch.randn(4, 3, 32, 32)
    readings = [distiller.read_teacher(images, passes) for distiller in distillers]
    assert count == 2  # running statistics for two of them, batch statistics for the others
    alone = Distiller(network, create_model("wrn10_1", 15), "spectral").read_teacher(images)
    assert all(torch.equal(a, b) for a, b in zip(readings[3].maps, alone.maps, strict=True))
    assert len(readings[0].maps) == 0
    with pytest.raises(ValueError, match="distillers: expected one teacher"):
        share_teacher(
            [distillers[0], Distiller(create_model("wrn10_1"), create_model("wrn10_1"), "kd")]
        )


def test_stopped_runs_and_runs_that_are_behind_catch_up(
    teacher: Path, alone: dict[str, Run], tmp_path: Path
) -> None:
    """Stopped after 3 steps, one of them taken on alone, then together again."""

    def work(some: list[StudentRun], steps: int | None) -> None:
        taken = 0

        def stop() -> bool:
            nonlocal taken
            taken += 1
            return taken == steps

        distill_together(some, teacher, progress=False, stop=stop)

    with pytest.raises(Stopped, match="kd, .*at, .*: stopped; the same command resumes it"):
        work(students(tmp_path), 3)
    with pytest.raises(Stopped):
        work(students(tmp_path)[1:3], 2)
    with pytest.raises(Stopped):  # while the others catch up with the two
        work(students(tmp_path), 1)
    work(students(tmp_path), None)
    for method in METHODS:
        assert equal(Run(tmp_path / method), alone[method]), method


def test_seeds_see_batches_of_their_own(teacher: Path, tmp_path: Path) -> None:
    runs = [
        StudentRun(tiny(epochs=1, seed=seed), tmp_path / f"{method}-{seed}", method)
        for seed in (0, 1)
        for method in ("kd", "at")
    ]
    made = distill_together(runs, teacher, progress=False)
    for student, run in zip(runs, made, strict=True):
        assert run.read_metrics()[-1]["runs"] == 2
        single = distill(
            student.recipe,
            tmp_path / "single" / Path(student.run).name,
            method=student.method,
            teacher=teacher,
            progress=False,
        )
        assert equal(run, single)


class Dropping(nn.Module):
    """A network that draws random numbers in training."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=4), nn.Dropout(0.5), nn.Flatten(), nn.LazyLinear(num_classes)
        )
        self.net(torch.zeros(1, 3, 32, 32))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits


def test_each_student_draws_its_own_random_numbers(teacher: Path, tmp_path: Path) -> None:
    recipe = tiny(student_model="test_together:Dropping", epochs=1)
    both = [StudentRun(recipe, tmp_path / str(n), "kd", {"weight": 0.1 * n}) for n in (1, 2)]
    together = distill_together(both, teacher, progress=False)
    for student, run in zip(both, together, strict=True):
        single = distill(
            recipe,
            tmp_path / f"{run.path.name}-alone",
            method="kd",
            teacher=teacher,
            options=student.options,
            progress=False,
        )
        assert equal(run, single)


def test_one_run_that_fails_does_not_take_the_others_with_it(teacher: Path, tmp_path: Path) -> None:
    wild = StudentRun(tiny(), tmp_path / "wild", "at", {"weight": 1e38})
    other = StudentRun(tiny(seed=1), tmp_path / "other", "at", {"weight": 1e38})
    calm = [StudentRun(tiny(seed=n), tmp_path / f"calm-{n}", "at") for n in (0, 1)]
    says = "wild: epoch 1 of .* is not finite.*; .*other: epoch 1 of .* is not finite"
    with pytest.raises(FloatingPointError, match=says):
        distill_together([wild, calm[0], other, calm[1]], teacher, progress=False)
    assert all(Run(student.run).finished for student in calm)
    assert not Run(wild.run).finished


def test_one_run_that_fails_at_a_stop_does_not_cost_the_others_their_state(
    teacher: Path, tmp_path: Path
) -> None:
    wild = StudentRun(tiny(), tmp_path / "wild", "at", {"weight": 1e38})
    calm = StudentRun(tiny(), tmp_path / "calm", "at")
    says = "calm: stopped; .* resumes it; .*wild: epoch 1 of .* is not finite"
    steps = iter([False, False, True])
    with pytest.raises(Stopped, match=says):
        distill_together([wild, calm], teacher, progress=False, stop=lambda: next(steps))
    assert list(Path(calm.run).glob("checkpoint*.pt"))
    assert not list(Path(wild.run).glob("checkpoint*.pt"))
    steps = iter([False, False, True])  # alone it ends at the stop, too
    with pytest.raises(FloatingPointError, match="wild: epoch 1 of .* is not finite"):
        distill_together([wild], teacher, progress=False, stop=lambda: next(steps))


def test_the_recipe_sets_what_a_method_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def options(method: str, **own: Any) -> dict[str, Any]:
        return StudentRun(get_recipe("c", "heo"), tmp_path, method, own).all_options

    assert options("spectral", gamma=3.0) == {"alpha": 1e-3, "beta": 1e-3, "gamma": 3.0}
    assert options("overhaul") == {"alpha": 1e-3}
    assert options("dkd") == options("focal") == {}  # whose α and β are others
    assert options("dkd+overhaul") == {"dkd": {}, "overhaul": {"alpha": 1e-3}}
    assert options("own_parts:LogitMSE") == {"momentum": 0.9}  # any field of a recipe
    monkeypatch.setattr(AT, "of_recipe", ("speed",))
    with pytest.raises(ValueError, match="'at': expected of_recipe to name fields .*, got speed"):
        options("at")


def test_recipes_of_two_teachers_are_refused(teacher: Path, tmp_path: Path) -> None:
    two = [StudentRun(tiny(teacher_model=name), tmp_path / name) for name in ("wrn10_1", "wrn10_2")]
    with pytest.raises(ValueError, match="students: expected recipes of one teacher"):
        distill_together(two, teacher)
    assert not any(tmp_path.iterdir())


def test_several_methods_and_seeds_on_the_command_line(teacher: Path, tmp_path: Path) -> None:
    run = tmp_path / "both"
    command = ["distill", "demo", "--run", str(run), "--teacher", str(teacher)]
    command += ["--method", "kd", "--method", "at", "--seed", "0", "--seed", "1"]
    command += ["--teacher-model", "wrn10_1", "--epochs", "1", "--train-images", "40"]
    command += ["--validation-images", "40", "--batch-size", "20", "--option", "at.weight=10"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    names = ["at-0", "at-1", "kd-0", "kd-1"]
    assert sorted(path.name for path in run.iterdir()) == names
    assert result.output.count("top-1 error") == 4
    configs = {name: Run(run / name).read_config() for name in names}
    assert configs["at-1"]["options"]["weight"] == 10
    assert {config["recipe"]["seed"] for config in configs.values()} == {0, 1}


def test_a_seed_is_that_of_the_teacher_that_is_trained_first(tmp_path: Path) -> None:
    command = ["distill", "demo", "--run", str(tmp_path), "--seed", "3", "--teacher-model"]
    command += ["own_parts:tiny", "--student-model", "own_parts:tiny", "--data", "own_parts:few"]
    command += ["--epochs", "1", "--batch-size", "20", "--method", "own_parts:LogitMSE"]
    command += ["--method", "kd+own_parts:LogitMSE"]  # not the same folder
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert Run(tmp_path / "teacher").read_config()["recipe"]["seed"] == 3
    names = {"own_parts.LogitMSE-3", "kd+own_parts.LogitMSE-3"}
    assert {path.name for path in tmp_path.iterdir()} == {*names, "teacher"}
    command[command.index("3")] = "4"  # of the same teacher
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    assert Run(tmp_path / "teacher").read_config()["recipe"]["seed"] == 3
    assert Run(tmp_path / "own_parts.LogitMSE-4").finished
