"""Image data sets by name in ``DATASETS``.

``photos``         crops of scikit-image's photographs; nothing to download
``photos-hard``    the same, gray, tinted, noisy and turned
``cifar10``        CIFAR-10 and CIFAR-100, downloaded where they are missing
``cifar100``
``tiny-imagenet``  Tiny ImageNet, downloaded where it is missing
``imagefolder``    image files of your own, such as ImageNet
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from spectralkd.checks import check_choice
from spectralkd.data.cifar import cifar
from spectralkd.data.folder import image_folder
from spectralkd.data.images import ImageData, Split
from spectralkd.data.photos import hard_photos, photos
from spectralkd.data.tiny_imagenet import tiny_imagenet
from spectralkd.registry import find

# Functions of ``split``, ``root`` and ``image_size``, or of some of them by these names.
DATASETS: dict[str, Callable[..., ImageData]] = {
    "photos": photos,
    "photos-hard": hard_photos,
    "cifar10": partial(cifar, "cifar10"),
    "cifar100": partial(cifar, "cifar100"),
    "tiny-imagenet": tiny_imagenet,
    "imagefolder": image_folder,
}


def load_data(
    name: str,
    split: Split = "validation",
    *,
    root: str | Path | None = None,
    image_size: int | None = None,
) -> ImageData:
    """A data set by name.

    Args:
        name: one of ``DATASETS``, or ``"package.module:function"`` for a function of your own
            that takes ``split`` and, if it wants them, ``root`` and ``image_size`` (which needs a
            default), and returns an ``ImageArray`` or ``ImageFiles``.
        split: ``"train"`` or ``"validation"``.
        root: CIFAR: the folder that holds torchvision's copy, or gets it (default: the
            environment variable ``SPECTRALKD_DATA``, or ``~/.cache/spectralkd``).
            ``tiny-imagenet``: the folder ``tiny-imagenet-200`` or the one that holds it; only the
            default gets it where it is missing. ``imagefolder``: a folder with ``train`` and
            ``val`` (or ``validation``, or ``test``) folders of one folder a class, or with one
            folder a class, or with images only.
        image_size: side of the images in pixels: to which ``imagefolder`` (default 224) and
            ``tiny-imagenet`` (default 64) scale and cut theirs, or of the crops of ``photos``
            (default 32, 8 to 437). CIFAR and ``photos-hard`` take none, and
            have 32.

    Raises:
        ValueError: an unknown name or split; ``imagefolder`` without a root, or whose ``train``
            and ``val`` have other classes; an image size that ``photos`` cannot give.
        TypeError: what you named is no function of ``split``, or returned something else.
        FileNotFoundError: the root does not exist, or holds no image of the split or no Tiny
            ImageNet.
        RuntimeError: CIFAR or Tiny ImageNet is missing and cannot be downloaded.
    """
    check_choice("split", split, Split)
    load = find("data", name, DATASETS)
    if root is not None and not Path(root).is_dir():
        raise FileNotFoundError(f"root: expected an existing folder, got {str(root)!r}")
    given: dict[str, Any] = {"split": split, "root": root}
    if image_size is not None:
        given["image_size"] = image_size
    expected = f"data: expected {name} to be a function of split"
    if not callable(load):
        raise TypeError(f"{expected}, got an object of type {type(load).__name__}")
    taken = inspect.signature(load).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in taken.values()):
        if "split" not in taken:
            raise TypeError(f"{expected}, got one of ({', '.join(taken)})")
        given = {key: value for key, value in given.items() if key in taken}
    data = load(**given)
    if not isinstance(data, ImageData):
        raise TypeError(
            f"data: expected {name} to return an ImageArray or ImageFiles, "
            f"got {type(data).__name__}"
        )
    return data
