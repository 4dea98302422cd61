"""Does training train, lose nothing, and give the same on one process and two?"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import forks
import pytest
import torch
from accelerate import tracking
from accelerate.state import AcceleratorState
from accelerate.utils import LoggerType
from kill import train_until_killed
from PIL import Image
from safetensors.torch import load_file, save_file
from test_cli import run as command_line
from test_run_folder import in_another_process
from torch import Tensor, nn
from torch.nn import functional

from spectralkd import cli
from spectralkd.analysis.activations import stage_exponents
from spectralkd.bench import random_images
from spectralkd.cli import signals
from spectralkd.data import load_data
from spectralkd.data.augmentation import training_stream
from spectralkd.data.images import ImageArray, ImageData, hold_out
from spectralkd.data.photos import photos
from spectralkd.losses import METHODS
from spectralkd.losses.base import Method
from spectralkd.losses.distiller import Distiller
from spectralkd.models import MODELS, create_model, pretrained_file
from spectralkd.models.stage import Stage
from spectralkd.models.weights import load_weights
from spectralkd.reproduction.paper_tables import results_table
from spectralkd.training import accelerator as accelerators
from spectralkd.training import api, cuda_graph
from spectralkd.training.api import distill, fit, train
from spectralkd.training.evaluate import evaluate
from spectralkd.training.lock import LOCK, InUse, locked
from spectralkd.training.loop import Loop
from spectralkd.training.recipes import Recipe, get_recipe
from spectralkd.training.run_folder import Run
from spectralkd.training.together import Stopped, run_together

HERE = Path(__file__).resolve().parent


def tiny(**changes: Any) -> Recipe:
    """A run of seconds."""
    settings = {
        "data": "photos",
        "epochs": 2,
        "batch_size": 20,
        "train_images": 100,
        "validation_images": 60,
        "teacher_model": "wrn10_1",
    }
    return get_recipe("demo", **(settings | changes))


def without_rates(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in lines]


# --- the loop -------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", [False, True])
def test_the_loop_does_what_a_plain_loop_does(restart: bool, tmp_path: Path) -> None:
    settings = {"nesterov": True, "weight_decay": 1e-3, "drops": (0.5,), "train_images": 95}
    recipe = tiny(restart_momentum=restart, **settings)  # a last batch of 15
    run = train(recipe, tmp_path, role="student", progress=False)

    torch.manual_seed(recipe.seed)
    model = create_model("wrn10_1", 15).to(memory_format=torch.channels_last)
    data = photos("train").subset(95)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9, nesterov=True, weight_decay=1e-3)
    stream = training_stream(data, 20, seed=0)
    means = []
    for epoch in range(2):
        optimizer.param_groups[0]["lr"] = (0.1, 0.01)[epoch]
        if restart:  # at the drop
            optimizer.state.clear()
        losses = []
        for images, labels in stream.epoch(epoch):
            loss = functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses += [loss.item()] * len(labels)
        means.append(sum(losses) / len(losses))
    stored = load_file(run.weights_file)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(stored[name], value, rtol=1e-5, atol=1e-6)
    lines = run.read_metrics()
    assert [line["ce"] for line in lines] == pytest.approx(means, rel=1e-5)
    assert [line["lr"] for line in lines] == pytest.approx([0.1, 0.01])
    errors = evaluate(model, photos().subset(60))
    assert [lines[-1][name] for name in errors._fields] == pytest.approx(list(errors))


def test_mixup_is_for_teachers(tmp_path: Path) -> None:
    losses = {
        (role, mixup): train(
            tiny(epochs=1, train_images=40, student_model="wrn10_1", mixup=mixup),
            tmp_path / f"{role}-{mixup}",
            role=role,
            progress=False,
        ).read_metrics()[0]["loss"]
        for role in ("teacher", "student")
        for mixup in (0.0, 0.5)
    }
    assert losses["teacher", 0.0] != losses["teacher", 0.5]
    assert losses["student", 0.0] == losses["student", 0.5] == losses["teacher", 0.0]


def test_a_teacher_learns_the_photographs(tmp_path: Path) -> None:
    run = train(
        get_recipe(
            "demo",
            data="photos",
            teacher_model="wrn10_2",
            batch_size=50,
            epochs=3,
            train_images=600,
            validation_images=300,
        ),
        tmp_path,
        progress=False,
    )
    lines = run.read_metrics()
    assert lines[-1]["loss"] < 0.7 * lines[0]["loss"]
    assert lines[-1]["top1_error"] < 60  # of 15 classes: chance is 93


def test_evaluation_counts_errors_and_measures_the_likelihood() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logits = nn.Parameter(torch.arange(15.0).expand(1, -1).clone())

        def forward(self, x: Tensor) -> Tensor:
            return self.logits.expand(len(x), -1)

    data = photos().select(torch.arange(1300))  # the last batch is smaller, and of other classes
    top1, top5, nll = evaluate(Fixed(), data)
    assert top1 == pytest.approx(100.0, abs=1e-4)  # it says the last of 15 classes
    assert top5 == pytest.approx(100 * 10 / 13, abs=1e-4)
    likelihood = torch.arange(15.0).log_softmax(0)[data.labels]
    assert nll == pytest.approx(-float(likelihood.mean()), rel=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_through_its_phases(method: str, tmp_path: Path) -> None:
    teacher = create_model("wrn10_1", 15)
    save_file(teacher.state_dict(), tmp_path / "t.safetensors")
    options = {
        "ft": {"paraphraser_epochs": 1},
        "ab": {"init_epochs": 1},
        "fitnets": {"two_stages": True, "hint_epochs": 1},
    }.get(method, {})
    recipe = tiny(epochs=1, train_images=60)  # three steps a phase
    settings = {"method": method, "teacher": tmp_path / "t.safetensors", "options": options}
    run = distill(recipe, tmp_path / "run", **settings, progress=False)
    steps = itertools.count(1)
    stop = {"stop": lambda: next(steps) == (4 if options else 2), "progress": False}
    with pytest.raises(Stopped):
        distill(recipe, tmp_path / "stopped", **settings, **stop)
    resumed = distill(recipe, tmp_path / "stopped", **settings, progress=False)
    assert without_rates(resumed.read_metrics()) == without_rates(run.read_metrics())
    ends = [load_file(each.weights_file) for each in (run, resumed)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    lines = run.read_metrics()
    phases = {"ft": "paraphraser", "ab": "boundaries", "fitnets": "hint"}
    assert [line["phase"] for line in lines] == [*filter(None, [phases.get(method)]), "train"]
    assert "top1_error" in lines[-1]
    terms = {
        "baseline": {"ce"},
        "overhaul": {"ce", "overhaul"},
        "spectral": {"ce", "overhaul", "l1", "cps"},
    }.get(method, set())
    assert terms <= set(lines[-1])
    assert load_file(run.weights_file).keys() == teacher.state_dict().keys()


def test_a_term_with_the_name_of_another_metric_is_refused(tmp_path: Path) -> None:
    class Wrong(Method):
        needs_teacher = False

        def forward(self, teacher: Any, student: Any, labels: Tensor, phase: str = "train") -> Any:
            return {"nll": functional.cross_entropy(student.logits, labels)}

    data = photos("train").subset(40)
    distiller = Distiller(None, create_model("wrn10_1", 15), Wrong())
    with pytest.raises(ValueError, match="method: expected terms named unlike .*, got nll"):
        fit(distiller, data, data, tiny(epochs=1), tmp_path, progress=False)


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        (lambda ce, step: {"ce": ce, f"odd{step % 2}": ce}, "the terms ce, odd0 .*; got ce, odd1"),
        (
            lambda ce, step: {"ce": ce.expand(3)},
            r"scalar tensors by name, got shape \(3,\) for 'ce'",
        ),
        (lambda ce, step: {"ce": ce, "reg": 0.0}, "scalar tensors by name, got 0.0 for 'reg'"),
        (lambda ce, step: ce, "scalar tensors by name, got tensor"),
        (lambda ce, step: {}, "scalar tensors by name, got {}"),
    ],
)
def test_a_loss_is_the_same_named_scalars_in_every_step(terms, says: str, tmp_path: Path) -> None:
    class Own(Method):
        needs_teacher = False
        step = -1

        def forward(self, teacher: Any, student: Any, labels: Tensor, phase: str = "train") -> Any:
            self.step += 1
            return terms(functional.cross_entropy(student.logits, labels), self.step)

    data = photos("train").subset(40)
    distiller = Distiller(None, create_model("wrn10_1", 15), Own())
    with pytest.raises((TypeError, ValueError), match=f"method: expected .*{says}"):
        fit(distiller, data, data, tiny(epochs=1), tmp_path, progress=False)


def test_a_network_gives_a_logit_for_each_class(tmp_path: Path) -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = create_model("wrn10_1", 15)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"logits": self.net(x)}

    data = photos("train").subset(40)
    for student, says in (
        (create_model("wrn10_1", 100), r"student: expected 15 logits .*, got shape \(1, 100\)"),
        (Words(), "student: expected a network that returns logits, got dict"),
    ):
        with pytest.raises((TypeError, ValueError), match=says):
            fit(Distiller(None, student, "baseline"), data, data, tiny(), tmp_path)
    with pytest.raises(ValueError, match="model: expected 15 logits an image"):
        evaluate(create_model("wrn10_1", 100), data)
    assert not Run(tmp_path).config_file.exists()


def test_training_and_validation_have_the_same_classes(tmp_path: Path) -> None:
    data = photos("train").subset(40)
    other = replace(data, classes=("x", *data.classes[1:]))
    distiller = Distiller(None, create_model("wrn10_1", 15), "baseline")
    with pytest.raises(ValueError, match=f"same classes .*, got '{data.classes[0]}' and 'x' for"):
        fit(distiller, data, other, tiny(), tmp_path)


def test_a_misspelt_stage_is_found_before_the_first_epoch(tmp_path: Path) -> None:
    student = create_model("wrn10_1", 15)
    student.stage_table = (student.stage_table[0]._replace(output="stm"),)
    data = photos("train").subset(40)
    distiller = Distiller(None, student, "baseline")
    with pytest.raises(ValueError, match="expected a layer of the model .*got 'stm'"):
        fit(distiller, data, data, tiny(spectra_every=2), tmp_path)
    assert not Run(tmp_path).config_file.exists()


def test_defaults_of_another_version_are_another_configuration(tmp_path: Path) -> None:
    save_file(create_model("wrn10_1", 15).state_dict(), tmp_path / "t.safetensors")
    recipe = tiny(epochs=1, train_images=40)

    def again() -> dict[str, Any]:
        given = {"method": "at+kd", "options": {"at": {"weight": 10.0}}, "progress": False}
        run = distill(recipe, tmp_path / "run", teacher=tmp_path / "t.safetensors", **given)
        return run.read_config()

    config = again()
    assert config["defaults"].keys() == {"kd.temperature", "kd.weight"}
    about = Run(tmp_path / "run").config_file
    about.write_text(json.dumps(config | {"defaults": {"kd.temperature": 3.0}}))
    with pytest.raises(ValueError, match="defaults.kd.temperature was 3.0, now 4.0"):
        again()
    about.write_text(json.dumps(config | {"defaults": {"kd.weight": 0.9}}))  # an option came later
    again()
    about.write_text(json.dumps({k: v for k, v in config.items() if k != "defaults"}))
    again()


def test_options_are_of_kinds_that_a_file_can_hold(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="options: expected numbers, words and lists, .*, got"):
        distill(tiny(), tmp_path / "run", method="own_parts:LogitMSE", options={"weight": {3.0}})
    with pytest.raises(TypeError, match="layout: expected numbers, words and lists, .*, got"):
        distill(tiny(), tmp_path / "run", method="at", layout={"group1": {1}})  # type: ignore
    assert not (tmp_path / "run").exists()


def test_defaults_that_a_file_cannot_hold_are_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclass(eq=False, repr=False)
    class Own(Method):
        distance: Callable[..., Tensor] = functional.mse_loss
        weight: float = 2.0

        def forward(self, teacher: Any, student: Any, labels: Tensor, phase: str = "train") -> Any:
            return {"mse": self.weight * self.distance(student.logits, teacher.logits)}

    class Renamed(Own):
        def __init__(self, scale: float = 1.0) -> None:
            self.factor, self.weight, self.distance = scale, 1.0, functional.mse_loss

    monkeypatch.setitem(METHODS, "own", Own)
    monkeypatch.setitem(METHODS, "renamed", Renamed)
    settings = {"teacher": tmp_path / "t.safetensors", "progress": False}
    save_file(create_model("wrn10_1", 15).state_dict(), settings["teacher"])
    for method, defaults in (("own", {"weight": 2.0}), ("renamed", {})):
        run = distill(tiny(epochs=1, train_images=40), tmp_path / method, method=method, **settings)
        assert run.read_config()["defaults"] == defaults


def test_a_finished_run_needs_neither_data_nor_teacher_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny(epochs=1, train_images=40)
    distill(recipe, tmp_path / "run", method="at", progress=False)
    monkeypatch.setattr(api, "load_data", mock.Mock(side_effect=FileNotFoundError))
    assert distill(recipe, tmp_path / "run", method="at", progress=False).finished


def test_a_sum_of_methods_is_distilled_and_recorded(tmp_path: Path) -> None:
    save_file(create_model("wrn10_1", 15).state_dict(), tmp_path / "t.safetensors")
    recipe = tiny(epochs=1, train_images=60, gamma=0.5)
    both = {"kd": {"temperature": 3.0}, "spectral": {"beta": 0.1}}
    made = []
    for name, method, options in (("a", both, None), ("b", "kd+spectral", both)):
        place, teacher = tmp_path / name, tmp_path / "t.safetensors"
        settings = {"teacher": teacher, "options": options, "progress": False}
        run = distill(recipe, place, method=method, **settings)
        config = run.read_config()
        assert config["method"] == "kd+spectral"
        assert config["options"]["kd"] == {"temperature": 3.0}
        weights = {"alpha": recipe.alpha, "beta": 0.1, "gamma": 0.5}
        assert config["options"]["spectral"] == weights
        made.append(without_rates(run.read_metrics()))
    assert made[0] == made[1]
    assert {"ce", "kd", "overhaul", "l1", "cps"} <= made[0][0].keys()


@pytest.mark.parametrize("method", ["spectral", "ab", "ft"])
@pytest.mark.parametrize(
    ("setting", "tolerance"), [({"compile": "yes"}, 1e-3), ({"precision": "bf16"}, 0.05)]
)
def test_compiled_and_bf16_runs_follow_the_plain_one(
    setting: dict[str, Any], tolerance: float, method: str, tmp_path: Path, monkeypatch
) -> None:
    """The whole step traced in one graph; without generating code, to be quick."""
    compiler = mock.Mock(wraps=partial(torch.compile, backend="aot_eager", fullgraph=True))
    monkeypatch.setattr(torch, "compile", compiler)
    AcceleratorState._reset_state(reset_partial_state=True)  # it keeps the first precision
    torch.manual_seed(0)
    save_file(create_model("wrn10_1", 15).state_dict(), tmp_path / "t.safetensors")
    option = {"ab": "init_epochs", "ft": "paraphraser_epochs"}.get(method)
    lines = []
    for name, changes in (("plain", {}), ("other", setting)):
        run = distill(
            tiny(epochs=1, train_images=70, **changes),
            tmp_path / name,
            method=method,
            teacher=tmp_path / "t.safetensors",
            options={option: 1} if option else {},
            progress=False,
        )
        lines.append(run.read_metrics())
        AcceleratorState._reset_state(reset_partial_state=True)
    for plain, other in zip(*lines, strict=True):
        terms = {"ce", "kd", "overhaul", "l1", "cps", "ab", "ft", "reconstruction"} & plain.keys()
        assert len(terms) >= 1
        for term in ("loss", *terms):
            near = pytest.approx(plain[term], rel=tolerance, abs=tolerance / 50)
            assert other[term] == near, term
    assert compiler.called == ("compile" in setting)
    if "precision" in setting:
        assert lines[0][-1]["loss"] != lines[1][-1]["loss"]


@pytest.mark.parametrize("method", ["spectral", "ft"])
def test_a_replayed_run_is_the_plain_one(method: str, tmp_path: Path, monkeypatch) -> None:
    """All that a recorded step hears of a batch goes through its own memory.

    On a GPU a record plays kernels; here it runs the step again on the tensors it was made with.
    """
    played = []

    def record(call: Callable[[], list[Tensor]]) -> Callable[[], list[Tensor]]:
        results: list[Tensor] = []

        def play() -> list[Tensor]:
            played.append(1)
            again = call()
            results.extend(value.clone() for value in again[len(results) :])
            return [old.copy_(new) for old, new in zip(results, again, strict=True)]

        return play

    monkeypatch.setattr(cuda_graph, "record", record)
    monkeypatch.setattr(cuda_graph, "aside", lambda call: call())
    monkeypatch.setattr(accelerators, "_check_graph", lambda *_: None)
    monkeypatch.setattr(torch, "compile", lambda call, **_: call)
    torch.manual_seed(0)
    save_file(create_model("wrn10_1", 15).state_dict(), tmp_path / "t.safetensors")
    runs = []
    for compiled in ("no", "graph"):
        # Nine whole batches and a smaller one an epoch; the momentum is forgotten at each drop.
        recipe = tiny(epochs=4, batch_size=10, train_images=95, compile=compiled)
        recipe = replace(recipe, restart_momentum=True)
        options = {"paraphraser_epochs": 1} if method == "ft" else {}
        weights = tmp_path / "t.safetensors"
        run = distill(
            recipe,
            tmp_path / compiled,
            method=method,
            teacher=weights,
            options=options,
            progress=False,
        )
        runs.append(run)
    plain, replayed = (without_rates(run.read_metrics()) for run in runs)
    assert replayed == plain
    # Three steps are taken as they are in each phase, and after each of two drops.
    phases = 2 if method == "ft" else 1
    assert len(played) == 9 * (4 + phases - 1) - 3 * (3 + phases - 1)


def test_a_graph_needs_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="compile: expected one CUDA device for graph, got 1 × c"):
        train(tiny(compile="graph"), tmp_path, role="student", progress=False)
    assert not any(tmp_path.iterdir())


def test_the_teacher_is_left_alone(tmp_path: Path) -> None:
    teacher, student = create_model("wrn10_2", 15), create_model("wrn10_1", 15)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    distiller = Distiller(teacher, student, "overhaul")
    data = photos("train").subset(60)
    fit(distiller, data, data, tiny(epochs=1), tmp_path, progress=False)
    distiller.close()
    assert all(torch.equal(v, before[name]) for name, v in teacher.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in teacher.parameters())
    assert teacher.training
    assert not any(m._forward_hooks for net in (teacher, student) for m in net.modules())


def test_without_a_teacher_the_recipes_is_trained_first(tmp_path: Path) -> None:
    run = distill(tiny(epochs=1), tmp_path, method="kd", progress=False)
    assert Run(tmp_path / "teacher").finished
    assert run.finished
    again = distill(tiny(epochs=1), tmp_path, method="kd", progress=False)  # nothing left to do
    assert len(again.read_metrics()) == 1


def test_layers_of_any_two_networks_are_paired_and_kept_in_the_configuration(
    tmp_path: Path,
) -> None:
    """A transformer without batch norms teaches a WideResNet's layers of other sizes."""
    recipe = tiny(
        teacher_model="own_parts:patches", student_model="wrn10_1", epochs=1, train_images=40
    )
    teacher = train(recipe, tmp_path / "teacher", progress=False).path
    pairs = [("blocks.0", "group1"), ("blocks.1", "group3.0.bn1")]
    paired = partial(distill, recipe, tmp_path / "run", teacher=teacher, progress=False)
    run = paired(layers=pairs, layout={"blocks.0": "tokens"}, resize="pool")
    (line,) = run.read_metrics()
    assert {"overhaul", "l1", "cps"} <= line.keys()
    config = run.read_config()
    assert config["layers"] == [list(pair) for pair in pairs]
    assert (config["layout"], config["resize"]) == ({"blocks.0": "tokens"}, "pool")
    with pytest.raises(ValueError, match="resize was 'pool', now 'bilinear'"):
        paired(layers=pairs, layout={"blocks.0": "tokens"}, resize="bilinear")
    with pytest.raises(ValueError, match=r"\(layers was .*layout was "):
        paired(layers=pairs[:1], resize="pool")


