"""On a real GPU: is everything what it is on a CPU, compiled, replayed and in bf16?

Needs a CUDA device and nothing of the notebooks: ``pytest -o addopts= tests/test_gpu.py``.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from spectralkd.bench import peak_mebibytes
from spectralkd.data.augmentation import training_stream
from spectralkd.data.photos import photos
from spectralkd.losses import METHODS
from spectralkd.losses.distiller import Distiller
from spectralkd.losses.spectral_fused import fused_terms
from spectralkd.models import create_model
from spectralkd.spectra.correlation import ring_correlation
from spectralkd.spectra.power import RadialPowerSpectrum, radial_power
from spectralkd.spectra.rings import Rings
from spectralkd.training.api import StudentRun, distill, distill_together
from spectralkd.training.evaluate import evaluate
from spectralkd.training.recipes import Recipe, get_recipe
from spectralkd.training.run_folder import Run
from spectralkd.training.together import Stopped

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device, or not asked for"
)


@pytest.fixture(autouse=True)
def without_tf32() -> None:
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def tiny(**changes: Any) -> Recipe:
    settings = {"epochs": 4, "batch_size": 10, "train_images": 95, "validation_images": 60}
    settings |= {"teacher_model": "wrn10_1", "precision": "float32", "compile": "no"}
    return get_recipe("demo", **(settings | changes))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "t.safetensors"
    save_file(create_model("wrn10_1", 15).state_dict(), path)
    return path


# --- spectra --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(9, 3, 32, 32), (5, 64, 8, 8), (2, 3, 225, 224)])
def test_spectra_are_those_of_the_cpu(shape: tuple[int, ...]) -> None:
    x, y = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(radial_power(x.cuda()).cpu(), radial_power(x), rtol=1e-4, atol=1e-7)
    expected = ring_correlation(x, x + y)
    found = ring_correlation(x.cuda(), (x + y).cuda()).cpu()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    metrics = [RadialPowerSpectrum(), RadialPowerSpectrum().cuda()]
    for metric, maps in zip(metrics, (x, x.cuda()), strict=True):
        metric.update(maps)
        metric.update(maps)
    powers = [metric.compute().power.cpu() for metric in metrics]
    torch.testing.assert_close(powers[1], powers[0], rtol=1e-4, atol=1e-9)


def test_the_stream_is_that_of_the_cpu() -> None:
    data = photos("train").subset(50)
    streams = [training_stream(data, 20, seed=3, device=device) for device in ("cpu", "cuda")]
    for (a, la), (b, lb) in zip(*(stream.epoch(1) for stream in streams), strict=True):
        torch.testing.assert_close(b.cpu(), a)
        assert torch.equal(lb.cpu(), la)


# --- losses ---------------------------------------------------------------------------------------


def gradients(method: str, device: str, dtype: torch.dtype | None = None) -> dict[str, Any]:
    torch.manual_seed(0)
    distiller = Distiller(create_model("wrn10_2", 10), create_model("wrn10_1", 10), method)
    distiller.begin(distiller.phases[-1])
    distiller.to(device).train()
    generator = torch.Generator().manual_seed(1)
    images, labels = torch.randn(8, 3, 32, 32, generator=generator), torch.arange(8)
    with torch.autocast(device, dtype, enabled=dtype is not None):
        terms = distiller(images.to(device), labels.to(device))
    torch.stack(list(terms.values())).sum().backward()
    norms = [p.grad.float().norm().item() for p in distiller.trainable_parameters()]
    return {"terms": {n: t.item() for n, t in terms.items()}, "norm": sum(n**2 for n in norms)}


@pytest.mark.parametrize("method", METHODS)
def test_losses_and_gradients_are_those_of_the_cpu(method: str) -> None:
    cpu, cuda = (gradients(method, device) for device in ("cpu", "cuda"))
    assert cuda["terms"] == pytest.approx(cpu["terms"], rel=2e-3, abs=1e-5)
    assert cuda["norm"] == pytest.approx(cpu["norm"], rel=2e-2)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "jacobian"])
def test_bf16_is_within_its_rounding(method: str) -> None:
    plain, half = (gradients(method, "cuda", dtype) for dtype in (None, torch.bfloat16))
    assert half["terms"] == pytest.approx(plain["terms"], rel=0.05, abs=0.02)


@pytest.mark.parametrize("size", [(8, 8), (32, 32), (15, 16)])
def test_the_spectral_terms_pull_as_on_the_cpu(size: tuple[int, int]) -> None:
    """Element by element: beside Overhaul's, L_CPS's gradient is too small to show in a sum."""
    generator = torch.Generator().manual_seed(0)
    t, s = torch.randn(2, 4, 16, *size, generator=generator)
    found = {}
    for device in ("cpu", "cuda"):
        student, rings = s.to(device).requires_grad_(), Rings(*size).float().to(device)
        for term in (0, 1):
            value = fused_terms(t.to(device), student, rings, 1e-2)[term]
            (gradient,) = torch.autograd.grad(value, student)
            found[device, term] = gradient.cpu()
    for term in (0, 1):
        expected = found["cpu", term]
        assert (found["cuda", term] - expected).norm() < 1e-3 * expected.norm()


# --- runs -----------------------------------------------------------------------------------------


def numbers(run: Run, name: str = "loss") -> list[float]:
    return [line[name] for line in run.read_metrics()]


def batch_norms(run: Run) -> dict[str, float]:
    """Length of the running variances of each of the student's batch norms."""
    weights = load_file(run.weights_file)
    return {k: float(v.norm()) for k, v in weights.items() if k.endswith("running_var")}


