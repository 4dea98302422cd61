"""Feeds batches to runs in progress: to one, or to several behind one pass of their teacher."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor
from tqdm.auto import tqdm

from spectralkd.data.augmentation import training_stream
from spectralkd.data.images import ImageData
from spectralkd.losses.distiller import TeacherPasses, share_teacher
from spectralkd.training.accelerator import compiles, faster_precision, replays
from spectralkd.training.cuda_graph import Replayed, Take
from spectralkd.training.loop import Loop


class Stopped(Exception):
    """Runs were asked to stop, and saved their states."""


def run_together(
    loops: Sequence[Loop],
    training: ImageData,
    *,
    mixup: float = 0.0,
    progress: bool = True,
    stop: Callable[[], bool] | None = None,
) -> None:
    """Train the students of several runs to their ends, on the same batches.

    Each batch is read once, and passes once through the teacher in each mode of its batch norms
    that the students need. Each run becomes what it would be alone, on a CPU to the last bit. Runs
    that are behind go first, until they have caught up.

    Args:
        loops: with one teacher between them, and the same batches: seed and batch size.
        training: see ``data``.
        mixup: as ``training_stream``.
        progress: show a progress bar.
        stop: asked after each step; once it returns True, in any process, all runs save their
            states.

    Raises:
        Stopped: see ``stop``.
        FloatingPointError: a term of a run's loss was not finite. The others ran to their ends.
    """
    first = loops[0]
    recipe, accelerator = first.recipe, first.accelerator
    stream = training_stream(
        training,
        recipe.batch_size,
        seed=recipe.seed,
        device=accelerator.device,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        workers=recipe.workers,
        mixup=mixup,
    )
    share_teacher([loop.distiller for loop in loops])
    if compiles(recipe, accelerator):
        # All runs of a process share one limit of recompilations.
        torch.compiler.reset()
        limit = torch.compiler.config.recompile_limit
        torch.compiler.config.recompile_limit = max(limit, 8 * len(loops))
    agree = _Vote(accelerator)
    for loop in loops:
        loop.start(stream.steps)
    total = sum(sum(loop.epochs) for loop in loops) * stream.steps
    done = sum(loop.done for loop in loops)
    here: list[Loop] = []
    failures: dict[Loop, FloatingPointError] = {}
    hidden = not (progress and accelerator.is_main_process)
    if not hidden and (hint := faster_precision(recipe)):
        _say_once(hint)
    with tqdm(total=total, initial=done, unit="step", disable=hidden) as bar:
        while running := [loop for loop in loops if not loop.finished and loop not in failures]:
            at = min(loop.done for loop in running)
            for images, labels in stream.epoch(*divmod(at, stream.steps)):
                before, here = here, [loop for loop in running if loop.done == at]
                if not here:
                    break
                changed = [loop.begin() for loop in here]
                if any(changed) or here != before:
                    take = _joint_step(here, len(training))
                    bar.set_description(_description(here))
                _seed_gpu(accelerator, recipe.seed, at)
                finished = take(images, labels)
                if (at + 1) % stream.steps == 0:
                    if accelerator.device.type != "cpu":
                        torch.accelerator.synchronize()  # rates are of finished work
                    for loop in here:  # before the first of them is evaluated
                        loop.stop_clock()
                stopping, *due = agree(bool(stop and stop()), *(loop.due for loop in here))
                for loop, values, save in zip(here, finished, due, strict=True):
                    try:
                        loop.finish_step(values, len(labels), len(here))
                        if save and not loop.finished:
                            loop.save()
                    except FloatingPointError as error:
                        failures[loop] = error
                        running.remove(loop)
                at += 1
                bar.update(len(here))
                if stopping:
                    if saved := _saved(running, failures):
                        places = ", ".join(str(loop.folder.path) for loop in saved)
                        words = f"{places}: stopped; the same command resumes it"
                        raise Stopped("; ".join([words, *map(str, failures.values())]))
                    break
            bar.set_postfix_str(", ".join(loop.last for loop in loops))
    if failures:
        raise FloatingPointError("; ".join(map(str, failures.values())))


def _seed_gpu(accelerator: Accelerator, seed: int, step: int) -> None:
    """Random numbers of a step on a GPU, the same after a resume; each process has its own.

    The states that checkpoints hold are those of the CPU's generator.
    """
    if accelerator.device.type == "cuda":
        number = ((seed << 31) + step) * accelerator.num_processes + accelerator.process_index
        torch.cuda.manual_seed(number % 2**63)


@cache
def _say_once(words: str) -> None:
    tqdm.write(words, file=sys.stderr)


class _Vote:
    """Lets all processes of a run do the same where one of them asks for it."""

    def __init__(self, accelerator: Accelerator) -> None:
        several = accelerator.num_processes > 1
        # On CPUs, so that no step waits for a device.
        self.group: Any = dist.new_group(backend="gloo") if several else None

    def __call__(self, *asked: bool) -> list[bool]:
        """For each question, whether any process says yes."""
        if self.group is None:
            return list(asked)
        votes = torch.tensor(asked, dtype=torch.int32)
        dist.all_reduce(votes, dist.ReduceOp.MAX, self.group)
        return [bool(vote) for vote in votes]


def _joint_step(loops: Sequence[Loop], images_per_epoch: int) -> Take:
    """A step of each run on one batch, replayed as one CUDA graph on one GPU."""
    recipe, accelerator, at = loops[0].recipe, loops[0].accelerator, loops[0].at
    world = accelerator.num_processes

    def take(images: Tensor, labels: Tensor) -> list[Tensor]:
        passes: TeacherPasses = {}
        weight = 1.0
        if world > 1:
            # Processes' gradients are averaged; their shares of the last batch may differ by one.
            batch = min(recipe.batch_size, images_per_epoch - at.step * recipe.batch_size)
            weight = len(labels) * world / batch
        return [loop.take(images, labels, passes, weight) for loop in loops]

    twice = any(loop.distiller.method.needs_image_gradient for loop in loops)
    if replays(recipe, accelerator) and not twice:
        return Replayed(
            take,
            recipe.batch_size,
            required=recipe.compile == "graph",
            draws=lambda: any(loop.draws for loop in loops),
        )
    return take


def _description(loops: Sequence[Loop]) -> str:
    first = loops[0]
    several = f"{len(loops)} runs, " if len(loops) > 1 else ""
    return f"{several}{first.phase.name} {first.at.epoch + 1}/{first.epochs[first.at.phase]}"


def _saved(loops: Sequence[Loop], failures: dict[Loop, FloatingPointError]) -> list[Loop]:
    """Those of the runs whose state could be saved; the others join the failures."""
    saved = []
    for loop in loops:
        if not loop.finished and loop not in failures:
            try:
                loop.save()
                saved.append(loop)
            except FloatingPointError as error:
                failures[loop] = error
    return saved
