"""Image data sets by name: embedded photographs, CIFAR-10 and -100, folders of images.

``photos`` needs no download: it cuts 32×32 crops from the photographs that come with
scikit-image, labelled by photograph. Training crops come from one half of each photograph and
validation crops from the other.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import datasets
from torchvision.transforms import v2
from tqdm.auto import tqdm

from spectralkd.spectrum import check_choice

Split = Literal["train", "validation"]
Batch = tuple[Tensor, Tensor]


class Batches(Protocol):
    """An iterable of known length over (images (N, 3, H, W) float32, labels (N,) int64)."""

    def __iter__(self) -> Iterator[Batch]: ...
    def __len__(self) -> int: ...


class ImageData(Protocol):
    """What every data set here offers.

    Attributes:
        classes: their names, in the order of the labels.
        mean, std: of each channel of images in [0, 1], by which ``batches`` normalises.
    """

    @property
    def classes(self) -> Sequence[str]: ...
    @property
    def mean(self) -> tuple[float, ...]: ...
    @property
    def std(self) -> tuple[float, ...]: ...

    def __len__(self) -> int: ...

    def select(self, index: Tensor) -> ImageData:
        """The images at (M,) int64 positions, in that order."""

    def subset(self, count: int) -> ImageData:
        """``count`` images (or all, if there are fewer) spread evenly over the set."""

    def batches(self, size: int, *, normalize: bool = True) -> Batches:
        """The images in order, in batches; in [0, 1] where not normalised."""


@dataclass(frozen=True)
class ImageArray:
    """A data set held in memory.

    Attributes:
        images: (N, H, W, 3) uint8.
        labels: (N,) int64.
        classes, mean, std: as ``ImageData``.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.images)

    def select(self, index: Tensor) -> ImageArray:
        return replace(self, images=self.images[index], labels=self.labels[index])

    def subset(self, count: int) -> ImageArray:
        return self.select(_spread(len(self), count))

    def to(self, device: torch.device | str) -> ImageArray:
        """The same on a device, where its batches are then made."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def batches(self, size: int, *, normalize: bool = True) -> Batches:
        return _ArrayBatches(self, size, normalize)


@dataclass(frozen=True)
class _ArrayBatches:
    data: ImageArray
    size: int
    normalize: bool

    def __len__(self) -> int:
        return -(-len(self.data) // self.size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.data), self.size):
            part = slice(start, start + self.size)
            images = self.data.images[part].permute(0, 3, 1, 2).float() / 255
            if self.normalize:
                images = normalized(images, self.data)
            yield images, self.data.labels[part]


@dataclass(frozen=True)
class ImageFiles:
    """A data set of image files, read when needed.

    Attributes:
        dataset: of (PIL image, label).
        image_size: side of the square images handed out: the shorter side is scaled to 8/7 of it
            and the centre cut out, the usual 256 and 224.
        classes, mean, std: as ``ImageData``.
    """

    dataset: Dataset[tuple[Image.Image, int]]
    image_size: int
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def select(self, index: Tensor) -> ImageFiles:
        return replace(self, dataset=Subset(self.dataset, index.tolist()))

    def subset(self, count: int) -> ImageFiles:
        return self.select(_spread(len(self), count))

    def batches(self, size: int, *, normalize: bool = True) -> Batches:
        steps: list[Callable[[Any], Any]] = [
            v2.Resize(self.image_size * 8 // 7, antialias=True),
            v2.CenterCrop(self.image_size),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
        ]
        if normalize:
            steps.append(v2.Normalize(self.mean, self.std))
        read = _Transformed(self.dataset, v2.Compose(steps))
        workers = min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2)
        return DataLoader(read, batch_size=size, num_workers=workers if len(self) > 500 else 0)


def hold_out(data: ImageData, count: int) -> tuple[ImageData, ImageData]:
    """Split training images into those to train on and ``count`` to choose hyper-parameters by.

    The split is drawn once for each size of data set and never again, whatever a run's seed.

    Raises:
        ValueError: not between 1 and one less than there are.
    """
    if not 0 < count < len(data):
        raise ValueError(f"holdout: expected 1 to {len(data) - 1} images, got {count}")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    return data.select(order[count:]), data.select(order[:count])


class _Transformed(Dataset[tuple[Tensor, int]]):
    def __init__(self, dataset: Dataset[Any], transform: Callable[[Any], Tensor]) -> None:
        self.dataset, self.transform = dataset, transform

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.dataset[index]
        return self.transform(image), label


def load(
    name: str,
    split: Split = "validation",
    *,
    root: str | Path | None = None,
    image_size: int = 224,
) -> ImageData:
    """A data set by name.

    Args:
        name: ``photos``, ``cifar10``, ``cifar100`` or ``imagefolder``.
        split: ``"train"`` or ``"validation"``.
        root: CIFAR: the folder that holds, or is to hold, torchvision's copy (default: the
            environment variable ``SPECTRALKD_DATA``, or ``~/.cache/spectralkd``, where it is
            downloaded if absent). ``imagefolder``: a folder with ``train`` and ``val`` folders
            of one folder a class, or with one folder a class, or with images only.
        image_size: side in pixels to which ``imagefolder`` scales and cuts its images.

    Raises:
        ValueError: an unknown name or split; ``imagefolder`` without a root; a file that is no
            image.
        FileNotFoundError: the root does not exist, or holds no image.
        RuntimeError: CIFAR is not there and cannot be downloaded.
    """
    check_choice("split", split, Split)
    if name not in DATASETS:
        raise ValueError(f"data: expected one of {', '.join(DATASETS)}, got {name!r}")
    if root is not None and not Path(root).is_dir():
        raise FileNotFoundError(f"root: expected an existing folder, got {str(root)!r}")
    if name == "photos":
        return photos(split)
    if name == "imagefolder":
        return image_folder(split, root, image_size)
    return cifar(name, split, root)


DATASETS = ("photos", "cifar10", "cifar100", "imagefolder")

# Mean and deviation of the training crops below, by channel (the tests measure them again).
PHOTOS_MEAN, PHOTOS_STD = (0.4750, 0.3932, 0.3684), (0.2490, 0.2060, 0.2103)
# Those of Heo et al.'s reference code for CIFAR-100 (they are CIFAR-10's); torchvision's ImageNet.
CIFAR_MEAN, CIFAR_STD = (125.3 / 255, 123.0 / 255, 113.9 / 255), (63 / 255, 62.1 / 255, 66.7 / 255)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

PHOTOS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
    "text.png",
)


def photographs() -> dict[str, Tensor]:
    """scikit-image's photographs at full size, (H, W, 3) uint8 by name.

    Their sources and licences are in the README of ``skimage/data``.
    """
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("photos: scikit-image is not installed")
    folder = Path(spec.origin).parent / "data"
    return {name.split(".")[0]: _pixels(Image.open(folder / name)) for name in PHOTOS}


def photos(split: Split = "validation") -> ImageArray:
    """32×32 crops of ``photographs``, labelled by photograph; no download, always the same.

    Each photograph is reduced by a whole factor to a short side of about 170 pixels and cut in
    two across its long side: 200 training crops lie on a regular grid over the one half, 100
    validation crops over the other.
    """
    crops, labels = [], []
    rows, columns = (10, 20) if split == "train" else (10, 10)
    names = []
    for label, (name, photograph) in enumerate(photographs().items()):
        names.append(name)
        image = Image.fromarray(photograph.numpy())
        pixels = _pixels(image.reduce(max(1, round(min(image.size) / 170))))
        if pixels.shape[0] > pixels.shape[1]:
            pixels = pixels.transpose(0, 1)
        middle = pixels.shape[1] // 2
        half = pixels[:, :middle] if split == "train" else pixels[:, middle:]
        for y in torch.linspace(0, half.shape[0] - 32, rows).round().int().tolist():
            for x in torch.linspace(0, half.shape[1] - 32, columns).round().int().tolist():
                crops.append(half[y : y + 32, x : x + 32])
                labels.append(label)
    return ImageArray(
        torch.stack(crops), torch.tensor(labels), tuple(names), PHOTOS_MEAN, PHOTOS_STD
    )


def cifar(name: str, split: Split, root: str | Path | None = None) -> ImageArray:
    """CIFAR-10 or CIFAR-100 in memory; arguments and errors as ``load``."""
    folder = cifar_folder(name, root)
    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    try:
        source = kind(str(folder.parent), train=split == "train", download=not folder.is_dir())
    except Exception as error:
        raise RuntimeError(
            f"{name}: not complete in {folder.parent} and not to be downloaded there ({error}); "
            f"put torchvision's copy, the folder {folder.name}, under a folder of your own and "
            f"pass it as root"
        ) from error
    return ImageArray(
        torch.from_numpy(source.data),
        torch.tensor(source.targets),
        tuple(source.classes),
        CIFAR_MEAN,
        CIFAR_STD,
    )


def cifar_folder(name: str, root: str | Path | None = None) -> Path:
    """Where CIFAR-10 or CIFAR-100 is, or is to be downloaded; ``root`` as in ``load``."""
    folder = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}[name]
    default = os.environ.get("SPECTRALKD_DATA") or Path.home() / ".cache" / "spectralkd"
    place = Path(root or default)
    return place if place.name == folder else place / folder


def image_folder(split: Split, root: str | Path | None, image_size: int = 224) -> ImageFiles:
    """A folder of image files; arguments and errors as ``load``."""
    if root is None:
        raise ValueError("root: imagefolder needs the folder of the images")
    names = ("train",) if split == "train" else ("val", "validation", "test")
    place = next((p for name in names if (p := Path(root) / name).is_dir()), Path(root))
    try:
        dataset = _Folder(str(place), loader=_open_image)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"root: no image found in {str(place)!r}: {error}") from None
    for path, _ in tqdm(dataset.samples, desc="checking images", unit="file", leave=False):
        _check_image(path)
    return ImageFiles(dataset, image_size, tuple(dataset.classes), IMAGENET_MEAN, IMAGENET_STD)


class _Folder(datasets.ImageFolder):
    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        """One folder a class; a folder of images alone is one class."""
        if any(entry.is_dir() for entry in os.scandir(directory)):
            return super().find_classes(directory)
        return [Path(directory).name], {".": 0}


def normalized(images: Tensor, data: ImageData) -> Tensor:
    """(N, 3, H, W) images in [0, 1], less the data set's mean, over its deviation."""
    mean, std = (
        torch.tensor(v, device=images.device)[:, None, None] for v in (data.mean, data.std)
    )
    return (images - mean) / std


def _pixels(image: Image.Image) -> Tensor:
    rgb = image.convert("RGB")
    flat = torch.frombuffer(bytearray(rgb.tobytes()), dtype=torch.uint8)
    return flat.view(rgb.height, rgb.width, 3)


def _open_image(path: str) -> Image.Image:
    try:
        return Image.open(path).convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path}: expected an image, got a file that is none: {error}") from error


def _check_image(path: str) -> None:
    try:
        Image.open(path).close()
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path}: expected an image, got a file that is none") from error


def _spread(total: int, count: int) -> Tensor:
    if count < 1:
        raise ValueError(f"count: expected at least one image, got {count}")
    return torch.linspace(0, total - 1, min(count, total)).round().long()
