"""Crops of the photographs that come with scikit-image: a data set without a download."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from spectralkd.data.images import ImageArray, Split

# Mean and standard deviation of the 32×32 training crops, by channel (the tests measure them
# again); larger crops, which are close to them, are normalized by the same.
PHOTOS_MEAN, PHOTOS_STD = (0.4750, 0.3932, 0.3684), (0.2490, 0.2060, 0.2103)

# Sides of crops in pixels: up to the largest, two photographs remain.
SMALLEST, LARGEST = 8, 437

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


def photos(split: Split = "validation", image_size: int = 32) -> ImageArray:
    """Square crops of ``photographs``, labelled by photograph; no download, always the same.

    Each photograph is reduced by a whole factor to a short side of about 170 pixels, or of 170/32
    of larger crops than 32×32, and cut in two across its long side: 200 training crops lie on a
    regular grid over the one half, 100 validation crops over the other. Of crops larger than
    64×64, which overlap more, there are 40 and 20.

    Nothing is enlarged: a photograph whose halves are smaller than 8/7 of the crop is left out,
    and its class with it. All 15 give crops up to 150 pixels, 12 up to 224, two up to 437.

    Args:
        split: ``"train"`` or ``"validation"``.
        image_size: side of the crops in pixels, 8 to 437.

    Raises:
        ValueError: another image size.
    """
    if not SMALLEST <= image_size <= LARGEST:
        raise ValueError(
            f"image_size: expected {SMALLEST} to {LARGEST} pixels, which the photographs give, "
            f"got {image_size}"
        )
    crops: list[Tensor] = []
    labels, names = [], []
    side = 170 / 32 * max(32, image_size)
    if image_size <= 64:
        rows, columns = (10, 20) if split == "train" else (10, 10)
    else:
        rows, columns = (10, 4) if split == "train" else (5, 4)
    for name, photograph in photographs().items():
        image = Image.fromarray(photograph.numpy())
        pixels = _pixels(image.reduce(max(1, round(min(image.size) / side))))
        if pixels.shape[0] > pixels.shape[1]:
            pixels = pixels.transpose(0, 1)
        middle = pixels.shape[1] // 2
        if min(pixels.shape[0], middle) * 7 < image_size * 8:
            continue
        names.append(name)
        half = pixels[:, :middle] if split == "train" else pixels[:, middle:]
        for y in torch.linspace(0, half.shape[0] - image_size, rows).round().int().tolist():
            for x in torch.linspace(0, half.shape[1] - image_size, columns).round().int().tolist():
                crops.append(half[y : y + image_size, x : x + image_size])
                labels.append(len(names) - 1)
    return ImageArray(
        torch.stack(crops), torch.tensor(labels), tuple(names), PHOTOS_MEAN, PHOTOS_STD
    )


def hard_photos(split: Split = "validation") -> ImageArray:
    """The 32×32 crops of ``photos`` made hard to tell apart; always the same.

    Each crop is made gray, given a contrast (times e^(0.5 n), n standard normal), a brightness
    (a mean of 128 ± 30 of 255) and a tint (each channel times e^(0.25 n)), gets white noise of 12
    of 255, and is turned by 0, 90, 180 or 270 degrees. Neither color nor brightness then tells
    from which photograph it is.

    Args:
        split: as ``photos``.
    """
    data = photos(split)
    generator = torch.Generator().manual_seed(7 if split == "train" else 8)
    count, height, width, _ = data.images.shape

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator, dtype=torch.float32)

    gray = (data.images.float() * torch.tensor([0.299, 0.587, 0.114])).sum(-1, keepdim=True)
    contrast = torch.exp(0.5 * normal(1, 1, 1))
    mean = 128 + 30 * normal(1, 1, 1)
    images = (gray - gray.mean((1, 2, 3), keepdim=True)) * contrast + mean
    images = images * torch.exp(0.25 * normal(1, 1, 3)) + 12 * normal(height, width, 3)
    turns = torch.randint(4, (count,), generator=generator).tolist()
    turned = [torch.rot90(image, turn) for image, turn in zip(images, turns, strict=True)]
    return replace(data, images=torch.stack(turned).clamp(0, 255).round().byte())


def _pixels(image: Image.Image) -> Tensor:
    rgb = image.convert("RGB")
    flat = torch.frombuffer(bytearray(rgb.tobytes()), dtype=torch.uint8)
    return flat.view(rgb.height, rgb.width, 3)
