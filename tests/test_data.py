"""Are the data sets what they say, and are wrong ones refused?"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from spectralkd.data import DATASETS, load_data
from spectralkd.data.images import ImageData, normalized
from spectralkd.data.photos import PHOTOS, photographs, photos
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
    """Fig. 1 prints -2.203; ring sums over the complete rings of [1/8, 1/2)."""
    data = load_data("cifar100", root=data_root)
    assert (len(data), len(data.classes)) == (10_000, 100)
    assert spectrum_of(data) == pytest.approx(-2.2, abs=0.05)


def test_cifar_is_found_by_its_own_folder_too(data_root: Path) -> None:
    assert len(load_data("cifar100", "train", root=data_root / "cifar-100-python")) == 50_000


def test_cifar_without_network_or_files_says_where_to_put_it(tmp_path: Path, monkeypatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", offline)
    with pytest.raises(RuntimeError, match="cifar100: not complete in .*no network"):
        load_data("cifar100", root=tmp_path)


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

def number():
    return 7
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
    with pytest.raises(ValueError, match="data: expected an importable package.module:name, got"):
        load_data("my_images:nothing")
