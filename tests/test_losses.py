"""Are these the published losses? Compared with the authors' numbers and with plain formulas."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from spectralkd.losses import METHODS, find_method
from spectralkd.losses.ab import AB, boundary_hinge
from spectralkd.losses.at import AT, attention
from spectralkd.losses.base import (
    Method,
    Phase,
    Reading,
    Taps,
    connector,
    method_options,
)
from spectralkd.losses.fitnets import FitNets
from spectralkd.losses.ft import FT, unit
from spectralkd.losses.jacobian import Jacobian
from spectralkd.losses.kd import KD
from spectralkd.losses.overhaul import Overhaul, margin, partial_l2
from spectralkd.losses.spectral import (
    Spectral,
    cross_power_dissimilarity,
    plain_terms,
    spectral_l1,
)
from spectralkd.losses.spectral_fused import fused_terms
from spectralkd.spectra.power import radial_power
from spectralkd.spectra.rings import Rings

Shape = tuple[int, int, int]

LABELS = torch.tensor([0, 3, 9, 3])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def rand(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def softened_logits() -> tuple[Tensor, Tensor]:
    """Logits of a student and a teacher, (4, 10) each, that go with ``LABELS``."""
    generator = seeded(11)
    return 3 * randn(generator, 4, 10), 3 * randn(generator, 4, 10)


def taps(shapes: Iterable[Shape], norms: Iterable[tuple[Tensor, Tensor]] | None = None) -> Taps:
    """A network of such maps; its batch norms have weight 1 and bias 0 unless given."""
    shapes = tuple(shapes)
    if norms is None:
        norms = [(torch.ones(channels), torch.zeros(channels)) for channels, _, _ in shapes]
    margins = tuple(margin(*norm) for norm in norms)
    return Taps(shapes, margins)


def reading(
    maps: Sequence[Tensor] = (), logits: Tensor | None = None, images: Tensor | None = None
) -> Reading:
    """A batch of four of ten classes, where nothing else is given."""
    return Reading(
        torch.zeros(4, 3, 8, 8) if images is None else images,
        torch.zeros(4, 10) if logits is None else logits,
        tuple(maps),
    )


def built(method: Method, teacher: Taps, student: Taps) -> Any:
    """The method for networks of these maps."""
    method.build(teacher, student)
    return method


def fill(module: nn.Module, values: Iterable[Tensor]) -> None:
    """Set a module's parameters, in their order."""
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), values, strict=True):
            parameter.copy_(value)


def single(value: float) -> Any:
    """Equal but for the rounding of float32, in which the methods compute."""
    return pytest.approx(value, rel=1e-5)


def double(value: float | list[float]) -> Any:
    return pytest.approx(value, rel=1e-9)


def check_gradient(loss: Tensor, x: Tensor, norm: float, largest: float, first: float) -> None:
    (gradient,) = torch.autograd.grad(loss, x)
    assert gradient.norm().item() == single(norm)
    assert gradient.abs().max().item() == single(largest)
    assert gradient.flatten()[0].item() == pytest.approx(first, rel=1e-4, abs=1e-6 * largest)


# --- the authors' numbers -------------------------------------------------------------------------
#
# Values in this part are from the authors' code on the same tensors; each test says whose.


@pytest.mark.parametrize(
    ("temperature", "kd"), [(4, 9.34723885552583), (3, 9.3524679998768), (1, 5.69308085384893)]
)
def test_kd(temperature: float, kd: float) -> None:
    """HobbitLong/RepDistiller, KD.py; szagoruyko/attention-transfer, utils.py, agrees."""
    ys, yt = softened_logits()
    terms = KD(temperature)(reading(logits=yt), reading(logits=ys), LABELS)
    assert set(terms) == {"ce", "kd"}
    assert terms["ce"].item() == single(0.1 * 4.66778907793024)
    assert terms["kd"].item() == single(0.9 * kd)


def test_kd_in_all_and_its_gradient() -> None:
    """HobbitLong/RepDistiller, KD.py, with 0.1 CE + 0.9 KD at T = 4."""
    ys, yt = softened_logits()
    ys.requires_grad_()
    terms = KD()(reading(logits=yt), reading(logits=ys), LABELS)
    assert sum(terms.values()).item() == single(8.87929387776628)
    check_gradient(terms["kd"] / 0.9, ys, 0.728348247770032, 0.337133322326832, -0.0184610158507513)


def fitnets(**options: Any) -> tuple[FitNets, Reading, Reading]:
    """FitNets whose first and last of three stages, which it must not read, are NaN."""
    generator = seeded(21)
    fs, ft = randn(generator, 4, 6, 8, 8), randn(generator, 4, 5, 8, 8)
    conv_w, conv_b = 0.3 * randn(generator, 5, 6, 1, 1), 0.1 * randn(generator, 5)
    bn_w, bn_b = 1 + 0.1 * randn(generator, 5), 0.1 * randn(generator, 5)
    method = built(FitNets(**options), taps([(5, 8, 8)] * 3), taps([(6, 8, 8)] * 3)).double()
    fill(method.regressor, [conv_w, conv_b, bn_w, bn_b])
    ys, yt = softened_logits()
    unread_s, unread_t = torch.full_like(fs, math.nan), torch.full_like(ft, math.nan)
    student = reading([unread_s, fs.requires_grad_(), unread_s], ys)
    return method, reading([unread_t, ft, unread_t], yt), student