def test_held_out_images_are_never_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = photos("train")
    rest, held = hold_out(data, 500)
    both = torch.cat([rest.images, held.images]).flatten(1).long().sum(1).sort().values
    assert torch.equal(both, data.images.flatten(1).long().sum(1).sort().values)
    assert torch.equal(held.images, hold_out(data, 500)[1].images)
    recipe = tiny(epochs=1, holdout=2900, train_images=None, validation_images=None)
    trained_on = []

    def spied(loops: list[Loop], training: ImageData, **settings: Any) -> None:
        trained_on.append(training)
        run_together(loops, training, **settings)

    monkeypatch.setattr(api, "run_together", spied)
    run = train(recipe, tmp_path, role="student", progress=False)
    assert torch.equal(trained_on[0].images, hold_out(data, 2900)[0].images)
    model = create_model("wrn10_1", 15)
    load_weights(model, run.weights_file)
    expected = evaluate(model, hold_out(data, 2900)[1])
    assert run.read_metrics()[-1]["top1_error"] == pytest.approx(expected[0])
    with pytest.raises(ValueError, match="holdout: expected 1 to 2999 images, got 3000"):
        hold_out(data, 3000)


def test_exponents_of_the_stages_are_recorded(tmp_path: Path) -> None:
    run = train(tiny(spectra_every=2), tmp_path, role="student", progress=False)
    lines = run.read_metrics()
    assert "exponents" not in lines[0]
    model = create_model("wrn10_1", 15)
    load_weights(model, run.weights_file)
    expected = stage_exponents(model, photos().subset(60))
    assert lines[1]["exponents"] == pytest.approx(expected, rel=1e-3)


