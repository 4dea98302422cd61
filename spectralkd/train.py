"""One training loop, for teachers and for every method, on whatever accelerate finds.

The same call trains on a CPU, a GPU or under ``accelerate launch`` on several. A run killed at
any moment goes on with the same call: what each step sees is a function of (seed, phase, epoch,
step), and everything else is in its checkpoint.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn
from tqdm.auto import tqdm

from spectralkd.batches import training_stream
from spectralkd.data import ImageArray, ImageData, hold_out, load
from spectralkd.features import FeatureReader, activation_spectra, evaluation
from spectralkd.losses import Method, Phase, Reading, create_method, method_options
from spectralkd.models import create_model, model_stages
from spectralkd.powerlaw import fit_power_law
from spectralkd.recipes import FREE_FIELDS, Recipe
from spectralkd.replay import Replayed
from spectralkd.runs import Run, file_digest
from spectralkd.weights import load_weights

EVALUATION_BATCH = 500
SPECTRUM_IMAGES = 500

# Options of a method that are fields of the recipe.
RECIPE_OPTIONS = ("alpha", "beta", "gamma")


def train(
    recipe: Recipe,
    run: str | Path,
    *,
    role: Literal["teacher", "student"] = "teacher",
    tracker: str | None = None,
    progress: bool = True,
    stop: Callable[[], bool] | None = None,
) -> Run:
    """Train a recipe's teacher, or its student alone (the baseline), by cross-entropy.

    Args:
        recipe: see ``recipes.get_recipe``.
        run: folder; if it holds an unfinished run of the same configuration, that one goes on,
            and a finished one is returned as it is.
        role: which network.
        tracker: one of accelerate's, such as ``"tensorboard"``.
        progress: show a progress bar.
        stop: asked after each step, in a run of one process; once it says yes, the run saves
            where it is and raises ``Stopped``.

    Raises:
        Stopped: see ``stop``.
        ValueError: a wrong setting, or a run of another configuration in the folder.
        FloatingPointError: a term of the loss is not finite: its name and the epoch.
        OSError: a file cannot be written; the last good checkpoint stays.
        RuntimeError: several processes were asked for and one was started.
    """
    accelerator = _accelerator(recipe, run, tracker)
    name = recipe.teacher_model if role == "teacher" else recipe.student_model
    folder = _claimed(accelerator, run, _config(recipe, role, name, "baseline", {}))
    if folder.finished:
        return folder
    training, validation = _data(recipe, accelerator)
    torch.manual_seed(recipe.seed)
    model = create_model(name, len(training.classes))
    method = create_method("baseline", model, model, _image_shape(validation))
    _Loop(
        model, None, method, training, validation, recipe, folder, accelerator, progress, stop
    ).run()
    return folder


def distill(
    recipe: Recipe,
    run: str | Path,
    *,
    method: str = "spectral",
    teacher: str | Path | None = None,
    options: dict[str, Any] | None = None,
    tracker: str | None = None,
    progress: bool = True,
    stop: Callable[[], bool] | None = None,
) -> Run:
    """Distil a recipe's teacher into its student.

    Args:
        recipe, run, tracker, progress, stop: as ``train``.
        method: one of ``losses.METHODS``.
        teacher: a finished run's folder, or a file of weights; without it the recipe's teacher
            is trained first, in the folder ``teacher`` of the run.
        options: the method's own arguments, over the recipe's alpha, beta and gamma.

    Raises:
        as ``train``; also ValueError where the teacher's run is unfinished or of another network.
    """
    known = method_options(method)
    chosen = {name: getattr(recipe, name) for name in RECIPE_OPTIONS if name in known}
    chosen |= options or {}
    if teacher is None:
        place = Path(run) / "teacher"
        teacher = train(recipe, place, tracker=tracker, progress=progress, stop=stop).path
    weights = _teacher_weights(Path(teacher), recipe.teacher_model)
    accelerator = _accelerator(recipe, run, tracker)
    config = _config(recipe, "distill", recipe.student_model, method, chosen)
    folder = _claimed(accelerator, run, config | {"teacher_sha256": file_digest(weights)})
    if folder.finished:
        return folder
    training, validation = _data(recipe, accelerator)
    classes = len(training.classes)
    teacher_model = create_model(recipe.teacher_model, classes)
    load_weights(teacher_model, weights)
    torch.manual_seed(recipe.seed)
    student = create_model(recipe.student_model, classes)
    loss = create_method(method, teacher_model, student, _image_shape(validation), **chosen)
    _Loop(
        student,
        teacher_model,
        loss,
        training,
        validation,
        recipe,
        folder,
        accelerator,
        progress,
        stop,
    ).run()
    return folder


def fit(
    student: nn.Module,
    method: Method,
    training: ImageData,
    validation: ImageData,
    recipe: Recipe,
    run: str | Path,
    *,
    teacher: nn.Module | None = None,
    name: str = "custom",
    tracker: str | None = None,
    progress: bool = True,
) -> Run:
    """The same for networks and data of your own.

    Args:
        student: any module with a table of taps in ``stages``; trained in place.
        method: made for it, see ``losses.create_method``.
        training, validation: see ``data``.
        recipe: its networks, data set and loss weights are not looked at.
        run, tracker, progress: as ``train``.
        teacher: what the method compares with; left as it is.
        name: of the student, for the run's configuration.

    Raises:
        as ``train``.
    """
    accelerator = _accelerator(recipe, run, tracker)
    config = _config(recipe, "custom", name, type(method).__name__.lower(), {})
    folder = _claimed(accelerator, run, config)
    if not folder.finished:
        _Loop(
            student, teacher, method, training, validation, recipe, folder, accelerator, progress
        ).run()
    return folder


def evaluate(
    model: nn.Module, data: ImageData, accelerator: Accelerator | None = None
) -> tuple[float, float]:
    """Top-1 and top-5 error in percent, in evaluation mode; each process takes its share."""
    device = next(model.parameters()).device
    rank = accelerator.process_index if accelerator else 0
    world = accelerator.num_processes if accelerator else 1
    wrong = torch.zeros(2, dtype=torch.int64, device=device)
    precision = accelerator.autocast() if accelerator else nullcontext()
    with evaluation(model), torch.no_grad(), precision:
        for number, (images, labels) in enumerate(data.batches(EVALUATION_BATCH)):
            if number % world != rank:
                continue
            logits = model(images.to(device, memory_format=torch.channels_last))
            best = logits.topk(min(5, logits.shape[1])).indices == labels.to(device)[:, None]
            wrong[0] += (~best[:, :1].any(1)).sum()
            wrong[1] += (~best.any(1)).sum()
    if accelerator:
        wrong = accelerator.reduce(wrong)
    top1, top5 = wrong.tolist()
    return 100 * top1 / len(data), 100 * top5 / len(data)


class Stopped(Exception):
    """A run was asked to stop, and saved where it is."""


class _Step(nn.Module):
    """The student and the loss in one forward: what is prepared, compiled and differentiated.

    Features come out of the forward pass and the losses are computed within, because accelerate
    gives mixed precision to ``forward`` alone and takes every output to float32.
    """

    def __init__(self, student: nn.Module, method: Method, layers: tuple[str, ...]) -> None:
        super().__init__()
        self.reader = FeatureReader(student, layers) if layers else None
        self.student, self.method, self.layers = student, method, layers
        self.terms: Callable[..., dict[str, Tensor]] = self._terms

    def forward(
        self, images: Tensor, labels: Tensor, teacher: Reading, phase: Phase
    ) -> dict[str, Tensor]:
        return self.terms(images, labels, teacher, phase)

    def _terms(
        self, images: Tensor, labels: Tensor, teacher: Reading, phase: Phase
    ) -> dict[str, Tensor]:
        student = Reading(images, images.new_zeros(0), ())
        if phase.student and self.reader is not None:
            logits, maps = self.reader(images)
            student = Reading(images, logits, tuple(maps[layer] for layer in self.layers))
        elif phase.student:
            student = Reading(images, self.student(images), ())
        return self.method(student, teacher, labels, phase.name)


@dataclass
class _Position:
    """How far a run has come."""

    phase: int = 0
    epoch: int = 0
    step: int = 0
    lines: int = 0  # of metrics
    # Of this epoch and this process: images seen, names of the terms, and for each its sum over
    # images and the first step at which it was not finite.
    images: int = 0
    terms: list[str] = field(default_factory=list)
    sums: Tensor = field(default_factory=lambda: torch.zeros(0))
    spoilt: Tensor = field(default_factory=lambda: torch.zeros(0))


@dataclass
class _Loop:
    """One run in progress."""

    student: nn.Module
    teacher: nn.Module | None
    method: Method
    training: ImageData
    validation: ImageData
    recipe: Recipe
    folder: Run
    accelerator: Accelerator
    progress: bool
    stop: Callable[[], bool] | None = None
    advance: Callable[[Tensor, Tensor], Tensor] | None = field(default=None, init=False)

    def run(self) -> None:
        """Go on from the last checkpoint, or begin, and finish."""
        accelerator, method = self.accelerator, self.method
        device, main = accelerator.device, accelerator.is_main_process
        if method.needs_teacher and self.teacher is None:
            raise ValueError(f"teacher: {type(method).__name__} needs one, got None")
        self.stream = training_stream(
            self.training,
            self.recipe.batch_size,
            seed=self.recipe.seed,
            device=device,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
            workers=self.recipe.workers,
        )
        if isinstance(self.validation, ImageArray):
            self.validation = self.validation.to(device)
        for model in filter(None, (self.student, self.teacher)):
            model.to(device)
            model.to(memory_format=torch.channels_last)
        method.to(device)
        self.epochs = [phase.epochs or self.recipe.epochs for phase in method.phases]
        state = self.folder.load_checkpoint()
        self.at = _Position(**state["position"]) if state else _Position()
        self.at.sums, self.at.spoilt = self.at.sums.to(device), self.at.spoilt.to(device)
        if state:
            self.student.load_state_dict(state["student"])
            method.load_state_dict(state["method"])
        if main:
            self.folder.keep_metrics(self.at.lines)
            accelerator.init_trackers("spectralkd", config=_flat(self.recipe))
        accelerator.wait_for_everyone()
        self.saved = time.monotonic()
        done = (sum(self.epochs[: self.at.phase]) + self.at.epoch) * self.stream.steps
        with tqdm(
            total=sum(self.epochs) * self.stream.steps,
            initial=done + self.at.step,
            unit="step",
            disable=not (self.progress and main),
        ) as self.bar:
            for number in range(self.at.phase, len(method.phases)):
                self.at.phase = number
                self._phase(method.phases[number], state)
                state = None
        for tracker in accelerator.trackers:
            tracker.finish()
        if main:
            lines = self.folder.read_metrics()
            result = lines[-1] if lines else {}
            config = self.folder.read_config()
            self.folder.finish(self.student, {"config": config, "result": result})
        accelerator.wait_for_everyone()

    def _phase(self, phase: Phase, state: dict[str, Any] | None) -> None:
        recipe, method = self.recipe, self.method
        trained = [*self.student.parameters()] if phase.student else []
        trained += list(method.trained(phase.name))
        others = [*self.student.parameters(), *method.parameters()]
        frozen = self.teacher.parameters() if self.teacher else ()
        with (
            _requiring_grad(trained, [*others, *frozen]),
            evaluation(self.teacher, phase.teacher_statistics) if self.teacher else nullcontext(),
            self._readers(phase) as (step, read_teacher),
        ):
            optimizer = torch.optim.SGD(
                trained,
                lr=phase.lr or recipe.lr,
                momentum=recipe.momentum,
                nesterov=recipe.nesterov,
                weight_decay=recipe.weight_decay,
                fused=self.accelerator.device.type == "cuda" or None,
            )
            if state:
                optimizer.load_state_dict(state["optimizer"])
            step, optimizer = self.accelerator.prepare(step, optimizer)
            self.advance = None
            while self.at.epoch < self.epochs[self.at.phase]:
                rng, state = (state["rng"] if state else None), None
                self._epoch(phase, step, read_teacher, optimizer, rng)
            self.at.epoch = 0

    def _epoch(
        self,
        phase: Phase,
        step: nn.Module,
        read_teacher: Callable[[Tensor], Reading],
        optimizer: torch.optim.Optimizer,
        rng: Tensor | None,
    ) -> None:
        at, recipe, world = self.at, self.recipe, self.accelerator.num_processes
        last_phase = at.phase == len(self.epochs) - 1
        lr = phase.lr or (recipe.lr_at(at.epoch) if last_phase else recipe.lr)
        changed = any(group["lr"] != lr for group in optimizer.param_groups)
        for group in optimizer.param_groups:
            group["lr"] = lr
        drops = at.epoch in recipe.drop_epochs() and last_phase and at.step == 0
        if drops and recipe.restart_momentum:
            optimizer.state.clear()
        if self.advance is None or changed or drops:
            # A recorded step holds its learning rate and its momentum's memory.
            self.advance = self._advance(phase, step, read_teacher, optimizer)
        advance = self.advance
        number = sum(self.epochs[: at.phase]) + at.epoch
        if rng is not None and at.step > 0:
            torch.set_rng_state(rng)
        else:
            torch.manual_seed(1_000_003 * recipe.seed + number)
        self.student.train()
        self.method.train()
        self.bar.set_description(f"{phase.name} {at.epoch + 1}/{self.epochs[at.phase]}")
        begun, seen = time.monotonic(), at.images if at.step else 0
        for images, labels in self.stream.epoch(number, at.step):
            values = advance(images, labels)
            self._count(values, len(labels))
            self.bar.update()
            stopping = world == 1 and self.stop is not None and self.stop()
            if stopping or (world == 1 and self._due() and at.step < self.stream.steps):
                self._check_finite(phase)
                self._save(optimizer)
            if stopping:
                raise Stopped(f"{self.folder.path}: stopped; the same command goes on with it")
        seconds = time.monotonic() - begun
        self._close_epoch(phase, lr, (at.images - seen) / max(seconds, 1e-9), optimizer)

    def _advance(
        self,
        phase: Phase,
        step: nn.Module,
        read_teacher: Callable[[Tensor], Reading],
        optimizer: torch.optim.Optimizer,
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """What takes a training step on images and labels, and returns the terms of the loss."""
        recipe, world = self.recipe, self.accelerator.num_processes

        def advance(images: Tensor, labels: Tensor) -> Tensor:
            images.requires_grad_(self.method.input_gradient)
            terms = step(images, labels, read_teacher(images), phase)
            self.names = list(terms)
            # Processes' gradients are averaged; their shares of the last batch may differ by one.
            start = self.at.step * recipe.batch_size
            whole = min(recipe.batch_size, len(self.training) - start)
            values = torch.stack(list(terms.values())).float()
            self.accelerator.backward(values.sum() * (len(labels) * world / whole))
            optimizer.step()
            optimizer.zero_grad()
            return values.detach()

        if recipe.compile == "graph" and not self.method.input_gradient:
            return Replayed(advance, recipe.batch_size)
        return advance

    def _count(self, values: Tensor, images: int) -> None:
        """Add a step's terms up where they are: nothing waits for the device."""
        at = self.at
        if at.step == 0:
            at.terms, at.images = self.names, 0
            at.sums, at.spoilt = torch.zeros_like(values), torch.full_like(values, math.inf)
        at.sums += values * images
        now = torch.where(torch.isfinite(values), math.inf, at.step + 1.0)
        at.spoilt = torch.minimum(at.spoilt, now)
        at.images += images
        at.step += 1

    def _close_epoch(
        self, phase: Phase, lr: float, rate: float, optimizer: torch.optim.Optimizer
    ) -> None:
        at, recipe, accelerator = self.at, self.recipe, self.accelerator
        self._check_finite(phase)
        sums = torch.cat([at.sums, at.sums.new_tensor([at.images])])
        *totals, images = accelerator.reduce(sums).tolist()
        terms = {name: total / images for name, total in zip(at.terms, totals, strict=True)}
        line: dict[str, Any] = {"phase": phase.name, "epoch": at.epoch + 1, "lr": lr}
        line |= {"loss": sum(terms.values())} | terms
        at.epoch, at.step = at.epoch + 1, 0
        last = at.epoch == self.epochs[at.phase]
        if phase.student and (last or at.epoch % recipe.evaluate_every == 0):
            top1, top5 = evaluate(self.student, self.validation, accelerator)
            line |= {"top1_error": top1, "top5_error": top5}
            self.bar.set_postfix(loss=f"{line['loss']:.3f}", error=f"{top1:.2f}%")
        if recipe.spectra_every and (last or at.epoch % recipe.spectra_every == 0):
            line["exponents"] = stage_exponents(self.student, self.validation)
        line["images_per_second"] = round(rate * accelerator.num_processes, 1)
        if accelerator.is_main_process:
            self.folder.append_metrics(line)
        at.lines += 1
        numbers = {key: value for key, value in line.items() if isinstance(value, float)}
        accelerator.log(numbers, step=at.lines)
        if self._due() and not last:
            self._save(optimizer)

    def _due(self) -> bool:
        return time.monotonic() - self.saved >= self.recipe.checkpoint_seconds

    def _save(self, optimizer: torch.optim.Optimizer) -> None:
        at = self.at
        if self.accelerator.is_main_process:
            self.folder.save_checkpoint(
                (sum(self.epochs[: at.phase]) + at.epoch) * self.stream.steps + at.step,
                {
                    "position": vars(at),
                    "student": self.student.state_dict(),
                    "method": self.method.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "rng": torch.get_rng_state(),
                },
            )
        self.saved = time.monotonic()

    def _check_finite(self, phase: Phase) -> None:
        steps = self.accelerator.gather(self.at.spoilt[None]).amin(0).tolist()
        if math.isfinite(step := min(steps)):
            spoilt = [n for n, s in zip(self.at.terms, steps, strict=True) if s == step]
            raise FloatingPointError(
                f"{self.folder.path}: the loss term {', '.join(spoilt)} is not finite in epoch "
                f"{self.at.epoch + 1}, step {step:.0f}, of phase {phase.name!r}; the last "
                f"checkpoint is from before"
            )

    @contextmanager
    def _readers(self, phase: Phase) -> Iterator[tuple[_Step, Callable[[Tensor], Reading]]]:
        """The step and the teacher, with hooks on both networks until the phase is over."""
        method, teacher = self.method, self.teacher
        compiled = _compiles(self.recipe, method, self.accelerator.device)
        if compiled:
            # Code is shared by all runs of a session, and so is the number of its variants.
            torch.compiler.reset()
        if teacher is None or not method.needs_teacher:
            step = _Step(self.student, method, ())
            if compiled:
                step.terms = self._compiled(step._terms)
            yield step, lambda images: Reading(images, images.new_zeros(0), ())
            return
        student_layers, layers = (
            tuple(getattr(stage, method.reads) for stage in model_stages(model))
            for model in (self.student, teacher)
        )
        step = _Step(self.student, method, student_layers)
        reader = FeatureReader(teacher, layers)
        call: Callable[..., Any] = reader
        if compiled:
            step.terms, call = self._compiled(step._terms), self._compiled(reader)

        def read(images: Tensor) -> Reading:
            with torch.set_grad_enabled(method.input_gradient), self.accelerator.autocast():
                logits, maps = call(images)
            return Reading(images, logits, tuple(maps[layer] for layer in layers))

        try:
            yield step, read
        finally:
            reader.remove()
            if step.reader is not None:
                step.reader.remove()

    def _compiled(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Compiled for whole batches: for the last, smaller one it would be compiled anew."""
        process, world = self.accelerator.process_index, self.accelerator.num_processes
        share = len(range(process, self.recipe.batch_size, world))
        compiled = torch.compile(call, dynamic=False)

        def of_whole_batches(images: Tensor, *others: Any) -> Any:
            return (compiled if len(images) == share else call)(images, *others)

        return of_whole_batches


def stage_exponents(model: nn.Module, data: ImageData) -> dict[str, float | None]:
    """Exponent of each stage's output in the paper's convention; None where a map is too small.

    |k| × ring-mean power over [1/8, 1/2) cycles/pixel, batch statistics, 500 images.
    """
    outputs = [stage.output for stage in model_stages(model)]
    batches = data.subset(SPECTRUM_IMAGES).batches(100)
    spectra = activation_spectra(
        model, batches, outputs, ring="jacobian", statistics="batch", progress=False
    )
    exponents: dict[str, float | None] = {}
    for name, spectrum in spectra.items():
        try:
            exponents[name] = fit_power_law(spectrum.frequency, spectrum.power).exponent
        except ValueError:
            exponents[name] = None
    return exponents


def is_main_process() -> bool:
    """Whether this process is the one that prints and writes."""
    return bool(PartialState().is_main_process)


def _accelerator(recipe: Recipe, run: str | Path, tracker: str | None) -> Accelerator:
    bf16 = recipe.precision == "bf16" or (
        recipe.precision == "auto"
        and torch.cuda.is_available()
        and torch.cuda.is_bf16_supported(including_emulation=False)
    )
    # accelerate holds a process to its first precision; here it is each run's own.
    AcceleratorState._reset_state()
    # Before the training proper some methods leave the classifier out of the loss.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = Accelerator(
        mixed_precision="bf16" if bf16 else "no",
        log_with=tracker,
        project_dir=str(run),
        kwargs_handlers=[unused],
    )
    # accelerate's launcher starts one process without a word where it cannot start several:
    # then its address is set and no world, or a world of several that this process is not in.
    world = int(os.environ.get("WORLD_SIZE", 0))
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ
    if accelerator.num_processes == 1 and (world > 1 or (launched and world == 0)):
        raise RuntimeError(
            "several processes were asked for and one was started; on CPUs use "
            "ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2"
        )
    _check_graph(recipe, accelerator)
    return accelerator


def _claimed(accelerator: Accelerator, path: str | Path, config: dict[str, Any]) -> Run:
    with accelerator.main_process_first():
        folder = Run(path)
        folder.claim(config, FREE_FIELDS)
    return folder


def _config(
    recipe: Recipe, role: str, network: str, method: str, options: dict[str, Any]
) -> dict[str, Any]:
    return {
        "role": role,
        "network": network,
        "method": method,
        "options": options,
        "recipe": asdict(recipe),
    }


def _data(recipe: Recipe, accelerator: Accelerator) -> tuple[ImageData, ImageData]:
    """Training and validation images; the latter out of the former where some are held out."""
    with accelerator.main_process_first():
        training, validation = (
            load(recipe.data, split, root=recipe.root, image_size=recipe.image_size)
            for split in ("train", "validation")
        )
    if recipe.holdout:
        training, validation = hold_out(training, recipe.holdout)
    if recipe.train_images:
        training = training.subset(recipe.train_images)
    if recipe.validation_images:
        validation = validation.subset(recipe.validation_images)
    return training, validation


def _image_shape(data: ImageData) -> tuple[int, int, int]:
    images, _ = next(iter(data.subset(1).batches(1)))
    _, channels, height, width = images.shape
    return channels, height, width


def _teacher_weights(path: Path, network: str) -> Path:
    """The file of a teacher given by its file or its run."""
    if not path.is_dir():
        if not path.is_file():
            raise ValueError(f"teacher: expected a run's folder or a file, got {str(path)!r}")
        return path
    run = Run(path)
    if not run.finished:
        raise ValueError(f"teacher: {path} is not a finished run; run its command again")
    was = run.read_config()["network"]
    if was != network:
        raise ValueError(f"teacher: expected a {network}, got {path}, a {was}")
    return run.weights_file


def _compiles(recipe: Recipe, method: Method, device: torch.device) -> bool:
    # Double backward does not go through compiled code.
    wanted = recipe.compile in ("yes", "graph") or (
        recipe.compile == "auto" and device.type == "cuda"
    )
    return wanted and not method.input_gradient


def _check_graph(recipe: Recipe, accelerator: Accelerator) -> None:
    one_gpu = accelerator.device.type == "cuda" and accelerator.num_processes == 1
    if recipe.compile == "graph" and not one_gpu:
        raise ValueError(
            f"compile: expected one CUDA device for graph, got {accelerator.num_processes} × "
            f"{accelerator.device.type}"
        )


@contextmanager
def _requiring_grad(
    trained: Iterable[nn.Parameter], among: Iterable[nn.Parameter]
) -> Iterator[None]:
    """Within the block, of ``among`` only ``trained`` require gradients."""
    before = {parameter: parameter.requires_grad for parameter in among}
    chosen = set(trained)
    try:
        for parameter in before:
            parameter.requires_grad_(parameter in chosen)
        yield
    finally:
        for parameter, required in before.items():
            parameter.requires_grad_(required)


def _flat(recipe: Recipe) -> dict[str, Any]:
    """A recipe as trackers take it."""
    plain = (int, float, str, bool)
    return {k: v if isinstance(v, plain) else str(v) for k, v in asdict(recipe).items()}
