"""Labeled images: held in memory, or read from files when needed."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.transforms import v2

Batch = tuple[Tensor, Tensor]
Split = Literal["train", "validation"]

# Those of the reference code for CIFAR-100 (they are CIFAR-10's); torchvision's for ImageNet.
CIFAR_MEAN, CIFAR_STD = (125.3 / 255, 123.0 / 255, 113.9 / 255), (63 / 255, 62.1 / 255, 66.7 / 255)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Batches(Protocol):
    """An iterable of known length over (images (N, 3, H, W) float32, labels (N,) int64)."""

    def __iter__(self) -> Iterator[Batch]: ...
    def __len__(self) -> int: ...


@dataclass(frozen=True)
class ImageArray:
    """A data set held in memory.

    Attributes:
        images: (N, H, W, 3) uint8.
        labels: (N,) int64, places in ``classes``.
        classes: their names, in the order of the labels.
        mean, std: of each channel of images in [0, 1], by which ``batches`` normalizes.

    Raises:
        TypeError: images or labels are no tensors of these types.
        ValueError: their shapes are others; labels that have no class; mean or std are not of
            three channels, or std is not positive.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...] = CIFAR_MEAN
    std: tuple[float, ...] = CIFAR_STD

    def __post_init__(self) -> None:
        for name, dtype in (("images", torch.uint8), ("labels", torch.int64)):
            values = getattr(self, name)
            if not (isinstance(values, Tensor) and values.dtype == dtype):
                got = values.dtype if isinstance(values, Tensor) else type(values).__name__
                raise TypeError(f"{name}: expected a tensor of {dtype}, got {got}")
        shape = tuple(self.images.shape)
        if len(shape) != 4 or shape[-1] != 3:
            raise ValueError(f"images: expected shape (N, H, W, 3), got {shape}")
        if self.labels.shape != shape[:1]:
            raise ValueError(f"labels: expected shape {shape[:1]}, got {tuple(self.labels.shape)}")
        _check_moments(self.mean, self.std)
        # On an accelerator they have been looked at before, and looking would wait for it.
        if self.labels.device.type == "cpu" and len(self):
            low, high = self.labels.aminmax()
            if low < 0 or high >= len(self.classes):
                raise ValueError(
                    f"labels: expected 0 to {len(self.classes) - 1}, one of the classes, got "
                    f"{int(low)} to {int(high)}"
                )

    def __len__(self) -> int:
        return len(self.images)

    def select(self, index: Tensor) -> ImageArray:
        """The images at (M,) int64 positions, in that order."""
        return replace(self, images=self.images[index], labels=self.labels[index])

    def subset(self, count: int) -> ImageArray:
        """``count`` images (or all, if there are fewer) spread evenly over the set."""
        return self.select(_spread(len(self), count))

    def to(self, device: torch.device | str) -> ImageArray:
        """The same on a device, where its batches are then made."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def batches(self, batch_size: int, *, normalize: bool = True) -> Batches:
        """The images in order, in batches; in [0, 1] where not normalized."""
        return _ArrayBatches(self, batch_size, normalize)


@dataclass(frozen=True)
class _ArrayBatches:
    data: ImageArray
    size: int
    normalize: bool

    def __len__(self) -> int:
        return -(-len(self.data) // self.size)

    def __iter__(self) -> Iterator[Batch]:
        # Made once: on a GPU, a tensor made of numbers waits for the device.
        mean, std = _moments(self.data, torch.float32, self.data.images.device)
        for start in range(0, len(self.data), self.size):
            part = slice(start, start + self.size)
            images = self.data.images[part].permute(0, 3, 1, 2).float() / 255
            if self.normalize:
                images = (images - mean) / std
            yield images, self.data.labels[part]


@dataclass(frozen=True)
class ImageFiles:
    """A data set read image by image, when needed.

    Attributes:
        dataset: any map-style ``Dataset`` of (PIL image, label).
        image_size: side of the square images that ``batches`` gives, cut out of the center.
        classes, mean, std: as ``ImageArray``.
        crop: part of the shorter side that is cut out: images are scaled until ``image_size`` is
            this part of it. 7/8 is the usual 224 of 256; 1 keeps square images whole.

    Raises:
        ValueError: mean or std are not of three channels, or std is not positive; when an image is
            read, a label that has no class.
        TypeError: when an image is read, a label that is no whole number.
    """

    dataset: Dataset[tuple[Image.Image, int]]
    image_size: int
    classes: tuple[str, ...]
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    crop: float = 7 / 8

    def __post_init__(self) -> None:
        _check_moments(self.mean, self.std)

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """An image as it is in the file, and its label."""
        image, label = self.dataset[index]
        try:
            label = operator.index(label)
        except TypeError:
            raise TypeError(
                f"labels: expected whole numbers, got {label!r} for image {index} of this set"
            ) from None
        if self.classes and not 0 <= label < len(self.classes):
            raise ValueError(
                f"labels: expected 0 to {len(self.classes) - 1}, one of the classes, got {label} "
                f"for image {index} of this set"
            )
        return image, label

    def select(self, index: Tensor) -> ImageFiles:
        """As ``ImageArray.select``."""
        return replace(self, dataset=Subset(self.dataset, index.tolist()))

    def subset(self, count: int) -> ImageFiles:
        """As ``ImageArray.subset``."""
        return self.select(_spread(len(self), count))

    def batches(self, batch_size: int, *, normalize: bool = True) -> Batches:
        """As ``ImageArray.batches``."""
        steps: list[Callable[[Any], Any]] = [
            v2.Resize(int(self.image_size / self.crop), antialias=True),
            v2.CenterCrop(self.image_size),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
        ]
        if normalize:
            steps.append(v2.Normalize(self.mean, self.std))
        read = _Transformed(self, v2.Compose(steps))
        workers = min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2)
        return DataLoader(
            read, batch_size=batch_size, num_workers=workers if len(self) > 500 else 0
        )


ImageData = ImageArray | ImageFiles


class _Transformed(Dataset[tuple[Tensor, int]]):
    def __init__(self, data: ImageFiles, transform: Callable[[Any], Tensor]) -> None:
        self.data, self.transform = data, transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.data[index]
        return self.transform(image), label


def hold_out(data: ImageData, count: int) -> tuple[ImageData, ImageData]:
    """Split training images into those to train on and ``count`` to choose hyper-parameters by.

    The split depends on the size of the data set alone, not on a run's seed.

    Raises:
        ValueError: ``count`` is not between 1 and one less than there are.
    """
    if not 0 < count < len(data):
        raise ValueError(f"holdout: expected 1 to {len(data) - 1} images, got {count}")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    return data.select(order[count:]), data.select(order[:count])


def normalized(images: Tensor, data: ImageData) -> Tensor:
    """(N, 3, H, W) images in [0, 1], minus the data set's mean, over its standard deviation."""
    mean, std = _moments(data, images.dtype, images.device)
    return (images - mean) / std