def test_exponents_of_networks_with_small_maps_or_without_stages() -> None:
    small = load_data("photos", image_size=8).subset(20)
    found = stage_exponents(create_model("wrn10_1", 15), small)
    assert found.keys() == {"group1", "group2", "group3"}
    assert found["group3"] is None  # 2×2 pixels
    assert stage_exponents(torch.nn.Flatten(), small) == {}
    dead = create_model("wrn10_1", 15)
    for parameter in dead.parameters():
        torch.nn.init.zeros_(parameter)
    assert set(stage_exponents(dead, small).values()) == {None}


FAKE_TRACKER = """
import sys
told = []
def init(**settings):
    told.append(settings)
    return sys.modules[__name__]
def log(values, step=None, **kwargs):
    told.append({"step": step, **values})
def finish():
    pass
class config:
    update = staticmethod(lambda values, **kwargs: None)
"""


def test_a_tracker_is_told_of_exponents_and_a_resumed_run_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trackio.py").write_text(FAKE_TRACKER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(tracking, "_available_trackers", [LoggerType("trackio")])
    recipe = tiny(epochs=2, spectra_every=1, checkpoint_seconds=0.0)
    steps = iter([False] * 6 + [True] + [False] * 9)
    settings = {"role": "student", "tracker": "trackio", "progress": False}
    with pytest.raises(Exception, match="stopped; the same command resumes it"):
        train(recipe, tmp_path / "run", stop=lambda: next(steps), **settings)
    run = train(recipe, tmp_path / "run", **settings)
    told = sys.modules["trackio"].told
    first, second = (call for call in told if "project" in call)
    assert first == second
    assert first["name"].startswith("run-")
    assert first["resume"] == "allow"
    lines = run.read_metrics()
    logged = [call for call in told if "step" in call]
    assert [call["step"] for call in logged] == [1, 2]
    for line, call in zip(lines, logged, strict=True):
        for layer, exponent in line["exponents"].items():
            assert call[f"exponents/{layer}"] == exponent


