"""The training loop, for teachers and for every method, on whatever accelerate finds.

A run killed at any moment resumes with the same call: what each step sees is a function of
(seed, phase, epoch, step), and everything else is in its checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm.auto import tqdm

from spectralkd.analysis.activations import stage_exponents
from spectralkd.data.augmentation import training_stream
from spectralkd.data.images import ImageArray, ImageData
from spectralkd.losses.base import Phase
from spectralkd.losses.distiller import Distiller
from spectralkd.training.accelerator import compiles, tracker_settings
from spectralkd.training.cuda_graph import Replayed
from spectralkd.training.evaluate import evaluate
from spectralkd.training.meter import EpochMeter
from spectralkd.training.recipes import Recipe
from spectralkd.training.run_folder import Run


class Stopped(Exception):
    """A run was asked to stop, and saved its state."""


@dataclass
class Position:
    """How far a run has come: phase, epoch of the phase, step of the epoch, lines of metrics."""

    phase: int = 0
    epoch: int = 0
    step: int = 0
    lines: int = 0


class Loop:
    """One run in progress; ``run`` starts or resumes it.

    Args:
        distiller: its student is trained in place.
        training, validation: see ``data``.
        recipe: see ``recipes``.
        folder: of the run.
        accelerator: as ``make_accelerator`` makes it.
        progress: show a progress bar.
        stop: asked after each step; see ``Stopped``.
    """

    def __init__(
        self,
        distiller: Distiller,
        training: ImageData,
        validation: ImageData,
        recipe: Recipe,
        folder: Run,
        accelerator: Accelerator,
        progress: bool = True,
        stop: Callable[[], bool] | None = None,
    ) -> None:
        self.distiller, self.recipe, self.folder = distiller, recipe, folder
        self.accelerator, self.progress, self.stop = accelerator, progress, stop
        device = accelerator.device
        self.stream = training_stream(
            training,
            recipe.batch_size,
            seed=recipe.seed,
            device=device,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
            workers=recipe.workers,
        )
        self.images = len(training)
        self.validation = validation
        if isinstance(validation, ImageArray):
            self.validation = validation.to(device)
        distiller.to(device)
        for network in filter(None, (distiller.teacher, distiller.student)):
            network.to(memory_format=torch.channels_last)
        self.epochs = [phase.epochs or recipe.epochs for phase in distiller.phases]
        self.at, self.meter = Position(), EpochMeter()

    def run(self) -> None:
        """Resume from the last checkpoint, or begin, and finish."""
        accelerator, main = self.accelerator, self.accelerator.is_main_process
        state = self._load()
        if main:
            self.folder.keep_metrics(self.at.lines)
            kwargs = tracker_settings(self.folder.path) if accelerator.log_with else {}
            accelerator.init_trackers("spectralkd", _flat(self.recipe), kwargs)
        accelerator.wait_for_everyone()
        self.saved = time.monotonic()
        with tqdm(
            total=sum(self.epochs) * self.stream.steps,
            initial=self._steps_done(),
            unit="step",
            disable=not (self.progress and main),
        ) as self.bar:
            for number in range(self.at.phase, len(self.epochs)):
                self._run_phase(number, state)
                state = None
        for tracker in accelerator.trackers:
            tracker.finish()
        if main:
            lines = self.folder.read_metrics()
            result = lines[-1] if lines else {}
            config = self.folder.read_config()
            self.folder.finish(self.distiller.student, {"config": config, "result": result})
        accelerator.wait_for_everyone()

    def _run_phase(self, number: int, state: dict[str, Any] | None) -> None:
        """One phase, from ``state`` where the run resumes in it."""
        phase, recipe, device = self.distiller.phases[number], self.recipe, self.accelerator.device
        if self.at.phase != number:
            self.at.phase, self.at.epoch = number, 0
        self.distiller.begin(phase)
        # Double backward does not go through compiled code.
        if compiles(recipe, device) and not self.distiller.method.needs_image_gradient:
            torch.compiler.reset()  # all runs of a process share one limit of recompilations
            process, world = self.accelerator.process_index, self.accelerator.num_processes
            share = len(range(process, recipe.batch_size, world))
            self.distiller.compile(batch_size=share, dynamic=False)
        step = Step(self.distiller, recipe, self.accelerator)
        if state:
            step.optimizer.load_state_dict(state["optimizer"])
        take = self._replayed(step)
        while self.at.epoch < self.epochs[number]:
            if self._set_lr(phase, step.optimizer):
                take = self._replayed(step)
            if state and self.at.step > 0:
                torch.set_rng_state(state["rng"])
            else:
                torch.manual_seed(1_000_003 * recipe.seed + self._epoch_number())
            self._run_epoch(phase, step, take)
            state = None

    def _replayed(self, step: Step) -> Callable[[Tensor, Tensor], Tensor]:
        """The step, or its CUDA graph, which fixes the learning rate and the momentum's memory."""
        graph = self.recipe.compile == "graph"
        if graph and not self.distiller.method.needs_image_gradient:
            return Replayed(step, self.recipe.batch_size)
        return step

    def _set_lr(self, phase: Phase, optimizer: torch.optim.Optimizer) -> bool:
        """Set an epoch's learning rate; whether it, or the momentum, changed."""
        at, recipe = self.at, self.recipe
        last_phase = at.phase == len(self.epochs) - 1
        lr = phase.lr or (recipe.lr_at(at.epoch) if last_phase else recipe.lr)
        changed = any(group["lr"] != lr for group in optimizer.param_groups)
        for group in optimizer.param_groups:
            group["lr"] = lr
        drops = last_phase and at.step == 0 and at.epoch in recipe.drop_epochs()
        if drops and recipe.restart_momentum:
            optimizer.state.clear()
        return changed or drops

    def _run_epoch(
        self, phase: Phase, step: Step, take: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        """The rest of an epoch, from ``self.at.step`` on."""
        at, world = self.at, self.accelerator.num_processes
        self.distiller.train()
        self.bar.set_description(f"{phase.name} {at.epoch + 1}/{self.epochs[at.phase]}")
        if at.step == 0:
            self.meter = EpochMeter()
        start, seen = time.monotonic(), self.meter.images
        for images, labels in self.stream.epoch(self._epoch_number(), at.step):
            if world == 1:
                values = take(images, labels)
            else:
                values = step(images, labels, weight=len(labels) * world / self._batch())
            self.meter.add(step.names, values, len(labels))
            at.step += 1
            self.bar.update()
            stopping = world == 1 and self.stop is not None and self.stop()
            if stopping or (world == 1 and self._due() and at.step < self.stream.steps):
                self._check_finite(phase)
                self._save(step.optimizer)
            if stopping:
                raise Stopped(f"{self.folder.path}: stopped; the same command resumes it")
        rate = (self.meter.images - seen) / max(time.monotonic() - start, 1e-9)
        self._finish_epoch(phase, step.optimizer, rate * world)

    def _finish_epoch(self, phase: Phase, optimizer: torch.optim.Optimizer, rate: float) -> None:
        """Write the epoch's line of metrics."""
        at, recipe, accelerator = self.at, self.recipe, self.accelerator
        self._check_finite(phase)
        terms = self.meter.means(accelerator)
        lr = optimizer.param_groups[0]["lr"]
        line: dict[str, Any] = {"phase": phase.name, "epoch": at.epoch + 1, "lr": lr}
        line |= {"loss": sum(terms.values())} | terms
        at.epoch, at.step = at.epoch + 1, 0
        last = at.epoch == self.epochs[at.phase]
        student = self.distiller.student
        if phase.student and (last or at.epoch % recipe.evaluate_every == 0):
            top1, top5 = evaluate(student, self.validation, accelerator)
            line |= {"top1_error": top1, "top5_error": top5}
            self.bar.set_postfix(loss=f"{line['loss']:.3f}", error=f"{top1:.2f}%")
        if recipe.spectra_every and (last or at.epoch % recipe.spectra_every == 0):
            line["exponents"] = stage_exponents(student, self.validation)
        line["images_per_second"] = round(rate, 1)
        if accelerator.is_main_process:
            self.folder.append_metrics(line)
        at.lines += 1
        accelerator.log(_numbers(line), step=at.lines)
        if self._due() and not last:
            self._save(optimizer)

    # --- position ---

    def _epoch_number(self) -> int:
        """Epochs of all phases before this one."""
        return sum(self.epochs[: self.at.phase]) + self.at.epoch

    def _steps_done(self) -> int:
        return self._epoch_number() * self.stream.steps + self.at.step

    def _batch(self) -> int:
        """Images of the present batch over all processes.

        Processes' gradients are averaged, and their shares of the last batch may differ by one.
        """
        return min(self.recipe.batch_size, self.images - self.at.step * self.recipe.batch_size)

    # --- checkpoints ---

    def _due(self) -> bool:
        return time.monotonic() - self.saved >= self.recipe.checkpoint_seconds

    def _save(self, optimizer: torch.optim.Optimizer) -> None:
        if self.accelerator.is_main_process:
            self.folder.save_checkpoint(
                self._steps_done(),
                {
                    "position": asdict(self.at),
                    "meter": self.meter.state_dict(),
                    "distiller": self.distiller.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "rng": torch.get_rng_state(),
                },
            )
        self.saved = time.monotonic()

    def _load(self) -> dict[str, Any] | None:
        """The newest checkpoint, its position and weights taken up; None for a new run."""
        state = self.folder.load_checkpoint()
        if state:
            self.at = Position(**state["position"])
            self.meter.load_state_dict(state["meter"], self.accelerator.device)
            self.distiller.load_state_dict(state["distiller"])
        return state

    def _check_finite(self, phase: Phase) -> None:
        where = f"{self.folder.path}: epoch {self.at.epoch + 1} of phase {phase.name!r}"
        self.meter.check_finite(self.accelerator, where)


class Step:
    """Forward, backward and update on one batch.

    Attributes:
        names: of the loss terms of the last batch.
    """

    def __init__(self, distiller: Distiller, recipe: Recipe, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.names: tuple[str, ...] = ()
        optimizer = torch.optim.SGD(
            distiller.trainable_parameters(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
            fused=accelerator.device.type == "cuda" or None,
        )
        self.terms, self.optimizer = accelerator.prepare(_Forward(distiller), optimizer)

    def __call__(self, images: Tensor, labels: Tensor, weight: float = 1.0) -> Tensor:
        """The loss terms (T,) of the batch; ``weight`` scales the gradient."""
        terms = self.terms(images, labels)
        self.names = tuple(terms)
        values = torch.stack(list(terms.values()))
        self.accelerator.backward(values.sum() * weight)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return values.detach()


class _Forward(nn.Module):
    """A phase's own wrapper: what accelerate puts around ``forward`` leaves with the phase."""

    def __init__(self, distiller: Distiller) -> None:
        super().__init__()
        self.distiller = distiller

    def forward(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = self.distiller(images, labels)
        return terms


def _numbers(line: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """A line of metrics as trackers take it: ``exponents/group1`` and the like for nested ones."""
    found: dict[str, float] = {}
    for name, value in line.items():
        if isinstance(value, dict):
            found |= _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, float):
            found[prefix + name] = value
    return found


def _flat(recipe: Recipe) -> dict[str, Any]:
    """A recipe as trackers take it."""
    plain = (int, float, str, bool)
    return {k: v if isinstance(v, plain) else str(v) for k, v in asdict(recipe).items()}