@pytest.mark.parametrize(
    ("relu", "hint", "gradient"),
    [
        (True, 1.58512294962371, (0.0457123503511667, 0.00580697186592295, -0.000282953942577556)),
        (False, 2.03081341084339, (0.0577490629442359, 0.00604111219621995, -0.000597631796599802)),
    ],
)
def test_fitnets(relu: bool, hint: float, gradient: tuple[float, float, float]) -> None:
    """HobbitLong/RepDistiller, FitNet.py and the ConvReg of models/util.py."""
    method, teacher, student = fitnets(relu=relu)
    terms = method(teacher, student, LABELS)
    assert set(terms) == {"ce", "hint"}
    assert terms["ce"].item() == single(4.66778907793024)
    assert terms["hint"].item() == single(100 * hint)
    check_gradient(terms["hint"] / 100, student.maps[1], *gradient)


def test_fitnets_in_two_stages() -> None:
    """HobbitLong/RepDistiller, FitNet.py, then KD.py at T = 3."""
    method, teacher, student = fitnets(two_stages=True)
    assert method.phases == (Phase("hint", 30), Phase("train"))
    hint = method(teacher, student, LABELS, "hint")
    assert set(hint) == {"hint"}
    assert hint["hint"].item() == single(1.58512294962371)
    terms = method(teacher, student, LABELS, "train")
    assert set(terms) == {"ce", "kd"}
    assert terms["ce"].item() == single(0.1 * 4.66778907793024)
    assert terms["kd"].item() == single(0.9 * 9.3524679998768)


def test_at() -> None:
    """szagoruyko/attention-transfer, utils.py; HobbitLong/RepDistiller, AT.py, agrees."""
    generator = seeded(31)
    fs1, ft1 = randn(generator, 4, 6, 8, 8), randn(generator, 4, 5, 8, 8)
    fs2, ft2 = randn(generator, 4, 6, 4, 4), randn(generator, 4, 5, 4, 4)
    fs3, ft3 = randn(generator, 4, 6, 2, 2), randn(generator, 4, 5, 2, 2)
    fs1.requires_grad_()
    assert attention(fs1)[0, 0].item() == single(0.132354096937109)

    def total(teacher: list[Tensor], student: list[Tensor], **options: Any) -> Tensor:
        shapes = ([tuple(maps.shape[1:]) for maps in side] for side in (teacher, student))
        method = built(AT(**options), *map(taps, shapes))
        terms = method(reading(teacher), reading(student), LABELS)
        assert set(terms) == {"ce", "at"}
        return terms["at"]

    assert total([ft1, ft2, ft3], [fs1, fs2, fs3]).item() == single(130.90558884791)
    assert total([ft2], [fs2], weight=1.0).item() == single(0.02660488920254)
    assert total([ft3], [fs3], weight=1.0).item() == single(0.0962304387605311)
    first = total([ft1], [fs1], weight=1.0)
    assert first.item() == single(0.00807026088483867)
    check_gradient(first, fs1, 0.000872723544135715, 0.00018077708361444, 1.15860157448398e-06)


def test_ft() -> None:
    """Jangho-Kim/Factor-Transfer-pytorch, FeatureProjection.py, utils.py, train_student.py."""
    generator = seeded(41)
    ft, fs = randn(generator, 4, 6, 4, 4), randn(generator, 4, 5, 4, 4)  # before their ReLU

    def layers(*shapes: tuple[int, ...]) -> list[Tensor]:
        return [0.2 * randn(generator, *shape) for shape in shapes]

    paraphraser = layers((6, 6, 3, 3), (6,), (3, 6, 3, 3), (3,), (3, 3, 3, 3), (3,))
    decoder = layers((3, 3, 3, 3), (3,), (3, 6, 3, 3), (6,), (6, 6, 3, 3), (6,))
    translator = layers((5, 5, 3, 3), (5,), (3, 5, 3, 3), (3,), (3, 3, 3, 3), (3,))
    method = built(FT(), taps([(6, 8, 8), (6, 4, 4)]), taps([(5, 8, 8), (5, 4, 4)]))
    fill(method.paraphraser, paraphraser)
    fill(method.decoder, decoder)
    fill(method.translator, translator)
    unread = torch.full((4, 1, 1, 1), math.nan)
    teacher, student = reading([unread, ft.float()]), reading([unread, fs.float()])

    assert method.paraphraser(teacher.maps[1].relu()).sum().item() == single(21.2112114894322)
    assert method.translator(student.maps[1].relu()).sum().item() == single(28.6262624127192)
    stage = method(teacher, student, LABELS, "paraphraser")
    assert set(stage) == {"reconstruction"}
    assert stage["reconstruction"].item() == single(0.45480820482787)
    terms = method(teacher, student, LABELS)
    assert set(terms) == {"ce", "ft"}
    assert terms["ft"].item() == single(55.0796700128081)