def test_a_missing_tracker_is_refused_before_the_run_begins(tmp_path: Path) -> None:
    for name, says in (("aim", "aim is not installed"), ("aimm", "expected one of aim, .*'aimm'")):
        with pytest.raises(ValueError, match=f"tracker: {says}"):
            train(tiny(epochs=1), tmp_path / "run", tracker=name, progress=False)
    assert not (tmp_path / "run").exists()


def test_tensorboard_is_told(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    train(tiny(epochs=1), tmp_path, role="student", tracker="tensorboard", progress=False)
    assert list(tmp_path.rglob("events.out*"))


# --- nothing is lost ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def teacher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kill")
    torch.manual_seed(0)
    save_file(create_model("wrn10_2", 15).state_dict(), folder / "t.safetensors")
    return folder


def killed(folder: Path, method: str, point: str, number: int) -> int | None:
    """Exit status of a run that may kill itself at the N-th time it comes to a point."""
    process = forks.start(train_until_killed, folder, method, point, number)
    process.join(300)
    return process.exitcode


@pytest.mark.parametrize(
    ("method", "points"),
    [
        ("spectral", [("step", 3), ("write", 2), ("line", 1), ("replace", 2)]),
        ("ft", [("line", 1), ("write", 5)]),
    ],
)
def test_a_run_killed_anywhere_ends_as_one_that_was_not(
    method: str, points: list[tuple[str, int]], teacher_folder: Path, tmp_path: Path
) -> None:
    reference, folder = tmp_path / "reference", tmp_path / "killed"
    for place in (reference, folder):
        place.mkdir()
        (place / "t.safetensors").symlink_to(teacher_folder / "t.safetensors")
    assert killed(reference, method, "never", 0) == 0
    for point, number in points:
        assert killed(folder, method, point, number) == -signal.SIGKILL, (point, number)
        assert not Run(folder / "run").finished
    assert killed(folder, method, "never", 0) == 0
    whole, resumed = Run(reference / "run"), Run(folder / "run")
    assert without_rates(resumed.read_metrics()) == without_rates(whole.read_metrics())
    ends = [load_file(run.weights_file) for run in (whole, resumed)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_damaged_checkpoint_costs_only_the_way_from_the_one_before(
    teacher_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "t.safetensors").symlink_to(teacher_folder / "t.safetensors")
    assert killed(tmp_path, "kd", "step", 9) == -signal.SIGKILL
    run = Run(tmp_path / "run")
    newest, (first, *_) = run.checkpoints()[-1], run.read_metrics()
    newest.write_bytes(newest.read_bytes()[:-1])
    assert killed(tmp_path, "kd", "never", 0) == 0
    assert [line["epoch"] for line in run.read_metrics()] == [1, 2, 3]
    assert run.read_metrics()[0] == first  # its rate as well: it was not trained again


def test_a_run_that_another_process_works_on_is_refused(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(InUse, match=f"is in use by process {os.getpid()}"):
        train(tiny(), tmp_path, role="student", progress=False)
    assert not (tmp_path / "config.json").exists()
    run = train(tiny(), tmp_path, role="student", progress=False)
    with locked(tmp_path):  # a finished one is only read
        assert train(tiny(), tmp_path, role="student", progress=False).path == run.path


def test_a_run_whose_lock_was_removed_does_not_write_beside_another(tmp_path: Path) -> None:
    def steal() -> bool:
        if not others:
            (tmp_path / LOCK).unlink()
            others.append(in_another_process(
                f"with locked({str(tmp_path)!r}): print('ready', flush=True); time.sleep(600)"
            ))  # fmt: skip
        return False

    others: list[subprocess.Popen[str]] = []
    with pytest.raises(InUse, match=f"{LOCK} removed, and is now in use by process"):
        train(tiny(), tmp_path, role="student", progress=False, stop=steal)
    others[0].kill()
    others[0].wait()
    assert Run(tmp_path).read_metrics() == []
    assert not Run(tmp_path).checkpoints()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"student_model": "wrn11_1"}, "model 'wrn11_1'"),
        ({"batch_size": 101}, "batch_size: expected 2"),
        ({"holdout": 3000}, "holdout: expected 1 to 2999 images"),
        ({"data": "imagefolder"}, "root: imagefolder needs the folder"),
        (
            {"student_model": "own_parts:patches", "image_size": 64},
            "student: expected a net",
        ),
    ],
)
def test_settings_are_checked_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises((ValueError, RuntimeError), match=says):
        train(tiny(**changes), tmp_path / "run", role="student", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_wrong_student_is_refused_before_its_teacher_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="model 'wrn11_1'"):
        distill(tiny(student_model="wrn11_1"), tmp_path / "run", progress=False)
    options = {"temperature": 0.0}
    with pytest.raises(ValueError, match="temperature: expected a number above 0"):
        distill(tiny(), tmp_path / "run", method="kd", options=options, progress=False)
    with pytest.raises(TypeError, match="stage_table is a tuple .* or pairs of layers"):
        distill(tiny(student_model="own_parts:tiny"), tmp_path / "run", progress=False)
    with pytest.raises(ValueError, match="resize: stage 1 has maps of 32×32 .* and 16×16"):
        distill(tiny(), tmp_path / "run", method="at", layers=[("group1", "group2")])
    assert not (tmp_path / "run").exists()


