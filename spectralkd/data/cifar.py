"""CIFAR-10 and CIFAR-100, in torchvision's copy."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torchvision import datasets

from spectralkd.data.images import CIFAR_MEAN, CIFAR_STD, ImageArray


def cifar(name: str, split: str, root: str | Path | None = None) -> ImageArray:
    """CIFAR-10 or CIFAR-100 in memory; arguments and errors as ``load_data``."""
    folder = cifar_folder(name, root)
    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    try:
        source = kind(str(folder.parent), train=split == "train", download=not folder.is_dir())
    except Exception as error:
        raise RuntimeError(
            f"{name}: not complete in {folder.parent}, and the download failed ({error}); "
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
    """The folder of a CIFAR data set, which may not exist yet; ``root`` as in ``load_data``."""
    folder = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}[name]
    default = os.environ.get("SPECTRALKD_DATA") or Path.home() / ".cache" / "spectralkd"
    place = Path(root or default)
    return place if place.name == folder else place / folder
