"""Are the crops and flips torchvision's, and a function of seed, epoch and step?"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision.transforms.v2 import functional as transforms

from spectralkd.data import load_data
from spectralkd.data.augmentation import training_stream
from spectralkd.data.images import ImageArray
from spectralkd.data.photos import photos


def numbered(count: int) -> ImageArray:
    """Images whose every pixel tells where it is; labels tell which image."""
    place = torch.arange(32 * 32).view(32, 32)
    pixels = torch.stack([place // 8 % 256, place % 251, place * 7 % 253], -1).to(torch.uint8)
    return ImageArray(
        pixels.expand(count, -1, -1, -1).contiguous(),
        torch.arange(count),
        tuple(map(str, range(count))),
        (0.0, 0.0, 0.0),
        (1 / 255, 1 / 255, 1 / 255),
    )


def test_each_crop_is_one_of_torchvisions_and_all_are_equally_likely() -> None:
    data = numbered(32_400)
    padded = transforms.pad(data.images[0].permute(2, 0, 1), [4], padding_mode="reflect")
    expected = torch.stack(
        [
            crop if not flip else crop.flip(-1)
            for dy in range(9)
            for dx in range(9)
            for flip in (False, True)
            for crop in [padded[:, dy : dy + 32, dx : dx + 32]]
        ]
    ).float()
    key = torch.randn(3 * 32 * 32, generator=torch.Generator().manual_seed(0)).double()
    known = {round(float(k), 3): n for n, k in enumerate(expected.flatten(1).double() @ key)}
    assert len(known) == 162
    counts = torch.zeros(162)
    for images, _ in training_stream(data, 3240, seed=1).epoch(0):
        for value in images.flatten(1).double() @ key:
            counts[known[round(float(value), 3)]] += 1
    # Chi-square with 161 degrees of freedom: mean 161, deviation 18.
    assert 161 - 5 * 18 < ((counts - 200).square() / 200).sum() < 161 + 5 * 18


def test_every_image_comes_once_an_epoch_in_an_order_of_its_own() -> None:
    stream = training_stream(numbered(500), 64, seed=3)
    epochs = [torch.cat([labels for _, labels in stream.epoch(number)]) for number in (0, 0, 1)]
    assert stream.steps == 8
    assert torch.equal(epochs[0].sort().values, torch.arange(500))
    assert torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[0], epochs[2])
    other = training_stream(numbered(500), 64, seed=4)
    assert not torch.equal(epochs[0], torch.cat([labels for _, labels in other.epoch(0)]))


def test_an_epoch_goes_on_from_any_step() -> None:
    stream = training_stream(photos("train").subset(300), 64, seed=0)
    whole = list(stream.epoch(5))
    for start in (1, 4):
        for (images, labels), (x, y) in zip(stream.epoch(5, start), whole[start:], strict=True):
            assert torch.equal(images, x)
            assert torch.equal(labels, y)


def test_processes_share_each_batch_between_them() -> None:
    data = photos("train").subset(301)
    alone = list(training_stream(data, 32, seed=0).epoch(2))
    shares = [list(training_stream(data, 32, seed=0, rank=r, world=3).epoch(2)) for r in range(3)]
    for step, (images, labels) in enumerate(alone):
        parts = [share[step] for share in shares]
        for rank, (x, y) in enumerate(parts):
            assert torch.equal(x, images[rank::3])
            assert torch.equal(y, labels[rank::3])


def test_a_last_batch_too_small_for_batch_statistics_is_left_out() -> None:
    assert training_stream(numbered(101), 50, seed=0).steps == 2
    assert training_stream(numbered(102), 50, seed=0).steps == 3
    assert training_stream(numbered(102), 50, seed=0, world=2).steps == 2
    with pytest.raises(ValueError, match=r"batch_size: expected 2 .* to 10 .*, got 11"):
        training_stream(numbered(10), 11, seed=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_files_are_augmented_by_seed_whatever_reads_them(image_files: Path, workers: int) -> None:
    data = load_data("imagefolder", "train", root=image_files, image_size=64).subset(24)
    stream = training_stream(data, 8, seed=0, workers=workers)
    whole = list(stream.epoch(1))
    assert [tuple(images.shape) for images, _ in whole] == [(8, 3, 64, 64)] * 3
    again = list(training_stream(data, 8, seed=0, workers=0).epoch(1, start=1))
    for (images, labels), (x, y) in zip(again, whole[1:], strict=True):
        assert torch.equal(images, x)
        assert torch.equal(labels, y)
    assert not torch.equal(whole[0][0], next(iter(stream.epoch(2)))[0])


def test_crops_do_not_depend_on_the_default_precision() -> None:
    expected = next(training_stream(photos("train").subset(64), 64, seed=0).epoch(0))
    torch.set_default_dtype(torch.float64)
    try:
        images, labels = next(training_stream(photos("train").subset(64), 64, seed=0).epoch(0))
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(images, expected[0])
    assert torch.equal(labels, expected[1])


def test_other_data_is_refused() -> None:
    with pytest.raises(TypeError, match="data: expected an ImageArray or ImageFiles, got list"):
        training_stream([1, 2, 3], 2, seed=0)  # type: ignore[arg-type]


def test_mixup_mixes_images_and_labels_alike_and_resumes() -> None:
    data = photos("train").subset(30)
    plain = list(training_stream(data, 10, seed=5).epoch(2))
    mixed = list(training_stream(data, 10, seed=5, mixup=0.7).epoch(2))
    shares = []
    for (x, labels), (y, known) in zip(plain, mixed, strict=True):
        assert known.shape == (10, len(data.classes))
        torch.testing.assert_close(known.sum(1), torch.ones(10))
        other = x.roll(1, 0)
        share = float(((y - other) * (x - other)).sum() / (x - other).square().sum())
        torch.testing.assert_close(y, share * x + (1 - share) * other, rtol=1e-4, atol=1e-4)
        for row in range(10):
            own, other = labels[row], labels.roll(1)[row]
            expected = 1.0 if own == other else share
            assert float(known[row, own]) == pytest.approx(expected, abs=1e-4)
        shares.append(share)
    assert len({round(share, 4) for share in shares}) == 3
    assert all(0 <= share <= 1 for share in shares)
    (resumed,) = training_stream(data, 10, seed=5, mixup=0.7).epoch(2, 2)
    assert torch.equal(resumed[0], mixed[2][0])
    assert torch.equal(resumed[1], mixed[2][1])
