"""Are the data sets what they say, and are wrong ones refused?"""

from __future__ import annotations

import hashlib
import os
import pickle
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets
from torchvision.transforms.v2.functional import pil_to_tensor

from spectralkd.data import DATASETS, load_data
from spectralkd.data.augmentation import training_stream
from spectralkd.data.folder import open_image
from spectralkd.data.images import ImageArray, ImageData, ImageFiles, normalized
from spectralkd.data.photos import LARGEST, PHOTOS, hard_photos, photographs, photos
from spectralkd.spectra.power import RadialPowerSpectrum
from spectralkd.spectra.powerlaw import fit_power_law


def test_photos_need_nothing_and_are_always_the_same() -> None:
    train, validation = load_data("photos", "train"), load_data("photos")
    assert (len(train), len(validation)) == (3000, 1500)
    assert len(train.classes) == len(PHOTOS) == 15
    again = photos("validation")
    images, labels = next(iter(validation.batches(1500, normalize=False)))
    torch.testing.assert_close(images, again.images.permute(0, 3, 1, 2) / 255)
    assert labels.bincount().tolist() == [100] * 15


def test_photos_training_and_validation_come_from_disjoint_halves() -> None:
    """No validation crop shares a patch of 8×8 pixels with any training crop, noise aside."""
    train, validation = photos("train"), photos("validation")
    keep = train.labels == train.classes.index("astronaut")
    patches = {
        crop[y : y + 8, x : x + 8].numpy().tobytes()
        for crop in train.images[keep]
        for y in range(25)
        for x in range(25)
    }
    for crop in validation.images[validation.labels == train.classes.index("astronaut")]:
        for y in range(0, 25, 8):
            for x in range(0, 25, 8):
                patch = crop[y : y + 8, x : x + 8]
                assert patch.float().std() < 3 or patch.numpy().tobytes() not in patches


def test_normalisation_makes_training_photos_standard() -> None:
    train = photos("train")
    images, _ = next(iter(train.batches(3000)))
    assert images.mean((0, 2, 3)).abs().max() < 1e-3
    assert (images.std((0, 2, 3)) - 1).abs().max() < 1e-3
    raw, _ = next(iter(train.batches(3000, normalize=False)))
    torch.testing.assert_close(normalized(raw, train), images)


def test_photos_of_32_pixels_stay_the_same() -> None:
    digest = hashlib.sha256(photos("train").images.numpy().tobytes()).hexdigest()
    assert digest == "0d225482c863f45a327d765891ca56abbb8c93af1523c2a29674df20cb43b8f1"


@pytest.mark.parametrize(
    ("side", "classes", "train", "validation"),
    [(8, 15, 200, 100), (64, 15, 200, 100), (150, 15, 40, 20), (224, 12, 40, 20)],
)
def test_photos_of_other_sizes(side: int, classes: int, train: int, validation: int) -> None:
    for split, count in (("train", train), ("validation", validation)):
        data = load_data("photos", split, image_size=side)
        assert data.images.shape == (count * classes, side, side, 3)
        assert len(data.classes) == classes
        assert data.labels.bincount().tolist() == [count] * classes
    flat = data.images.flatten(1)
    assert len(flat.unique(dim=0)) > 0.98 * len(data)


def test_photos_of_224_pixels_are_cut_from_photographs_at_full_size() -> None:
    data = photos("validation", 224)
    assert not {"chelsea", "coins", "text"} & set(data.classes)
    first = data.images[data.labels == data.classes.index("astronaut")][0]
    assert torch.equal(first, photographs()["astronaut"][:224, 256 : 256 + 224])


def test_photos_refuse_sizes_that_they_cannot_give() -> None:
    assert len(photos(image_size=LARGEST).classes) == 2
    for side in (7, LARGEST + 1):
        with pytest.raises(ValueError, match=f"image_size: expected 8 to 437 .* got {side}"):
            load_data("photos", image_size=side)


