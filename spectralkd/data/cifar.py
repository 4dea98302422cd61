"""CIFAR-10 and CIFAR-100, in torchvision's copy.

The download asks the Hugging Face Hub first, where copies of the original archives lie, and then
the official server, which is often slow. Either archive has to have torchvision's MD5 sum.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from spectralkd.data.folder import data_place
from spectralkd.data.images import CIFAR_MEAN, CIFAR_STD, ImageArray, Split

# Data set repositories of the Hugging Face Hub that hold the original archives.
HUB = {"cifar10": "liangnanying/cifar-10-python", "cifar100": "nakroy/cifar100-python"}


def cifar(name: str, split: Split, root: str | Path | None = None) -> ImageArray:
    """CIFAR-10 or CIFAR-100 in memory; arguments and errors as ``load_data``."""
    folder = cifar_folder(name, root)
    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    missing = not folder.is_dir()
    if missing:
        _archive_from_hub(name, kind, folder.parent)
    try:
        source = kind(str(folder.parent), train=split == "train", download=missing)
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
    place = data_place(root)
    return place if place.name == folder else place / folder


def _archive_from_hub(name: str, kind: Any, place: Path) -> None:
    """Put the archive where torchvision looks for it before it downloads; else only warn."""
    from huggingface_hub import hf_hub_download

    try:
        archive = hf_hub_download(HUB[name], kind.filename, repo_type="dataset", local_dir=place)
        if not check_integrity(archive, kind.tgz_md5):
            raise ValueError(f"{archive} has another MD5 sum than {kind.tgz_md5}")
    except Exception as error:
        warnings.warn(
            f"{name}: not from the Hugging Face Hub ({error!r}); asking the official server",
            stacklevel=3,
        )