def test_one_class_is_nothing_to_train_on(tmp_path: Path, image_files: Path) -> None:
    recipe = tiny(data="imagefolder", root=str(next((image_files / "train").iterdir())))
    with pytest.raises(ValueError, match="data: expected at least two classes to train on, got 1"):
        train(recipe, tmp_path / "run", progress=False)


@pytest.mark.filterwarnings("ignore:.*began with")
def test_a_run_of_version_0_1_0_is_resumed(tmp_path: Path) -> None:
    """Stored as it was stopped, in the second epoch; later versions must go on with it."""
    shutil.copytree(HERE / "run_of_0_1_0", tmp_path / "old")
    recipe = tiny(student_model="own_parts:tiny", data="own_parts:few", train_images=None)
    recipe = replace(recipe, alpha=1e-4, beta=1e-4)  # the demo's, then
    old, new = (
        train(recipe, tmp_path / name, role="student", progress=False) for name in ("old", "new")
    )
    assert [line["epoch"] for line in old.read_metrics()] == [1, 2]
    stored = (HERE / "run_of_0_1_0/metrics.jsonl").read_text()
    assert old.read_metrics()[0] == json.loads(stored)  # not trained again
    for a, b in zip(old.read_metrics(), new.read_metrics(), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)
    ends = [load_file(run.weights_file) for run in (old, new)]
    for name in ends[0]:
        torch.testing.assert_close(ends[0][name], ends[1][name], rtol=1e-2, atol=1e-4)


