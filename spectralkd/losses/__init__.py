"""The distillation methods of Table 2 and later ones, one file each, by name in ``METHODS``.

``Distiller(teacher, student, "spectral", gamma=0.02)`` puts one to work. A method of your own is
a class like them: pass an instance instead of the name, or enter it as ``METHODS["mine"]``.
"""

from __future__ import annotations

from spectralkd.losses.ab import AB
from spectralkd.losses.at import AT
from spectralkd.losses.base import Method
from spectralkd.losses.baseline import Baseline
from spectralkd.losses.dkd import DKD
from spectralkd.losses.fam import FAM
from spectralkd.losses.fft_align import FFTAlign
from spectralkd.losses.fitnets import FitNets
from spectralkd.losses.focal import Focal
from spectralkd.losses.ft import FT
from spectralkd.losses.jacobian import Jacobian
from spectralkd.losses.kd import KD
from spectralkd.losses.overhaul import Overhaul
from spectralkd.losses.reviewkd import ReviewKD
from spectralkd.losses.spectral import Spectral
from spectralkd.losses.ufd import UFD
from spectralkd.losses.wavelet import Wavelet
from spectralkd.registry import find

METHODS: dict[str, type[Method]] = {
    "baseline": Baseline,
    "kd": KD,
    "fitnets": FitNets,
    "at": AT,
    "jacobian": Jacobian,
    "ft": FT,
    "ab": AB,
    "overhaul": Overhaul,
    "spectral": Spectral,
    "fft_align": FFTAlign,
    "focal": Focal,
    "wavelet": Wavelet,
    "fam": FAM,
    "ufd": UFD,
    "dkd": DKD,
    "reviewkd": ReviewKD,
}


def find_method(name: str) -> type[Method]:
    """A method by name, or by ``"package.module:Class"``.

    Raises:
        ValueError: no such method (with the nearest names).
        TypeError: the class is none of a ``Method``.
    """
    found = find("method", name, METHODS)
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise TypeError(f"method: expected a class derived from Method, got {name!r}")
    return found