def test_hard_photos_are_the_same_crops_without_their_color_and_brightness() -> None:
    for split in ("train", "validation"):
        plain, hard = photos(split), load_data("photos-hard", split)  # type: ignore[arg-type]
        assert isinstance(hard, ImageArray)
        assert torch.equal(hard.labels, plain.labels)
        assert torch.equal(hard.images, hard_photos(split).images)

        def by_class(data: ImageArray) -> torch.Tensor:
            means = data.images.float().mean((1, 2))  # of each channel of each crop
            own = torch.stack([means[data.labels == c].mean(0) for c in range(15)])
            return own.var(0).mean() / means.var(0).mean()

        # How much of the variance of crops' colors lies between photographs.
        assert by_class(plain) > 0.4
        assert by_class(hard) < 0.02
    # Each crop still is its photograph's: the correlation of its gray values over some turn.
    gray = [d.images[::50].float().mean(-1) for d in (photos(), hard_photos())]
    found = []
    for a, b in zip(*gray, strict=True):
        turned = [torch.rot90(b, turn).flatten() for turn in range(4)]
        found.append(
            max(float(torch.corrcoef(torch.stack([a.flatten(), t]))[0, 1]) for t in turned)
        )
    assert sorted(found)[len(found) // 2] > 0.7


def test_photographs_are_whole() -> None:
    assert photographs()["astronaut"].shape == (512, 512, 3)
    assert set(photographs()) == set(photos().classes)


@pytest.mark.parametrize("size", [1, 400, 1500])
def test_batches_cover_the_set_once_in_order(size: int) -> None:
    data = photos()
    batches = data.batches(size)
    labels = torch.cat([labels for _, labels in batches])
    assert len(batches) == -(-1500 // size)
    assert torch.equal(labels, data.labels)


def test_a_subset_is_spread_over_the_set() -> None:
    subset = photos().subset(30)
    assert len(subset) == 30
    assert subset.labels.unique().numel() == 15
    assert len(photos().subset(10**6)) == 1500
    with pytest.raises(ValueError, match="count: expected at least one image, got 0"):
        photos().subset(0)


def spectrum_of(data: ImageData, ring: str = "jacobian") -> float:
    spectrum = RadialPowerSpectrum(ring=ring)
    for images, _ in data.batches(1000, normalize=False):
        spectrum.update(images)
    result = spectrum.compute()
    return fit_power_law(result.frequency, result.power).exponent


def test_cifar100_has_the_papers_exponent(data_root: Path) -> None:
    """Fig. 1 prints -2.203; |k| × ring means over [1/8, 1/2)."""
    data = load_data("cifar100", root=data_root)
    assert (len(data), len(data.classes)) == (10_000, 100)
    assert spectrum_of(data) == pytest.approx(-2.2, abs=0.05)


def test_cifar_is_found_by_its_own_folder_too(data_root: Path) -> None:
    assert len(load_data("cifar100", "train", root=data_root / "cifar-100-python")) == 50_000


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A CIFAR-100 of four images as an archive, whose MD5 sums torchvision expects meanwhile."""
    place = tmp_path / "made" / "cifar-100-python"
    place.mkdir(parents=True)
    batch = {
        "data": torch.arange(4 * 3072).view(4, 3072).byte().numpy(),
        "fine_labels": [3, 1, 2, 0],
    }
    kind, sums = datasets.CIFAR100, {}
    for name, content in {
        "train": batch,
        "test": batch,
        "meta": {"fine_label_names": ["apple", "fish", "baby", "bear"]},
    }.items():
        (place / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((place / name).read_bytes()).hexdigest()
    file = tmp_path / "made" / kind.filename
    with tarfile.open(file, "w:gz") as tar:
        tar.add(place, place.name)
    monkeypatch.setattr(kind, "tgz_md5", hashlib.md5(file.read_bytes()).hexdigest())
    monkeypatch.setattr(kind, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(kind, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": sums["meta"]})
    return file


def offline(*args: object, **kwargs: object) -> None:
    raise OSError("no network")


def test_cifar_comes_from_the_hub(archive: Path, tmp_path: Path, monkeypatch) -> None:
    def hub(repo: str, filename: str, *, repo_type: str, local_dir: Path) -> str:
        assert (filename, repo_type) == (archive.name, "dataset")
        return str(archive.rename(local_dir / filename))

    monkeypatch.setattr("huggingface_hub.hf_hub_download", hub)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", offline)
    data = load_data("cifar100", root=tmp_path)
    assert data.labels.tolist() == [3, 1, 2, 0]
    assert data.images[0, 0, 0].tolist() == [0, 0, 0]
    assert data.images[0, 0, 7].tolist() == [7, 7, 7]
    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    assert len(load_data("cifar100", "train", root=tmp_path)) == 4  # asks no one any more


@pytest.mark.parametrize("wrong", ["nothing", "another file"])
def test_cifar_comes_from_the_official_server_where_the_hub_fails(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    def hub(repo: str, filename: str, *, local_dir: Path, **_: object) -> str:
        if wrong == "nothing":
            offline()
        (local_dir / filename).write_bytes(b"something else")
        return str(local_dir / filename)

    def official(url: str, path: str) -> None:
        Path(path).write_bytes(archive.read_bytes())

    monkeypatch.setattr("huggingface_hub.hf_hub_download", hub)
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **_: url)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", official)
    said = {"nothing": "no network", "another file": "has another MD5 sum"}[wrong]
    with pytest.warns(UserWarning, match=f"cifar100: not from the Hugging Face Hub .*{said}"):
        data = load_data("cifar100", root=tmp_path)
    assert data.classes == ("apple", "fish", "baby", "bear")


@pytest.mark.filterwarnings("ignore:cifar100. not from the Hugging Face Hub")
def test_cifar_without_network_or_files_says_where_to_put_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", offline)
    with pytest.raises(RuntimeError, match="cifar100: not complete in .*no network"):
        load_data("cifar100", root=tmp_path)


# --- Tiny ImageNet --------------------------------------------------------------------------------

WNIDS = ("n01443537", "n02123045")


def make_tiny(place: Path, *, official: bool) -> Path:
    """Two classes of two images in each split; gray, by class, split and number."""
    (place / "val").mkdir(parents=True)
    lines = []
    for number in (1, 0):
        for label, wnid in enumerate(WNIDS):
            train = place / "train" / wnid / ("images" if official else "")
            val = place / "val" / ("images" if official else wnid)
            for folder, name, gray in (
                (train, f"{wnid}_{number}.JPEG", 100 + 50 * label + 10 * number),
                (val, f"val_{2 * number + label}.JPEG", 50 * label + 10 * number),
            ):
                folder.mkdir(parents=True, exist_ok=True)
                image = Image.new("L", (64, 64), gray)
                image.paste(255, (0, 0, 1, 64))  # the left edge, to see that nothing is cut off
                image.save(folder / name, quality=100)
            lines.append(f"val_{2 * number + label}.JPEG\t{wnid}\t0\t0\t63\t63\n")
    if official:
        (place / "val" / "val_annotations.txt").write_text("".join(lines))
        (place / "words.txt").write_text(f"{WNIDS[0]}\tgoldfish, Carassius auratus\nn09\tother\n")
    return place


@pytest.mark.parametrize("official", [True, False])
def test_tiny_imagenet_in_both_layouts(tmp_path: Path, official: bool) -> None:
    place = make_tiny(tmp_path / "tiny-imagenet-200", official=official)
    for split, grays in (("train", [100, 110, 150, 160]), ("validation", [0, 10, 50, 60])):
        data = load_data("tiny-imagenet", split, root=tmp_path)
        assert data.classes == (("goldfish", WNIDS[1]) if official else WNIDS)
        images, labels = next(iter(data.batches(4, normalize=False)))
        assert images.shape == (4, 3, 64, 64)
        assert labels.tolist() == [0, 0, 1, 1]
        assert images[:, 0, 32, 40].mul(255).round().tolist() == pytest.approx(grays, abs=1)
        assert (images[:, 0, :, 0] > 0.9).all()
    assert len(load_data("tiny-imagenet", root=place)) == 4
    small = load_data("tiny-imagenet", root=place, image_size=32)
    assert next(iter(small.batches(4)))[0].shape == (4, 3, 32, 32)


def test_tiny_imagenet_is_downloaded_to_the_default_folder_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tiny(tmp_path / "made" / "tiny-imagenet-200", official=True)
    with zipfile.ZipFile(tmp_path / "tiny.zip", "w") as packed:
        for file in (tmp_path / "made").rglob("*.*"):
            packed.write(file, file.relative_to(tmp_path / "made"))

    def official(url: str, root: str, filename: str, md5: str) -> None:
        assert url == "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
        assert md5 == "90528d7ca1a48142e341f4ef8d21d0de"
        (Path(root) / filename).write_bytes((tmp_path / "tiny.zip").read_bytes())

    default = tmp_path / "cache"
    monkeypatch.setenv("SPECTRALKD_DATA", str(default))
    with monkeypatch.context() as without:
        without.setattr("torchvision.datasets.utils.download_url", offline)
        with pytest.raises(
            RuntimeError, match=r"not in .*cache.*no network.*tiny-imagenet-200\.zip"
        ):
            load_data("tiny-imagenet")
    assert not list(default.iterdir())
    monkeypatch.setattr("torchvision.datasets.utils.download_url", official)
    assert len(load_data("tiny-imagenet", "train")) == 4
    assert [entry.name for entry in default.iterdir()] == ["tiny-imagenet-200"]
    monkeypatch.setattr("torchvision.datasets.utils.download_url", offline)
    assert len(load_data("tiny-imagenet")) == 4
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"root: expected .*empty.*stanford\.edu/tiny"):
        load_data("tiny-imagenet", root=tmp_path / "empty")


def test_tiny_imagenet_without_images_is_refused(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / split / WNIDS[0]).mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="root: no train image of tiny-imagenet-200 found"):
        load_data("tiny-imagenet", "train", root=tmp_path)


def test_the_real_tiny_imagenet_is_taken_whole(data_root: Path) -> None:
    root = data_root / "tiny-imagenet-20"
    if not root.is_dir():
        pytest.skip("no part of Tiny ImageNet beside CIFAR-100")
    data = load_data("tiny-imagenet", root=root)
    assert (len(data), len(data.classes)) == (1000, 20)
    path = sorted((root / "val" / data.classes[0]).iterdir())[0]
    (images, labels), *_ = data.subset(20).batches(20, normalize=False)
    assert labels.tolist() == list(range(20))
    assert torch.equal((images[0] * 255).byte(), pil_to_tensor(Image.open(path).convert("RGB")))


# --- image files ----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        for label in ("cat", "dog"):
            place = tmp_path / split / label
            place.mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (80, 60), (number, 100, 200)).save(place / f"{number}.png")
    return tmp_path


def test_a_folder_of_images_in_three_layouts(folder: Path) -> None:
    data = load_data("imagefolder", "train", root=folder, image_size=48)
    assert (len(data), tuple(data.classes)) == (6, ("cat", "dog"))
    images, labels = next(iter(data.batches(4, normalize=False)))
    assert images.shape == (4, 3, 48, 48)
    assert labels.tolist() == [0, 0, 0, 1]
    assert images[1, :, 0, 0].mul(255).round().tolist() == [1, 100, 200]
    assert tuple(load_data("imagefolder", root=folder / "val").classes) == ("cat", "dog")
    assert next(iter(load_data("imagefolder", root=folder).batches(1)))[0].shape[-1] == 224
    alone = load_data("imagefolder", root=folder / "val" / "cat")
    assert (len(alone), tuple(alone.classes)) == (3, ("cat",))
    assert len(data.subset(2)) == 2


def test_files_are_center_crops_of_what_they_hold(image_files: Path) -> None:
    data = load_data("imagefolder", root=image_files, image_size=112)  # of 128: nothing is scaled
    (images, labels), *_ = data.batches(90, normalize=False)
    for number in (0, 45, 89):
        path = sorted((image_files / "val").glob("*/*.png"))[number]
        cut = Image.open(path).crop((8, 8, 120, 120))
        assert data.classes[labels[number]] == path.parent.name
        assert torch.equal((images[number] * 255).round().byte(), pil_to_tensor(cut))


def test_what_is_no_data_set_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="data: expected one of photos, .*got 'mnist'"):
        load_data("mnist")
    with pytest.raises(ValueError, match="split: expected one of"):
        load_data("photos", "test")
    with pytest.raises(ValueError, match="root: imagefolder needs the folder"):
        load_data("imagefolder")
    with pytest.raises(
        FileNotFoundError, match="root: expected an existing folder, got '/no/such'"
    ):
        load_data("cifar100", root="/no/such")
    empty = folder / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match="root: no image found in"):
        load_data("imagefolder", root=empty)


def test_both_splits_have_the_same_classes(folder: Path) -> None:
    (folder / "val" / "dog").rename(folder / "val" / "bee")
    says = r"same classes in '.*train' and val, got dog in the former only and bee in the latter"
    for split in ("train", "validation"):
        with pytest.raises(ValueError, match=says):
            load_data("imagefolder", split, root=folder)
    (folder / "val").rename(folder.parent / "gone")
    assert len(load_data("imagefolder", "train", root=folder)) == 6
    with pytest.raises(FileNotFoundError, match="expected a folder val, validation or test besi"):
        load_data("imagefolder", "validation", root=folder)
    (folder / "train").rename(folder / "test")
    assert len(load_data("imagefolder", "validation", root=folder)) == 6
    with pytest.raises(FileNotFoundError, match="expected a folder train beside"):
        load_data("imagefolder", "train", root=folder)


def test_pixels_of_every_kind_are_scaled_converted_or_refused(tmp_path: Path) -> None:
    def pixel(image: Image.Image, suffix: str = "png") -> tuple[int, ...]:
        image.save(tmp_path / f"x.{suffix}")
        found = open_image(str(tmp_path / f"x.{suffix}")).getpixel((0, 0))
        assert isinstance(found, tuple)
        return found

    gray16 = np.full((8, 8), 257 * 200, dtype=np.uint16)
    assert pixel(Image.fromarray(gray16)) == (200, 200, 200)
    assert pixel(Image.fromarray(gray16), "tif") == (200, 200, 200)
    color = Image.new("RGB", (8, 8), (250, 100, 0))
    assert pixel(color.quantize(4)) == (250, 100, 0)
    assert pixel(color.convert("CMYK"), "tif") == (250, 100, 0)
    assert pixel(Image.new("RGBA", (8, 8), (0, 100, 200, 255))) == (0, 100, 200)
    assert pixel(Image.new("RGBA", (8, 8), (0, 100, 200, 0))) == (255, 255, 255)
    assert pixel(Image.new("LA", (8, 8), (0, 51))) == (204, 204, 204)
    assert pixel(Image.new("1", (8, 8), 1)) == (255, 255, 255)
    for kind in (np.float32, np.int32):
        with pytest.raises(ValueError, match=r"x\.tif: not a readable image: expected 8 or 16"):
            pixel(Image.fromarray(np.ones((8, 8), dtype=kind)), "tif")


def test_files_that_are_no_images_are_named(tmp_path: Path, monkeypatch) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match=r"pipe\.png: not a readable image: it is no regular file"):
        open_image(str(tmp_path / "pipe.png"))
    path = tmp_path / "x.jpg"
    Image.effect_noise((64, 64), 50).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"x\.jpg: not a readable image: image file is truncated"):
        open_image(str(path))
    path.write_bytes(whole)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"x\.jpg: not a readable image: .*decompression bomb"):
        open_image(str(path))


def test_a_file_that_is_not_an_image_is_named_when_it_is_read(folder: Path) -> None:
    (folder / "val" / "cat" / "9.jpg").write_text("no image at all")
    data = load_data("imagefolder", root=folder)  # opens no file
    with pytest.raises(ValueError, match=r"9\.jpg: not a readable image"):
        list(data.batches(8))


# --- data of one's own ----------------------------------------------------------------------------

MINE = """
import torch
from spectralkd.data.images import ImageArray

def stripes(split):
    count = {"train": 12, "validation": 6}[split]
    images = (torch.arange(8) % 2 * 255).to(torch.uint8).expand(count, 8, 8).unsqueeze(-1)
    labels = torch.arange(count) % 2
    return ImageArray(images.expand(-1, -1, -1, 3).contiguous(), labels, ("a", "b"))

def number(split):
    return 7

def whole():
    return stripes("train")
"""


def test_a_data_set_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_images.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    assert len(load_data("my_images:stripes", "train")) == 12
    images, labels = next(iter(load_data("my_images:stripes").batches(6)))
    assert images.shape == (6, 3, 8, 8)
    assert labels.tolist() == [0, 1, 0, 1, 0, 1]
    monkeypatch.setitem(DATASETS, "same", lambda split, **_: photos(split))
    assert len(load_data("same")) == 1500
    with pytest.raises(TypeError, match="data: expected my_images:number to return an ImageArray"):
        load_data("my_images:number")
    with pytest.raises(TypeError, match=r"data: expected .*whole to be a function of split, got"):
        load_data("my_images:whole")
    with pytest.raises(TypeError, match="data: expected .*torch to be a function of split, got an"):
        load_data("my_images:torch")
    with pytest.raises(ValueError, match="data: expected an importable package.module:name, got"):
        load_data("my_images:nothing")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"images": torch.rand(4, 8, 8, 3)}, "images: expected a tensor of torch.uint8, got torch"),
        ({"images": np.zeros((4, 8, 8, 3), np.uint8)}, "images: .* got ndarray"),
        ({"images": torch.zeros(4, 3, 8, 8, dtype=torch.uint8)}, r"images: expected shape \(N, H"),
        ({"labels": torch.tensor([0, 1, 2, 1])}, "labels: expected 0 to 1, .*, got 0 to 2"),
        ({"labels": torch.tensor([0, -1, 1, 1])}, "labels: expected 0 to 1, .*, got -1 to 1"),
        ({"labels": torch.tensor([0, 1, 1])}, r"labels: expected shape \(4,\), got \(3,\)"),
        ({"labels": torch.zeros(4)}, "labels: expected a tensor of torch.int64, got torch.float32"),
        ({"mean": (0.5, 0.5)}, r"mean: expected a number for each of 3 channels, got \(0.5, 0.5\)"),
        ({"std": (0.5, 0.0, 0.5)}, "std: expected positive numbers"),
    ],
)
def test_an_array_of_other_things_is_refused(changes: dict[str, object], says: str) -> None:
    sound = {"images": torch.zeros(4, 8, 8, 3, dtype=torch.uint8), "classes": ("a", "b")}
    sound["labels"] = torch.tensor([0, 1, 1, 0])
    assert len(ImageArray(**sound)) == 4  # type: ignore[arg-type]
    with pytest.raises((TypeError, ValueError), match=says):
        ImageArray(**(sound | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("label", "says"),
    [
        ("cat", "labels: expected whole numbers, got 'cat' for image"),
        (2, "labels: expected 0 to 1, one of the classes, got 2 for image"),
        (-1, "labels: expected 0 to 1, one of the classes, got -1 for image"),
    ],
)
def test_files_of_other_labels_are_refused_when_read(label: object, says: str) -> None:
    pictures = [(Image.new("RGB", (8, 8)), label)]
    data = ImageFiles(pictures, 8, ("a", "b"))  # type: ignore[arg-type]
    with pytest.raises((TypeError, ValueError), match=says):
        next(iter(data.batches(1)))
    with pytest.raises((TypeError, ValueError), match=says):
        next(
            iter(
                training_stream(replace(data, dataset=pictures * 2), 2, seed=0, workers=0).epoch(0)
            )
        )
    sound = ImageFiles([(pictures[0][0], np.int32(1))], 8, ("a", "b"))  # type: ignore[arg-type]
    assert next(iter(sound.batches(1)))[1].tolist() == [1]