def test_fts_distance_of_plain_factors() -> None:
    """Jangho-Kim/Factor-Transfer-pytorch, utils.py."""
    generator = seeded(42)
    a, b = randn(generator, 4, 3, 4, 4), randn(generator, 4, 3, 4, 4)
    distance = (unit(a) - unit(b)).abs().mean()
    assert distance.item() == single(0.170312799618597)


def boundary_maps() -> tuple[list[Tensor], list[Tensor]]:
    generator, shapes = seeded(51), ((6, 8), (5, 4), (7, 2))
    student = [randn(generator, 4, c, h, h) for c, h in shapes]
    return student, [randn(generator, 4, c, h, h) for c, h in shapes]


def test_abs_hinge() -> None:
    """bhheo/AB_distillation, cifar10_AB_distillation.py and distillation_module.py."""
    fs, ft = boundary_maps()
    sums = [boundary_hinge(t, s).item() for t, s in zip(ft, fs, strict=True)]
    assert sums == double([2964.14201780217, 603.671502823736, 175.594406164316])
    assert boundary_hinge(ft[0], fs[0], margin=2.0).item() == double(7739.19380605877)
    s = fs[0].requires_grad_()
    check_gradient(
        boundary_hinge(ft[0], s), s, 108.887869256445, 8.64897344696671, -3.49912860351801
    )


def test_abs_hinge_at_its_edges() -> None:
    """bhheo/AB_distillation, cifar10_AB_distillation.py, and by hand: 0+4+1+4+0+0+0+2.25."""
    s = torch.tensor([-1.0, -1.0, 0.0, 1.0, 1.0, -2.0, 2.0, 0.5])
    t = torch.tensor([0.0, 1.0, 0.0, 0.0, 1.0, -1.0, 1.0, -3.0])
    assert boundary_hinge(t, s).item() == 11.25


def test_ab() -> None:
    """bhheo/AB_distillation, cifar10_AB_distillation.py; RepDistiller's AB.py agrees."""
    fs, ft = boundary_maps()
    shapes = [(6, 8, 8), (5, 4, 4), (7, 2, 2)]
    method = built(AB(), taps(shapes), taps(shapes))
    # Equal channels: no connectors.
    assert list(method.parameters()) == []
    stage = method(reading(ft), reading(fs), LABELS, "boundaries")
    assert set(stage) == {"ab"}
    assert stage["ab"].item() == single(0.913849246520044)
    ys, yt = softened_logits()
    terms = method(reading(logits=yt), reading(logits=ys), LABELS)
    assert terms["kd"].item() == single(1.03916311109742)
    assert sum(terms.values()).item() == single(1.03916311109742)


def test_ab_through_its_connectors() -> None:
    """bhheo/AB_distillation, distillation_module.py, Active_Soft_WRN_norelu."""
    generator = seeded(52)
    connectors = [
        [
            0.5 * randn(generator, t, s, 1, 1),
            0.5 * randn(generator, t),
            0.5 * randn(generator, t),
        ]
        for s, t in ((2, 4), (4, 8), (8, 16))
    ]
    xs = [randn(generator, 4, c, n, n) for c, n in ((2, 8), (4, 4), (8, 2))]
    xt = [randn(generator, 4, c, n, n) for c, n in ((4, 8), (8, 4), (16, 2))]
    shapes = [(4, 8, 8), (8, 4, 4), (16, 2, 2)], [(2, 8, 8), (4, 4, 4), (8, 2, 2)]
    method = built(AB(), *map(taps, shapes)).double()
    for connect, values in zip(method.connectors, connectors, strict=True):
        fill(connect, values)
    terms = method(reading(xt), reading(xs), LABELS, "boundaries")
    assert terms["ab"].item() == single(0.846791366208724)


def test_overhauls_partial_l2() -> None:
    """clovaai/overhaul-distillation, distiller.py, distillation_loss."""
    generator = seeded(61)
    src, tgt = randn(generator, 4, 6, 8, 8), randn(generator, 4, 6, 8, 8)
    reduced = torch.maximum(tgt, -rand(generator, 1, 6, 1, 1))
    src.requires_grad_()
    distance = partial_l2(reduced, src)
    assert distance.item() == double(2520.27994408657)
    check_gradient(distance, src, 100.404779648911, 9.4710823682971, -1.04361637536898)


def test_overhauls_partial_l2_at_its_edges() -> None:
    """clovaai/overhaul-distillation, distiller.py, and by hand: .09 + .04 + .04."""
    es = torch.tensor([-1.0, -0.2, 0.1, -0.5, -0.6, -2.0, 0.3, 0.0]).double()
    et = torch.tensor([-2.0, -2.0, -0.1, -0.5, -0.3, -0.3, 0.5, 0.0]).double()
    assert partial_l2(et.clamp_min(-0.5), es).item() == single(0.17)