def test_a_resumed_run_says_what_else_has_changed(tmp_path: Path) -> None:
    recipe = tiny()
    with pytest.raises(Stopped):
        train(recipe, tmp_path, role="student", progress=False, stop=lambda: True)
    config = Run(tmp_path).read_config()
    config["made_with"] |= {"torch": "2.0", "threads": 99}
    Run(tmp_path).config_file.write_text(json.dumps(config))
    with pytest.warns(UserWarning, match=r"began with torch 2.0, now .*; threads 99, now .*round"):
        train(recipe, tmp_path, role="student", progress=False)


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    train(tiny(epochs=1), tmp_path, role="student", progress=False)
    with pytest.raises(ValueError, match=r"recipe\.lr was 0\.1, now 0\.2"):
        train(tiny(epochs=1, lr=0.2), tmp_path, role="student", progress=False)
    train(tiny(epochs=1, workers=1), tmp_path, role="student", progress=False)


def test_a_changed_fit_is_refused_and_a_finished_one_gives_its_student(tmp_path: Path) -> None:
    data, recipe = photos("train").subset(60), tiny(epochs=1)

    def pair(**options: float) -> Distiller:
        torch.manual_seed(0)
        teacher, student = create_model("wrn10_2", 15), create_model("wrn10_1", 15)
        return Distiller(teacher, student, "at", **options)

    run = fit(pair(weight=30.0), data, data, recipe, tmp_path, progress=False)
    config = run.read_config()
    assert config["options"] == {"weight": 30.0}
    assert not {"alpha", "beta", "gamma", "teacher_model"} & set(config["recipe"])
    with pytest.raises(ValueError, match=r"options\.weight was 30\.0, now 1\.0"):
        fit(pair(weight=1.0), data, data, recipe, tmp_path, progress=False)
    assert "weight=30.0" in results_table([tmp_path])
    again = pair(weight=30.0)
    fit(again, data, data, recipe, tmp_path, progress=False)
    stored = load_file(run.weights_file)
    assert all(torch.equal(v, stored[k]) for k, v in again.student.state_dict().items())
    wider = Distiller(create_model("wrn10_2", 15), create_model("wrn10_2", 15), "at", weight=30.0)
    with pytest.raises(ValueError, match="parameters was"):
        fit(wider, data, data, recipe, tmp_path, progress=False)
    taught = pair(weight=30.0)
    with torch.no_grad():
        next(taught.teacher.parameters()).add_(1e-3)
    with pytest.raises(ValueError, match="teacher_sha256 was"):
        fit(taught, data, data, recipe, tmp_path, progress=False)
    with pytest.raises(TypeError, match="training: expected an ImageArray or ImageFiles, got _Arr"):
        fit(again, data.batches(8), data, recipe, tmp_path, progress=False)  # type: ignore[arg-type]


def test_a_network_of_a_zoo_sees_its_own_normalization(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def net(classes: int) -> nn.Module:
        made = create_model("wrn10_1", classes)
        made.normalization, made.image_shape = ((0.5,) * 3, (0.25,) * 3), (3, 32, 32)
        return made

    seen: list[ImageData] = []

    def stop(distiller: Distiller, validation: ImageData, *_: object) -> None:
        seen.append(validation)
        raise KeyboardInterrupt

    monkeypatch.setitem(MODELS, "zoo", net)
    monkeypatch.setattr(api, "Loop", stop)
    recipe = tiny(teacher_model="zoo")
    save_file(net(15).state_dict(), tmp_path / "t.safetensors")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "a", progress=False)
    with pytest.raises(KeyboardInterrupt):
        distill(recipe, tmp_path / "b", method="kd", teacher=tmp_path / "t.safetensors")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "c", role="student", progress=False)
    assert [data.mean for data in seen[:2]] == [(0.5,) * 3] * 2
    assert seen[2].mean == photos("train").mean


def test_a_student_alone_needs_no_teacher(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="method: expected one of .*, got ''"):
        distill(tiny(), tmp_path / "a", method={})
    with pytest.raises(TypeError, match="method: expected a name, .*which fit trains"):
        distill(tiny(), tmp_path / "a", method=METHODS["kd"]())  # type: ignore[arg-type]
    run = distill(tiny(epochs=1), tmp_path / "a", method={"baseline": {}}, progress=False)
    assert run.finished
    assert not (tmp_path / "a" / "teacher").exists()
    with pytest.raises(ValueError, match="teacher: kd needs one, got None"):
        api.distill_together([api.StudentRun(tiny(), tmp_path / "b", "kd")], None)
    assert not (tmp_path / "b").exists()


