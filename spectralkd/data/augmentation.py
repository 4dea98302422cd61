"""Training batches as a function of (seed, epoch, step), so that a run resumes where it stopped.

Images in memory live on the device as bytes; the crops and flips of a whole epoch are drawn at
once by a generator on the CPU, the same on every device, and each batch is one gather. Their
distribution is that of torchvision's ``RandomCrop(padding=4, padding_mode="reflect")`` and
``RandomHorizontalFlip``. Image files go through a ``DataLoader`` and torchvision's v2 transforms.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from spectralkd.data.images import ImageArray, ImageData, ImageFiles

PADDING = 4


class Stream(Protocol):
    """Augmented training batches.

    Attributes:
        steps: batches of an epoch.
    """

    steps: int

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch from step ``start`` on: this process's share of each.

        Yields (n, 3, H, W) normalized float32 images and (n,) labels, on the device.
        """


def training_stream(
    data: ImageData,
    batch_size: int,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    rank: int = 0,
    world: int = 1,
    workers: int = 4,
    mixup: float = 0.0,
) -> Stream:
    """Augmented batches of a data set.

    Args:
        data: in memory or in files.
        batch_size: images a step, over all processes.
        seed: random seed of data order and augmentation.
        device: of the batches.
        rank, world: number of this process and of all processes: process r takes every world-th
            image of a batch, from the r-th on.
        workers: number of processes that read files.
        mixup: α of mixup (Zhang et al. 2018, arXiv 1710.09412): each image becomes λ of itself
            and 1 - λ of the one before it in this process's share of the batch, λ ~ Beta(α, α),
            one λ a batch, and labels become (n, K) probabilities; 0 for none.

    Raises:
        ValueError: the batch is smaller than two images a process, or larger than the data set.
        TypeError: other data than these.

    A last batch that would leave a process fewer than two images is dropped: a single image has
    no batch statistics.
    """
    check_batch_size(batch_size, len(data), world)
    order = _Order(len(data), batch_size, seed, rank, world)
    stream: Stream
    if isinstance(data, ImageArray):
        stream = _ArrayStream(data, order, torch.device(device))
    elif isinstance(data, ImageFiles):
        stream = _FileStream(data, order, torch.device(device), workers)
    else:
        raise TypeError(f"data: expected an ImageArray or ImageFiles, got {type(data).__name__}")
    return _Mixed(stream, mixup, seed, len(data.classes)) if mixup else stream


def check_batch_size(batch_size: int, images: int, world: int) -> None:
    """Raise a ValueError unless a batch is at least two images a process and at most all."""
    if not 2 * world <= batch_size <= images:
        raise ValueError(
            f"batch_size: expected {2 * world} (two a process) to {images} (all images), "
            f"got {batch_size}"
        )


class _Order:
    """Which images stand in which batch."""

    def __init__(self, count: int, batch_size: int, seed: int, rank: int, world: int) -> None:
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.rank, self.world = rank, world
        tail = count % batch_size
        self.steps = count // batch_size + (tail >= 2 * world)

    def generator(self, epoch: int) -> torch.Generator:
        return torch.Generator().manual_seed(1_000_003 * self.seed + epoch)

    def share(self, step: int) -> slice:
        """This process's positions of a batch, in the order of an epoch."""
        start = step * self.batch_size
        return slice(start + self.rank, min(start + self.batch_size, self.count), self.world)


class _ArrayStream:
    def __init__(self, data: ImageArray, order: _Order, device: torch.device) -> None:
        self.order, self.steps = order, order.steps
        _, self.height, self.width, _ = data.images.shape
        rows, columns = _reflected(self.height), _reflected(self.width)
        self.padded = data.images[:, rows][:, :, columns].to(device)
        self.labels = data.labels.to(device)
        self.mean = torch.tensor(data.mean, dtype=torch.float32, device=device) * 255
        self.std = torch.tensor(data.std, dtype=torch.float32, device=device) * 255

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        generator, device = self.order.generator(number), self.padded.device
        order = torch.randperm(self.order.count, generator=generator)
        offset = torch.randint(2 * PADDING + 1, (2, len(order)), generator=generator)
        flip = torch.rand(len(order), generator=generator, dtype=torch.float32) < 0.5
        order, offset, flip = order.to(device), offset.to(device), flip.to(device)
        row = torch.arange(self.height, device=device)
        column = torch.arange(self.width, device=device)
        for step in range(start, self.steps):
            share = self.order.share(step)
            chosen = order[share]
            rows = offset[0, share, None] + row
            columns = torch.where(flip[share, None], column.flip(0), column)
            columns = offset[1, share, None] + columns
            crops = self.padded[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]
            images = (crops.float() - self.mean) / self.std
            # Channels last in memory, the layout that convolutions are fastest in.
            yield images.permute(0, 3, 1, 2), self.labels[chosen]


class _FileStream:
    def __init__(self, data: ImageFiles, order: _Order, device: torch.device, workers: int) -> None:
        self.data, self.order, self.device, self.workers = data, order, device, workers
        self.steps = order.steps

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        generator = self.order.generator(number)
        order = torch.randperm(self.order.count, generator=generator).tolist()
        seeds = torch.randint(2**62, (len(order),), generator=generator).tolist()
        pairs = list(zip(order, seeds, strict=True))
        loader = DataLoader(
            _Seeded(self.data),
            batch_sampler=[pairs[self.order.share(step)] for step in range(start, self.steps)],
            num_workers=min(self.workers, os.cpu_count() or 1),
            pin_memory=self.device.type == "cuda",
        )
        for images, labels in loader:
            yield (
                images.to(self.device, non_blocking=True),
                labels.to(self.device, non_blocking=True),
            )


class _Mixed:
    def __init__(self, stream: Stream, alpha: float, seed: int, classes: int) -> None:
        self.stream, self.steps = stream, stream.steps
        self.alpha, self.seed, self.classes = alpha, seed, classes

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for step, (images, labels) in enumerate(self.stream.epoch(number, start), start=start):
            rng = np.random.default_rng((self.seed, number, step))
            share = float(rng.beta(self.alpha, self.alpha))
            known = functional.one_hot(labels, self.classes).float()
            # Batches are in random order: the image before is any other one.
            images, known = (share * x + (1 - share) * x.roll(1, 0) for x in (images, known))
            yield images, known


class _Seeded(Dataset[tuple[Tensor, int]]):
    """Images whose augmentation depends on a seed of their own, not on the worker's state."""

    def __init__(self, data: ImageFiles) -> None:
        self.data = data
        self.transform = v2.Compose(
            [
                v2.ToImage(),
                v2.RandomResizedCrop(data.image_size, antialias=True),
                v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(data.mean, data.std),
            ]
        )

    def __getitem__(self, pair: tuple[int, int]) -> tuple[Tensor, int]:
        index, seed = pair
        image, label = self.data[index]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.transform(image), label


def _reflected(side: int) -> Tensor:
    """Positions of a side padded by reflection."""
    position = torch.arange(-PADDING, side + PADDING).abs()
    return torch.where(position >= side, 2 * (side - 1) - position, position)
