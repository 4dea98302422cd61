"""Do the disturbances touch what they say, and nothing else?"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from spectralkd.analysis.aliasing import aliasing
from spectralkd.analysis.conventions import conventions, half_diagonal
from spectralkd.analysis.layers import layer_views
from spectralkd.analysis.sensitivity import fourier_sensitivity, ring_scrambling, scramble_ring
from spectralkd.data.images import ImageArray
from spectralkd.figures.conventions import conventions_table
from spectralkd.figures.sensitivity import scrambling_figure, sensitivity_figure
from spectralkd.models import create_model
from spectralkd.models.features import altered


def noise_images(count: int = 40, size: int = 16) -> ImageArray:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, size, size, 3), generator=generator, dtype=torch.uint8)
    return ImageArray(images, torch.arange(count) % 2, ("even", "odd"), (0.0,) * 3, (1.0,) * 3)


class HearsOneWave(nn.Module):
    """Answers 1 where the amplitude at (ky, kx) cycles per image is above a level."""

    def __init__(self, ky: int, kx: int, level: float) -> None:
        super().__init__()
        self.ky, self.kx, self.level = ky, kx, level

    def forward(self, x: Tensor) -> Tensor:
        mode = torch.fft.fft2(x, norm="forward")[:, 0, self.ky, self.kx].abs()
        return torch.stack([torch.full_like(mode, self.level), mode], 1)


# --- Fourier sensitivity -----------------------------------------------------------------------


def test_a_network_that_hears_one_wave_errs_at_that_wave_alone() -> None:
    data = noise_images()
    gray = ImageArray(
        data.images // 8 + 100, torch.zeros(40).long(), ("low", "high"), *[(0.0,) * 3, (1.0,) * 3]
    )
    found = fourier_sensitivity(HearsOneWave(2, 3, 0.06), gray, amplitude=0.125, progress=False)
    assert found.clean_error == 0
    wrong = found.error.nonzero().tolist()
    assert wrong == [[7 - 2, 7 - 3], [7 + 2, 7 + 3]]  # k and -k
    assert found.error.max() == 100
    assert (found.vertical[7 + 2] * 16, found.horizontal[7 + 3] * 16) == (2, 3)


@pytest.mark.parametrize("count", [1, 3, 5, 7, 20])
def test_frequencies_reach_the_last_below_nyquist(count: int) -> None:
    found = fourier_sensitivity(
        HearsOneWave(2, 3, 0.06), noise_images(), frequencies=count, progress=False
    )
    cycles = (16 * found.vertical).tolist()
    assert (len(cycles), cycles[-1]) == (2 * min(count, 7) + 1, 7)
    steps = {round(b - a) for a, b in itertools.pairwise(cycles)}
    assert max(steps) - min(steps) <= 1


def test_the_noise_has_the_amplitude_asked_for_before_normalization() -> None:
    seen: list[Tensor] = []

    class Keeps(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x.flatten(1)[:, :2]

    data = noise_images(2)
    data = ImageArray(data.images, data.labels, data.classes, (0.5,) * 3, (0.25, 0.5, 1.0))
    found = fourier_sensitivity(Keeps(), data, amplitude=0.1, frequencies=2, progress=False)
    assert found.error.shape == (5, 5)
    clean, *noisy = seen
    assert len(noisy) == 13  # half of 25, and zero
    for each in noisy:
        rms = (each - clean).square().mean((2, 3)).sqrt()
        assert torch.allclose(rms, 0.1 / torch.tensor([0.25, 0.5, 1.0]).expand(2, 3), atol=1e-5)


def test_answers_of_a_clean_pass_need_no_labels() -> None:
    data, net = noise_images(), create_model("wrn10_1", 2)
    found = fourier_sensitivity(net, data, frequencies=1, reference="clean", progress=False)
    assert found.clean_error == 0
    assert found.error.shape == (3, 3)
    assert torch.equal(found.error, found.error.flip(0, 1))
    with pytest.raises(ValueError, match="reference: expected one of .*, got 'truth'"):
        fourier_sensitivity(net, data, reference="truth")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="amplitude: expected a positive number, got 0"):
        fourier_sensitivity(net, data, amplitude=0)
    with pytest.raises(ValueError, match="frequencies: expected at least 1, got 0"):
        fourier_sensitivity(net, data, frequencies=0)
    small = ImageArray(data.images[:, :3], data.labels, data.classes)
    with pytest.raises(ValueError, match="at least 4 pixels, got 3×"):
        fourier_sensitivity(net, small)


# --- ring scrambling ---------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(16, 16), (15, 15), (12, 20)])
def test_scrambling_keeps_every_power_and_all_other_modes(height: int, width: int) -> None:
    x = torch.randn(3, 2, height, width, dtype=torch.float64)
    scrambled = scramble_ring(x, 3)
    before, after = torch.fft.fft2(x), torch.fft.fft2(scrambled)
    assert torch.allclose(before.abs(), after.abs())
    ky = torch.fft.fftfreq(height, dtype=torch.float64)[:, None]
    kx = torch.fft.fftfreq(width, dtype=torch.float64)[None, :]
    ring = (torch.hypot(ky, kx) * min(height, width) + 0.5).floor()
    assert torch.allclose(before[..., ring != 3], after[..., ring != 3])
    turned = (after / before)[..., ring == 3]
    assert turned.real.std() > 0.4
    assert not torch.allclose(scrambled[0], scrambled[1])


class PhaseOfOneWave(nn.Module):
    """Answers by the sign of one mode's real part, in ring 3."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        real = torch.fft.fft2(self.body(x))[:, 0, 3, 0].real
        return torch.stack([-real, real], 1)


