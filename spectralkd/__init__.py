"""Natural statistics of network activations, and knowledge distillation that uses them.

An implementation of Rotman & Wolf, *Natural Statistics of Network Activations and
Implications for Knowledge Distillation* (arXiv 2106.00368)::

    import spectralkd as skd

    distiller = skd.Distiller(teacher, student, "spectral")
    loss = sum(distiller(images, labels).values())

The names below are imported when they are first used. Everything else is in the folders:
``spectra`` (Eqs. 1-9), ``models`` and ``data``, ``losses`` (Eq. 10, Table 2), ``analysis``,
``training``, ``figures`` and ``widgets``, ``reproduction`` (the paper's tables and figures),
``bench``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from spectralkd.analysis.activations import activation_spectra as activation_spectra
    from spectralkd.analysis.agreement import stage_agreement as stage_agreement
    from spectralkd.analysis.depth import depth_profile as depth_profile
    from spectralkd.analysis.sensitivity import fourier_sensitivity as fourier_sensitivity
    from spectralkd.analysis.sensitivity import ring_scrambling as ring_scrambling
    from spectralkd.data import DATASETS as DATASETS
    from spectralkd.data import load_data as load_data
    from spectralkd.data.images import ImageArray as ImageArray
    from spectralkd.data.images import ImageFiles as ImageFiles
    from spectralkd.data.images import suited as suited
    from spectralkd.figures.spectra import plot_spectra as plot_spectra
    from spectralkd.losses import METHODS as METHODS
    from spectralkd.losses.base import Method as Method
    from spectralkd.losses.distiller import Distiller as Distiller
    from spectralkd.models import MODELS as MODELS
    from spectralkd.models import create_model as create_model
    from spectralkd.models.layout import map_layers as map_layers
    from spectralkd.models.stage import Stage as Stage
    from spectralkd.models.weights import load_weights as load_weights
    from spectralkd.spectra.correlation import ring_correlation as ring_correlation
    from spectralkd.spectra.power import RadialPowerSpectrum as RadialPowerSpectrum
    from spectralkd.spectra.power import radial_power as radial_power
    from spectralkd.spectra.powerlaw import fit_power_law as fit_power_law
    from spectralkd.spectra.rings import ring_frequencies as ring_frequencies
    from spectralkd.spectra.rings import ring_modes as ring_modes
    from spectralkd.training.api import StudentRun as StudentRun
    from spectralkd.training.api import distill as distill
    from spectralkd.training.api import distill_together as distill_together
    from spectralkd.training.api import fit as fit
    from spectralkd.training.api import train as train
    from spectralkd.training.evaluate import evaluate as evaluate
    from spectralkd.training.recipes import get_recipe as get_recipe

_PLACES = {
    "activation_spectra": "analysis.activations",
    "stage_agreement": "analysis.agreement",
    "depth_profile": "analysis.depth",
    "fourier_sensitivity": "analysis.sensitivity",
    "ring_scrambling": "analysis.sensitivity",
    "DATASETS": "data",
    "load_data": "data",
    "ImageArray": "data.images",
    "ImageFiles": "data.images",
    "suited": "data.images",
    "plot_spectra": "figures.spectra",
    "METHODS": "losses",
    "Method": "losses.base",
    "Distiller": "losses.distiller",
    "MODELS": "models",
    "create_model": "models",
    "map_layers": "models.layout",
    "Stage": "models.stage",
    "load_weights": "models.weights",
    "ring_correlation": "spectra.correlation",
    "RadialPowerSpectrum": "spectra.power",
    "radial_power": "spectra.power",
    "fit_power_law": "spectra.powerlaw",
    "ring_frequencies": "spectra.rings",
    "ring_modes": "spectra.rings",
    "StudentRun": "training.api",
    "distill_together": "training.api",
    "distill": "training.api",
    "fit": "training.api",
    "train": "training.api",
    "evaluate": "training.evaluate",
    "get_recipe": "training.recipes",
}

__all__ = [*_PLACES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