def test_images_are_not_trained_on_and_evaluated(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "flat" / label).mkdir(parents=True)
        for number in range(4):
            place = tmp_path / "flat" / label / f"{number}.png"
            Image.new("RGB", (32, 32), (number, 100, 200)).save(place)
    files = {"data": "imagefolder", "root": str(tmp_path / "flat"), "batch_size": 2, "workers": 0}
    files |= {"train_images": None, "validation_images": None}
    recipe = get_recipe("demo", epochs=1, student_model="wrn10_1", **files)
    with pytest.raises(ValueError, match="root: expected folders train and val, or holdout="):
        train(replace(recipe, train_images=4), tmp_path / "run", role="student", progress=False)
    kept = replace(recipe, holdout=2)
    assert train(kept, tmp_path / "run", role="student", progress=False).finished


class Spoilt(Method):
    """A term that is NaN from the second epoch on."""

    needs_teacher = False

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def forward(self, teacher, student, labels, phase="train"):  # type: ignore[no-untyped-def]
        self.steps += 1
        factor = float("nan") if self.steps > 5 else 1.0
        ce = functional.cross_entropy(student.logits, labels)
        return {"ce": ce, "odd": factor * student.logits.square().mean()}


def test_a_loss_that_is_not_finite_stops_the_run_by_name(tmp_path: Path) -> None:
    data = photos("train").subset(100)
    student = create_model("wrn10_1", 15)
    says = "epoch 2 of .*, step 1: the loss term odd is not finite; there is no checkpoint yet"
    with pytest.raises(FloatingPointError, match=says):
        fit(Distiller(None, student, Spoilt()), data, data, tiny(), tmp_path, progress=False)
    assert len(Run(tmp_path).read_metrics()) == 1


def hundred_classes(split: str) -> ImageArray:
    return random_images(60)


def test_a_teacher_that_comes_with_the_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cifar100-short").mkdir()  # a folder of this name is no run
    recipe = tiny(data="test_train:hundred_classes", teacher_model="wrn16_1", epochs=1)
    recipe = replace(recipe, train_images=None, validation_images=None)
    named, given = (
        distill(recipe, tmp_path / name, method="kd", teacher=teacher, progress=False)
        for name, teacher in (
            ("named", "cifar100-short"),
            ("given", pretrained_file("wrn16_1", "cifar100-short")),
        )
    )
    assert named.read_config() == given.read_config()
    assert without_rates(named.read_metrics()) == without_rates(given.read_metrics())
    with pytest.raises(
        ValueError, match="teacher: expected the one that .*named began with, got N"
    ):
        distill(recipe, named.path, method="kd", progress=False)
    with pytest.raises(ValueError, match="teacher: expected one of the 15 classes of photos; weig"):
        distill(tiny(teacher_model="wrn16_1"), tmp_path / "a", teacher="cifar100-short")


def test_a_teacher_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="teacher: expected a run's folder or a file"):
        distill(tiny(), tmp_path / "a", teacher=tmp_path / "none", progress=False)
    says = r"or a file \(or the package's cifar100 or cifar100-short\), got 'cifar'"
    with pytest.raises(ValueError, match=says):
        distill(tiny(teacher_model="wrn28_4"), tmp_path / "c", teacher="cifar", progress=False)
    (tmp_path / "begun").mkdir()
    with pytest.raises(ValueError, match="begun is not a finished run"):
        distill(tiny(), tmp_path / "b", teacher=tmp_path / "begun", progress=False)
    train(tiny(epochs=1), tmp_path / "t", progress=False)
    with pytest.raises(ValueError, match=r"expected a wrn10_2, got .*, a wrn10_1"):
        distill(tiny(teacher_model="wrn10_2"), tmp_path / "c", teacher=tmp_path / "t")


# --- several processes ----------------------------------------------------------------------------


class Plain(nn.Module):
    """A network without batch norms in training, whose statistics would differ by process."""

    stage_table = (Stage("first", "first", "norm"), Stage("second", "second", "norm"))

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, 15)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x).relu()).relu()
        return self.fc(x.mean((2, 3)))


def train_plain(folder: str) -> None:
    """One run with AT, which has no batch norm of its own; 50 images leave an odd last batch."""
    torch.manual_seed(0)
    teacher, student = Plain(8), Plain(6)
    fit(
        Distiller(teacher, student, "at"),
        photos("train").subset(105),
        photos().subset(61),
        tiny(batch_size=20, lr=0.05, checkpoint_seconds=0.0),
        folder,
        progress=False,
    )


def launch(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    place = os.pathsep.join([str(HERE.parent), str(HERE)])
    return subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        env=os.environ | {"PYTHONPATH": place} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_two_processes_give_the_losses_of_one(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys, test_train\ntest_train.train_plain(sys.argv[1])\n")
    two = launch(
        *("torch.distributed.run", "--standalone", "--nproc_per_node", 2),
        *(script, tmp_path / "two"),
        ACCELERATE_USE_CPU="true",
        OMP_NUM_THREADS="1",
    )
    assert two.returncode == 0, two.stderr
    train_plain(str(tmp_path / "one"))
    one, two_lines = (Run(tmp_path / name).read_metrics() for name in ("one", "two"))
    assert len(one) == len(two_lines) == 2
    for a, b in zip(one, two_lines, strict=True):
        for name in ("loss", "ce", "at", "top1_error", "top5_error"):
            assert b[name] == pytest.approx(a[name], rel=1e-4), name
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("one", "two")]
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], rtol=1e-3, atol=1e-5)


def test_a_launch_that_asked_for_two_and_got_one_is_refused(tmp_path: Path) -> None:
    command = ("-m", "spectralkd", "train", "demo", "--run", tmp_path / "run")
    done = launch(
        *("accelerate.commands.launch", "--cpu", "--num_processes", 2, "--num_machines", 1),
        *("--mixed_precision", "no", "--dynamo_backend", "no", *command),
    )
    assert done.returncode != 0
    assert "several processes were asked for and one was started" in done.stderr