def test_only_the_ring_that_matters_costs_errors() -> None:
    found = ring_scrambling(
        PhaseOfOneWave(), noise_images(200), "body", reference="clean", progress=False
    )
    assert found.frequency[2] * 16 == pytest.approx(3, abs=0.2)
    assert [ring + 1 for ring, error in enumerate(found.error.tolist()) if error > 5] == [3]
    assert found.error[2] == pytest.approx(50, abs=12)
    assert found.clean_error == 0
    assert found.joint_error == pytest.approx(50, abs=12)  # that ring is one of all


def test_errors_of_the_same_images_are_compared_image_by_image() -> None:
    """Against the deviation of the differences, image by image."""
    net, data, rings = PhaseOfOneWave(), noise_images(40), 7
    found = ring_scrambling(net, data, "body", batch_size=16, progress=False)
    assert len(found.error) == rings
    phases, joint = (torch.Generator().manual_seed(seed) for seed in (0, 1))
    changes, losses = torch.zeros(rings + 1, 0), torch.zeros(rings + 1)

    def change(ring: int | None, x: Tensor) -> Tensor:
        return scramble_ring(x, ring, phases if ring else joint)

    with torch.no_grad():
        for images, labels in data.batches(16):
            clean, logits = (net(images).argmax(1) != labels).double(), []
            for number, ring in enumerate([*range(1, rings + 1), None]):
                with altered(net, ["body"], lambda _, x, n=ring: change(n, x)):
                    logits.append(net(images))
                losses[number] += functional.cross_entropy(logits[-1], labels, reduction="sum")
            wrong = [(each.argmax(1) != labels).double() for each in logits]
            changes = torch.cat([changes, 100 * (torch.stack(wrong) - clean)], 1)
    assert changes[2].abs().sum() > 500
    means, errors = changes.mean(1), changes.std(1) / 40**0.5
    torch.testing.assert_close(found.error - found.clean_error, means[:-1])
    torch.testing.assert_close(found.stderr, errors[:-1])
    torch.testing.assert_close(found.loss.float(), losses[:-1] / 40)
    all_at_once = (found.joint_error - found.clean_error, found.joint_stderr, found.joint_loss)
    expected = (float(means[-1]), float(errors[-1]), float(losses[-1]) / 40)
    assert all_at_once == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("size", [(16, 16), (9, 12)])
