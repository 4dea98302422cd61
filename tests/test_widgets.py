"""Do the widgets show what the functions say, keep their state, and say what is wrong?"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms.v2.functional import normalize

from spectralkd.analysis.activations import activation_spectra
from spectralkd.analysis.agreement import stage_agreement
from spectralkd.analysis.layers import layer_views
from spectralkd.data import load_data
from spectralkd.data.images import IMAGENET_MEAN, IMAGENET_STD, ImageArray
from spectralkd.data.photos import photographs
from spectralkd.losses import METHODS
from spectralkd.losses.base import method_options
from spectralkd.models import PRETRAINED, create_model
from spectralkd.spectra.power import with_ring
from spectralkd.spectra.powerlaw import fit_power_law
from spectralkd.training.api import train
from spectralkd.training.launch import RunState, launch_command
from spectralkd.training.recipes import get_recipe
from spectralkd.training.run_folder import Run
from spectralkd.widgets import measurements, run_panel
from spectralkd.widgets.background import Cancelled, Job
from spectralkd.widgets.base import csv_link
from spectralkd.widgets.exercise import check
from spectralkd.widgets.explorer import SpectrumExplorer
from spectralkd.widgets.plot import Plot
from spectralkd.widgets.run_panel import RunPanel
from spectralkd.widgets.teacher_student import TeacherStudent
from spectralkd.widgets.ticks import TickList

IMAGES = 40


@pytest.fixture(scope="module")
def photos() -> ImageArray:
    return load_data("photos")  # type: ignore[return-value]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return create_model("wrn10_1", 15)


def cells(table: str) -> list[str]:
    """Texts of the cells of an HTML table."""
    return [cell.strip() for cell in re.findall(r"<td[^>]*>([^<]*)</td>", table)]


def csv_of(box: Any) -> list[str]:
    data = re.search(r"base64,([^\"]+)", box.value)
    assert data
    return base64.b64decode(data[1]).decode().splitlines()


# --- SpectrumExplorer -----------------------------------------------------------------------------


def test_explorer_shows_what_the_functions_say(model: nn.Module, photos: ImageArray) -> None:
    shown = SpectrumExplorer({"net": model}, photos, images=IMAGES, name="a")
    batches = photos.subset(IMAGES).batches(50)
    spectra = activation_spectra(
        model, batches, ["group1"], ring="jacobian", statistics="batch", progress=False
    )
    expected = fit_power_law(spectra["group1"].frequency, spectra["group1"].power)
    assert list(shown.spectra) == ["images", "group1", "group2", "group3"]
    assert shown.fits["group1"].exponent == pytest.approx(expected.exponent, rel=1e-6)
    names = [trace.name for trace in shown.plot.figure.data[1::3]]
    assert names[1] == f"group1: α = {expected.exponent:.2f} ± {expected.stderr:.2f}"
    assert f"{expected.exponent:.2f}" in cells(shown.table.value)
    header, *lines = csv_of(shown.csv)
    assert header == "layer,|k| (cycles/pixel),power (jacobian),standard error"
    assert len(lines) == 16 + 16 + 8 + 4


def test_the_slider_moves_the_fit_and_not_the_axes(
    model: nn.Module, photos: ImageArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = SpectrumExplorer({"net": model}, photos, images=IMAGES, name="b")
    before = (
        shown.fits["images"],
        shown.plot.figure.layout.yaxis.range,
        shown.plot.figure.data[2].x[0],
    )
    monkeypatch.setattr(measurements, "layer_views", lambda *a, **kw: pytest.fail("measured again"))
    shown.controls["band"].value = (1 / 4, 1 / 2)
    assert shown.fits["images"].band == (1 / 4, 1 / 2)
    assert shown.fits["images"].exponent != before[0].exponent
    assert shown.plot.figure.layout.yaxis.range == before[1]
    assert shown.plot.figure.data[2].x[0] == pytest.approx(1 / 4) != before[2]
    assert "group3" not in shown.fits  # two rings of 8×8 pixels: no line to fit
    assert "–" in cells(shown.table.value)


def test_every_control_changes_what_is_shown(model: nn.Module, photos: ImageArray) -> None:
    torch.manual_seed(1)
    nets = {"seed 0": model, "seed 1": create_model("wrn10_1", 15)}
    shown = SpectrumExplorer({"net": nets}, {"a": photos}, images=IMAGES, name="c")
    c = shown.controls
    assert "group2, seed 1" in shown.spectra
    c["weights"].value = ("seed 1",)
    assert list(shown.spectra) == ["images", *(f"group{n}, seed 1" for n in (1, 2, 3))]
    c["layers"].value = ("conv",)
    conv, group1 = "conv, seed 1", "group1, seed 1"
    assert list(shown.spectra) == [conv]
    jacobian = shown.spectra[conv].power
    c["ring"].value = "mean"
    torch.testing.assert_close(shown.spectra[conv].power * shown.spectra[conv].frequency, jacobian)
    batch = shown.spectra[conv].power
    c["layers"].value = ("group1",)
    running = shown.spectra[group1].power
    c["statistics"].value = "running"
    assert not torch.equal(running, shown.spectra[group1].power)
    c["pool"].value = 2
    assert len(shown.spectra[group1].power) == 8
    c["pool"].value, c["window"].value = 1, "hann"
    assert len(shown.spectra[group1].power) == len(batch)
    c["normalize"].value = True
    assert shown.plot.figure.data[1].y[0] == pytest.approx(1)
    assert shown.controls["detail"].value == group1
    view = shown.views[group1]
    assert shown.detail_plot.figure.data[1].z.shape == (32, 32)
    assert view.plane.mean() > 0


def test_a_cell_run_twice_keeps_settings_and_measurements(
    model: nn.Module, photos: ImageArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = SpectrumExplorer({"net": model}, photos, images=IMAGES, name="d")
    first.controls["band"].value = (1 / 16, 1 / 2)
    first.controls["layers"].value = ("group2", "conv")
    passes: list[object] = []
    real = measurements.layer_views
    monkeypatch.setattr(
        measurements, "layer_views", lambda *a, **kw: passes.append(a) or real(*a, **kw)
    )
    again = SpectrumExplorer({"net": model}, photos, images=IMAGES, name="d")
    assert again.controls["band"].value == (1 / 16, 1 / 2)
    assert list(again.spectra) == ["group2", "conv"]
    assert passes == []
    with torch.no_grad():
        next(model.parameters()).mul_(1)  # trained on since: measured again
    SpectrumExplorer({"net": model}, photos, images=IMAGES, name="d")
    assert len(passes) == 1


def test_a_layer_ticked_while_others_are_measured_waits_for_none_of_them_twice(
    model: nn.Module, photos: ImageArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = measurements.layer_views
    monkeypatch.setattr(
        measurements,
        "layer_views",
        lambda net, batches, layers, **kw: read.extend(layers) or real(net, batches, layers, **kw),
    )

    async def in_a_kernel() -> SpectrumExplorer:
        shown = SpectrumExplorer({"net": model}, photos, images=IMAGES, name="f")
        layers = shown.controls["layers"]
        layers.value = (*layers.value, "conv")
        assert "conv" not in shown.spectra  # the kernel is free: nothing is measured yet
        while "conv" not in shown.spectra:
            await asyncio.sleep(0.02)
        return shown

    shown = asyncio.run(asyncio.wait_for(in_a_kernel(), 60))
    assert list(shown.spectra) == ["images", "group1", "group2", "group3", "conv"]
    assert sorted(read) == sorted(["", "group1", "group2", "group3", "conv"])


def words(plot: Plot) -> str:
    """What a figure without curves says."""
    return " ".join(note.text.replace("<br>", " ") for note in plot.figure.layout.annotations)


def test_nothing_drawn_belongs_to_other_settings(model: nn.Module, photos: ImageArray) -> None:
    shown = SpectrumExplorer({"net": model}, photos, images=IMAGES, name="i")
    shown.controls["pool"].value = 4  # group3 has 8×8 pixels: it alone fails
    assert list(shown.spectra) == ["images", "group1", "group2"]
    (reason,) = (text for text in cells(shown.table.value) if "to pool by" in text)
    assert "expected at least 16 pixels a side" in reason
    assert shown.problems() == [f"group3: {reason}"]
    shown.controls["pool"].value = 1
    assert shown.problems() == []
    shown.controls["band"].value = (1 / 4, 1 / 2)
    assert any("band: expected at least 3 rings" in text for text in cells(shown.table.value))
    shown.controls["layers"].value = ()
    assert not shown.plot.figure.data
    assert "Tick a layer" in words(shown.plot)
    assert shown.table.value == ""


def test_what_is_no_longer_wanted_is_cancelled_and_says_so(photos: ImageArray) -> None:
    calls = []

    class Slow(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(x) > 2:
                calls.append(1)
                time.sleep(0.1)
            return super().forward(x)

    torch.manual_seed(0)
    slow = nn.Sequential(*(Slow(3, 3, 3, padding=1) for _ in range(50)))  # 5 s a batch
    quick = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1))

    async def in_a_kernel() -> None:
        nets = {"slow": slow, "quick": quick}
        shown = SpectrumExplorer(nets, photos, images=IMAGES, name="j")
        background, network = shown.background, shown.controls["network"]
        assert "Measuring" in words(shown.plot)
        while "images" not in shown.spectra:
            await asyncio.sleep(0.05)
        assert "is measured now" in cells(shown.table.value)
        while "left" not in background._words.value:
            await asyncio.sleep(0.05)
        assert "Measuring 49, " in background._words.value
        assert 0 < background._bar.value < 1
        background.cancel()
        while background.jobs:
            await asyncio.sleep(0.05)
        assert "cancelled" in cells(shown.table.value)
        shown.again.click()
        assert shown.busy()
        network.value = "quick"  # abandons the slow one
        while "0" not in shown.spectra:
            await asyncio.sleep(0.05)
        assert list(shown.spectra) == ["images", "0"]
        network.value = "slow"
        assert shown.busy()  # abandoned is not cancelled: it is measured again
        background.close()

    asyncio.run(asyncio.wait_for(in_a_kernel(), 60))
    time.sleep(0.5)
    assert len(calls) < 100  # not two passes of the slow network


def test_a_job_cancelled_while_layouts_are_found_out_is_no_failure() -> None:
    job, net = Job([], ""), nn.Sequential(nn.Conv2d(3, 3, 3))
    job.cancelled.set()
    with pytest.raises(Cancelled), job.watched(net, batches=1):
        layer_views(net, [torch.rand(2, 3, 8, 8)], ["0"], progress=False)


def test_two_explorers_live_beside_each_other(model: nn.Module, photos: ImageArray) -> None:
    first, second = (SpectrumExplorer({"net": model}, photos, images=IMAGES) for _ in range(2))
    second.controls["layers"].value = ("images",)
    first.controls["layers"].value = ("images", "conv")
    assert list(first.spectra) == ["images", "conv"]
    assert list(second.spectra) == ["images"]


def test_the_settings_as_code_measure_the_same(model: nn.Module, photos: ImageArray) -> None:
    explorer = SpectrumExplorer({"net": {"x": model}}, photos, images=IMAGES, name="k")
    c = explorer.controls
    c["layers"].value = ("images", "group2")
    c["ring"].value, c["window"].value, c["band"].value = "mean", "hann", (1 / 16, 1 / 2)
    names: dict[str, Any] = {"explorer": explorer}
    exec(explorer.code.text, names)
    assert set(names["fits"]) == {"images", "group2, x"}
    for name, label in (("images", "images"), ("group2, x", "group2")):
        assert names["fits"][name].exponent == pytest.approx(explorer.fits[label].exponent)


def test_presets_reset_blocks_and_exponents_against_depth(
    model: nn.Module, photos: ImageArray
) -> None:
    shown = SpectrumExplorer({"net": model}, photos, images=IMAGES, name="l")
    shown.choose("Power spectral density")
    assert {curve.ring for curve in shown.spectra.values()} == {"mean"}
    assert shown.fits["images"].band == (1 / 16, 1 / 2)
    layers = shown.controls["layers"]
    color = shown.plot.figure.data[-2].line.color
    layers.value = layers.groups["blocks"]
    assert list(shown.spectra) == ["images", "group1.0", "group2.0", "group3.0"]
    (depth,) = shown.depth_plot.figure.data
    assert list(depth.x) == list(shown.spectra)
    assert list(depth.y) == [fit.exponent for fit in shown.fits.values()]
    layers.value = ("group3",)
    assert shown.plot.figure.data[1].line.color == color  # whatever else is ticked
    shown.reset()
    assert list(shown.spectra) == ["images", "group1", "group2", "group3"]
    assert shown.fits["images"].band == (1 / 8, 1 / 2)


def test_a_persons_own_images(model: nn.Module, photos: ImageArray) -> None:
    shown = SpectrumExplorer({"net": model}, {"photos": photos}, images=IMAGES, name="m")
    before = shown.fits["images"].exponent
    file = io.BytesIO()
    Image.fromarray(photographs()["astronaut"].numpy()).save(file, "PNG")

    small = io.BytesIO()
    Image.new("RGB", (40, 5)).save(small, "PNG")

    def upload(**contents: bytes) -> None:
        shown.upload.value = tuple(
            {
                "name": f"{name}.png",
                "type": "image/png",
                "size": len(content),
                "content": memoryview(content),
                "last_modified": datetime.now(UTC),
            }
            for name, content in contents.items()
        )

    upload(bad=b"no image", small=small.getvalue())
    assert "bad.png: expected an image; small.png: expected at least" in shown.background.error
    assert shown.controls["data"].value == "photos"
    upload(good=file.getvalue(), bad=b"no image")  # the good ones are taken
    assert "bad.png: expected an image" in shown.background.error
    assert shown.controls["data"].value == "your images"
    assert shown.fits["images"].exponent != before


def test_any_module_can_be_explored(photos: ImageArray) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(3600, 2))
    shown = SpectrumExplorer({"mine": net}, photos, images=10, name="e")
    assert list(shown.spectra) == ["images", "1"]  # the last layer of each size
    assert shown.controls["layers"].options == ("images", "1", "0")


@pytest.mark.parametrize(
    ("name", "layer", "shown"),
    [
        ("timm/vit_tiny_patch16_224", "blocks.11", "tokens"),
        ("torchvision/swin_t", "features.1", "nhwc"),
    ],
)
def test_networks_of_the_zoos_show_their_layouts(name: str, layer: str, shown: str) -> None:
    net = create_model(name)
    images = torch.randint(0, 256, (2, 224, 224, 3), dtype=torch.uint8)
    data = ImageArray(images, torch.zeros(2).long(), ("any",))
    explorer = SpectrumExplorer({name: net}, data, images=2, name=f"zoo {name}")
    assert layer in explorer.spectra
    assert shown in cells(explorer.table.value)
    moments = (IMAGENET_MEAN, IMAGENET_STD) if "torchvision" in name else ([0.5] * 3, [0.5] * 3)
    seen = normalize(images.movedim(-1, 1) / 255, *moments)
    expected = layer_views(net, [seen], [layer], statistics="batch", progress=False)[layer]
    torch.testing.assert_close(explorer.views[layer].plane, expected.plane)


def test_images_that_a_network_does_not_take_are_refused_on_the_panel(photos: ImageArray) -> None:
    large = load_data("photos", image_size=224).subset(4)
    vit = {"vit": create_model("timm/vit_tiny_patch16_224")}
    shown = SpectrumExplorer(vit, {"photos": photos, "large": large}, images=4, name="h")
    assert "that VisionTransformer takes, got (3, 32, 32)" in shown.background.error
    assert list(shown.spectra) == ["images"]
    for place in ("large", "photos", "large"):  # the second time, nothing is left to measure
        shown.controls["data"].value = place
        assert bool(shown.background.error) == (place == "photos")


def test_explorer_refuses_nothing_to_show(photos: ImageArray) -> None:
    with pytest.raises(ValueError, match="models: expected at least one network"):
        SpectrumExplorer({}, photos)
    with pytest.raises(ValueError, match="data: expected at least one data set"):
        SpectrumExplorer({"net": nn.Identity()}, {})
    with pytest.raises(ValueError, match="images: expected at least 1, got 0"):
        SpectrumExplorer({"net": nn.Identity()}, photos, images=0)


def test_a_view_is_what_its_parts_are(model: nn.Module, photos: ImageArray) -> None:
    batches = photos.subset(IMAGES).batches(15)
    view = layer_views(model, batches, ["group2"], progress=False)["group2"]
    plain = activation_spectra(model, batches, ["group2"], progress=False)["group2"]
    torch.testing.assert_close(view.spectrum.power, plain.power)
    # Parseval: the plane's power but DC is the maps' variance, C(0).
    variance = view.plane.mean() - view.plane[8, 8] / 256
    assert float(view.correlation[0]) == pytest.approx(float(variance), rel=1e-4)
    assert view.maps.shape == (12, 16, 16)
    twice = with_ring(with_ring(plain, "jacobian"), "mean")
    torch.testing.assert_close(twice.power[1:], plain.power[1:])


# --- TeacherStudent -------------------------------------------------------------------------------


def test_teacher_and_students_are_compared_stage_by_stage(
    model: nn.Module, photos: ImageArray
) -> None:
    torch.manual_seed(1)
    students = {"itself": model, "wider": create_model("wrn10_2", 15)}
    shown = TeacherStudent(model, students, photos, images=IMAGES)
    batches = photos.subset(IMAGES).batches(50)
    expected = stage_agreement(model, students["wider"], batches, progress=False)
    for stage, agreement in shown.results["wider", "pre_relu", "running"].items():
        torch.testing.assert_close(agreement.correlation, expected[stage].correlation)
    assert "1.000" in cells(shown.table.value)
    assert {trace.name for trace in shown.plot.figure.data} == {
        *students, "itself, any connector", "wider, any connector"
    }  # fmt: skip
    shown.controls["ceiling"].value = False
    shown.controls["students"].value = ("wider",)
    assert {trace.name for trace in shown.plot.figure.data} == {"wider"}
    shown.controls["reads"].value = "output"
    assert ("wider", "output", "running") in shown.results
    assert len(csv_of(shown.csv)) == 1 + 16 + 8 + 4
    names: dict[str, Any] = {"widget": shown}
    exec(shown.code.text, names)
    for trace, same in zip(shown.plot.figure.data, names["figure"].data, strict=True):
        assert list(trace.y) == list(same.y)
    shown.controls["students"].value = ()
    assert "Tick a student" in words(shown.plot)
    with pytest.raises(ValueError, match="students: expected at least one"):
        TeacherStudent(model, {}, photos)


# --- RunPanel -------------------------------------------------------------------------------------


def test_the_form_says_the_command_and_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    panel = RunPanel("runs", epochs=3)
    form = panel.form
    c, settings, command = form.controls, form.settings, form.command
    assert "distill demo" in command.text
    assert "--epochs 3" in command.text
    assert command.text.startswith("python -m accelerate")
    assert "--run runs/first" in command.text
    c["task"].value = "teacher"
    assert "train demo" in command.text
    assert c["method"].disabled
    settings["drops"].value = "0.5, x"
    assert "drops: expected a number, got" in form.notes.value
    assert panel.launch_button.disabled
    settings["drops"].value = "0.25"
    settings["nesterov"].value = False
    settings["train_images"].value = "100"
    assert "--drops 0.25" in command.text
    assert "--no-nesterov" in command.text
    assert "--train-images 100" in command.text
    c["recipe"].value, c["preset"].value = "c", "heo"
    assert form.launch().recipe == get_recipe("c", "heo", epochs=3)
    panel.resume_button.click()
    assert "There is no run in" in panel.message.value


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("run", " ", "run: expected the name of a folder inside"),
        ("run", "../evil", "got &#x27;../evil&#x27;"),
        ("run", "/tmp/evil", "run: expected the name of a folder inside"),
        ("epochs", "2.5", "epochs: expected a whole number, got"),
        ("epochs", "0", "epochs: expected"),
        ("student_model", "wrn11_1", "student_model: model &#x27;wrn11_1&#x27;"),
        ("teacher_file", "/nowhere", "teacher: expected a finished run or a file"),
    ],
)
def test_the_form_refuses(tmp_path: Path, field: str, value: str, says: str) -> None:
    panel = RunPanel(tmp_path)
    form = panel.form
    assert not panel.launch_button.disabled
    before = form.controls[field] if field in form.controls else form.settings[field]
    kept, before.value = before.value, value
    assert says in form.notes.value
    assert panel.launch_button.disabled
    before.value = kept
    assert not panel.launch_button.disabled


def test_a_methods_options_and_any_teacher_enter_the_command(tmp_path: Path) -> None:
    form = RunPanel(tmp_path).form
    form.controls["method"].value = "kd"
    assert set(form.options) == set(method_options(METHODS["kd"]))
    form.options["temperature"].value = "2"
    assert "--option temperature=2.0" in form.command.text
    form.controls["teacher"].value = "wrn16_2-cifar100-short"
    assert form.settings["teacher_model"].value == "wrn16_2"
    assert form.launch().teacher == PRETRAINED / "wrn16_2-cifar100-short.safetensors"
    form.controls["teacher_file"].value = str(tmp_path / "best.pt")  # before the menu
    form.controls["teacher"].index = 0
    form.controls["teacher"].value = "wrn16_1-cifar100-short"
    assert form.settings["teacher_model"].value == "wrn16_2"
    assert form.launch().teacher == tmp_path / "best.pt"
    form.controls["teacher_file"].value = ""
    assert form.settings["teacher_model"].value == "wrn16_1"
    form.controls["recipe"].value = "c"  # the method's options stay
    assert "--option temperature=2.0" in form.command.text


def test_a_sum_of_methods_is_launched_with_the_options_of_each(tmp_path: Path) -> None:
    panel = RunPanel(tmp_path)
    form = panel.form
    method, others = form.controls["method"], form.controls["others"]
    method.value, others.value = "spectral", "kd + overhaul"
    assert {"kd.temperature", "spectral.eps"} < set(form.options)
    assert not {"temperature", "spectral.alpha"} & set(form.options)  # the recipe has alpha
    form.options["kd.temperature"].value = "2"
    launch = form.launch()
    assert (launch.method, launch.options) == ("spectral+kd+overhaul", {"kd": {"temperature": 2.0}})
    words = launch_command(launch)
    assert words[words.index("--method") + 1] == "spectral+kd+overhaul"
    assert words[words.index("--option") + 1] == "kd.temperature=2.0"
    for wrong, says in (
        ("kd+kdd", "got &#x27;kdd&#x27;"),
        ("spectral", "methods: expected two or more"),
        ("fam", "methods: expected the maps that are read alike"),
        ("own_parts:tiny", "expected a class derived from Method"),
    ):
        others.value = wrong
        assert says in form.notes.value
        assert panel.launch_button.disabled
    method.value, others.value = "kd", ""
    assert set(form.options) == set(method_options(METHODS["kd"]))
    form.options["temperature"].value = "-1"
    assert "temperature: expected a number" in form.notes.value


def test_the_panel_finds_draws_saves_renames_and_removes_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny: dict[str, Any] = {"train_images": 60, "validation_images": 60, "batch_size": 20}
    recipe = get_recipe("demo", epochs=2, spectra_every=1, teacher_model="wrn10_1", **tiny)
    panel = RunPanel(tmp_path)
    train(recipe, tmp_path / "t", progress=False)
    panel.refresh()
    assert panel.runs.value == ("t",)
    lines = Run(tmp_path / "t").read_metrics()
    error = f"{lines[-1]['top1_error']:.2f} %"
    assert cells(panel.states.value) == ["t", "finished", "2 of 2", error, "", ""]
    assert list(panel.plot.figure.data[0].y) == [line["top1_error"] for line in lines]
    names = {trace.name for trace in panel.plot.figure.data if trace.x[0]}
    assert names == {"t", "t: ce", "t: group1", "t: group2", "t: group3"}
    assert "t" in panel.form.controls["teacher"].options
    assert any(line.startswith("t,2,top1_error,") for line in csv_of(panel.csv))
    panel.resume_button.click()
    assert "has no launch.json" in panel.message.value
    panel.save_button.click()
    assert error in (tmp_path / "comparison.html").read_text()
    again = RunPanel(tmp_path)
    assert again.runs.value == ("t",)
    for name, says in (("../evil", "expected the name of a folder inside"), ("t", "exists")):
        again.new_name.value = name
        again.rename_button.click()
        assert says in again.message.value
    again.new_name.value = "first"
    again.rename_button.click()
    assert again.runs.options == again.runs.value == ("first",)
    assert Run(tmp_path / "first").read_metrics() == lines
    again.remove_button.click()
    again.remove_button.click()  # a double click
    assert "Delete first for ever?" in again.message.value
    again.resume_button.click()  # which is no answer
    monkeypatch.setattr(run_panel, "_DOUBLE_CLICK", 0.0)
    again.remove_button.click()
    assert (tmp_path / "first").is_dir()
    again.remove_button.click()
    assert not (tmp_path / "first").exists()
    assert again.runs.options == ()


def test_a_run_in_use_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = {"a": "running", "b": "stopped", "b/teacher": "stopped"}
    states |= {"d": "stopped", "d/kd-0": "running"}
    for name in states:
        (tmp_path / name).mkdir()
    monkeypatch.setattr(run_panel, "find_runs", lambda _: [tmp_path / name for name in states])
    monkeypatch.setattr(
        run_panel, "run_state", lambda p: RunState(states[str(p.relative_to(tmp_path))], 0, 0)
    )
    panel = RunPanel(tmp_path)
    panel.new_name.value = "c"
    for name, says in (
        ("a", "a is running: stop it first"),
        ("b/teacher", "belongs to b"),
        ("d", "d/kd-0 is running: stop it first"),
    ):
        panel.chosen.value = name
        panel.rename_button.click()
        assert says in panel.message.value
        assert (tmp_path / name).is_dir()


def test_progress_says_what_is_left_and_a_teacher_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = {
        "a": RunState("running", 0, 0),
        "a/teacher": RunState("stopped", 3, 8),
        "b": RunState("running", 2, 10),
    }
    for name in states:
        (tmp_path / name).mkdir()
    monkeypatch.setattr(run_panel, "find_runs", lambda _: [tmp_path / name for name in states])
    monkeypatch.setattr(
        run_panel, "run_state", lambda path: states[str(path.relative_to(tmp_path))]
    )
    now = 100.0
    monkeypatch.setattr(run_panel.time, "monotonic", lambda: now)
    panel = RunPanel(tmp_path)
    now, states["b"] = 160.0, RunState("running", 4, 10)  # 30 s an epoch
    panel.refresh()
    shown = cells(panel.states.value)
    assert shown[:3] == ["a", "training its teacher", "3 of 8"]
    assert shown[6:9] == ["a/teacher", "running", "3 of 8"]
    assert shown[12:] == ["b", "running", "4 of 10", "", "", "3 min"]


def test_a_click_launches_and_a_failure_is_shown(tmp_path: Path) -> None:
    panel = RunPanel(tmp_path, epochs=1, data="own_parts:nothing")
    panel.form.controls["task"].value = "student"
    panel.launch_button.click()
    assert panel.chosen.value == "first"
    end = time.monotonic() + 300
    while "failed" not in panel.states.value:
        assert time.monotonic() < end
        time.sleep(0.3)
        panel.refresh()
    assert "own_parts:nothing" in panel.states.value


def test_foreign_files_and_names_outside_the_folder_leave_the_panel_alive(tmp_path: Path) -> None:
    for number, text in enumerate(("{}", "null", '{"model_type": "bert"}', "")):
        for name in ("config.json", "launch.json", "metrics.jsonl"):
            place = tmp_path / f"{name}-{number}"
            place.mkdir()
            (place / name).write_text(text)
    panel = RunPanel(tmp_path)
    panel.refresh()
    assert panel.states.value.count("unreadable</td>") == 6
    assert "expected the configuration of a run" in panel.states.value
    panel.form.controls["run"].value = "../up"
    assert "run: expected the name of a folder inside" in panel.form.notes.value
    assert panel.launch_button.disabled


# --- small parts ----------------------------------------------------------------------------------


def test_a_plots_state_is_its_whole_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Plot("First"), Plot("Second", go.Figure(go.Scatter(y=[1, 2], name="α")))
    first.show(go.Figure(go.Scatter(y=[3, float("nan")], name="β")))
    for plot, y, name in ((first, [3, None], "β"), (second, [1, 2], "α")):
        (trace,) = json.loads(plot.get_state()["drawn"])["data"]
        assert (trace["y"], trace["name"]) == (y, name)
    assert first.get_state()["library"] == second.get_state()["library"]  # 5 MB, once

    sent: list[Any] = []
    monkeypatch.setattr(first, "send", lambda *message: sent.append(message))
    first._handle_custom_msg({"save": "html"}, [])

    def fails(*_: object, **__: object) -> bytes:
        raise RuntimeError("no browser")

    monkeypatch.setattr(go.Figure, "to_image", fails)
    first._handle_custom_msg({"save": "pdf"}, [])
    (html, [page]), (problem,) = sent
    assert (html, b"plotly" in page) == ({"kind": "html"}, True)
    assert problem == {"kind": "pdf", "error": "Not saved: no browser"}


def test_ticks_keep_the_order_of_the_boxes() -> None:
    ticks = TickList("Layers")
    ticks.options = ("a", "b", "c")
    ticks.value = ("c", "a")
    assert ticks.value == ("a", "c")
    ticks.value = ("c", "b", "a")
    assert ticks.value == ("a", "b", "c")
    ticks.options = ("b", "d")
    assert ticks.value == ("b",)
    with pytest.raises(Exception, match="expected names among"):
        ticks.value = ("z",)


def test_a_link_holds_the_table() -> None:
    link = csv_link("x.csv", ("a", "b"), [(1, "ä,"), (2.5, "c")])
    assert 'download="x.csv"' in link
    data = link.partition("base64,")[2].partition('"')[0]
    assert base64.b64decode(data).decode() == 'a,b\n1,"ä,"\n2.5,c\n'


@pytest.mark.parametrize(
    ("answer", "says"), [(None, "Your turn"), (1.02, "Right"), (1.2, "Not yet")]
)
def test_an_exercise(answer: float | None, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    check(answer, 1.0, within=0.05)
    assert capsys.readouterr().out.startswith(says)


def test_an_exercise_with_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    check(" Phase ", "phase")
    check("power", "phase")
    assert capsys.readouterr().out.splitlines()[0] == "Right."
    with pytest.raises(TypeError, match="answer: expected a number, got 'one'"):
        check("one", 1.0)
