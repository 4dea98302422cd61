"""Does the bench measure what it says, and is what it compares the same thing?"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import published_code as peers
import pytest
import torch
from typer.testing import CliRunner

from spectralkd import bench
from spectralkd.cli.app import app
from spectralkd.models import create_model
from spectralkd.spectra.power import radial_power


def test_ratios_are_to_the_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SHAPES", ((4, 3, 32, 32),))
    result = CliRunner().invoke(app, ["bench", "spectra", "--json", "--device", "cpu"])
    record = json.loads(result.stdout)
    assert record["machine"]["torch"] == torch.__version__
    assert record["spectra"][0]["what"] == "torch.fft.rfft2"
    assert record["spectra"][0]["ratio"] == 1
    halves = bench.ratios({"floor": [2.0, 4.0, 6.0], "other": [1.0, 2.0, 3.0]}, "any")
    assert [(t.what, t.seconds, t.ratio) for t in halves] == [("floor", 4, 1), ("other", 2, 0.5)]


def test_peak_memory_is_what_is_held_at_a_time() -> None:
    def one_after_the_other() -> None:
        for _ in range(5):
            torch.empty(2**18)

    before = torch.empty(2**20)
    kept = [bench.peak_mebibytes(lambda: [torch.empty(2**18), torch.empty(2**19)], "cpu")]
    kept += [bench.peak_mebibytes(one_after_the_other, "cpu") for _ in range(2)]
    assert kept == pytest.approx([3, 1, 1], abs=0.01)
    del before


def test_scaling_is_by_pixel_and_memory_constant_in_images(monkeypatch) -> None:
    scales = ((10, 3, 16, 16), (100, 3, 16, 16), (10, 12, 16, 16))
    monkeypatch.setattr(bench, "SCALES", scales)
    few, many, channels = bench.bench_scaling(rounds=1, batch=10)
    assert many.ratio == pytest.approx(many.seconds / few.seconds / 10)
    assert channels.ratio == pytest.approx(channels.seconds / few.seconds / 4)
    assert few.mebibytes is not None
    assert many.mebibytes == pytest.approx(few.mebibytes, abs=0.01)


def test_losses_steps_and_widgets_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"teacher_model": "wrn10_1", "student_model": "wrn10_1"}
    timings = bench.bench_train(rounds=1, batch=8, steps=2, **small)
    assert timings[0].what == "step, overhaul"
    assert timings[0].ratio == 1
    assert all(timing.mebibytes for timing in timings)
    monkeypatch.setattr(bench, "STAGES", ((4, 16, 16), (8, 8, 8)))
    taken = {t.what: t.seconds for t in bench.bench_losses(rounds=1, batch=2)}
    assert set(taken) == {"two rfft2", "L_L1 + L_CPS", "L_overhaul"}
    monkeypatch.setattr(bench.subprocess, "run", lambda *_, **__: None)  # seconds of importing
    widgets = bench.bench_widgets(rounds=1)
    assert [t.what for t in widgets[:2]] == ["import torch, torchvision", "import spectralkd"]


def test_a_tables_runs_are_measured() -> None:
    small = {"teacher_model": "wrn10_1", "student_model": "wrn10_1"}
    methods = ("baseline", "jacobian", "ft", "ab")
    timings = bench.bench_table(rounds=1, batch=8, steps=1, methods=methods, **small)
    assert [t.what for t in timings] == [
        "a run, each with its teacher",
        "a run, 4 behind one teacher",
    ]


def test_the_time_of_a_tables_run_is_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = {("kd",): 2.0, ("at",): 4.0, ("kd", "at"): 4.5}

    def distilled(runs: list[Any], *_: Any, **__: Any) -> list[Any]:
        rate = runs[0].recipe.batch_size / taken[tuple(run.method for run in runs)]
        return [SimpleNamespace(last_metrics=lambda: {"images_per_second": rate})]

    monkeypatch.setattr(bench, "distill_together", distilled)
    alone, together = bench.bench_table(rounds=1, methods=("kd", "at"), teacher_model="wrn10_1")
    assert (alone.seconds, together.seconds, together.ratio) == (3, 2.25, 0.75)


def test_powerbox_has_the_numbers_of_radial_power() -> None:
    pytest.importorskip("powerbox")
    for size in (8, 15, 32):
        maps = torch.randn(3, size, size, generator=torch.Generator().manual_seed(size))
        theirs = torch.stack(bench._powerbox(maps))
        torch.testing.assert_close(radial_power(maps.double()), theirs, rtol=1e-5, atol=1e-9)


def test_peers_weights_find_their_place() -> None:
    theirs = {
        "conv1.weight": "conv.weight",
        "block1.layer.0.bn1.weight": "group1.0.bn1.weight",
        "block2.layer.1.conv1.weight": "group2.1.conv1.weight",
        "block3.layer.0.convShortcut.weight": "group3.0.shortcut.weight",
        "bn1.running_mean": "bn.running_mean",
        "fc.bias": "fc.bias",
    }
    assert [peers._our_name(name) for name in theirs] == list(theirs.values())
    assert set(theirs.values()) <= create_model("wrn16_2").state_dict().keys()


def test_a_missing_clone_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"clones: no folder .*; git clone https://"):
        peers.bench_published_code(tmp_path)


@pytest.mark.skipif("SPECTRALKD_CLONES" not in os.environ, reason="names no folder of clones")
def test_peers_have_our_loss() -> None:
    timings = peers.bench_published_code(
        os.environ["SPECTRALKD_CLONES"], rounds=1, batch=4, steps=1
    )
    assert {"overhaul-distillation", "RepDistiller", "mdistiller"} <= {t.what for t in timings}
