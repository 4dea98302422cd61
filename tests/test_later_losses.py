"""Are the losses since the paper the published ones? Authors' numbers and plain formulas."""

from __future__ import annotations

import math

import pytest
import torch
from test_losses import (
    LABELS,
    built,
    check_gradient,
    double,
    fill,
    rand,
    randn,
    reading,
    seeded,
    single,
    softened_logits,
    taps,
)
from torch import Tensor
from torch.nn import functional

from spectralkd.losses.base import Method
from spectralkd.losses.dkd import DKD, decoupled
from spectralkd.losses.fam import FAM
from spectralkd.losses.fft_align import FFTAlign, plane_error
from spectralkd.losses.focal import Focal, focal_error
from spectralkd.losses.kd import softened_divergence
from spectralkd.losses.reviewkd import ReviewKD, pyramid_error
from spectralkd.losses.ufd import UFD, decoupled_errors
from spectralkd.losses.wavelet import Wavelet, haar, high_band_error

# --- the authors' numbers -------------------------------------------------------------------------
#
# Values in this part are from the authors' code on the same tensors; each test says whose.


def test_fft_align() -> None:
    """thy960112/SpectralKD, losses.py, fft_loss: seven channels of a teacher to three."""
    generator = seeded(101)
    fs = [randn(generator, 4, 3, 8, 8), randn(generator, 4, 4, 5, 6)]
    ft = [randn(generator, 4, 7, 8, 8), randn(generator, 4, 4, 5, 6)]
    fs[0].requires_grad_()
    errors = [plane_error(t, s).item() for t, s in zip(ft, fs, strict=True)]
    assert errors == single([0.6674858331680298, 1.0115845203399658])
    method = built(FFTAlign(), *(taps(tuple(m.shape[1:]) for m in maps) for maps in (ft, fs)))
    terms = method(reading(ft), reading(fs), LABELS)
    assert set(terms) == {"ce", "fft"}
    assert terms["fft"].item() == single(0.2 * 0.8395351767539978)
    check_gradient(
        terms["fft"] / 0.2,
        fs[0],
        0.02205001077204046,
        0.0023828770499676466,
        -0.0004634088836610317,
    )


@pytest.mark.parametrize(
    ("alpha", "loss", "gradient"),
    [
        (1.0, 1.4668710154116715, (0.06816870696340195, 0.008190955104960778, 0.00219695664551821)),
        (0.0, 2.162028819398185, (0.09491287275264144, 0.01095100342220362, 0.002064834186131816)),
        (2.0, 1.115273426174919, (0.05731388776155313, 0.006859309099097783, 0.002153689807251979)),
    ],
)
def test_focal(alpha: float, loss: float, gradient: tuple[float, float, float]) -> None:
    """EndlessSora/focal-frequency-loss, focal_frequency_loss.py."""
    generator = seeded(102)
    s, t = randn(generator, 4, 5, 8, 6), randn(generator, 4, 5, 8, 6)
    distance = focal_error(t, s.requires_grad_(), alpha)
    assert distance.item() == double(loss)
    check_gradient(distance, s, *gradient)


@pytest.mark.parametrize(
    ("size", "levels", "loss", "norm"),
    [
        ((16, 16), 1, 1.1237791959526116, 0.016137430056836845),
        ((16, 16), 2, 2.260335752764159, 0.03608438960114261),
        ((16, 16), 4, 4.560072199395962, 0.1487797401755422),
        ((7, 10), 1, 1.0175409119740197, 0.028259707295733568),
        ((7, 10), 2, 1.9897793269023671, 0.056717022175985315),
    ],
)
def test_wavelet(size: tuple[int, int], levels: int, loss: float, norm: float) -> None:
    """The code in its authors' README, which calls fbcotter/pytorch_wavelets; odd sizes, too."""
    generator, pairs = seeded(103), {}
    for each in ((16, 16), (7, 10)):
        pairs[each] = randn(generator, 4, 5, *each), randn(generator, 4, 5, *each)
    s, t = pairs[size]
    distance = high_band_error(t, s.requires_grad_(), levels)
    assert distance.item() == single(loss)
    (gradient,) = torch.autograd.grad(distance, s)
    assert gradient.norm().item() == single(norm)


