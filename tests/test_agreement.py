"""Does the agreement of two networks say where, in frequency, a student falls short?"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from plane import noise
from torch import Tensor, nn
from torch.nn import functional

from spectralkd.analysis.agreement import StageAgreement, stage_agreement
from spectralkd.models import create_model
from spectralkd.spectra.rings import ring_frequencies


class Maps(nn.Module):
    """A network whose only layer puts out fixed functions of its input."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.layer = _Call(function)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class _Call(nn.Module):
    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def agree(teacher: nn.Module, student: nn.Module, *batches: Tensor) -> StageAgreement:
    (stage,) = stage_agreement(teacher, student, batches, layers=[("layer", "layer")]).values()
    return stage


def mixed(channels: int, seed: int) -> Maps:
    matrix = noise(channels, 3, seed=seed)
    return Maps(lambda x: torch.einsum("ck,nkhw->nchw", matrix, x))


def test_a_network_agrees_with_itself() -> None:
    model = create_model("wrn10_1", 10)
    result = stage_agreement(model, model, [noise(8, 3, 32, 32)], statistics="batch")
    assert list(result) == ["group1", "group2", "group3"]
    for stage in result.values():
        assert stage.correlation[1:].min() > 0.999
        assert stage.ceiling.min() > 0.999


def test_channels_may_be_mixed_and_of_another_number() -> None:
    stage = agree(mixed(5, 1), mixed(4, 2), noise(20, 3, 16, 16))
    assert stage.correlation.min() > 1 - 1e-5


def test_what_a_student_blurs_away_it_lacks_at_those_frequencies() -> None:
    def low(x: Tensor) -> Tensor:
        modes = torch.fft.fft2(x)
        k = torch.hypot(*torch.meshgrid(*[torch.fft.fftfreq(16)] * 2, indexing="ij"))
        kept = torch.where(k < 0.25, modes, torch.fft.fft2(noise(*x.shape, seed=9)))
        return torch.fft.ifft2(kept).real

    stage = agree(mixed(3, 1), Maps(low), noise(200, 3, 16, 16))
    k = ring_frequencies(16, 16)
    assert stage.ceiling[k < 0.2].min() > 0.99
    assert stage.ceiling[k > 0.3].max() < 0.2
    assert stage.correlation[k > 0.3].abs().max() < 0.2


def test_independent_noise_of_known_strength() -> None:
    teacher = Maps(lambda x: x[:, :1])
    student = Maps(lambda x: x[:, :1] + 2 * x[:, 1:2])
    stage = agree(teacher, student, noise(400, 3, 16, 16))
    expected = torch.full((8,), 1 / math.sqrt(5), dtype=torch.float64)
    torch.testing.assert_close(stage.correlation[1:], expected[1:], atol=0.03, rtol=0)
    torch.testing.assert_close(
        stage.power[1:], torch.ones(7, dtype=torch.float64), atol=0.05, rtol=0
    )


def test_against_least_squares_by_numpy() -> None:
    x = noise(6, 3, 8, 8).double()
    blur = noise(2, 3, 3, 3, seed=4).double()

    def teach(x: Tensor) -> Tensor:
        return functional.conv2d(functional.pad(x, (1,) * 4, mode="circular"), blur)

    stage = agree(Maps(teach), Maps(lambda x: x), x[:2], x[2:])

    t, s = (np.fft.fft2(maps.numpy(), norm="ortho") for maps in (teach(x), x))
    k = np.rint(8 * np.hypot(*np.meshgrid(np.fft.fftfreq(8), np.fft.fftfreq(8))))
    inside = (k > 0) & (k < 4)
    columns = lambda maps, where: maps[:, :, where].transpose(0, 2, 1).reshape(-1, maps.shape[1])  # noqa: E731
    real = lambda z: np.concatenate([z.real, z.imag])  # noqa: E731
    shared, *_ = np.linalg.lstsq(real(columns(s, inside)), real(columns(t, inside)), rcond=None)
    for ring in (1, 2, 3):
        a, b = real(columns(s, k == ring)), real(columns(t, k == ring))
        for name, w in (("correlation", shared), ("ceiling", np.linalg.lstsq(a, b, rcond=None)[0])):
            made = a @ w
            rho = (made * b).sum(0) / np.sqrt((made**2).sum(0) * (b**2).sum(0))
            assert float(getattr(stage, name)[ring]) == pytest.approx(rho.mean(), abs=1e-5)


def test_the_ceiling_is_never_below() -> None:
    teacher, student = create_model("wrn10_2", 10), create_model("wrn10_1", 10)
    for stage in stage_agreement(teacher, student, [noise(40, 3, 32, 32)]).values():
        assert (stage.ceiling[1:] >= stage.correlation[1:] - 1e-9).all()
        assert stage.correlation.shape == stage.frequency.shape == stage.power.shape


def test_a_dead_channel_agrees_with_nothing() -> None:
    teacher = Maps(lambda x: torch.cat([x, 0 * x], 1))
    stage = agree(teacher, Maps(lambda x: x), noise(5, 3, 8, 8))
    torch.testing.assert_close(stage.correlation[1:], torch.full((3,), 0.5, dtype=torch.float64))


def test_wrong_input_is_told() -> None:
    model, images = create_model("wrn10_1", 10), noise(2, 3, 32, 32)
    with pytest.raises(ValueError, match="empty data set"):
        stage_agreement(model, model, [])
    with pytest.raises(ValueError, match="expected 3 stages as the teacher, got 4"):
        stage_agreement(model, create_model("resnet50", 10), [images])
    with pytest.raises(ValueError, match="resize: expected one of 'pool', 'bilinear'"):
        stage_agreement(model, model, [images], resize="crop")
    with pytest.raises(ValueError, match="resize: stage 1 has maps of 32×32 at group1 and 16×16"):
        stage_agreement(model, model, [images], layers=[("group1", "group2")])
    with pytest.raises(ValueError, match="reads: expected one of 'pre_relu', 'output', got 'x'"):
        stage_agreement(model, model, [images], reads="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="layer 'group3': .*at least 4"):
        stage_agreement(model, model, [noise(2, 3, 8, 8)])
    with pytest.raises(TypeError, match="a network of create_model"):
        stage_agreement(model, Maps(lambda x: x), [images])