def test_all_rings_at_once_leave_zero_and_the_corners(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    before, after = torch.fft.fft2(x), torch.fft.fft2(scramble_ring(x, None))
    ky, kx = (torch.fft.fftfreq(n, dtype=torch.float64) for n in size)
    ring = (torch.hypot(ky[:, None], kx[None, :]) * min(size) + 0.5).floor()
    kept = (ring == 0) | (ring >= (min(size) + 1) // 2)
    torch.testing.assert_close(after.abs(), before.abs())
    torch.testing.assert_close(after[..., kept], before[..., kept])
    assert ((after - before).abs()[..., ~kept] > 1e-6).double().mean() > 0.9


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("torchvision/swin_t", "features.3"),
        ("timm/vit_tiny_patch16_224", "blocks.3"),
        ("wrn10_1", "group2"),
    ],
)
def test_layers_of_every_layout_are_scrambled(name: str, layer: str) -> None:
    torch.manual_seed(0)
    net = create_model(name, 10)
    size = net.image_shape[-1]
    data = noise_images(2, size)
    data = ImageArray(data.images, data.labels, tuple("0123456789"), data.mean, data.std)
    before = [len(m._forward_hooks) for m in net.modules()]
    found = ring_scrambling(net, data, layer, progress=False)
    assert len(found.loss) == len(found.frequency) > 2
    assert found.loss.isfinite().all()
    assert (found.loss != found.clean_loss).any()
    assert before == [len(m._forward_hooks) for m in net.modules()]


# --- aliasing ----------------------------------------------------------------------------------


def test_the_folded_share_of_white_noise_and_of_a_slow_wave() -> None:
    identity = nn.Conv2d(1, 1, 1, stride=2, bias=False)
    nn.init.ones_(identity.weight)
    noise = torch.randn(20, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    (found,) = aliasing(identity, [noise], progress=False).values()
    assert found.share == pytest.approx(1 - (33 / 64) ** 2, rel=0.01)  # the edge is not beyond
    assert (found.stride, found.size) == ((2, 2), (32, 32))
    wave = torch.cos(2 * torch.pi * torch.arange(64) / 8).expand(1, 1, 64, 64)
    (found,) = aliasing(identity, [wave], progress=False).values()
    assert found.share < 1e-10
    wave = torch.cos(2 * torch.pi * torch.arange(64) * 3 / 8).expand(1, 1, 64, 64)
    (found,) = aliasing(identity, [wave], progress=False).values()
    assert found.share > 1 - 1e-10


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 7), (6, 11)])
def test_the_folded_share_is_that_of_the_whole_plane(height: int, width: int) -> None:
    identity = nn.Conv2d(1, 1, 1, stride=(2, 3), bias=False)
    nn.init.ones_(identity.weight)
    x = torch.randn(5, 1, height, width, generator=torch.Generator().manual_seed(0)).double()
    (found,) = aliasing(identity.double(), [x], progress=False).values()
    power = (np.abs(np.fft.fft2(x.numpy())) ** 2).sum((0, 1))
    power[0, 0] = 0
    ky, kx = np.abs(np.fft.fftfreq(height))[:, None], np.abs(np.fft.fftfreq(width))[None, :]
    expected = power[(ky > 1 / 4) | (kx > 1 / 6)].sum() / power.sum()
    assert found.share == pytest.approx(expected, rel=1e-9)


def test_a_blur_before_the_sampling_folds_less_and_batches_add_up() -> None:
    images = torch.randn(8, 3, 32, 32)
    maximum = nn.Sequential(nn.MaxPool2d(2))
    mean = nn.Sequential(nn.AvgPool2d(2))
    (a,), (b,) = (aliasing(net, [images], progress=False).values() for net in (maximum, mean))
    assert b.share < a.share
    (parts,) = aliasing(mean, images.split(3), progress=False).values()
    assert parts.share == pytest.approx(b.share, rel=1e-6)


