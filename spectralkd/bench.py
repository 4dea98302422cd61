"""Measurements of speed on the user's own machine, as ratios to a named floor in one run.

Contestants run in turn, round after round, and each round's ratio is taken within the round, so a
machine whose speed drifts drifts for all of them.

``spectra``  the floor is one ``torch.fft.rfft2`` over the whole batch, its result thrown away
``scaling``  the data-set spectrum of 1,000×3×32×32, for the same number of pixels
``losses``   two ``rfft2``, forward and backward, of the maps that setup (c) compares
``train``    a step of setup (c) with Overhaul alone
``table``    a step of a run of Table 2's setup (c), when each of the runs has a teacher to itself
``widgets``  100 ms for a moved slider, 5 s for a first figure, and the import of torch and
             torchvision for that of this package
"""

from __future__ import annotations

import gc
import importlib.util
import itertools
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from spectralkd.data import load_data
from spectralkd.data.images import CIFAR_MEAN, CIFAR_STD, ImageArray
from spectralkd.losses.base import Taps
from spectralkd.losses.distiller import Distiller
from spectralkd.losses.overhaul import partial_l2
from spectralkd.losses.spectral import Spectral
from spectralkd.models import create_model
from spectralkd.reproduction.paper_tables import TABLE_2
from spectralkd.spectra.correlation import ring_correlation
from spectralkd.spectra.power import RadialPowerSpectrum, radial_power
from spectralkd.training.accelerator import cpu_capabilities
from spectralkd.training.api import StudentRun, distill_together, fit
from spectralkd.training.recipes import Recipe, get_recipe

SHAPES = ((10_000, 3, 32, 32), (512, 256, 8, 8), (64, 3, 224, 224))
STAGES = ((64, 32, 32), (128, 16, 16), (256, 8, 8))  # of the WRN-28-4 in setup (c)
TABLE = tuple(TABLE_2)[1:]  # without the teacher
POWERBOX_MAPS = 100
SCALES = (
    *((images, 3, 32, 32) for images in (1_000, 10_000, 100_000)),
    *((1_000, channels, 32, 32) for channels in (30, 300)),
    *((1_000, 3, side, side) for side in (8, 16, 64, 128, 256)),
)


@dataclass(frozen=True)
class Timing:
    """One contestant on one input.

    Attributes:
        what: the call that was timed.
        input: a description of its size.
        seconds: median over the rounds.
        ratio: median over the rounds of seconds over the floor's seconds; the floor has 1.
        mebibytes: peak memory of the call, beside its input; None where it was not measured.
    """

    what: str
    input: str
    seconds: float
    ratio: float
    mebibytes: float | None = None


def bench_spectra(device: str = "cpu", rounds: int = 7) -> list[Timing]:
    """Time spectra against the Fourier transform they rest on, and against powerbox's."""
    timings = []
    for shape in tqdm(SHAPES, desc="spectra", leave=False):
        x = torch.randn(shape, device=device)
        metric = RadialPowerSpectrum().to(device)
        contestants: dict[str, Callable[[], object]] = {
            "torch.fft.rfft2": partial(torch.fft.rfft2, x, norm="ortho"),
            "reading it once (sum)": x.sum,
            "RadialPowerSpectrum.update": partial(metric.update, x),
            "radial_power": partial(radial_power, x),
            "ring_correlation (two maps)": partial(ring_correlation, x, x),
        }
        scale = {}
        if importlib.util.find_spec("powerbox"):
            name = f"powerbox, map by map ({POWERBOX_MAPS} maps, scaled)"
            few = x.flatten(0, 1)[:POWERBOX_MAPS].cpu()
            contestants[name] = partial(_powerbox, few)
            scale = {name: x.shape[0] * x.shape[1] / len(few)}
        timings += _compared(contestants, "×".join(map(str, shape)), device, rounds, scale)
    return timings


