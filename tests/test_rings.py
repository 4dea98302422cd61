"""Are the rings those of the definition, and the transform and its means those of the plane?"""

from __future__ import annotations

import math

import pytest
import torch
from plane import SIZES, modes_by_ring, noise, transform
from torch import Tensor

from spectralkd.spectra.cache import cached
from spectralkd.spectra.rings import (
    Rings,
    chunks,
    inverse_at_once,
    inverse_in_two,
    ring_frequencies,
    ring_modes,
)


def ring_means(products: Tensor) -> Tensor:
    """Means of (..., H, W) over the modes of each complete ring, (..., R)."""
    rings = modes_by_ring(*products.shape[-2:]).values()
    return torch.stack(
        [torch.stack([products[..., ky, kx] for ky, kx in modes]).mean(0) for modes in rings], -1
    )


@pytest.mark.parametrize(("height", "width"), [*SIZES, (224, 224), (28, 56)])
def test_rings_are_those_of_the_definition(height: int, width: int) -> None:
    rings = modes_by_ring(height, width)
    assert ring_modes(height, width).tolist() == [len(modes) for modes in rings.values()]
    mean = [
        sum(math.hypot(ky / height, kx / width) for ky, kx in modes) / len(modes)
        for modes in rings.values()
    ]
    torch.testing.assert_close(ring_frequencies(height, width), torch.tensor(mean).double())


def test_number_of_complete_rings() -> None:
    assert len(ring_frequencies(32, 32)) == 16
    assert len(ring_frequencies(8, 8)) == 4
    assert len(ring_frequencies(9, 50)) == 5


def test_all_rings_hold_the_whole_plane() -> None:
    for height, width in SIZES:
        rings, x = Rings(height, width, complete=False), noise(2, height, width).double()
        number = torch.zeros(rings.count).double().index_add(0, rings.index, rings.multiplicity / 2)
        energy = (rings.mean(rings.transform(x).square()) * number).sum(-1)
        torch.testing.assert_close(energy, x.square().sum((-2, -1)))


# The index alone gives the rings of maps that are too large for a matrix.
@pytest.fixture(params=[True, False], ids=["matrix", "index"])
def rings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Rings:
    if not request.param:
        monkeypatch.setattr("spectralkd.spectra.rings._DENSE_RING_PIXELS", 0)
    made = Rings(9, 12)
    assert (made.matrix is not None) == request.param
    return made


def test_means_over_rings(rings: Rings) -> None:
    x, y = noise(2, 5, 9, 12, dtype=torch.float64)
    found = rings.mean(rings.transform(x) * rings.transform(y))
    torch.testing.assert_close(found, ring_means((transform(x) * transform(y).conj()).real))


def test_cross_power_of_all_channels(rings: Rings) -> None:
    x, y = noise(4, 3, 9, 12, dtype=torch.float64), noise(4, 2, 9, 12, seed=1).double()
    found = rings.cross_power(
        *(rings.transform(maps.flatten(0, 1)).unflatten(0, maps.shape[:2]) for maps in (x, y))
    )
    products = (transform(x)[:, :, None] * transform(y)[:, None].conj()).real
    torch.testing.assert_close(found, ring_means(products).sum(0).movedim(-1, 0))


def test_both_ways_of_the_adjoint_agree() -> None:
    """On a CUDA device it is one transform, on a CPU one after the other."""
    modes = torch.randn(3, 6, 4, dtype=torch.complex128)
    torch.testing.assert_close(inverse_at_once(modes, 6, 7), inverse_in_two(modes, 6, 7))


def test_spread_and_adjoint_take_a_gradient_back_to_the_maps(rings: Rings) -> None:
    x = noise(5, 9, 12, dtype=torch.float64).requires_grad_()
    by_ring = noise(5, rings.count, seed=1, dtype=torch.float64)
    modes = rings.transform(x)
    (expected,) = torch.autograd.grad((rings.mean(modes.square()) * by_ring).sum(), x)
    found = rings.adjoint(rings.spread(by_ring) * 2 * modes.detach())
    torch.testing.assert_close(found, expected)


def test_what_is_kept_for_later_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spectralkd.spectra.cache.CACHE_BYTES", 10_000)
    made = []

    @cached
    def zeros(count: int) -> tuple[Tensor]:
        made.append(count)
        return (torch.zeros(count),)

    for count in (1000, 1000, 1001, 1000, 1002, 1000, 1001, 9000, 9000):
        assert len(zeros(count)[0]) == count
        assert sum(size for _, size in zeros.kept.values()) <= 10_000
    # 1001 left for 1002, because 1000 was used later; 9000 is too large to stay.
    assert made == [1000, 1001, 1002, 1001, 9000, 9000]


@pytest.mark.parametrize("shape", [(10, 3, 32, 32), (1, 1, 600, 600), (300, 64, 8, 8), (5, 4, 4)])
def test_pieces_are_the_whole_in_order(shape: tuple[int, ...]) -> None:
    x = noise(*shape)
    assert torch.equal(torch.cat(list(chunks(x))), x)


def test_small_sides_are_refused() -> None:
    for function in (ring_frequencies, ring_modes, Rings):
        with pytest.raises(ValueError, match="at least 4 pixels, got 3×9"):
            function(3, 9)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 64), (64, 67), (65, 71), (70, 66)])
def test_large_maps_are_folded_onto_a_quarter_of_the_ring_matrix(height: int, width: int) -> None:
    rings = Rings(height, width)
    assert rings.folded is not None
    assert rings.folded.numel() < 0.3 * rings.index.numel() * rings.count
    x, y = noise(2, 3, height, width, dtype=torch.float64)
    products = rings.transform(x) * rings.transform(y)
    products.requires_grad_()
    found = rings.mean(products)
    expected = torch.zeros(3, rings.count + 1, dtype=torch.float64)
    expected = expected.index_add(1, rings.index, products * rings.weight)[:, : rings.count]
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)
    gradients = [torch.autograd.grad(v[:, 5].sum(), products)[0] for v in (found, expected)]
    torch.testing.assert_close(*gradients)