def test_the_downsampling_layers_of_a_network_are_found() -> None:
    found = aliasing(create_model("wrn10_1"), [torch.randn(2, 3, 32, 32)], progress=False)
    assert {layer.size for layer in found.values()} == {(16, 16), (8, 8)}
    assert all(0 < layer.share < 1 for layer in found.values())
    assert aliasing(nn.Conv2d(3, 3, 3), [torch.randn(1, 3, 8, 8)], progress=False) == {}
    with pytest.raises(ValueError, match="batches: expected at least one image"):
        aliasing(nn.Conv2d(3, 3, 3), [])


# --- conventions -------------------------------------------------------------------------------


def test_exponents_differ_between_conventions_by_what_theory_says() -> None:
    k = torch.hypot(torch.fft.fftfreq(64)[:, None], torch.fft.rfftfreq(64)[None, :])
    k[0, 0] = 1
    noise = torch.randn(300, 64, 64, generator=torch.Generator().manual_seed(0))
    maps = torch.fft.irfft2(torch.fft.rfft2(noise) / k, s=(64, 64))  # power |k|^-2
    found = {each.name: each for each in conventions(maps)}
    expected = {
        "ring mean": -2, "ring sum": -1, "|k| × ring mean": -1, "half diagonal": -2,
        "amplitude": -1, "log of mean": -2, "mean of log": -2,
    }  # fmt: skip
    assert found.keys() == expected.keys()
    for name, exponent in expected.items():
        assert found[name].exponent == pytest.approx(exponent, abs=0.06), name
    ratio = found["mean of log"].value[4:] / found["ring mean"].value[4:]
    # Euler's constant 0.577: the mean logarithm of an exponential variable.
    assert ratio.log().mean() == pytest.approx(-0.577, abs=0.03)
    rows = conventions_table(list(found.values()), "csv").splitlines()[1:]
    assert [row.rpartition(",")[2][:4] for row in rows[:3]] == ["+0.0", "+0.9", "+1.0"]


def test_the_half_diagonal_is_the_planes_own() -> None:
    plane = torch.arange(64.0).view(8, 8)
    k, values = half_diagonal(plane)
    assert values.tolist() == plane.diag()[4:].tolist()
    assert torch.allclose(k, torch.arange(4) * 2**0.5 / 8, atol=1e-7)
    assert half_diagonal(torch.zeros(3, 7, 12))[1].shape == (3, 4)


@pytest.mark.parametrize("size", [16, 15])
def test_the_log_amplitude_is_that_of_park_and_kim(size: int) -> None:
    """Their definition, in numpy's FFT: log|F| + 1e-6, mean, half diagonal, minus its first."""
    import numpy

    maps = torch.randn(6, 3, size, size) + 1
    amplitude = numpy.abs(numpy.fft.fft2(maps.double().numpy())) + 1e-6
    mean = numpy.fft.fftshift(numpy.log(amplitude), (-2, -1)).mean((0, 1))
    expected = numpy.diag(mean)[size // 2 :]
    view = layer_views(nn.Identity(), maps.split(4), [""], progress=False)[""]
    assert view.log_amplitude.numpy() == pytest.approx(expected - expected[0], abs=1e-4)
    assert view.diagonal.tolist() == pytest.approx([2 * t / size for t in range(len(expected))])


# --- figures -----------------------------------------------------------------------------------


def test_figures_share_their_scales() -> None:
    data, net = noise_images(4), create_model("wrn10_1", 2)
    sensitivity = fourier_sensitivity(net, data, frequencies=2, progress=False)
    figure = sensitivity_figure({"a": sensitivity, "b": sensitivity})
    assert [trace.coloraxis for trace in figure.data] == ["coloraxis"] * 2
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (0, 100)
    rings = {name: ring_scrambling(net, data, name, progress=False) for name in ("group1", "bn")}
    figure = scrambling_figure(rings)
    joint = [f"{name} (all rings: {found.joint_error:.1f} %)" for name, found in rings.items()]
    assert [trace.name for trace in figure.data] == joint
    assert list(figure.data[0].error_y.array) == rings["group1"].stderr.tolist()
    assert list(figure.layout.yaxis.range) == [0, 100]
    rise = (rings["bn"].loss - rings["bn"].clean_loss).tolist()
    assert list(scrambling_figure(rings, value="loss").data[1].y) == rise