def bench_scaling(device: str = "cpu", rounds: int = 3, batch: int = 100) -> list[Timing]:
    """Time the data-set spectrum against images, channels and size, in batches of images.

    The ratio is that of the times of equally many pixels.
    """
    calls, pixels = {}, {}
    for images, *shape in SCALES:
        name = "×".join(map(str, (images, *shape)))
        maps = torch.randn(batch, *shape, device=device)
        calls[name] = partial(_stream, maps, images // batch)
        pixels[name] = images * math.prod(shape)
    timings = _compared(calls, f"in batches of {batch}", device, rounds)
    floor = pixels[timings[0].what]
    return [
        replace(
            timing,
            what=f"RadialPowerSpectrum {timing.what}",
            ratio=timing.ratio * floor / pixels[timing.what],
            mebibytes=peak_mebibytes(calls[timing.what], device),
        )
        for timing in timings
    ]


def bench_losses(device: str = "cpu", rounds: int = 9, batch: int = 64) -> list[Timing]:
    """Time the terms of Eq. 10 against the transforms of the same maps, forward and backward."""
    margins = tuple(torch.full((c,), -0.8) for c, _, _ in STAGES)
    taps = Taps(STAGES, margins)
    method = Spectral()
    method.build(taps, taps)
    method.to(device)
    teachers, students = (
        [torch.randn(batch, *shape, device=device) for shape in STAGES] for _ in range(2)
    )

    def pairs() -> Iterator[tuple[Tensor, Tensor]]:
        for t, s in zip(teachers, students, strict=True):
            yield t, s.detach().requires_grad_()

    def floor() -> None:
        for maps in (*teachers, *students):
            modes = torch.fft.rfft2(maps.detach().requires_grad_(), norm="ortho")
            modes.backward(torch.ones_like(modes))

    def spectral() -> None:
        terms = [v for n, pair in enumerate(pairs()) for v in method.stage_terms(n, *pair)]
        torch.stack(terms).sum().backward()

    def overhaul() -> None:
        torch.stack([partial_l2(t, s) for t, s in pairs()]).sum().backward()

    contestants: dict[str, Callable[[], object]] = {
        "two rfft2": floor,
        "L_L1 + L_CPS": spectral,
        "L_overhaul": overhaul,
    }
    return _compared(contestants, f"setup (c), batch {batch}", device, rounds)


def bench_train(
    rounds: int = 3, batch: int = 64, steps: int | None = None, **changes: object
) -> list[Timing]:
    """Time a whole training step of setup (c), by the loop that trains, on what accelerate finds.

    Args:
        rounds: number of rounds.
        batch: images a step.
        steps: steps of an epoch; the second of two epochs is timed, the first one warms up and
            nothing is compiled or recorded again between them; default: 100 on a GPU, else 4.
        changes: fields of the recipe, such as smaller networks or another precision.
    """
    on_gpu = PartialState().device.type == "cuda"
    steps = steps or (100 if on_gpu else 4)
    settings = {"epochs": 2, "batch_size": batch, "evaluate_every": 2, "drops": ()} | changes
    recipe = get_recipe("c", "heo", **settings)
    data = random_images(batch * steps)

    def contestant(name: str, other: dict[str, Any]) -> Callable[[ImageArray], float]:
        teacher = create_model(recipe.teacher_model)
        student = create_model(recipe.student_model)
        distiller = Distiller(teacher, student, name)
        return partial(seconds_of_a_step, distiller, replace(recipe, **other))

    variants: dict[str, dict[str, Any]] = {"": {}}
    if cpu_has_bf16():
        variants |= {", bf16": {"precision": "bf16"}}
    elif on_gpu:
        variants |= {f", compile={how}": {"compile": how} for how in ("no", "yes")}
    contestants = {
        f"step, {name}{variant}": partial(contestant, name, other)
        for variant, other in variants.items()
        for name in ("overhaul", "baseline", "kd", "spectral")
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in tqdm(range(rounds), desc="train", leave=False):
        for name, made in contestants.items():
            seconds[name].append(made()(data))
    two, device = random_images(2 * batch), PartialState().device.type
    memory = {}
    for name, made in contestants.items():
        step = made()
        step(two)  # the networks are where they belong by then
        memory[name] = peak_mebibytes(partial(step, two), device)
    timings = ratios(seconds, f"setup (c), batch {batch}")
    return [replace(timing, mebibytes=memory[timing.what]) for timing in timings]


def bench_table(
    rounds: int = 3,
    batch: int = 64,
    steps: int | None = None,
    methods: Sequence[str] = TABLE,
    **changes: object,
) -> list[Timing]:
    """Time a step of a run of a table: of runs one after another, and behind one teacher.

    Seconds are those of all methods' steps over their number, each in its last phase.

    Args:
        rounds, batch, changes: as ``bench_train``.
        steps: of an epoch, whose last is timed; default: 20 on a GPU, else 2.
        methods: of the table, the first of them without phases before the last.

    Raises:
        ValueError: more steps than the data set has batches.
    """
    steps = steps or (20 if PartialState().device.type == "cuda" else 2)
    if batch * steps > 3000:
        raise ValueError(
            f"steps: expected at most {3000 // batch} of the 3,000 photos, got {steps}"
        )
    settings = {"data": "photos", "train_images": batch * steps, "validation_images": 10}
    # In the first epoch the others are in their first phases, in the second they are compiled.
    settings |= {"epochs": 3, "batch_size": batch, "evaluate_every": 3, "drops": ()} | changes
    recipe = get_recipe("c", "heo", **settings)
    alone, together = "a run, each with its teacher", f"a run, {len(methods)} behind one teacher"
    seconds: dict[str, list[float]] = {alone: [], together: []}
    for _ in tqdm(range(rounds), desc="table", leave=False):
        single = [_seconds_of_joint_steps([method], recipe) for method in methods]
        seconds[alone].append(sum(single) / len(methods))
        seconds[together].append(_seconds_of_joint_steps(methods, recipe) / len(methods))
    return ratios(seconds, f"setup (c), batch {batch}, {', '.join(methods)}")


def _seconds_of_joint_steps(methods: Sequence[str], recipe: Recipe) -> float:
    """Time of a step of each method on one batch, in the last epoch of the first method."""
    options = {"ft": {"paraphraser_epochs": 1}, "ab": {"init_epochs": 1}}
    with tempfile.TemporaryDirectory() as folder:
        teacher = Path(folder) / "teacher.safetensors"
        save_file(create_model(recipe.teacher_model, 15).state_dict(), teacher)
        runs = [StudentRun(recipe, Path(folder) / m, m, options.get(m, {})) for m in methods]
        first, *_ = distill_together(runs, teacher, progress=False)
        return float(recipe.batch_size / first.last_metrics()["images_per_second"])


def random_images(count: int) -> ImageArray:
    """Images of noise, as CIFAR-100's are held."""
    pixels = torch.randint(256, (count, 32, 32, 3), dtype=torch.uint8)
    names = tuple(map(str, range(100)))
    return ImageArray(pixels, torch.arange(count) % 100, names, CIFAR_MEAN, CIFAR_STD)


def seconds_of_a_step(distiller: Distiller, recipe: Recipe, images: ImageArray) -> float:
    """Time of a step of the training loop, in its last epoch; the student is trained in place."""
    with tempfile.TemporaryDirectory() as folder:
        run = fit(distiller, images, images.subset(10), recipe, folder, progress=False)
        return float(recipe.batch_size / run.last_metrics()["images_per_second"])


def cpu_has_bf16() -> bool:
    """Whether training runs on a CPU with matrix units for bf16 (Intel's AMX)."""
    return PartialState().device.type == "cpu" and bool(cpu_capabilities().get("amx_bf16"))


def bench_widgets(rounds: int = 5) -> list[Timing]:
    """Time what a person waits for; needs the ``notebooks`` extra.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    from spectralkd.widgets.explorer import SpectrumExplorer

    def imported(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True)

    imports = _compared(
        {
            "import torch, torchvision": partial(imported, "import torch, torchvision"),
            "import spectralkd": partial(imported, "import torch, torchvision, spectralkd"),
        },
        "a fresh process",
        "cpu",
        rounds,
    )
    photos, model = load_data("photos"), create_model("wrn16_2")
    begun = time.perf_counter()
    explorer = SpectrumExplorer({"wrn16_2": model}, photos, name="bench")
    first = time.perf_counter() - begun
    moves = []
    for number in range(1, rounds + 1):
        begun = time.perf_counter()
        explorer.controls["band"].value = (number / 64 + 1 / 32, 1 / 2)
        moves.append(time.perf_counter() - begun)
    move = statistics.median(moves)
    size = "wrn16_2, 3 layers and the images, 300 photos"
    return [
        *imports,
        Timing("SpectrumExplorer, first figure (of 5 s)", size, first, first / 5),
        Timing("SpectrumExplorer, slider, Python's part (of 0.1 s)", size, move, move / 0.1),
    ]


def _stream(maps: Tensor, batches: int) -> None:
    metric = RadialPowerSpectrum().to(maps.device)
    for _ in range(batches):
        metric.update(maps)


def peak_mebibytes(call: Callable[[], object], device: str) -> float:
    """Peak memory of ``call`` in MiB, above what was allocated before."""
    gc.collect()
    if device.startswith("cuda"):
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler reports itself to stderr
    with torch.autograd.profiler.profile(profile_memory=True) as profiler:
        call()
    recorded = profiler.kineto_results.events()
    events = sorted((e.start_ns(), e.nbytes()) for e in recorded if e.name() == "[memory]")
    return max(itertools.accumulate(size for _, size in events), default=0) / 2**20


def _powerbox(maps: Tensor) -> list[Tensor]:
    """Ring-mean power of each map by powerbox, in the convention of ``radial_power``."""
    from powerbox import get_power

    size = maps.shape[-1]
    edges = torch.tensor(
        [0.0, *((ring + 0.5) / size for ring in range((size + 1) // 2))], dtype=torch.float64
    )
    options = {"a": 0, "b": 2 * torch.pi, "bins": edges.numpy(), "dimensionless": False}
    powers = []
    for pixels in maps.double().numpy():
        powers.append(torch.from_numpy(get_power(pixels, float(size), **options).power))
    return powers


def _compared(
    calls: Mapping[str, Callable[[], object]],
    size: str,
    device: str,
    rounds: int,
    scale: dict[str, float] | None = None,
) -> list[Timing]:
    """Time each call in each round, after one round that is not counted; the first is the floor."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            _wait(device)
            start = time.perf_counter()
            call()
            _wait(device)
            if number > 0:
                factor = (scale or {}).get(name, 1.0)
                seconds[name].append(factor * (time.perf_counter() - start))
    return ratios(seconds, size)


def ratios(seconds: dict[str, list[float]], size: str) -> list[Timing]:
    """Timings from the seconds of each round; the first contestant is the floor."""
    floor = next(iter(seconds.values()))
    return [
        Timing(
            name,
            size,
            statistics.median(taken),
            statistics.median(t / f for t, f in zip(taken, floor, strict=True)),
        )
        for name, taken in seconds.items()
    ]


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
