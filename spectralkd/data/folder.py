"""Folders of image files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision import datasets

from spectralkd.data.images import ImageFiles, Split


def data_place(root: str | Path | None) -> Path:
    """The folder of downloaded data sets, or the one given; ``root`` as in ``load_data``."""
    default = os.environ.get("SPECTRALKD_DATA") or Path.home() / ".cache" / "spectralkd"
    return Path(root or default)


def image_folder(split: Split, root: str | Path | None, image_size: int = 224) -> ImageFiles:
    """A folder of image files; arguments and errors as ``load_data``.

    A file that is not a readable image raises a ValueError with its path when it is read.
    """
    if root is None:
        raise ValueError("root: imagefolder needs the folder of the images")
    place = _split(Path(root), split)
    try:
        dataset = _Folder(str(place), loader=open_image)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"root: no image found in {str(place)!r}: {error}") from None
    return ImageFiles(dataset, image_size, tuple(dataset.classes))


def _split(root: Path, split: Split) -> Path:
    """The folder of a split, whose classes are those of the other one; the root without splits.

    Raises:
        FileNotFoundError: the other split is there alone.
        ValueError: their classes differ.
    """
    training = root / "train"
    others = (p for name in ("val", "validation", "test") if (p := root / name).is_dir())
    validation = next(others, None)
    if split == "train" and validation and not training.is_dir():
        raise FileNotFoundError(f"root: expected a folder train beside {str(validation)!r}")
    if not training.is_dir():
        return validation or root
    if validation is None:
        if split == "train":
            return training
        raise FileNotFoundError(
            f"root: expected a folder val, validation or test beside {str(training)!r}"
        )
    known, other = ({e.name for e in os.scandir(p) if e.is_dir()} for p in (training, validation))
    if known != other:
        raise ValueError(
            f"root: expected the same classes in {str(training)!r} and {validation.name}, got "
            f"{', '.join(sorted(known - other)) or 'none'} in the former only and "
            f"{', '.join(sorted(other - known)) or 'none'} in the latter only"
        )
    return training if split == "train" else validation


class _Folder(datasets.ImageFolder):
    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        """One folder a class; a folder that holds images alone is one class."""
        if any(entry.is_dir() for entry in os.scandir(directory)):
            return super().find_classes(directory)
        return [Path(directory).name], {".": 0}


def open_image(path: str) -> Image.Image:
    """An RGB image of 8 bits a channel.

    Gray of 16 bits is scaled to 8, palettes and CMYK are converted, and what is transparent lies
    on white. The range of 32-bit integers and of floats is not known: they are refused.

    Raises:
        ValueError: no such image; with the path and the reason.
    """
    try:
        if not Path(path).is_file():  # a pipe would block
            raise ValueError("it is no regular file")
        image: Image.Image = Image.open(path)
        if image.mode in ("I", "F"):
            raise ValueError(f"expected 8 or 16 bits a channel, got pixels of mode {image.mode}")
        if image.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
        elif image.has_transparency_data:
            opaque = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(opaque, image.convert("RGBA"))
        return image.convert("RGB")
    except Exception as error:  # damaged files raise errors of every kind
        raise ValueError(f"{path}: not a readable image: {error}") from error
