"""Rings of equal |k|: the Fourier transform of maps of one size and means over its rings.

Convention. A map is transformed by the orthonormal FFT, so white noise of variance s² has
power s² at every frequency and every size. Ring r holds the modes whose length, in units of
1/min(H, W) cycles/pixel, rounds to r; the complete rings r = 0 … (min(H, W) - 1)//2 are kept,
DC first. The ring that the Nyquist frequency cuts in half and the corners beyond it are left out.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from spectralkd.checks import check_size
from spectralkd.spectra.cache import cached

# Above this many pixels a dense ring matrix would not fit beside the maps, and rings are summed
# by index instead.
_DENSE_RING_PIXELS = 256 * 256
# From this side on, products are summed over re and im, and over ky and -ky, before the ring
# matrix, which is then a quarter as large; smaller maps lose more by these passes than they gain.
_FOLDED_SIDE = 64
# Size of a piece of maps whose transform stays in a processor's cache.
_CHUNK_BYTES = 2 * 2**20
# A piece holds at least so many maps, unless that takes more than 16 times this size.
_CHUNK_MAPS = 64


def ring_frequencies(height: int, width: int) -> Tensor:
    """Mean |k| of the modes in each complete ring.

    Args:
        height, width: size of the map in pixels, 4 or more.

    Returns:
        (R,) float64 in cycles/pixel, R = (min(height, width) + 1)//2, DC first.

    Raises:
        ValueError: a side is below 4.
    """
    check_size(height, width)
    return _rings(height, width)[1].clone()


def ring_modes(height: int, width: int) -> Tensor:
    """Number of modes of the full plane in each complete ring, (R,) int64.

    Raises:
        ValueError: a side is below 4.
    """
    check_size(height, width)
    return _rings(height, width)[2].clone()


class Rings(nn.Module):
    """The Fourier transform of maps of one size, and the means over its rings.

    The half plane of modes is one real vector (re, im, re, im, …), so the power and cross power
    of all rings are products of such vectors with one fixed matrix, which is fast. The transform
    is not normalized, because scaling it takes a quarter of its time: the 1/(H·W) that makes
    powers those of the orthonormal transform is in ``mean``.

    A loss that transforms maps on every step holds one of these, so that its matrices move with
    it. They are made in float64: convert them to the precision of the maps with ``.to``. Inputs
    are not checked here.

    Args:
        height, width: size of the maps in pixels.
        complete: leave out the ring cut by the Nyquist frequency and the corners beyond it; if
            False, they are the last rings.

    Attributes:
        count: number of rings R.
        multiplicity: (K,) how often each number of the half plane occurs in the full plane;
            K = 2·H·(W//2 + 1).
        index: (K,) ring of each number; ``count`` for those in no ring.
        weight: (K,) weight of each number in the mean over its ring.
        matrix: (K, R) the same weights as a matrix; None for large maps.
        folded: ((H//2 + 1)·(W//2 + 1), R) the weights of ky >= 0, for products that are folded
            onto them; None for small maps and for those too large for one.
    """

    multiplicity: Tensor
    index: Tensor
    weight: Tensor
    matrix: Tensor | None
    folded: Tensor | None

    def __init__(self, height: int, width: int, *, complete: bool = True) -> None:
        check_size(height, width)
        super().__init__()
        self.height, self.width = height, width
        ring, frequency, _ = _rings(height, width)
        self.count = len(frequency) if complete else int(ring.max()) + 1
        counted = _multiplicity(height, width).flatten()
        index = ring.flatten().clamp_max(self.count)
        modes = torch.zeros(self.count + 1, dtype=torch.int64).index_add_(0, index, counted)
        index, counted = (v.repeat_interleave(2) for v in (index, counted))
        weight = counted / (modes[index] * height * width).double()
        matrix = folded = None
        if height * width <= _DENSE_RING_PIXELS:
            matrix = torch.zeros(len(index), self.count + 1, dtype=torch.float64)
            matrix = matrix.scatter_(1, index[:, None], weight[:, None])[:, : self.count]
            if min(height, width) >= _FOLDED_SIDE:
                rows = matrix.view(height, -1, 2, self.count)[: height // 2 + 1, :, 0]
                matrix, folded = None, rows.flatten(0, 1).contiguous()
        self.register_buffer("multiplicity", counted.double(), persistent=False)
        self.register_buffer("index", index, persistent=False)
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("matrix", matrix, persistent=False)
        self.register_buffer("folded", folded, persistent=False)

    def transform(self, maps: Tensor) -> Tensor:
        """Unnormalized Fourier transform of each map as one real vector (re, im, re, im, …).

        Args:
            maps: (N, H, W) in the precision of this module.

        Returns:
            (N, K), the modes of the half plane in ``rfft2``'s order. The product of two such
            vectors, summed with ``weight`` over the numbers of a ring, is the mean cross power.
        """
        return torch.view_as_real(torch.fft.rfft2(maps)).flatten(1)

    def adjoint(self, gradient: Tensor) -> Tensor:
        """Gradient with respect to maps (N, H, W) from that by the full plane's modes, (N, K).

        H·W times the inverse of ``transform``.
        """
        pairs = torch.view_as_complex(gradient.view(len(gradient), self.height, -1, 2))
        inverse = inverse_at_once if pairs.device.type == "cuda" else inverse_in_two
        return inverse(pairs, self.height, self.width)

    def cross_power(self, x: Tensor, y: Tensor) -> Tensor:
        """Cross power of every channel with every other at each ring, summed over images.

        Args:
            x, y: (N, C, K) and (N, D, K), as ``transform`` gives them.

        Returns:
            (R, C, D): Σ over images of Re⟨X_c conj Y_d⟩, the mean over a ring's modes.
        """
        matrices = []
        for ring in range(self.count):
            inside = (self.index == ring).nonzero()[:, 0]
            a, b = x[..., inside] * self.weight[inside], y[..., inside]
            matrices.append(a.transpose(0, 1).flatten(1) @ b.transpose(0, 1).flatten(1).T)
        return torch.stack(matrices)

    def spread(self, values: Tensor) -> Tensor:
        """Each ring's value at all its modes, divided by their number, (N, R) → (N, K).

        This is the gradient of ``mean`` with respect to the products, in the full plane.
        """
        if self.matrix is not None:
            return values @ (self.matrix / self.multiplicity[:, None]).T
        padded = torch.nn.functional.pad(values, (0, 1))
        return padded[:, self.index] * (self.weight / self.multiplicity)

    def mean(self, products: Tensor) -> Tensor:
        """Mean over each ring of products of two transforms, (N, K) → (N, R)."""
        if self.matrix is not None:
            return products @ self.matrix
        if self.folded is not None:
            return self._fold(products) @ self.folded
        sums = products.new_zeros(len(products), self.count + 1)
        return sums.index_add(1, self.index, products * self.weight)[:, : self.count]

    def _fold(self, products: Tensor) -> Tensor:
        """Sums over re and im and over ky and -ky, (N, K) → (N, (H//2 + 1)·(W//2 + 1))."""
        re, im = products.view(len(products), self.height, -1, 2).unbind(-1)
        sums = re + im
        middle = (self.height + 1) // 2  # rows 1 … middle - 1 have a mirror image
        mirrored = sums[:, -middle + 1 :].flip(1)
        top = sums[:, : self.height // 2 + 1]
        top = torch.cat([top[:, :1], top[:, 1:middle] + mirrored, top[:, middle:]], 1)
        return top.flatten(1)


def inverse_at_once(modes: Tensor, height: int, width: int) -> Tensor:
    """Maps from modes of the half plane, not normalized."""
    return torch.fft.irfft2(modes, s=(height, width), norm="forward")


def inverse_in_two(modes: Tensor, height: int, width: int) -> Tensor:
    """The same, one dimension after the other: on a CPU, irfft2 would copy its input in between."""
    rows = torch.fft.ifft(modes, n=height, dim=-2, norm="forward")
    return torch.fft.irfft(rows, n=width, norm="forward")


@cached
@torch.inference_mode(False)
def cached_rings(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Rings:
    """The complete rings of a size, made once for each precision and device."""
    return Rings(height, width).to(device=device, dtype=dtype)


def chunks(maps: Tensor) -> Iterator[Tensor]:
    """Pieces along the first dimension that stay in cache; 128 times larger on an accelerator.

    Pieces of large maps are up to 16 times larger, to spread the cost of reading the ring matrix.
    """
    budget = _CHUNK_BYTES if maps.device.type == "cpu" else 128 * _CHUNK_BYTES
    each = max(1, maps[:1].numel() * max(4, maps.element_size()))
    several = _CHUNK_MAPS * maps.shape[-2] * maps.shape[-1] // max(1, maps[:1].numel())
    return iter(maps.split(max(1, budget // each, min(several, 16 * budget // each))))


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision becomes float32, in which spectra and losses are computed."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


@cached
@torch.inference_mode(False)
def _rings(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ring of each mode of the half plane (H, W//2+1), and each complete ring's |k| and modes."""
    short, long = min(height, width), max(height, width)
    ky = (torch.fft.fftfreq(height, dtype=torch.float64) * height).round().long()[:, None]
    kx = torch.arange(width // 2 + 1)[None, :]
    # Ring r holds the modes with r - 1/2 <= |k|·short < r + 1/2, |k| in cycles/pixel. All three are
    # multiplied by 2·long and squared: integers, so that rounding cannot move a mode, and
    # length = (2·|k|·short·long)². Of 8×8 maps, ky = 1 and kx = 1 give 4·(8² + 8²) = 512; ring 1
    # reaches from (1·8)² = 64 to (3·8)² = 576 and holds it.
    length = 4 * ((ky * (long * short // height)) ** 2 + (kx * (long * short // width)) ** 2)
    ring = ((length.double().sqrt() / long + 1) / 2).floor().long()
    # The square root may round across an edge: one ring down, or up, where length says so.
    ring = ring - (length < ((2 * ring - 1).clamp_min(0) * long) ** 2).long()
    ring = ring + (length >= ((2 * ring + 1) * long) ** 2).long()
    counted = _multiplicity(height, width)
    k = length.double().sqrt() / (2 * short * long)
    rings = (short + 1) // 2
    modes = torch.zeros(int(ring.max()) + 1, dtype=torch.int64)
    modes = modes.index_add(0, ring.flatten(), counted.flatten())[:rings]
    total = torch.zeros(int(ring.max()) + 1, dtype=torch.float64)
    total = total.index_add(0, ring.flatten(), (k * counted).flatten())[:rings]
    return ring, total / modes, modes


def _multiplicity(height: int, width: int) -> Tensor:
    """How often each mode of the half plane occurs in the full plane: 1 or 2, (H, W//2+1)."""
    counted = torch.full((height, width // 2 + 1), 2)
    counted[:, 0] = 1
    if width % 2 == 0:
        counted[:, -1] = 1
    return counted
