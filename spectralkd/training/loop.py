"""A run in progress: one student, its folder, its place in the order of batches.

A run killed at any moment resumes with the same call: what each step sees is a function of
(seed, phase, epoch, step), and everything else is in its checkpoint. ``together`` feeds the
batches, to one run or to several.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object
from torch import Tensor

from spectralkd.analysis.activations import stage_exponents
from spectralkd.analysis.gradients import gradient_norms
from spectralkd.data.images import ImageArray, ImageData
from spectralkd.losses.base import Phase
from spectralkd.losses.distiller import Distiller, TeacherPasses
from spectralkd.training.accelerator import compiles, tracker_settings
from spectralkd.training.evaluate import evaluate
from spectralkd.training.lock import check_unshared
from spectralkd.training.meter import EpochMeter
from spectralkd.training.recipes import Recipe
from spectralkd.training.run_folder import Run
from spectralkd.training.step import Step


@dataclass
class Position:
    """How far a run has come: phase, epoch of the phase, step of the epoch, lines of metrics."""

    phase: int = 0
    epoch: int = 0
    step: int = 0
    lines: int = 0


class Loop:
    """One run in progress, from its last checkpoint on.

    Args:
        distiller: its student is trained in place.
        validation: see ``data``.
        recipe: see ``recipes``.
        folder: of the run.
        accelerator: as ``make_accelerator`` makes it.

    Attributes:
        steps: batches of an epoch; set by ``start``.
        draws: whether the last step drew random numbers on the CPU.
    """

    draws = False

    def __init__(
        self,
        distiller: Distiller,
        validation: ImageData,
        recipe: Recipe,
        folder: Run,
        accelerator: Accelerator,
    ) -> None:
        self.distiller, self.recipe, self.folder = distiller, recipe, folder
        self.accelerator, self.validation = accelerator, validation
        if isinstance(validation, ImageArray):
            self.validation = validation.to(accelerator.device)
        distiller.to(accelerator.device)
        for network in filter(None, (distiller.teacher, distiller.student)):
            network.to(memory_format=torch.channels_last)
        self.epochs = recipe.phase_epochs(distiller.phases)
        self.at, self.meter = Position(), EpochMeter()
        self.step: Step | None = None  # made anew for each phase
        self.rng = torch.get_rng_state()  # of this run alone, whatever else the process draws
        self.last = ""  # its last evaluation, in words

    # --- where it is ---

    @property
    def phase(self) -> Phase:
        return self.distiller.phases[self.at.phase]

    @property
    def epoch(self) -> int:
        """Epochs of all phases before the present one."""
        return sum(self.epochs[: self.at.phase]) + self.at.epoch

    @property
    def done(self) -> int:
        """Batches taken so far."""
        return self.epoch * self.steps + self.at.step

    @property
    def finished(self) -> bool:
        return self.at.phase == len(self.epochs)

    @property
    def due(self) -> bool:
        """Whether it is time for a checkpoint, by this process's clock."""
        seconds = time.monotonic() - self.saved
        return not self.finished and seconds >= self.recipe.checkpoint_seconds

    # --- from batch to batch ---

    def start(self, steps: int) -> None:
        """Take up the last checkpoint, if there is one.

        Args:
            steps: batches of an epoch.
        """
        self.steps = steps
        self.state = self.folder.load_checkpoint()
        if self.state:
            self.at = Position(**self.state["position"])
            # Early checkpoints hold the state of a single process.
            own = self.state.get("processes", [self.state])[self.accelerator.process_index]
            self.meter.load_state_dict(own["meter"], self.accelerator.device)
            self.saved_rng = own["rng"]
            self.distiller.load_state_dict(self.state["distiller"])
        if self.accelerator.is_main_process:
            digest = self.state.get("metrics_sha256") if self.state else None
            self.folder.keep_metrics(self.at.lines, digest)
            kwargs = tracker_settings(self.folder.path) if self.accelerator.log_with else {}
            self.accelerator.init_trackers("spectralkd", _flat(self.recipe), kwargs)
        self.accelerator.wait_for_everyone()
        self.saved = time.monotonic()
        self._skip_empty_phases()

    def begin(self) -> bool:
        """Get ready for the next batch; whether the step itself differs from the last one."""
        changed = self.step is None
        if self.step is None:
            self._begin_phase()
        if self.at.step == 0 or self.state:
            changed |= self._begin_epoch()
        self.state = None
        return changed

    def take(
        self, images: Tensor, labels: Tensor, passes: TeacherPasses, weight: float = 1.0
    ) -> Tensor:
        """One step; as ``Step``, with this run's own random numbers."""
        assert self.step is not None
        torch.set_rng_state(self.rng)
        values = self.step(images, labels, passes, weight)
        before, self.rng = self.rng, torch.get_rng_state()
        self.draws = not torch.equal(before, self.rng)
        return values

    def stop_clock(self) -> None:
        """Note how long the epoch's steps took."""
        self.seconds = time.monotonic() - self.clock

    def finish_step(self, values: Tensor, images: int, runs: int) -> None:
        """Note the terms of a step; at the end of an epoch evaluate and write its line.

        Args:
            values: (T,) as ``take`` returned them.
            images: of this process's share of the batch.
            runs: number of runs that took this batch.

        Raises:
            FloatingPointError: a term is not finite.
            InUse: another process has taken the folder over.
        """
        assert self.step is not None
        self.meter.add(self.step.names, values, images)
        self.at.step += 1
        if self.at.step == self.steps:
            self._finish_epoch(runs)

    def save(self) -> None:
        """Store a checkpoint, with the state of every process; all of them call it.

        A run that has not gone on from its last checkpoint yet keeps that one.

        Raises:
            FloatingPointError: a term is not finite; the checkpoint before it stays.
            InUse: another process has taken the folder over.
        """
        if self.state:
            return
        self._check_finite()
        own = {"meter": self.meter.state_dict(), "rng": self.rng}
        processes = [own]
        if self.accelerator.num_processes > 1:
            processes = gather_object(processes)
        if self.accelerator.is_main_process:
            check_unshared(self.folder.path)
            self.folder.save_checkpoint(
                self.done,
                {
                    "position": asdict(self.at),
                    "metrics_sha256": self.folder.metrics_digest(self.at.lines),
                    "processes": processes,
                    "distiller": self.distiller.state_dict(),
                    "optimizer": self.step.optimizer.state_dict() if self.step else None,
                },
            )
        self.saved = time.monotonic()

    # --- phases and epochs ---

    def _begin_phase(self) -> None:
        if self.at.phase:
            self.accelerator.free_memory()  # of the phase before
        self.distiller.begin(self.phase)
        # Double backward does not go through compiled code.
        if (
            compiles(self.recipe, self.accelerator)
            and not self.distiller.method.needs_image_gradient
        ):
            process, world = self.accelerator.process_index, self.accelerator.num_processes
            share = len(range(process, self.recipe.batch_size, world))
            self.distiller.compile(batch_size=share, dynamic=False)
        self.step = Step(self.distiller, self.recipe, self.accelerator)
        if self.state and self.state["optimizer"]:
            self.step.optimizer.load_state_dict(self.state["optimizer"])

    def _begin_epoch(self) -> bool:
        """Learning rate, modes and random numbers; whether the former, or the momentum, changed."""
        changed = self._set_lr()
        self.distiller.train()
        if self.at.step == 0:
            self.meter = EpochMeter()
            rank = self.accelerator.process_index
            torch.manual_seed((rank << 53) + 1_000_003 * self.recipe.seed + self.epoch)
            self.rng = torch.get_rng_state()
        else:
            self.rng = self.saved_rng
        self.clock, self.seen = time.monotonic(), self.meter.images
        return changed

    def _set_lr(self) -> bool:
        assert self.step is not None
        at, recipe, optimizer = self.at, self.recipe, self.step.optimizer
        last_phase = at.phase == len(self.epochs) - 1
        lr = self.phase.lr
        if lr is None:
            lr = recipe.lr_at(at.epoch) if last_phase else recipe.lr
        changed = any(group["lr"] != lr for group in optimizer.param_groups)
        for group in optimizer.param_groups:
            group["lr"] = lr
        drops = last_phase and at.step == 0 and at.epoch in recipe.drop_epochs()
        if drops and recipe.restart_momentum:
            optimizer.state.clear()
        return changed or drops

    def _finish_epoch(self, runs: int) -> None:
        """Write the epoch's line of metrics, and go on to the next epoch or phase."""
        assert self.step is not None
        at, accelerator = self.at, self.accelerator
        self._check_finite()
        images = (self.meter.images - self.seen) * accelerator.num_processes
        rate = images / max(self.seconds, 1e-9)
        terms = self.meter.means(accelerator)
        lr = self.step.optimizer.param_groups[0]["lr"]
        line: dict[str, Any] = {"phase": self.phase.name, "epoch": at.epoch + 1, "lr": lr}
        line |= {"loss": sum(terms.values())} | terms
        line |= self._measured(at.epoch + 1)
        line |= {"images_per_second": round(rate, 1), "runs": runs, "epochs": sum(self.epochs)}
        if accelerator.is_main_process:
            check_unshared(self.folder.path)
            self.folder.append_metrics(line)
        at.lines += 1
        accelerator.log(_numbers(line), step=at.lines)
        at.epoch, at.step = at.epoch + 1, 0
        self._skip_empty_phases()
        if self.finished:
            self._finish()

    def _measured(self, epoch: int) -> dict[str, Any]:
        """Errors, exponents and gradients after an epoch of the present phase."""
        recipe, student = self.recipe, self.distiller.student
        last = epoch == self.epochs[self.at.phase]
        found: dict[str, Any] = {}
        if self.phase.student and (last or epoch % recipe.evaluate_every == 0):
            if self.accelerator.num_processes > 1:
                # Each process's batch norms averaged its own share of the last batch.
                broadcast(list(student.buffers()))
            errors = evaluate(student, self.validation, self.accelerator)
            found |= errors._asdict()
            self.last = f"error {errors.top1_error:.2f} %"
        if recipe.spectra_every and (last or epoch % recipe.spectra_every == 0):
            found["exponents"] = stage_exponents(student, self.validation)
            if self.phase.student:
                share = max(2, recipe.batch_size // self.accelerator.num_processes)
                ((images, labels),) = self.validation.subset(share).batches(share)
                with self.accelerator.autocast():
                    found["gradients"] = gradient_norms(self.distiller, images, labels)
        return found

    def _skip_empty_phases(self) -> None:
        """Go on to the next phase where the present one is over."""
        while not self.finished and self.at.epoch >= self.epochs[self.at.phase]:
            self.at.phase, self.at.epoch, self.step = self.at.phase + 1, 0, None

    def _finish(self) -> None:
        for tracker in self.accelerator.trackers:
            tracker.finish()
        if self.accelerator.is_main_process:
            lines = self.folder.read_metrics()
            about = {"config": self.folder.read_config(), "result": lines[-1] if lines else {}}
            self.folder.finish(self.distiller.student, about)
        self.accelerator.wait_for_everyone()

    def _check_finite(self) -> None:
        if not self.finished:
            where = f"{self.folder.path}: epoch {self.at.epoch + 1} of phase {self.phase.name!r}"
            before = "the last checkpoint is from before"
            rest = before if self.folder.checkpoints() else "there is no checkpoint yet"
            self.meter.check_finite(self.accelerator, where, rest)


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