def test_the_command_line_runs_under_accelerate_with_two_processes(tmp_path: Path) -> None:
    options = ("--epochs", 1, "--train-images", 60, "--validation-images", 60, "--batch-size", 20)
    done = launch(
        *("accelerate.commands.launch", "--multi_gpu", "--num_processes", 2, "--num_machines", 1),
        *("--main_process_port", 0, "--mixed_precision", "no", "--dynamo_backend", "no"),
        *("-m", "spectralkd", "distill"),
        *("demo", "--method", "spectral", "--run", tmp_path / "run", *options),
        ACCELERATE_USE_CPU="true",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("top-1 error") == 1
    assert Run(tmp_path / "run").finished


def stop_second_process(step: str, *words: str) -> None:
    """The command line; the second of several processes gets SIGTERM after a step."""
    asked_to_end, steps = signals.terminated, itertools.count(1)

    def counted() -> Callable[[], bool]:
        asked = asked_to_end()

        def stop() -> bool:
            if next(steps) == int(step) and os.environ["RANK"] == "1":
                os.kill(os.getpid(), signal.SIGTERM)
            return asked()

        return stop

    with (
        mock.patch("spectralkd.cli.train.terminated", counted),
        mock.patch.object(sys, "argv", ["", *words]),
    ):
        cli.main()


def test_two_processes_stopped_within_an_epoch_end_as_two_that_were_not(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_file(create_model("wrn10_1", 15).state_dict(), tmp_path / "t.safetensors")
    script = tmp_path / "script.py"
    script.write_text("import sys, test_train\ntest_train.stop_second_process(*sys.argv[1:])\n")
    command = (
        *("distill", "demo", "--teacher", tmp_path / "t.safetensors", "--spectra-every", 1),
        *("--epochs", 2, "--train-images", 105, "--batch-size", 20, "--validation-images", 60),
        *("--teacher-model", "wrn10_1", "--data", "photos", "--checkpoint-seconds", 1e6, "--run"),
    )  # 6 batches an epoch; of the last one, a process has 3 images and the other 2

    def two(run: Run, step: int) -> str:
        return launch(
            *("accelerate.commands.launch", "--multi_gpu", "--num_processes", 2),
            *("--num_machines", 1, "--main_process_port", 0, "--mixed_precision", "no"),
            *("--dynamo_backend", "no", script, step, *command, run.path),
            ACCELERATE_USE_CPU="true",
            OMP_NUM_THREADS="1",
        ).stderr

    whole, run = Run(tmp_path / "whole"), Run(tmp_path / "run")
    assert two(run, 8).count("stopped; the same command resumes it") == 2
    state = run.load_checkpoint()
    assert state is not None
    assert state["position"] == {"phase": 0, "epoch": 1, "step": 2, "lines": 1}
    alone = command_line(*command, run.path, cwd=tmp_path)
    assert "number of processes that this run began with, 2, got 1" in alone.stderr
    said = two(run, 0) + two(whole, 0)
    assert run.finished, said
    assert without_rates(run.read_metrics()) == without_rates(whole.read_metrics())
    ends = [load_file(each.weights_file) for each in (run, whole)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    # The errors are those of the stored network, batch norms included.
    model = create_model("wrn10_1", 15)
    load_weights(model, run.weights_file)
    errors = evaluate(model, photos().subset(60))
    last = run.read_metrics()[-1]
    assert [last[name] for name in errors._fields] == pytest.approx(list(errors), rel=1e-4)


# --- networks, data and methods of one's own ------------------------------------------------------


def test_a_users_file_gives_networks_data_and_method(tmp_path: Path) -> None:
    names = {"teacher_model": "own_parts:tiny", "student_model": "own_parts:tiny"}
    recipe = tiny(epochs=1, train_images=None, data="own_parts:few", **names)
    method, options = "own_parts:LogitMSE", {"weight": 0.5}
    run = distill(recipe, tmp_path / "run", method=method, options=options, progress=False)
    assert run.read_config()["options"] == {"momentum": 0.9, "weight": 0.5}  # 0.9 of the recipe
    assert "mse" in run.read_metrics()[-1]
    assert Run(tmp_path / "run" / "teacher").finished


# --- the paper's own data -------------------------------------------------------------------------


def test_setup_c_trains_on_cifar100(data_root: Path, tmp_path: Path) -> None:
    """Thirty steps of WRN-28-4 → WRN-16-2 with the spectral loss, small batches."""
    torch.manual_seed(0)
    save_file(create_model("wrn28_4").state_dict(), tmp_path / "t.safetensors")
    recipe = get_recipe(
        "c",
        root=str(data_root),
        epochs=2,
        batch_size=12,
        train_images=180,
        validation_images=100,
        lr=0.02,
    )
    run = distill(recipe, tmp_path / "run", teacher=tmp_path / "t.safetensors", progress=False)
    first, last = run.read_metrics()
    assert last["ce"] < first["ce"]
    assert last["l1"] < first["l1"]
    assert last["overhaul"] < first["overhaul"]
    assert 0 < last["cps"] < 2 * 3 * recipe.gamma


def test_the_imagenet_recipe_trains_on_a_folder(image_files: Path, tmp_path: Path) -> None:
    classes = len(load_data("imagefolder", root=image_files).classes)
    torch.manual_seed(0)
    save_file(create_model("resnet50", classes).state_dict(), tmp_path / "t.safetensors")
    recipe = get_recipe(
        "imagenet",
        root=str(image_files),
        image_size=128,
        epochs=1,
        batch_size=16,
        train_images=48,
        validation_images=30,
        workers=2,
    )
    run = distill(recipe, tmp_path / "run", teacher=tmp_path / "t.safetensors", progress=False)
    (line,) = run.read_metrics()
    assert {"ce", "overhaul", "l1", "cps", "top1_error", "top5_error"} <= line.keys()
