"""Folders of image files."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from torchvision import datasets

from spectralkd.data.images import ImageFiles


def data_place(root: str | Path | None) -> Path:
    """The folder of downloaded data sets, or the one given; ``root`` as in ``load_data``."""
    default = os.environ.get("SPECTRALKD_DATA") or Path.home() / ".cache" / "spectralkd"
    return Path(root or default)


def image_folder(split: str, root: str | Path | None, image_size: int = 224) -> ImageFiles:
    """A folder of image files; arguments and errors as ``load_data``.

    A file that is not a readable image raises a ValueError with its path when it is read.
    """
    if root is None:
        raise ValueError("root: imagefolder needs the folder of the images")
    names = ("train",) if split == "train" else ("val", "validation", "test")
    place = next((p for name in names if (p := Path(root) / name).is_dir()), Path(root))
    try:
        dataset = _Folder(str(place), loader=open_image)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"root: no image found in {str(place)!r}: {error}") from None
    return ImageFiles(dataset, image_size, tuple(dataset.classes))


class _Folder(datasets.ImageFolder):
    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        """One folder a class; a folder that holds images alone is one class."""
        if any(entry.is_dir() for entry in os.scandir(directory)):
            return super().find_classes(directory)
        return [Path(directory).name], {".": 0}


def open_image(path: str) -> Image.Image:
    """An RGB image; a ValueError with the path where it is none."""
    try:
        return Image.open(path).convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path}: not a readable image: {error}") from error