def _moments(data: ImageData, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, (3, 1, 1)."""
    mean, std = (
        torch.tensor(v, dtype=dtype, device=device)[:, None, None] for v in (data.mean, data.std)
    )
    return mean, std


def _check_moments(mean: Sequence[float], std: Sequence[float]) -> None:
    for name, values in (("mean", mean), ("std", std)):
        if not isinstance(values, Sequence) or len(values) != 3:
            raise ValueError(f"{name}: expected a number for each of 3 channels, got {values!r}")
    if not all(value > 0 for value in std):
        raise ValueError(f"std: expected positive numbers, got {std!r}")


def suited(data: ImageData, model: nn.Module, image_size: int | None = None) -> ImageData:
    """The same images as a network of torchvision's or timm's zoo takes them.

    They are normalized by its own mean and deviation and, where they are read from files, cut to
    its size. For a network without ``normalization`` nothing changes.

    Args:
        image_size: side to which files are cut instead.
    """
    normalization: Any = getattr(model, "normalization", None)
    if normalization is None:
        return data
    mean, std = normalization
    if isinstance(data, ImageFiles):
        image_shape: Any = model.image_shape
        data = replace(data, image_size=image_size or image_shape[-1])
    return replace(data, mean=tuple(mean), std=tuple(std))


def first_image(data: ImageData) -> Tensor:
    """The first image as a batch, (1, 3, H, W), normalized.

    Raises:
        ValueError: there is none.
    """
    if not len(data):
        raise ValueError("data: expected at least one image, got none")
    images, _ = next(iter(data.subset(1).batches(1)))
    return images


def _spread(total: int, count: int) -> Tensor:
    if count < 1:
        raise ValueError(f"count: expected at least one image, got {count}")
    return torch.linspace(0, total - 1, min(count, total), dtype=torch.float32).round().long()
