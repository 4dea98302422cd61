"""Tiny ImageNet: 200 classes of 500 training and 50 validation images, 64×64 JPEG."""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image
from torch.utils.data import Dataset
from torchvision.datasets.utils import download_and_extract_archive

from spectralkd.data.folder import data_place, open_image
from spectralkd.data.images import ImageFiles, Split

FOLDER = "tiny-imagenet-200"
URL = f"http://cs231n.stanford.edu/{FOLDER}.zip"
MD5 = "90528d7ca1a48142e341f4ef8d21d0de"


def tiny_imagenet(split: Split, root: str | Path | None = None, image_size: int = 64) -> ImageFiles:
    """Tiny ImageNet, or any part of its classes; arguments and errors as ``load_data``.

    Training images lie in ``train/<wnid>/images`` or ``train/<wnid>``, validation images in
    ``val/<wnid>`` or, as ``val/val_annotations.txt`` tells their classes, in ``val/images``.
    Classes are those of ``train``, sorted by wnid; ``words.txt``, where there is one, names them.
    At 64 pixels ``batches`` gives the images as they are.
    """
    place = data_place(root)
    place = place if (place / "train").is_dir() else place / FOLDER
    if root is None and not place.is_dir():
        _download(place)
    if not all((place / part).is_dir() for part in ("train", "val")):
        raise FileNotFoundError(
            f"root: expected {FOLDER} with its folders train and val, or the folder that holds "
            f"it, got {str(root or place)!r}; it can be had from {URL}"
        )
    wnids = sorted(entry.name for entry in (place / "train").iterdir() if entry.is_dir())
    annotations = place / "val" / "val_annotations.txt"
    if split == "validation" and annotations.is_file() and (place / "val" / "images").is_dir():
        files = _annotated(annotations, wnids)
    else:
        files = _sorted(place / ("train" if split == "train" else "val"), wnids)
    if not files:
        raise FileNotFoundError(f"root: no {split} image of {FOLDER} found in {str(place)!r}")
    return ImageFiles(_Files(files), image_size, _names(place / "words.txt", wnids), crop=1.0)


def _download(place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        # What is cut short leaves no folder that looks whole.
        with tempfile.TemporaryDirectory(dir=place.parent) as new:
            download_and_extract_archive(URL, str(place.parent), new, md5=MD5, remove_finished=True)
            (Path(new) / FOLDER).rename(place)
    except Exception as error:
        raise RuntimeError(
            f"tiny-imagenet: not in {place.parent}, and the download failed ({error}); unpack "
            f"{URL} and pass the folder {FOLDER} as root"
        ) from error


def _sorted(folder: Path, wnids: list[str]) -> list[tuple[Path, int]]:
    """Files and labels of one folder a class."""
    files = []
    for label, wnid in enumerate(wnids):
        inner = folder / wnid / "images"
        images = (inner if inner.is_dir() else folder / wnid).glob("*.JPEG")
        files += [(path, label) for path in sorted(images)]
    return files


def _annotated(annotations: Path, wnids: list[str]) -> list[tuple[Path, int]]:
    """Files and labels by lines of file name, wnid and box; by class, as ``_sorted``."""
    label = {wnid: number for number, wnid in enumerate(wnids)}
    lines = [line.split("\t") for line in annotations.read_text().splitlines() if line]
    images = annotations.parent / "images"
    files = [(images / name, label[wnid]) for name, wnid, *_ in lines if wnid in label]
    return sorted(files, key=lambda file: (file[1], file[0]))


def _names(words: Path, wnids: list[str]) -> tuple[str, ...]:
    """The first of the names that lines of wnid and names give; the wnid where there is none."""
    if not words.is_file():
        return tuple(wnids)
    lines = (line.split("\t") for line in words.read_text(encoding="utf-8").splitlines() if line)
    names = {wnid: text.split(",")[0] for wnid, text in lines}
    return tuple(names.get(wnid, wnid) for wnid in wnids)


class _Files(Dataset[tuple[Image.Image, int]]):
    def __init__(self, files: list[tuple[Path, int]]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        path, label = self.files[index]
        return open_image(str(path)), label
