"""Crops of the photographs that come with scikit-image: a data set without a download."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from spectralkd.data.images import ImageArray

# Mean and standard deviation of the training crops, by channel (the tests measure them again).
PHOTOS_MEAN, PHOTOS_STD = (0.4750, 0.3932, 0.3684), (0.2490, 0.2060, 0.2103)

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


def photos(split: str = "validation") -> ImageArray:
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


def _pixels(image: Image.Image) -> Tensor:
    rgb = image.convert("RGB")
    flat = torch.frombuffer(bytearray(rgb.tobytes()), dtype=torch.uint8)
    return flat.view(rgb.height, rgb.width, 3)