def half_plane(weight: Tensor, passes: Tensor) -> Tensor:
    """What of a filter of the whole plane is left in the real part of its result."""
    kept = weight * passes
    mirrored = kept.flip(-2, -1).roll((1, 1), (-2, -1)).conj()
    return torch.view_as_real((kept + mirrored)[..., : weight.shape[-1] // 2 + 1] / 2)


@pytest.mark.parametrize(
    ("size", "loss", "gradient"),
    [
        (8, 0.6997317944379996, (0.032306426681765546, 0.005294431483278362, -0.00169646332087611)),
        (32, 0.739735906307032, (0.00790004485746812, 0.00043492794386458257, -3.25971504171e-05)),
    ],
)
def test_fam(size: int, loss: float, gradient: tuple[float, float, float]) -> None:
    """cuong-pv/FAM-KD, FAM_KD.py, FAM_Module on its whole plane and feat_loss."""
    generator = seeded(104)
    x, t = randn(generator, 4, 3, size, size), randn(generator, 4, 5, size, size).relu()
    shape = (3, 5, size, size)
    weight = torch.complex(rand(generator, *shape), rand(generator, *shape)) / 15
    local = 0.5 * randn(generator, 5, 3, 1, 1)
    norm = [1 + 0.1 * randn(generator, 5), 0.1 * randn(generator, 5)]
    passes = torch.ones(size, size)
    if size == 32:  # their square around the center of the shifted plane
        passes[15:17, 15:17] = 0
        passes = passes.roll((-16, -16), (0, 1))
    method = built(FAM(), taps([(5, size, size)]), taps([(3, size, size)])).double()
    fill(method, [half_plane(weight, passes), torch.tensor([0.4, 0.7]), local, *norm])
    terms = method(reading([t]), reading([x.requires_grad_()]), LABELS)
    assert set(terms) == {"ce", "fam"}
    assert terms["fam"].item() == double(loss)
    check_gradient(terms["fam"], x, *gradient)


def test_ufds_distances() -> None:
    """lusilili/UFD-KD, mmcls ufd.py, get_spat_loss and get_channel_loss with their transforms."""
    generator = seeded(105)
    t, a, b = (randn(generator, 4, 6, 5, 5).flatten(2) for _ in range(3))
    spatial = decoupled_errors(t, a, constant_over=2, unit_over=1)
    assert [d.item() for d in spatial] == double([68.40398823385065, 50.4543913190368])
    channel = decoupled_errors(t, b, constant_over=1, unit_over=2)
    assert [d.item() for d in channel] == double([12.29790823985661, 11.78666283356029])


def test_ufd() -> None:
    """lusilili/UFD-KD, mmcls ufd.py behind the projectors of Seg/losses/ufd.py."""
    generator = seeded(106)
    t, x = randn(generator, 4, 6, 5, 5), randn(generator, 4, 4, 5, 5)
    method = built(UFD(), taps([(6, 5, 5)]), taps([(4, 5, 5)])).double()
    fill(method, [0.3 * randn(generator, *p.shape) for p in method.parameters()])
    terms = method(reading([t]), reading([x.requires_grad_()]), LABELS)
    assert set(terms) == {"ce", "spatial", "channel"}
    assert terms["spatial"].item() == double(5.388769573691405)
    assert terms["channel"].item() == double(0.11616028288308572)
    gradients = [
        (0.18412584398073042, 0.036086270158280406, -0.0021696815419705224),
        (0.005579536087403875, 0.001270982027842581, 0.00012446639977819687),
    ]
    for name, expected in zip(("spatial", "channel"), gradients, strict=True):
        (gradient,) = torch.autograd.grad(terms[name], x, retain_graph=True)
        assert gradient.norm().item() == single(expected[0])
        assert gradient.flatten()[0].item() == single(expected[2])


@pytest.mark.parametrize(
    ("temperature", "both"), [(4.0, 66.13150449250472), (1.0, 40.53317606778876)]
)
def test_dkd(temperature: float, both: float) -> None:
    """megvii-research/mdistiller, DKD.py."""
    ys, yt = softened_logits()
    terms = DKD(temperature)(reading(logits=yt), reading(logits=ys.requires_grad_()), LABELS)
    assert set(terms) == {"ce", "tckd", "nckd"}
    assert terms["ce"].item() == single(4.66778907793024)
    assert (terms["tckd"] + terms["nckd"]).item() == double(both)
    if temperature == 4:
        assert terms["tckd"].item() == double(2.238948070618173)
        assert terms["nckd"].item() == double(8 * 7.986569552735817)
        check_gradient(
            terms["tckd"] + terms["nckd"],
            ys,
            5.62411192134802,
            2.845445963306846,
            -0.01846101585075132,
        )


def test_reviewkd() -> None:
    """megvii-research/mdistiller, ReviewKD.py, its ABF modules and hcl_loss."""
    generator, tc, sc, hw = seeded(107), [6, 5, 7], [4, 3, 5], [8, 4, 2]
    fs = [randn(generator, 4, c, n, n) for c, n in zip(sc, hw, strict=True)]
    ft = [randn(generator, 4, c, n, n) for c, n in zip(tc, hw, strict=True)]
    sides = (taps((c, n, n) for c, n in zip(channels, hw, strict=True)) for channels in (tc, sc))
    method = built(ReviewKD(weight=1.0), *sides).double()
    fill(method, [0.5 * randn(generator, *p.shape) for p in method.parameters()])
    fs[0].requires_grad_()
    terms = method(reading(ft), reading(fs), LABELS)
    assert set(terms) == {"ce", "review"}
    assert terms["review"].item() == double(4.20071829633187)
    check_gradient(
        terms["review"], fs[0], 0.01110870324474647, 0.0014000592169286358, 0.0003804040575795361
    )


def test_the_reviews_distance_of_small_maps() -> None:
    """megvii-research/mdistiller, ReviewKD.py, hcl_loss: no cells as small as a pixel."""
    generator = seeded(108)
    s, t = randn(generator, 4, 3, 8, 8), randn(generator, 4, 3, 8, 8)
    found = [pyramid_error(t[..., :n, :n], s[..., :n, :n]).item() for n in (8, 3, 1)]
    assert found == double([1.198559038018973, 1.2481823297524721, 2.8833497026040096])


# --- what the formulas say ------------------------------------------------------------------------


@pytest.mark.parametrize("width", [8, 32])
def test_fft_align_is_the_mean_squared_error_but_for_two_columns(width: int) -> None:
    """Parseval's theorem: a wave across x has W/(2W + 4) of its square, one along x twice that."""
    x = 2 * math.pi * torch.arange(width, dtype=torch.float64) / width
    across = torch.cos(3 * x).expand(1, 1, width, width)
    zero = torch.zeros_like(across)
    share = width / (2 * width + 4)
    assert plane_error(zero, across).item() == double(share * 0.5)
    assert plane_error(zero, across.mT).item() == double(2 * share * 0.5)


def test_where_the_student_is_wider_its_channels_are_averaged() -> None:
    generator = seeded(1)
    wide, narrow = randn(generator, 2, 6, 8, 8), randn(generator, 2, 3, 8, 8)
    averaged = wide.unflatten(1, (3, 2)).mean(2)
    assert plane_error(narrow, wide).item() == double(plane_error(narrow, averaged).item())


def test_focal_without_a_difference_is_zero() -> None:
    t = randn(seeded(2), 2, 3, 6, 6)
    s = t.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(focal_error(t, s), s)
    assert gradient.abs().max() == 0


def test_the_haar_transform_keeps_all_power_and_gives_it_back() -> None:
    maps = randn(seeded(3), 2, 3, 8, 6)
    bands = haar(maps)
    assert sum(b.square().sum() for b in bands).item() == double(maps.square().sum().item())
    low, x, y, both = bands
    pixels = low + x + y + both, low - x + y - both, low + x - y - both, low - x - y + both
    rebuilt = functional.pixel_shuffle(torch.stack(pixels, 2).flatten(1, 2) / 2, 2)
    torch.testing.assert_close(rebuilt, maps)
    ramp = torch.arange(8.0).expand(8, 8)
    assert [band.abs().max().item() for band in haar(ramp)[1:]] == [1, 0, 0]


def test_the_low_band_is_not_compared() -> None:
    t = randn(seeded(4), 2, 3, 8, 8)
    blocks = randn(seeded(5), 2, 3, 2, 2).repeat_interleave(4, -1).repeat_interleave(4, -2)
    assert high_band_error(t, t + blocks, levels=2).item() == pytest.approx(0, abs=1e-12)
    assert high_band_error(t, t + blocks, levels=3).item() > 0.1
    # An 8×8 map has three levels.
    s = randn(seeded(6), 2, 3, 8, 8)
    assert high_band_error(t, s, levels=9) == high_band_error(t, s, levels=3)


def test_fam_removes_the_square_of_low_frequencies() -> None:
    method = built(FAM(cutoff=0.25), taps([(1, 16, 16)]), taps([(1, 16, 16)]))
    passes = method.attention[0][0].get_buffer("passes")
    k = torch.fft.fftfreq(16)[:, None].abs() * 16, torch.fft.rfftfreq(16)[None] * 16
    expected = (k[0].round() >= 2) | (k[1].round() >= 2)
    assert torch.equal(passes, expected)


def test_ufd_is_blind_to_the_scale_of_a_part() -> None:
    t, s = randn(seeded(8), 2, 3, 25), randn(seeded(9), 2, 3, 25)
    expected = decoupled_errors(t, s, constant_over=2, unit_over=1)
    mean = s.mean(2, keepdim=True)
    scaled = decoupled_errors(t, 5 * mean + 0.1 * (s - mean), constant_over=2, unit_over=1)
    torch.testing.assert_close(scaled, expected)


def test_dkd_is_kd_in_two_parts() -> None:
    """KD = TCKD + (1 - p) NCKD, image by image."""
    ys, yt = softened_logits()
    for number, label in enumerate(LABELS.tolist()):
        t, s, one = yt[number, None], ys[number, None], LABELS[number, None]
        target, others = decoupled(t, s, one, 4.0)
        p = (t / 4).softmax(1)[0, label]
        whole = softened_divergence(t, s, 4.0).item()
        assert (target + (1 - p) * others).item() == double(whole)


@pytest.mark.parametrize("method", [Focal, Wavelet])
def test_stages_are_summed_behind_connectors(method: type[Focal] | type[Wavelet]) -> None:
    generator, shapes = seeded(10), [(5, 8, 8), (6, 4, 4)]
    fs = [randn(generator, 4, c - 2, n, n) for c, n, _ in shapes]
    ft = [randn(generator, 4, c, n, n) for c, n, _ in shapes]
    loss = built(method(weight=3.0), taps(shapes), taps((c - 2, n, n) for c, n, _ in shapes))
    loss.double().eval()
    fill(loss, [0.5 * randn(generator, *p.shape) for p in loss.parameters()])
    error = focal_error if method is Focal else high_band_error
    followed = [connect(s) for connect, s in zip(loss.connectors, fs, strict=True)]
    expected = 3 * sum(error(t, s).item() for t, s in zip(ft, followed, strict=True))
    name = method.__name__.lower()
    assert loss(reading(ft), reading(fs), LABELS)[name].item() == double(expected)


def test_wavelet_refuses_maps_of_one_pixel() -> None:
    shapes = [(3, 8, 8), (3, 1, 1)]
    with pytest.raises(ValueError, match="at least 2×2 pixels, got 1×1 at stage 2"):
        built(Wavelet(), taps(shapes), taps(shapes))


@pytest.mark.parametrize(
    ("method", "options", "says"),
    [
        (Wavelet, {"levels": 0}, "levels: expected a whole number of at least 1, got 0"),
        (FAM, {"cutoff": 1.5}, r"cutoff: expected a number in \[0, 1\], got 1.5"),
        (DKD, {"temperature": 0.0}, "temperature: expected a number above 0, got 0.0"),
        (Focal, {"alpha": -1.0}, "alpha: expected a number of at least 0, got -1.0"),
    ],
)
def test_options_out_of_range_are_refused(
    method: type[Method], options: dict[str, float], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        method(**options)
