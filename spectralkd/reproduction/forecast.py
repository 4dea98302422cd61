"""How long the missing runs of the study will take on this machine."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

import torch
from torch.nn import functional

from spectralkd.models import create_model
from spectralkd.models.features import best_device
from spectralkd.reproduction.jobs import Job
from spectralkd.training.recipes import Recipe

CIFAR_IMAGES = 50_000


def forecast(jobs: Iterable[tuple[Job, int]]) -> float:
    """A lower bound of the hours for jobs, from one step of each network on this machine as it is.

    On a GPU it may be above the truth: runs are compiled and replayed there, the step is not.
    Losses, evaluations and the measurements on teachers are not in it. Students of one step, seed
    and teacher share each pass of the teacher, one for each mode of its batch norms.

    Args:
        jobs: of one list, each with the number of its epochs that are left. Every phase of a
            method is counted as one that trains the student.
    """
    training: Counter[tuple[str, Recipe]] = Counter()
    shared: dict[tuple[str, int, int, str], tuple[str, Recipe, float]] = {}
    for job, epochs in jobs:
        recipe = job.recipe
        passes = epochs * float(recipe.train_images or CIFAR_IMAGES - recipe.holdout)
        if job.kind == "teacher":
            training[recipe.teacher_model, _speed(recipe)] += int(passes)
        elif job.kind == "distill":
            training[recipe.student_model, _speed(recipe)] += int(passes)
            for mode in _teacher_passes(job):
                key = (recipe.teacher_model, job.step, recipe.seed, mode)
                longest = max(passes, shared[key][2] if key in shared else 0.0)
                shared[key] = (recipe.teacher_model, _speed(recipe), longest)
    reading: Counter[tuple[str, Recipe]] = Counter()
    for network, recipe, passes in shared.values():
        reading[network, recipe] += int(passes)
    seconds = sum(images / _rate(*key, train=True) for key, images in training.items())
    seconds += sum(images / _rate(*key, train=False) for key, images in reading.items())
    return seconds / 3600


def _teacher_passes(job: Job) -> set[str]:
    """The modes in which a student's teacher is run; its own, where it asks for gradients."""
    method = job.made()
    if not method.needs_teacher:
        return set()
    if method.needs_image_gradient:
        return {job.name}
    return {phase.teacher_statistics for phase in method.phases}


def _speed(recipe: Recipe) -> Recipe:
    """What the speed of a step depends on."""
    return Recipe(batch_size=recipe.batch_size, precision=recipe.precision)


def _rate(network: str, recipe: Recipe, *, train: bool) -> float:
    """Images a second of one step after another one."""
    device = best_device()
    model = create_model(network, 100).to(device).to(memory_format=torch.channels_last)
    model.train(train)
    images = torch.randn(recipe.batch_size, 3, 32, 32, device=device)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.zeros(len(images), dtype=torch.long, device=device)
    half = recipe.precision == "bf16" or (recipe.precision == "auto" and device == "cuda")
    for _ in range(2):
        start = time.perf_counter()
        with (
            torch.autocast(device, torch.bfloat16, enabled=half),
            torch.set_grad_enabled(train),
        ):
            loss = functional.cross_entropy(model(images).float(), labels)
        if train:
            loss.backward()
        loss.item()  # waits for the device
    return len(images) / (time.perf_counter() - start)