def batches_seen(run: Run) -> set[int]:
    """By the student's batch norms: each step counts once."""
    weights = load_file(run.weights_file)
    return {int(v) for k, v in weights.items() if k.endswith("num_batches_tracked")}


@pytest.mark.parametrize("method", ["spectral", "overhaul", "kd", "ft"])
def test_compiled_and_replayed_runs_follow_the_plain_one(
    method: str, teacher: Path, tmp_path: Path
) -> None:
    """Over drops that forget the momentum, and a smaller last batch.

    At the usual rate of 0.1, a change of 1e-5 in the teacher moves running variances by a fifth.
    """
    options = {"ft": {"paraphraser_epochs": 1}}.get(method)
    runs = {
        name: distill(
            tiny(compile=name, restart_momentum=True, lr=0.01),
            tmp_path / name,
            method=method,
            teacher=teacher,
            options=options,
            progress=False,
        )
        for name in ("no", "yes", "graph")
    }
    norms = {name: batch_norms(run) for name, run in runs.items()}
    for name in ("yes", "graph"):
        assert numbers(runs[name]) == pytest.approx(numbers(runs["no"]), rel=0.02)
        # Of evaluations: statistics that a step updates twice, or not at all, do not show above.
        assert norms[name] == pytest.approx(norms["no"], rel=0.05)
        assert batches_seen(runs[name]) == batches_seen(runs["no"])


def test_several_students_replayed_behind_one_teacher(teacher: Path, tmp_path: Path) -> None:
    methods = ("overhaul", "spectral", "kd")
    together = distill_together(
        [StudentRun(tiny(compile="graph"), tmp_path / m, m) for m in methods],
        teacher,
        progress=False,
    )
    for method, run in zip(methods, together, strict=True):
        alone = distill(
            tiny(), tmp_path / f"{method}-alone", method=method, teacher=teacher, progress=False
        )
        assert numbers(run) == pytest.approx(numbers(alone), rel=0.02)


def test_a_run_in_bf16_is_replayed(teacher: Path, tmp_path: Path) -> None:
    runs = [
        distill(tiny(compile=name, precision="bf16"), tmp_path / name, teacher=teacher)
        for name in ("no", "graph")
    ]
    assert numbers(runs[1]) == pytest.approx(numbers(runs[0]), rel=0.05)


@pytest.mark.parametrize("compiled", ["no", "graph"])
def test_a_stopped_run_resumes(compiled: str, teacher: Path, tmp_path: Path) -> None:
    recipe = tiny(compile=compiled)
    whole = distill(recipe, tmp_path / "whole", teacher=teacher, progress=False)
    steps = iter(range(1000))
    halves = partial(distill, recipe, tmp_path / "halves", teacher=teacher, progress=False)
    with pytest.raises(Stopped):
        halves(stop=lambda: next(steps) == 17)
    resumed = halves()
    assert numbers(resumed) == pytest.approx(numbers(whole), rel=0.01)


def test_evaluation_is_that_of_the_cpu(teacher: Path, tmp_path: Path) -> None:
    run = distill(tiny(epochs=1), tmp_path, method="kd", teacher=teacher, progress=False)
    model, data = create_model("wrn10_1", 15), photos().subset(200)
    model.load_state_dict(load_file(run.weights_file))
    cpu = evaluate(model, data)
    assert evaluate(model.cuda(), data.to("cuda")) == pytest.approx(cpu, abs=1.0)


def test_memory_of_the_spectral_step_is_near_overhauls() -> None:
    def peak(method: str) -> float:
        torch.manual_seed(0)
        distiller = Distiller(create_model("wrn28_4", 10), create_model("wrn16_2", 10), method)
        distiller.to("cuda").train()
        images, labels = torch.randn(64, 3, 32, 32, device="cuda"), torch.zeros(64).long().cuda()

        def step() -> None:
            torch.stack(list(distiller(images, labels).values())).sum().backward()

        step()
        return peak_mebibytes(step, "cuda")

    assert peak("spectral") < 2 * peak("overhaul")
