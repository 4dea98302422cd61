"""Does the command line do what its help says, and end a wrong input in one line?"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from spectralkd.cli import app, signals, values
from spectralkd.cli.train import _without
from spectralkd.losses import METHODS
from spectralkd.models import create_model
from spectralkd.training.recipes import get_recipe, read_settings, recipe_like
from spectralkd.training.run_folder import Run
from spectralkd.training.together import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def run(*args: object, cwd: Path) -> Done:
    """``spectralkd ARGS`` in a folder, without the seconds that a fresh interpreter imports for."""
    out, err, before = io.StringIO(), io.StringIO(), Path.cwd()
    status, handlers = 0, [(number, signal.getsignal(number)) for number in SIGNALS]
    os.chdir(cwd)
    try:
        with (
            mock.patch.object(sys, "argv", ["spectralkd", *map(str, args)]),
            mock.patch.object(sys, "path", list(sys.path)),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            app.main()
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        os.chdir(before)
        for number, handler in handlers:
            signal.signal(number, handler)
    return Done(status, out.getvalue(), err.getvalue())


def test_it_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "spectralkd", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", done.stdout)


def test_spectra_prints_exponents_and_writes_a_page(tmp_path: Path) -> None:
    done = run("spectra", "--images", 200, "--model", "wrn10_1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    start = lines.index("Exponents") + 3
    name, rings, exponent, *_ = lines[start].split()
    assert (name, rings) == ("images", "16")
    assert -1.8 < float(exponent) < -1.4
    names = [line.split()[0] for line in lines[start + 2 : start + 6]]
    assert names == ["group1", "group2", "group3", "group3,"]
    start = lines.index("Blocks") + 3
    assert [line.split()[:4] for line in lines[start : start + 3]] == [
        ["group1.0", "32×32", "nchw", "1"],
        ["group2.0", "16×16", "nchw", "2"],
        ["group3.0", "8×8", "nchw", "4"],
    ]
    start = lines.index("Aliasing") + 3
    assert lines[start].split()[1:3] == ["2×2", "16×16"]
    assert "wrn10_1 (untrained, seed 0, batch statistics) on 200 images of photos" in done.stdout
    page = (tmp_path / "spectra.html").read_text()
    assert "Plotly.newPlot" in page
    assert re.search(r"<td>group2\s*</td>", page)
    assert "activations" in done.stderr  # the progress bar


def test_a_page_on_a_network_of_a_zoo(tmp_path: Path) -> None:
    """Its images are cut to its size and normalized as it expects them."""
    generator = torch.Generator().manual_seed(0)
    (tmp_path / "pictures").mkdir()
    for number in range(2):
        pixels = torch.randint(0, 256, (250, 260, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(tmp_path / "pictures" / f"{number}.png")
    options = ["--model", "timm/vit_tiny_patch16_224", "--layout", "blocks.2=tokens"]
    done = run("spectra", *options, "--data", "imagefolder", "--root", "pictures", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    blocks = [line.split()[:4] for line in done.stdout.splitlines() if line.startswith("blocks.")]
    assert blocks[-12:] == [[f"blocks.{n}", "14×14", "tokens", "16"] for n in range(12)]
    assert re.search(r"patch_embed\.proj +16×16 +14×14 ", done.stdout)
    page = (tmp_path / "spectra.html").read_text()
    assert page.count("Plotly.newPlot") == 3
    assert "<h1>Power spectra of timm/vit_tiny_patch16_224</h1>" in page


def test_photographs_are_cut_to_the_size_of_a_network_of_a_zoo(tmp_path: Path) -> None:
    options = ["--model", "timm/vit_tiny_patch16_224", "--images", 2, "--layers", "blocks.0"]
    done = run("spectra", *options, "--classes", 7, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"blocks\.0 +14×14 +tokens", done.stdout)


def test_weights_layers_band_and_convention_are_read(tmp_path: Path) -> None:
    model = create_model("wrn10_1", num_classes=15)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    options = ["spectra", "--images", 100, "--model", "wrn10_1", "--layers", "group1,bn"]
    options += ["--ring", "mean", "--band", 0.0625, 0.5, "--output", "other.html"]
    done = run(*options, "--weights", "w.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "weights of w.safetensors" in done.stdout
    assert "power is the ring mean, window none, fitted over [0.0625, 0.5)" in done.stdout
    assert "\nbn " in done.stdout
    assert (tmp_path / "other.html").exists()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--data", "mnist"], "data: expected one of photos"),
        (["--data", "imagefolder"], "root: imagefolder needs"),
        (["--root", "nowhere"], "root: expected an existing folder"),
        (["--model", "wrn29_4"], "model 'wrn29_4': expected a depth"),
        (["--layers", "gruop1"], "such as group1"),
        (["--band", 0.4, 0.42], "band: expected at least 3 rings"),
        (["--layout", "chw"], "layout: expected one of 'nchw', 'nhwc', 'tokens', got 'chw'"),
        (["--layout", "nchw", "--layout", "a=nhwc"], "layout: expected LAYER=LAYOUT, or one"),
        (["--model", "timm/vit_tiny_patch16_224", "--image-size", 32], "takes, got (3, 32, 32)"),
        (["--images", 0], "Input should be greater than or equal to 1, got '0'"),
        (["--weights", "none.safetensors"], "weights: expected a file"),
        (["--pretrained", "cifar100-short", "--classes", 9], "expected neither weights nor cl"),
    ],
)
def test_a_wrong_input_ends_in_one_line(args: list[object], says: str, tmp_path: Path) -> None:
    done = run("spectra", *args, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert says in done.stderr


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--layers", "group1"], "layers: expected TEACHER_LAYER=STUDENT_LAYER, got 'group1'"),
        (["--layers", "=group1"], "layers: expected TEACHER_LAYER=STUDENT_LAYER, got '=group1'"),
        (["--layers", "group1=group1", "--layout", "a", "--layout", "b"], "layout: expected LAYER"),
    ],
)
def test_wrong_pairs_of_layers_end_in_one_line(args: list[str], says: str, tmp_path: Path) -> None:
    done = run("distill", "demo", "--run", "r", "--teacher", "t", *args, cwd=tmp_path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert says in done.stderr


def test_a_worker_s_error_is_its_last_line() -> None:
    said = "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent\n"
    said += "  File x\nValueError: a.jpg: not a readable image: truncated"
    assert app._one_line(ValueError(said), []) == "a.jpg: not a readable image: truncated"


def test_a_traceback_can_be_shown(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data: expected one of"):
        run("--traceback", "spectra", "--data", "mnist", cwd=tmp_path)


def test_an_error_in_a_users_file_says_where(tmp_path: Path) -> None:
    (tmp_path / "broken_part.py").write_text("def net(classes):\n    raise RuntimeError('no')\n")
    model = ("--student-model", "broken_part:net")
    done = run("train", "demo", "--student", "--run", "r", *model, cwd=tmp_path)
    place = tmp_path / "broken_part.py"
    assert done.stderr == f"spectralkd: no ({place}, line 2; spectralkd --traceback shows all)\n"


def test_weights_that_do_not_fit_name_the_parameter(tmp_path: Path) -> None:
    save_file({"conv.weight": torch.zeros(3)}, tmp_path / "w.safetensors")
    done = run("spectra", "--weights", "w.safetensors", cwd=tmp_path)
    assert "conv.weight has shape (3,), expected (16, 3, 3, 3)" in done.stderr
    torch.save({"conv.weight": print}, tmp_path / "w.pt")
    done = run("spectra", "--weights", "w.pt", cwd=tmp_path)
    assert "holds more than tensors, not read" in done.stderr
    (tmp_path / "w.pt").write_bytes(b"rubbish")
    done = run("spectra", "--weights", "w.pt", cwd=tmp_path)
    assert done.returncode == 2
    assert "weights: w.pt" in done.stderr


TINY = ["--epochs", 1, "--train-images", 60, "--validation-images", 60, "--batch-size", 20]


def test_train_distill_and_table_in_a_row(tmp_path: Path) -> None:
    teacher = run("train", "demo", "--run", "teacher", *TINY, cwd=tmp_path)
    assert teacher.returncode == 0, teacher.stderr
    assert teacher.stdout.startswith("teacher: top-1 error ")
    student = run(
        *("distill", "demo", "--method", "kd", "--teacher", "teacher", "--run", "kd", "--seed", 3),
        *(*TINY, "--drops", 0.4, "--drops", 0.8, "--nesterov", "--option", "temperature=3"),
        cwd=tmp_path,
    )
    assert student.returncode == 0, student.stderr
    config = json.loads((tmp_path / "kd" / "config.json").read_text())
    assert config["recipe"]["drops"] == [0.4, 0.8]
    assert config["options"] == {"temperature": 3.0}
    alone = run("train", "demo", "--student", "--run", "alone", *TINY, cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    table = run("table", "teacher", "kd", "alone", "--style", "markdown", cwd=tmp_path)
    whole = run("table", ".", "--style", "markdown", cwd=tmp_path)  # a folder of runs
    assert whole.stdout == table.stdout
    cells = [[cell.strip() for cell in line.split("|")] for line in table.stdout.splitlines()]
    assert [row[2] for row in cells[2:]] == ["teacher", "baseline", "kd"]
    assert "temperature=3.0" in cells[4][4]
    spectra = run("spectra", "--images", 60, "--weights", "alone", cwd=tmp_path)
    assert "wrn10_1 (weights of alone" in spectra.stdout
    assert "60 images of photos-hard;" in spectra.stdout


def test_methods_are_summed_by_plus() -> None:
    summed = "kd+spectral+own.file:LogitMSE"
    given = ["kd.temperature=3", "spectral.teacher_map=identity", "own.file:LogitMSE.weight=2"]
    with mock.patch.dict(METHODS, {"own.file:LogitMSE": METHODS["at"]}):
        found = values.parse_options(summed, given, [summed])
    assert found["kd"] == {"temperature": 3.0}
    assert found["spectral"] == {"teacher_map": "identity"}
    assert found["own.file:LogitMSE"] == {"weight": 2.0}
    own = values.parse_options("own_parts:LogitMSE", ["weight=0.5"], ["own_parts:LogitMSE"])
    assert own == {"weight": 0.5}
    for method, expected in (("at", {"weight": 2.0}), ("kd+at", {"at": {"weight": 2.0}})):
        assert values.parse_options(method, ["at.weight=2"], ["at", "kd+at"]) == expected
    both = ["kd+at.at.weight=3", "at.weight=2"]  # whichever comes first
    assert values.parse_options("kd+at", both, ["at", "kd+at"]) == {"at": {"weight": 3.0}}
    with pytest.raises(ValueError, match=r"a name among kd.temperature, .*at.weight .*got 'te"):
        values.parse_options("kd+at", ["temperature=3"], ["kd+at"])


def test_a_run_is_asked_to_end_by_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)  # nohup and background jobs ignore some
        stop = signals.terminated()
        assert not stop()
        signal.raise_signal(number)
        assert stop()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    stop = signals.terminated()
    signal.raise_signal(signal.SIGHUP)
    assert not stop()
    for world, orphaned in (("1", False), ("2", True)):
        monkeypatch.setenv("WORLD_SIZE", world)
        stop = signals.terminated()
        with monkeypatch.context() as patch:
            patch.setattr(os, "getppid", lambda: 1)
            assert stop() == orphaned


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_ends_with_the_signals_status(
    number: int, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        signals.received.append(number)
        raise Stopped("r: stopped; the same command resumes it")

    monkeypatch.setattr(app, "app", stopped)
    done = run("train", "demo", "--run", "r", cwd=tmp_path)
    signals.received.clear()
    assert done.returncode == status
    assert done.stderr.startswith("spectralkd: r: stopped; the same command resumes it\n")


def test_a_terminal_without_greek_letters_shows_the_numbers() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    words = mock.patch.object(sys, "argv", ["spectralkd", "--version"])
    with words, mock.patch.object(sys, "stdout", out):
        app.main()
        print("α |k| ²", flush=True)
    assert out.buffer.getvalue().endswith(b"\n? |k| ?\n")


def test_an_interrupted_run_says_how_to_resume_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "spectralkd", "train", "demo", "--run", "run"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job inherits that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    end = time.monotonic() + 300
    while not (tmp_path / "run" / "metrics.jsonl").exists():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; the same command resumes a run" in said


def test_the_demo_tells_the_whole_story(tmp_path: Path) -> None:
    options = ("--student-images", 15, "--no-open")
    done = run("demo", *options, *TINY, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = [line.split("  ")[0] for line in done.stdout.splitlines()[2:6]]
    assert names[:3] == ["teacher", "student alone", "student, spectral"]
    assert re.fullmatch(r"\(the images: α -\d\.\d\d\)", names[3])
    assert "sees 15 such crops" in " ".join(done.stdout.split())
    page = (tmp_path / "demo.html").read_text()
    assert page.count('class="plotly-graph-div"') == 6
    assert re.search(r"<td>student, spectral\s*</td>", page)
    assert "data:image/png;base64," in page


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["distill", "c", "--method", "kdd", "--run", "r"], "method: expected one of kd"),
        (["distill", "z", "--run", "r"], "recipe: expected one of demo, a,"),
        (["distill", "c", "--run", "r", "--option", "delta=3"], "names? among|name among alpha"),
        (
            ["distill", "c", "--run", "r", "--option", "gamma=x"],
            "gamma: expected a number",
        ),
        (["distill", "c", "--run", "r", "--teacher", "none"], "teacher: expected a run's folder"),
        (["train", "demo", "--run", "r", "--student-model", "wrn"], "model: expected one of"),
        (["train", "imagenet", "--run", "r"], "root: imagefolder needs the folder"),
        (["table", "nowhere"], "runs: expected folders of runs"),
    ],
)
def test_a_wrong_run_ends_in_one_line(args: list[str], says: str, tmp_path: Path) -> None:
    student = ["--student"] if "--student-model" in args else []
    done = run(*args, *student, cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert re.search(says, done.stderr)


def test_spectra_of_a_network_that_comes_with_the_package(tmp_path: Path) -> None:
    options = ("--images", 60, "--model", "wrn16_2", "--pretrained", "cifar100-short")
    done = run("spectra", *options, "--style", "latex", cwd=tmp_path)
    assert "weights of wrn16_2-cifar100-short" in done.stdout, done.stderr
    assert done.stdout.count(r"\toprule") == 3
    wrong = run("spectra", *options[:-1], "imagenet", cwd=tmp_path)
    assert "pretrained: expected cifar100-short of wrn16_1, " in wrong.stderr
    assert "; got 'imagenet' of wrn16_2" in wrong.stderr


def test_a_recipe_is_printed_with_its_meaning(tmp_path: Path) -> None:
    done = run("recipe", "c", "--preset", "heo", cwd=tmp_path)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert any(row[:2] == ["weight_decay", "0.0005"] for row in rows)
    assert "Learning-rate milestones as fractions of the run." in done.stdout


def test_a_recipe_is_printed_as_a_file_and_read_again(tmp_path: Path) -> None:
    printed = run("recipe", "c", "--preset", "heo", "--json", cwd=tmp_path)
    (tmp_path / "c.json").write_text(printed.stdout)
    recipe = recipe_like(read_settings(tmp_path / "c.json"), epochs=3)
    assert recipe == get_recipe("c", "heo", epochs=3)
    with pytest.raises(ValueError, match="recipe: expected fields among setup, .*, got epoch"):
        recipe_like({"recipe": {"epoch": 3}})
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(ValueError, match="config: expected a run's folder, .*, got '.*other.json'"):
        read_settings(tmp_path / "other.json")


def test_a_run_like_another(tmp_path: Path) -> None:
    """All settings of the first but its seed, a weight of the recipe and an option."""
    save_file(create_model("wrn16_2", 15).state_dict(), tmp_path / "t.safetensors")
    teacher = ("--teacher", "t.safetensors")
    first = run(
        *("distill", "demo", "--method", "kd+spectral", "--run", "a", *teacher, *TINY),
        *("--option", "kd.temperature=3", "--option", "spectral.teacher_map=identity"),
        cwd=tmp_path,
    )
    assert first.returncode == 0, first.stderr
    changes = ("--seed", 1, "--gamma", 0.5, "--option", "kd.weight=0.5")
    done = run("distill", "--like", "a", "--run", "b", *teacher, *changes, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    a, b = (json.loads((tmp_path / name / "config.json").read_text()) for name in "ab")
    assert b["recipe"] == {**a["recipe"], "seed": 1, "gamma": 0.5}
    assert b["options"]["kd"] == {"temperature": 3.0, "weight": 0.5}
    assert b["options"]["spectral"] == {**a["options"]["spectral"], "gamma": 0.5}
    assert b["options"]["spectral"]["teacher_map"] == "identity"
    both = run("distill", "demo", "--like", "a", "--run", "c", *teacher, cwd=tmp_path)
    assert "config: expected no recipe or preset beside a, which has its own" in both.stderr
    none = run("train", "--run", "c", cwd=tmp_path)
    assert "recipe: expected one of demo, a, " in none.stderr
    assert len(none.stderr.splitlines()) == 1


def test_networks_data_and_methods_of_ones_own_file(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).with_name("own_parts.py"), tmp_path / "own_file.py")
    spectra = run(
        *("spectra", "--data", "own_file:few", "--model", "own_file:tiny", "--layers", "0,1"),
        cwd=tmp_path,
    )
    assert spectra.returncode == 0, spectra.stderr
    assert "own_file:tiny (untrained" in spectra.stdout
    models = ("--teacher-model", "own_file:tiny", "--student-model", "own_file:tiny")
    done = run(
        *("distill", "demo", "--method", "own_file:LogitMSE", "--option", "weight=0.5"),
        *("--run", "run", "--data", "own_file:few", *models, "--epochs", 1, "--batch-size", 20),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["mse"] > 0


@pytest.mark.parametrize(
    ("words", "unused"),
    [
        (("--method", "kd"), True),
        (("--method", "overhaul", "--option", "alpha=0.5"), True),
        (("--method", "overhaul"), False),
        # DKD's alpha is another, and the one that the spectral loss takes is the recipe's.
        (("--method", "spectral", "--method", "dkd", "--option", "dkd.alpha=2"), False),
        (("--method", "kd+spectral", "--option", "spectral.alpha=2"), True),
    ],
)
def test_a_weight_that_nothing_uses_is_named(
    tmp_path: Path, words: tuple[str, ...], unused: bool
) -> None:
    begin = ("distill", "demo", "--run", "a", "--teacher", "none", "--alpha", 0.7, *TINY)
    done = run(*begin, *words, cwd=tmp_path)
    assert ("--alpha is not used" in done.stderr) == unused
    assert re.search("teacher: expected a run's folder or a file.*, got 'none'", done.stderr)


def test_layers_of_a_method_of_logits_are_refused(tmp_path: Path) -> None:
    words = ("--run", "a", "--method", "kd", "--layers", "group1=group1")
    done = run("distill", "demo", *words, cwd=tmp_path)
    assert "layers: expected none of kd, which reads no maps" in done.stderr
    assert not (tmp_path / "a").exists()


def test_what_is_given_now_goes_before_what_another_run_was_given(tmp_path: Path) -> None:
    save_file(create_model("wrn16_2", 15).state_dict(), tmp_path / "t.safetensors")
    begin = ("distill", "--teacher", "t.safetensors")
    first = ("demo", "--method", "overhaul", "--option", "alpha=0.5", "--run", "a", *TINY)
    assert run(*begin, *first, cwd=tmp_path).returncode == 0
    assert run(*begin, "--like", "a", "--run", "b", "--seed", 1, cwd=tmp_path).returncode == 0
    done = run(*begin, "--like", "a", "--run", "c", "--alpha", 0.9, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    options = [Run(tmp_path / name).read_config()["options"]["alpha"] for name in "abc"]
    assert options == [0.5, 0.5, 0.9]
    assert _without("dkd+spectral", {"dkd": {"alpha": 2}, "spectral": {"alpha": 3}}, {"alpha"}) == {
        "dkd": {"alpha": 2},
        "spectral": {},
    }


def test_the_study_lists_its_runs(tmp_path: Path) -> None:
    done = run("study", "--size", "short", "--only", "*wrn16_2*", cwd=tmp_path)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["teacher-wrn16_2-heo-0", "2", "recorded", "30", "of", "30"] in rows
    assert done.stdout.endswith("\nshort list: 3 recorded, 0 unfinished, 0 missing, 0 waiting.\n")
    assert not list(tmp_path.iterdir())