def test_partial_l2_has_gradients_on_both_sides() -> None:
    generator = seeded(7)
    pair = tuple(randn(generator, 3, 2, 4, 4).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(partial_l2, pair)


OVERHAUL_MARGINS = (
    "-0.584936328251 -1.4002442396 -0.762325474529 -0.602968253877 -0.46513686522 -1.40048046124",
    "-0.740059312077 -0.729309185975 -0.52516236831 -0.883328013411 -1.43708263201",
    "-0.863476712024 -0.367955045826 -0.941983407966 -0.667146173607 -1.52081958755 "
    "-0.662091202247 -0.737162245518",
)


def overhaul(**options: Any) -> tuple[Overhaul, Reading, Reading]:
    generator, tc, sc, hw = seeded(62), [6, 5, 7], [4, 3, 5], [8, 4, 2]
    tw = [0.5 + rand(generator, c) for c in tc]
    tb = [0.5 * randn(generator, c) for c in tc]
    sfe = [randn(generator, 4, c, n, n) for c, n in zip(sc, hw, strict=True)]
    tfe = [randn(generator, 4, c, n, n) for c, n in zip(tc, hw, strict=True)]
    cw = [0.4 * randn(generator, t, s, 1, 1) for t, s in zip(tc, sc, strict=True)]
    bw = [1 + 0.1 * randn(generator, t) for t in tc]
    bb = [0.1 * randn(generator, t) for t in tc]
    sides = ([(c, n, n) for c, n in zip(channels, hw, strict=True)] for channels in (tc, sc))
    shapes_t, shapes_s = sides
    norms = zip(tw, tb, strict=True)
    method = built(Overhaul(**options), taps(shapes_t, norms), taps(shapes_s)).double()
    for connect, values in zip(method.connectors, zip(cw, bw, bb, strict=True), strict=True):
        fill(connect, values)
    return method, reading(tfe), reading(sfe)


def test_overhaul() -> None:
    """clovaai/overhaul-distillation, distiller.py, Distiller: / batch / 1000 and / 10000."""
    method, teacher, student = overhaul()
    for number, expected in enumerate(OVERHAUL_MARGINS):
        margins = method.get_buffer(f"margin{number}").flatten().tolist()
        assert margins == double([float(value) for value in expected.split()])
    stages = [partial_l2(*method.reduced(n, teacher, student)).item() for n in range(3)]
    assert stages == single([2300.69424729643, 464.677485061426, 184.068713844305])
    terms = method(teacher, student, LABELS)
    assert set(terms) == {"ce", "overhaul"}
    assert terms["overhaul"].item() == single(0.247895254549781)
    method, teacher, student = overhaul(alpha=1e-4)
    assert method(teacher, student, LABELS)["overhaul"].item() == single(0.0247895254549781)


def test_overhaul_with_running_statistics() -> None:
    """clovaai/overhaul-distillation, distiller.py, connectors in eval mode with fresh ones."""
    method, teacher, student = overhaul()
    terms = method.eval()(teacher, student, LABELS)
    assert terms["overhaul"].item() == single(809.377639269085 / 4 / 1000)


@pytest.mark.parametrize(
    ("weight", "bias", "expected"),
    [
        (1, 0, -0.797884560802865),
        (1, 1, -0.525135276160981),
        (1, -1, -1.28759997093918),
        (0.5, 0.3, -0.307512880118772),
        (-0.8, 0.3, -0.540753692239341),
        (2, -5, -5.03527565097383),
        (0.25, -0.1, -0.240470675949241),
        (1, 3, -0.28309865493044),
        (1, 3.09, -0.276873520885054),
        (1, 3.0902, -0.276859961106672),
        (1, 3.0903, -3),
        (1, 3.1, -3),
        (0.1, 1, -0.3),
        (-0.1, 1, -0.3),
        (1, 20, -3),
        (1, -20, -20),
        (0.001, 0, -0.000797884560802865),
        (0.001, 0.01, -0.003),
        (1e-8, 1, -3e-8),
        (1e-8, -1, -1),
    ],
)
def test_margins(weight: float, bias: float, expected: float) -> None:
    """clovaai/overhaul-distillation, distiller.py, get_margin_from_BN."""
    norm = torch.tensor([weight], dtype=torch.float64), torch.tensor([bias], dtype=torch.float64)
    assert margin(*norm).item() == double(expected)


@pytest.mark.parametrize(("bias", "limit"), [(2.0, 0.0), (0.0, 0.0), (-0.7, -0.7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_margin_of_weight_zero_is_the_limit(
    bias: float, limit: float, dtype: torch.dtype
) -> None:
    """There the authors' code divides by zero."""
    value = margin(torch.zeros(1, dtype=dtype), torch.tensor([bias], dtype=dtype)).item()
    assert value == pytest.approx(limit, abs=1e-7)
    assert value < 0


@pytest.mark.parametrize(
    ("options", "jacobian"),
    [
        ({}, 20 * 0.0372155455646719),
        ({"weight": 48.0}, 1.78634618710425),
        ({"weight": 48.0, "of": "teacher"}, 1.92357785495198),
    ],
)
def test_jacobian(options: dict[str, Any], jacobian: float) -> None:
    """AberHu/Knowledge-Distillation-Zoo, sobolev.py; the teacher's class by its formula."""
    generator = seeded(71)
    x = randn(generator, 4, 3, 4, 4)
    w1s, w2s = 0.3 * randn(generator, 48, 16), 0.3 * randn(generator, 16, 10)
    w1t, w2t = 0.3 * randn(generator, 48, 24), 0.3 * randn(generator, 24, 10)
    w1s.requires_grad_()
    w1t.requires_grad_()

    def read(w1: Tensor, w2: Tensor) -> Reading:
        images = x.clone().requires_grad_()
        return reading((), torch.tanh(images.reshape(4, -1) @ w1) @ w2, images)

    teacher, student = read(w1t, w2t), read(w1s, w2s)
    terms = Jacobian(**options)(teacher, student, LABELS)
    assert set(terms) == {"ce", "kd", "jacobian"}
    assert terms["jacobian"].item() == single(jacobian)
    if not options:
        check_gradient(
            terms["jacobian"] / 20,
            w1s,
            0.0174842173291702,
            0.00253471126432162,
            -3.32851375304818e-05,
        )
    for name, expected in KD()(teacher, student, LABELS).items():
        assert terms[name].item() == single(expected.item())


# --- the spectral terms against full planes in float64 --------------------------------------------

SIZES = [(8, 8), (7, 7), (32, 32), (6, 9)]
TEACHER = [(6, 8, 8), (3, 7, 7), (4, 32, 32), (5, 6, 9)]
STUDENT = [(4, 8, 8), (3, 7, 7), (2, 32, 32), (7, 6, 9)]


def plain_rings(height: int, width: int, complete: bool) -> list[Tensor]:
    """A mask of the full plane for each ring but DC."""
    k = torch.hypot(
        torch.fft.fftfreq(height, dtype=torch.float64)[:, None],
        torch.fft.fftfreq(width, dtype=torch.float64)[None, :],
    )
    ring = (min(height, width) * k + 0.5).floor()
    last = (min(height, width) - 1) // 2 if complete else int(ring.max())
    return [ring == number for number in range(1, last + 1)]


def plane_l1(teacher: Tensor, student: Tensor) -> Tensor:
    return (torch.fft.fft2(teacher - student, norm="ortho")).abs().sum()


def plane_cps(teacher: Tensor, student: Tensor, complete: bool = True, eps: float = 1e-2) -> Tensor:
    ft, fs = (torch.fft.fft2(maps, norm="ortho") for maps in (teacher, student))
    rings = []
    for mask in plain_rings(*student.shape[-2:], complete):
        t, s = ft[..., mask], fs[..., mask]
        powers = [f.abs().square().mean(-1) for f in (t, s)]
        ptt, pss = (torch.maximum(p, eps * p.mean(1, keepdim=True)) for p in powers)
        rings.append(1 - (t * s.conj()).mean(-1).real / (ptt * pss).sqrt())
    return torch.stack(rings).mean()


def plane_terms(
    method: Spectral, teacher: Reading, student: Reading, options: dict[str, Any]
) -> dict[str, Tensor]:
    """Eq. 10 as it is written, with the method's connectors and margins."""
    chosen = {**method_options(Spectral), **options}
    weights = {"overhaul": [1 / 8, 1 / 4, 1 / 2, 1], "equal": [1, 1, 1, 1]}
    batch = len(student.logits)
    terms = dict.fromkeys(("overhaul", "l1", "cps"), torch.zeros((), dtype=torch.float64))
    for number, connect in enumerate(copy.deepcopy(method.connectors).double()):
        s, t = connect(student.maps[number].double()), teacher.maps[number].double()
        reduced = torch.maximum(t, method.get_buffer(f"margin{number}").double())
        away = ((s - reduced) ** 2)[(s > reduced) | (reduced > 0)].sum()
        terms["overhaul"] = terms["overhaul"] + weights["overhaul"][number] * away / batch
        if chosen["teacher_map"] == "margin":
            t = reduced
        elements = {"sum": batch, "mean": t.numel()}[chosen["l1_reduction"]]
        l1 = plane_l1(t, s) / elements
        complete = chosen["cps_rings"] == "complete"
        cps = plane_cps(t, s, complete, chosen["eps"])
        if chosen["cps_reduction"] == "sum":
            cps = cps * batch * len(plain_rings(*s.shape[-2:], complete))
        terms["l1"] = terms["l1"] + weights[chosen["l1_stages"]][number] * l1
        terms["cps"] = terms["cps"] + weights[chosen["cps_stages"]][number] * cps
    factors = {"overhaul": "alpha", "l1": "beta", "cps": "gamma"}
    terms = {name: chosen[factors[name]] * term for name, term in terms.items()}
    return {"ce": functional.cross_entropy(student.logits.double(), LABELS), **terms}


def spectral(
    shapes_t: Sequence[Shape] = TEACHER, shapes_s: Sequence[Shape] = STUDENT, **options: Any
) -> tuple[Spectral, Reading, Reading]:
    """The method with random connectors and margins, and maps of four images with gradients."""
    generator = seeded(81)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    norms = [(1 + 0.3 * normal(c), 0.5 * normal(c)) for c, _, _ in shapes_t]
    method = built(Spectral(**options), taps(shapes_t, norms), taps(shapes_s))
    for connect in method.connectors:
        fill(connect, [0.5 * normal(*p.shape) for p in connect.parameters()])
    student = [normal(4, *shape) for shape in shapes_s]
    with torch.no_grad():
        followed = [c(s) for c, s in zip(copy.deepcopy(method.connectors), student, strict=True)]
    # So that they correlate a little, and differently over the stages.
    teacher = [(n + 1) / 4 * maps + normal(*maps.shape) for n, maps in enumerate(followed)]
    logits = normal(4, 10)
    return method, reading(teacher), reading([s.requires_grad_() for s in student], logits)


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_spectral_distances_agree_with_full_planes(height: int, width: int, complete: bool) -> None:
    rings = Rings(height, width, complete=complete)
    t, s = torch.randn(2, 3, 5, height, width, dtype=torch.float64, generator=seeded(1))
    ft, fs, moved = (transform(rings, maps) for maps in (t, s, s + 3))
    assert spectral_l1(ft, fs, rings).item() == double(plane_l1(t, s).item())
    cps = cross_power_dissimilarity(ft, fs, rings).item()
    assert cps == double(plane_cps(t, s, complete).item())
    # A map's mean, DC, counts in the one but not in the other.
    assert spectral_l1(ft, moved, rings).item() == double(plane_l1(t, s + 3).item())
    assert cross_power_dissimilarity(ft, moved, rings).item() == double(cps)


def transform(rings: Rings, maps: Tensor) -> Tensor:
    return rings.transform(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])


@pytest.mark.parametrize("eps", [0.0, 1e-2, 3.0])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_fused_terms_are_the_plain_ones(eps: float, layout: torch.memory_format) -> None:
    """Values and gradients, where some, none or most ring powers are below the floor."""
    rings = Rings(8, 9)
    t, s = torch.randn(2, 300, 4, 8, 9, dtype=torch.float64, generator=seeded(2))
    s[:, 1] *= 0.01
    t, s = (maps.contiguous(memory_format=layout) for maps in (t, s))
    s.requires_grad_()
    results = []
    for terms in (plain_terms(t, s, rings, eps), fused_terms(t, s, rings, eps)):
        gradients = [torch.autograd.grad(term, s, retain_graph=True)[0] for term in terms]
        both = torch.autograd.grad(0.3 * terms[0] + 7 * terms[1], s)[0]
        results.append((terms, gradients, both))
    torch.testing.assert_close(results[1], results[0], rtol=1e-9, atol=1e-12)
    assert results[1][2].stride() == s.stride()


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({}, ""),
        ({"l1_reduction": "mean"}, "l1"),
        ({"l1_stages": "equal"}, "l1"),
        ({"cps_stages": "overhaul"}, "cps"),
        ({"cps_rings": "all"}, "cps"),
        ({"cps_reduction": "sum"}, "cps"),
        ({"cps_reduction": "sum", "cps_rings": "all"}, "cps"),
        ({"teacher_map": "identity"}, "l1 cps"),
        ({"eps": 1.0}, "cps"),
        ({"alpha": 0.3}, "overhaul"),
        ({"beta": 0.3}, "l1"),
        ({"gamma": 0.3}, "cps"),
        ({"l1_reduction": "mean", "l1_stages": "equal", "teacher_map": "identity"}, "l1 cps"),
        ({"cps_stages": "overhaul", "cps_rings": "all", "l1_reduction": "mean"}, "l1 cps"),
    ],
)
def test_spectral_agrees_with_full_planes(options: dict[str, Any], changes: str) -> None:
    method, teacher, student = spectral(**options)
    terms = method(teacher, student, LABELS)
    expected = plane_terms(method, teacher, student, options)
    assert set(terms) == set(expected)
    default = spectral()[0](teacher, student, LABELS)
    for name, term in terms.items():
        assert term.dtype == torch.float32
        assert term.item() == single(expected[name].item())
        changed = term.item() != pytest.approx(default[name].item(), rel=1e-3)
        assert changed == (name in changes.split())


@pytest.mark.parametrize("off", ["", "alpha", "beta", "gamma", "alpha beta", "alpha gamma"])
def test_a_weight_of_zero_switches_its_term_off(off: str) -> None:
    method, teacher, student = spectral(**dict.fromkeys(off.split(), 0.0))
    everything = spectral()[0](teacher, student, LABELS)
    terms = method(teacher, student, LABELS)
    names = {"alpha": "overhaul", "beta": "l1", "gamma": "cps"}
    assert set(everything) == {"ce", *names.values()}
    assert set(terms) == set(everything) - {names[option] for option in off.split()}
    for name, term in terms.items():
        torch.testing.assert_close(term, everything[name], rtol=0, atol=0)


@pytest.mark.parametrize(("off", "name"), [("gamma", "l1"), ("beta", "cps")])
def test_each_spectral_term_alone_teaches_the_student(off: str, name: str) -> None:
    method, teacher, student = spectral(**{"alpha": 0.0, off: 0.0})
    terms = method(teacher, student, LABELS)
    assert set(terms) == {"ce", name}
    terms[name].backward()
    for maps in (*student.maps, *(connect[0].weight for connect in method.connectors)):
        assert maps.grad is not None
        assert maps.grad.flatten(1).abs().sum(1).min() > 0


def test_equal_maps_are_at_no_distance() -> None:
    method, *_ = spectral()
    for stage, shape in enumerate(TEACHER):
        t, s = torch.randn(2, 2, *shape, generator=seeded(3))
        apart, together = (method.stage_terms(stage, t, x) for x in (s, t.clone()))
        assert together[0] < 1e-6 * apart[0]
        assert together[1].abs() < 1e-6
        assert apart[1] > 0.5


def cps(teacher: Tensor, student: Tensor) -> float:
    """Of maps (M, H, W) of one image."""
    rings = Rings(*student.shape[-2:])
    transforms = (rings.transform(maps)[None] for maps in (teacher, student))
    return cross_power_dissimilarity(*transforms, rings, 0.0).item()


@given(
    size=st.sampled_from(SIZES),
    scale=st.floats(0.1, 30),
    share=st.floats(-1, 1),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60)
def test_cps_is_of_a_correlation(
    size: tuple[int, int], scale: float, share: float, seed: int
) -> None:
    generator = seeded(seed)
    t, noise = randn(generator, 3, *size), randn(generator, 3, *size)
    s = share * t + (1 - abs(share)) * noise
    value = cps(t, s)
    assert 0 - 1e-12 <= value <= 2 + 1e-12
    assert cps(s, t) == pytest.approx(value, rel=1e-9, abs=1e-12)
    # A channel's positive scale, in either network, is nothing to it; a negative one mirrors it.
    for factors in ([scale, 1, 1], [1, scale, 2], [scale, scale, 1 / scale]):
        factor = torch.tensor(factors, dtype=torch.float64).view(3, 1, 1)
        assert cps(t, 3 * t * factor) == pytest.approx(0, abs=1e-9)
        assert cps(factor * t, s) == pytest.approx(value, rel=1e-9, abs=1e-9)
    assert cps(t, -s) == pytest.approx(2 - value, abs=1e-9)
    assert cps(t, -t) == pytest.approx(2)


@pytest.mark.parametrize("size", SIZES)
def test_a_shift_shows_though_the_power_spectrum_is_the_same(size: tuple[int, int]) -> None:
    t, other = torch.randn(2, 2, 4, *size, dtype=torch.float64, generator=seeded(4))
    shifted = t.roll((2, 1), (-2, -1))
    torch.testing.assert_close(radial_power(shifted), radial_power(t))
    rings = Rings(*size)
    l1, dissimilarity = plain_terms(t, shifted, rings, 1e-2)
    assert l1 > 0.5 * plain_terms(t, other, rings, 1e-2)[0]
    assert dissimilarity > 0.3


# --- the spectral terms as something to train with ------------------------------------------------


@pytest.mark.parametrize("amplitude", [1e-7, 1e-3, 1.0, 1e10])
def test_cps_does_not_depend_on_amplitude(amplitude: float) -> None:
    rings = Rings(8, 8).float()
    t, s = torch.randn(2, 4, 3, 8, 8, generator=seeded(5))
    expected = plain_terms(t, s, rings, 1e-2)[1].item()
    for terms in (plain_terms, fused_terms):
        t_scaled, s_scaled = amplitude * t, (amplitude * s).requires_grad_()
        value = terms(t_scaled, s_scaled, rings, 1e-2)[1]
        assert value.item() == pytest.approx(expected, rel=1e-5)
        (gradient,) = torch.autograd.grad(value, s_scaled)
        assert torch.isfinite(gradient).all()
        assert gradient.abs().max() > 0


@pytest.mark.parametrize("dead", ["student", "teacher", "both"])
@pytest.mark.parametrize("channels", [slice(0, 1), slice(None)])
def test_a_dead_channel_has_a_finite_gradient(dead: str, channels: slice) -> None:
    rings = Rings(8, 8).float()
    t, s = torch.randn(2, 2, 3, 8, 8, generator=seeded(6))
    if dead in ("student", "both"):
        s[:, channels] = 0
    if dead in ("teacher", "both"):
        t[:, channels] = 0
    s.requires_grad_()
    l1, dissimilarity = fused_terms(t, s, rings, 1e-2)
    (l1 + dissimilarity).backward()
    assert s.grad is not None
    assert torch.isfinite(s.grad).all()
    # Dead and alive are uncorrelated, in each of the channels.
    alone = fused_terms(t[:, channels], s[:, channels], rings, 1e-2)
    assert alone[1].item() == pytest.approx(1)
    # What is dead in the student alone comes alive.
    assert (s.grad[:, channels].abs().max() > 0) == (dead != "both")


def test_a_dead_channels_gradient_is_like_a_live_ones() -> None:
    rings = Rings(8, 8).float()
    t, s = torch.randn(2, 20, 8, 8, 8, generator=seeded(7))
    s[:, 0] = 0
    s.requires_grad_()
    (gradient,) = torch.autograd.grad(fused_terms(t, s, rings, 1e-2)[1], s)
    norms = gradient.flatten(2).norm(dim=2).mean(0)
    assert norms[0] < 12 * norms[1:].mean()  # 1/sqrt(eps) times, and not 1,300


@pytest.mark.parametrize("dead", ["student", "teacher", "both"])
def test_a_dead_network_has_finite_gradients(dead: str) -> None:
    method, teacher, student = spectral()
    if dead in ("student", "both"):
        student = student._replace(
            maps=[torch.zeros_like(s).requires_grad_() for s in student.maps]
        )
    if dead in ("teacher", "both"):
        teacher = teacher._replace(maps=[torch.zeros_like(t) for t in teacher.maps])
    terms = method(teacher, student, LABELS)
    sum(terms.values()).backward()
    for x in (*terms.values(), *(x.grad for x in (*student.maps, *method.parameters()))):
        assert torch.isfinite(x).all()


def test_bfloat16_maps_are_transformed_in_float32() -> None:
    method, teacher, student = spectral()
    half_t, half_s = (
        side._replace(maps=[maps.detach().bfloat16() for maps in side.maps])
        for side in (teacher, student)
    )
    whole_t, whole_s = (
        side._replace(maps=[maps.float() for maps in side.maps]) for side in (half_t, half_s)
    )
    expected = method(whole_t, whole_s, LABELS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = method(half_t, half_s, LABELS)
        t, s = torch.randn(2, 2, *TEACHER[0], generator=seeded(8))
        inside = method.stage_terms(0, t, s)
    for name, term in terms.items():
        assert term.dtype == torch.float32
        # The connectors are in bfloat16.
        assert term.item() == pytest.approx(expected[name].item(), rel=0.01)
    for term, outside in zip(inside, method.stage_terms(0, t, s), strict=True):
        torch.testing.assert_close(term, outside, rtol=1e-6, atol=0)


@pytest.mark.parametrize("size", [(5, 5), (4, 6)])
@pytest.mark.parametrize("complete", [True, False])
def test_spectral_gradients(size: tuple[int, int], complete: bool) -> None:
    rings, generator = Rings(*size, complete=complete), seeded(5)
    t, s = (randn(generator, 2, 2, *size).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(lambda t, s: plain_terms(t, s, rings, 1e-6), (t, s))
    t.requires_grad_(False)
    assert torch.autograd.gradcheck(lambda s: fused_terms(t, s, rings, 1e-6), (s,))


def test_a_teacher_that_learns_gets_its_gradient() -> None:
    method, teacher, student = spectral()
    maps = [t.requires_grad_() for t in teacher.maps]
    method(teacher, student, LABELS)["cps"].backward()
    assert all(t.grad is not None and t.grad.abs().max() > 0 for t in maps)


def test_spectral_compiles_as_one_graph() -> None:
    method, teacher, student = spectral()
    inputs = [*student.maps, *method.parameters()]

    def terms_and_gradients(call: nn.Module) -> tuple[dict[str, Tensor], Sequence[Tensor]]:
        terms = call(teacher, student, LABELS)
        return terms, torch.autograd.grad(sum(terms.values()), inputs)

    expected = terms_and_gradients(method)
    try:
        compiled = terms_and_gradients(
            torch.compile(method, fullgraph=True, backend="aot_eager", dynamic=False)
        )
    finally:
        torch._dynamo.reset()
    torch.testing.assert_close(compiled, expected, rtol=1e-4, atol=1e-6)


def test_connectors_begin_as_the_authors_do() -> None:
    """clovaai/overhaul-distillation, distiller.py: N(0, sqrt(2 / channels out))."""
    convolution, norm = connector(100, 400)
    assert convolution.weight.std().item() == pytest.approx((2 / 400) ** 0.5, rel=0.02)
    assert abs(convolution.weight.mean().item()) < 1e-3
    assert norm.weight.unique().tolist() == [1]
    assert norm.bias.unique().tolist() == [0]


# --- what is refused ------------------------------------------------------------------------------

# Those that read maps, and so need them to be of equal size.
OF_MAPS = [name for name, method in METHODS.items() if method.reads is not None]


def test_options_are_known() -> None:
    assert method_options(find_method("baseline")) == {}
    assert method_options(KD) == {"temperature": 4.0, "weight": 0.9}
    assert method_options(Overhaul) == {"alpha": 1e-3}
    assert [method_options(Spectral)[n] for n in ("alpha", "beta", "gamma")] == [1e-4, 1e-4, 1e-2]


@pytest.mark.parametrize(
    ("option", "allowed"),
    [
        ("l1_reduction", "'sum', 'mean'"),
        ("cps_reduction", "'mean', 'sum'"),
        ("l1_stages", "'overhaul', 'equal'"),
        ("cps_stages", "'overhaul', 'equal'"),
        ("cps_rings", "'complete', 'all'"),
        ("teacher_map", "'margin', 'identity'"),
    ],
)
def test_unknown_choices_of_spectral_are_refused(option: str, allowed: str) -> None:
    with pytest.raises(ValueError, match=f"{option}: expected one of {allowed}, got 'other'"):
        Spectral(**{option: "other"})


def test_spectral_refuses_maps_without_rings() -> None:
    shapes = [(3, 8, 8), (3, 3, 8)]
    with pytest.raises(ValueError, match="at least 4×4 pixels, got 3×8 at stage 2"):
        built(Spectral(), taps(shapes), taps(shapes))


def test_fitnets_refuses_a_stage_there_is_not() -> None:
    networks = taps([(4, 8, 8), (4, 4, 4)])
    with pytest.raises(ValueError, match="stage: expected 0 to 1, got 2"):
        built(FitNets(stage=2), networks, networks)
